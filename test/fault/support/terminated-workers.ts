import { Worker } from 'node:worker_threads';
import { DATA_KEY_USE, type EngineName, type KeyHandle, TOKEN_OVERHEAD } from '../../../src/crypto/engine.ts';
import { loadEngine } from '../../../src/crypto/load.ts';

const ENTRY = new URL('./sealing-worker.ts', import.meta.url);

/**
 * Ends `rounds` threads at random points of their sealing.
 * @returns slots of the key table in use before and after, and whether the key still worked after each of them
 */
export async function terminateAtWork(name: EngineName, rounds: number) {
  const { engine } = await loadEngine({ engine: name, minimumLockLevel: 'heap', snapshotSafe: false, isShared: true });
  const before = engine.stats().used;
  const key = engine.generateKey({ algorithm: 'xaes-256-gcm', purpose: 'seal' });
  const dataKey = name === 'native' ? engine.generateKey(DATA_KEY_USE) : undefined;
  let works = true;
  for (let round = 0; round < rounds; round++) {
    const worker = new Worker(ENTRY, { workerData: { share: engine.share(), key, dataKey } });
    await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
    await new Promise((resolve) => setTimeout(resolve, 3 * Math.random()));
    await worker.terminate();
    works &&= sealsAndOpens(engine, key);
  }
  engine.destroyKey(key);
  if (dataKey !== undefined) {
    engine.destroyKey(dataKey);
  }
  const after = engine.stats().used;
  engine.close();
  return { before, after, works };
}

function sealsAndOpens(engine: Awaited<ReturnType<typeof loadEngine>>['engine'], key: KeyHandle): boolean {
  const token = new Uint8Array(3 + TOKEN_OVERHEAD);
  engine.seal(key, Uint8Array.of(1, 2, 3), 0, 0, 0, 3, token, 0);
  return engine.open(key, token, 0, 0, 0, token.length, new Uint8Array(3), 0);
}
