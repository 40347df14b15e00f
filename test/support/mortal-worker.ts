/**
 * A worker of the pool that dies, where a test says so: of work whose plaintext or frame begins with this byte, after it
 * was done, so that nobody knows.
 */

import type { Work, WorkResult } from '../../src/pool/work.ts';
import run from '../../src/pool/worker.ts';

/** Also in the tests, which cannot import what only runs in a worker. */
const DEADLY = 0xdd;

export default function mortal(work: Work): WorkResult {
  const bytes = 'input' in work ? work.input : 'plaintext' in work ? work.plaintext : undefined;
  const isDeadly = bytes?.[0] === DEADLY;
  const result = run(work);
  if (isDeadly) {
    process.exit(1);
  }
  return result;
}
