/** A worker of the pool: does one piece of work at a time, with keys by handle, and keeps nothing between two. */
import { workerData } from 'node:worker_threads';
import { attachEngine } from '../crypto/load.ts';
import { DekdError } from '../errors.ts';
import { perform } from './perform.ts';
import type { Work, WorkerSetup, WorkResult } from './work.ts';

const engine = await attachEngine((workerData as WorkerSetup).share);

export default function run(work: Work): WorkResult {
  const begun = performance.now();
  try {
    const performed = perform(engine, work);
    return { ...performed, elapsedMs: performance.now() - begun };
  } catch (error) {
    const { code, message, reason } = DekdError.from(error);
    return { failure: { code, message, reason }, elapsedMs: performance.now() - begun };
  } finally {
    engine.forgetKeys();
  }
}
