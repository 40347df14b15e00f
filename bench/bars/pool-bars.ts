/** Bars of the worker pool: the same slices of the same work with workers and without. */
import type { EngineName, KeyHandle } from '../../src/crypto/engine.ts';
import { loadEngine } from '../../src/crypto/load.ts';
import type { Codec } from '../../src/pool/blocks.ts';
import { WorkPool } from '../../src/pool/pool.ts';
import { compare, type Effort, type Work } from '../support/interleave.ts';
import { batches, blocks, ITEM, ITEMS } from '../support/pool-work.ts';
import { type Bar, figure, type Measured } from './bar.ts';

const WORKERS = 2;
const EFFORT: Effort = { rounds: 3, turns: 3, turnMs: 150, warmMs: 500 };

interface Pools {
  readonly shared: WorkPool;
  readonly alone: WorkPool;
  readonly key: KeyHandle;
}

async function withPools<T>(name: EngineName, run: (pools: Pools) => Promise<T>): Promise<T> {
  const { engine } = await loadEngine({ engine: name, minimumLockLevel: 'heap', snapshotSafe: false, isShared: true });
  const shared = new WorkPool({ engine, workers: WORKERS, maxPayload: 1 << 20 });
  const alone = new WorkPool({ engine, workers: 0, maxPayload: 1 << 20 });
  try {
    while (!shared.planRows(1e9, 1e9)?.inWorkers) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    return await run({ shared, alone, key: engine.generateKey({ algorithm: 'xaes-256-gcm', purpose: 'seal' }) });
  } finally {
    await shared.close();
    engine.close();
  }
}

async function measured(subject: Work, baseline: Work, unit: string): Promise<Measured> {
  const { ratio, ...rates } = await compare(subject, baseline, EFFORT);
  return { ratio, detail: `${figure(rates.subject)} against ${figure(rates.baseline)} ${unit}/s` };
}

function batchBar(name: EngineName, atLeast: number): Bar {
  return {
    name: `${name} batch of ${ITEMS} × ${ITEM} B with ${WORKERS} workers against none`,
    atLeast,
    measure: () =>
      withPools(name, ({ shared, alone, key }) => measured(batches(shared, key), batches(alone, key), 'batches')),
  };
}

function compressionBar(codec: Codec): Bar {
  return {
    name: `${codec} compression with ${WORKERS} workers against none`,
    atLeast: 1.7,
    measure: () =>
      withPools('native', ({ shared, alone }) => measured(blocks(shared, codec), blocks(alone, codec), 'blocks')),
  };
}

export const poolBars: readonly Bar[] = [
  batchBar('noble', 1.7),
  batchBar('node', 1.7),
  batchBar('native', 1),
  compressionBar('zstd'),
  compressionBar('gzip'),
];
