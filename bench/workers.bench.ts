/** The worker pool of an agent with more and more workers: the same slices of the same work. */
import type { EngineName } from '../src/crypto/engine.ts';
import { loadEngine } from '../src/crypto/load.ts';
import { BLOCK_LENGTH } from '../src/pool/blocks.ts';
import { WorkPool } from '../src/pool/pool.ts';
import type { Group, Subject } from './support/group.ts';
import { batches, blocks, ITEM, ITEMS } from './support/pool-work.ts';

const WORKERS = [0, 1, 2];

interface Scenario {
  readonly name: string;
  readonly engine: EngineName;
  /** Bytes of one operation. */
  readonly bytes: number;
  readonly work: (pool: WorkPool, key: Parameters<typeof batches>[1]) => Subject['work'];
}

const SCENARIOS: readonly Scenario[] = [
  { name: 'noble-batch', engine: 'noble', bytes: ITEM * ITEMS, work: batches },
  { name: 'node-batch', engine: 'node', bytes: ITEM * ITEMS, work: batches },
  { name: 'native-batch', engine: 'native', bytes: ITEM * ITEMS, work: batches },
  { name: 'zstd', engine: 'native', bytes: BLOCK_LENGTH, work: (pool) => blocks(pool, 'zstd') },
  { name: 'gzip', engine: 'native', bytes: BLOCK_LENGTH, work: (pool) => blocks(pool, 'gzip') },
];

function groupOf({ name, engine: engineName, bytes, work }: Scenario): Group {
  return {
    name: `workers ${name}`,
    baseline: `workers/${name}/0`,
    async open() {
      const { engine } = await loadEngine({
        engine: engineName,
        minimumLockLevel: 'heap',
        snapshotSafe: false,
        isShared: true,
      });
      const key = engine.generateKey({ algorithm: 'xaes-256-gcm', purpose: 'seal' });
      const pools = WORKERS.map((workers) => new WorkPool({ engine, workers, maxPayload: 1 << 20 }));
      const subjects = pools.map(
        (pool, i): Subject => ({ name: `workers/${name}/${WORKERS[i]}`, bytes, work: work(pool, key) }),
      );
      return {
        subjects,
        async close() {
          await Promise.all(pools.map((pool) => pool.close()));
          engine.close();
        },
      };
    },
  };
}

export const groups: readonly Group[] = SCENARIOS.map(groupOf);
