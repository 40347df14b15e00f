/** Streams that carry a known number of bytes from memory to nowhere, and are counted. */
import { randomBytes } from 'node:crypto';
import { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

/** What a file is read in pieces of. */
export const PIECE_BYTES = 256 * 1024;
const piece = randomBytes(PIECE_BYTES);

export function* pieces(total: number): Generator<Uint8Array> {
  for (let at = 0; at < total; at += PIECE_BYTES) {
    yield piece.subarray(0, Math.min(PIECE_BYTES, total - at));
  }
}

/** Puts so many bytes through. @returns how many came out */
export async function pass(total: number, ...through: NodeJS.ReadWriteStream[]): Promise<number> {
  let received = 0;
  const sink = new Writable({
    write(chunk: Uint8Array, _encoding, done) {
      received += chunk.length;
      done();
    },
  });
  await pipeline([Readable.from(pieces(total)), ...through, sink]);
  return received;
}
