/** Does a piece of work with an engine, in whichever thread that is. */
import { type Engine, type OpenedFrames, ROW_WORDS } from '../crypto/engine.ts';
import { compressBlock, expandBlock } from './blocks.ts';
import type { RowsWork, Work } from './work.ts';

/** Rows between two looks at the flag. */
const ROWS_AT_ONCE = 64;

/** What the work gave beside the bytes in its output. */
export interface Performed {
  readonly opened?: OpenedFrames | undefined;
  readonly length?: number;
}

/** @throws what the engine throws */
export function perform(engine: Engine, work: Work): Performed {
  switch (work.kind) {
    case 'sealRows':
    case 'openRows':
    case 'macRows':
    case 'verifyRows':
      performRows(engine, work);
      return {};
    case 'sealFrames':
      engine.sealFrames(work.message, work.plaintext, work.isFinal, work.output);
      return {};
    case 'openFrames':
      return { opened: engine.openFrames(work.message, work.body, work.output) };
    case 'compress':
      return { length: compressBlock(work.codec, work.input, work.output) };
    case 'expand':
      return { length: expandBlock(work.codec, work.input, work.output) };
    case 'nothing':
      return {};
  }
}

/** Each call draws a nonce of its own, so that rows can be done in pieces of any size. */
function performRows(engine: Engine, { kind, table, count, input, output, scopes, flag }: RowsWork): void {
  for (let row = 0; row < count && Atomics.load(flag, 0) === 0; row += ROWS_AT_ONCE) {
    const rows = Math.min(ROWS_AT_ONCE, count - row);
    const part = table.subarray(row * ROW_WORDS, (row + rows) * ROW_WORDS);
    switch (kind) {
      case 'sealRows':
        engine.sealMany(part, rows, input, output);
        break;
      case 'openRows':
        engine.openMany(part, rows, input, output);
        break;
      case 'macRows':
        engine.macMany(part, rows, scopes!, input, output);
        break;
      case 'verifyRows':
        engine.verifyMacMany(part, rows, scopes!, input);
        break;
    }
  }
}
