/** Lines of a file that is read piece by piece, in memory that does not grow with it. */
import { MAX_LINE } from './format.ts';

export interface FileLine {
  /** Without its line feed. A view, valid until the next line; of one that is too long, its first bytes. */
  readonly bytes: Buffer;
  /** Whether its end is there and it is no longer than lines are. */
  readonly isWhole: boolean;
}

const LINE_FEED = 0x0a;

export async function* linesOf(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<FileLine> {
  let kept = Buffer.alloc(0);
  let isTooLong = false;
  for await (const piece of chunks) {
    const chunk = Buffer.from(piece.buffer, piece.byteOffset, piece.length);
    let start = 0;
    for (let end = chunk.indexOf(LINE_FEED); end >= 0; end = chunk.indexOf(LINE_FEED, start)) {
      const part = chunk.subarray(start, end);
      const bytes = kept.length === 0 ? part : Buffer.concat([kept, part]);
      yield { bytes, isWhole: !isTooLong && bytes.length <= MAX_LINE };
      kept = Buffer.alloc(0);
      isTooLong = false;
      start = end + 1;
    }
    const rest = chunk.subarray(start);
    if (kept.length + rest.length > MAX_LINE) {
      isTooLong = true;
      kept = Buffer.from(Buffer.concat([kept, rest]).subarray(0, MAX_LINE));
    } else if (rest.length > 0) {
      kept = Buffer.concat([kept, rest]);
    }
  }
  if (kept.length > 0) {
    yield { bytes: kept, isWhole: false };
  }
}
