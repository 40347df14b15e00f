/**
 * Compressed values, block by block: each block of up to 256 KiB is compressed by itself, so that workers do several at
 * once, one that died costs nothing but its block, and no block can open to more than it may.
 *
 * The result is what any gzip (RFC 1952, 2.2: members follow each other) or zstd (RFC 8878, 3: so do frames) reads. So
 * that a reader finds the end of a block without opening it, a gzip member says its length in an extra field (RFC 1952,
 * 2.3.1.1), and before a zstd frame stands a skippable frame (RFC 8878, 3.1.2) with the length of the one that follows.
 */
import {
  crc32,
  deflateRawSync,
  inflateRawSync,
  constants as zlib,
  zstdCompressSync,
  zstdDecompressSync,
} from 'node:zlib';
import { DekdError } from '../errors.ts';

export type Codec = 'gzip' | 'zstd';

/** Bytes of the value in one block. */
export const BLOCK_LENGTH = 256 * 1024;
/** Bytes of head that say how long the block is. */
export const BLOCK_HEAD = 20;

const GZIP_TAIL = 8;
/** Magic, deflate, an extra field; no time, no system. */
const GZIP_START = Uint8Array.of(0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255, 8, 0, 0x64, 0x6b, 4, 0);
const ZSTD_SKIPPABLE = 0x184d2a50;
/** Lengths around what zstd itself writes: a skippable frame of a u32 and eight bytes of nothing, as long as gzip's head. */
const ZSTD_SKIPPED = BLOCK_HEAD - 8;
/** What a block that does not compress grows by, at most: zlib and zstd store it in pieces with some bytes each. */
const GROWTH = 1024;

/** The window that a block needs at most, as a power of two: for a larger one zstd would make room before it is refused. */
const ZSTD_WINDOW = { params: { [zlib.ZSTD_d_windowLogMax]: Math.log2(BLOCK_LENGTH) } };
/** Most results come in one piece, and need not be put together. */
const ONE_PIECE = { chunkSize: BLOCK_LENGTH };

/** The longest that a block can become, head included. */
export const MAX_BLOCK_SIZE = BLOCK_HEAD + BLOCK_LENGTH + GROWTH;

/** @param output MAX_BLOCK_SIZE long at least. @returns bytes written to it */
export function compressBlock(codec: Codec, input: Uint8Array, output: Uint8Array): number {
  const body = codec === 'zstd' ? zstdCompressSync(input, ONE_PIECE) : deflateRawSync(input, ONE_PIECE);
  const view = viewOf(output);
  const tail = codec === 'zstd' ? 0 : GZIP_TAIL;
  if (codec === 'zstd') {
    output.fill(0, 0, BLOCK_HEAD);
    view.setUint32(0, ZSTD_SKIPPABLE, true);
    view.setUint32(4, ZSTD_SKIPPED, true);
    view.setUint32(8, body.length, true);
  } else {
    output.set(GZIP_START);
    view.setUint32(GZIP_START.length, body.length, true);
    view.setUint32(BLOCK_HEAD + body.length, crc32(input), true);
    view.setUint32(BLOCK_HEAD + body.length + 4, input.length, true);
  }
  output.set(body, BLOCK_HEAD);
  body.fill(0);
  return BLOCK_HEAD + body.length + tail;
}

/**
 * How long the block is that `have` begins with, head included; undefined until its head has come.
 * @throws MALFORMED when that is no head of a block
 */
export function blockSize(codec: Codec, have: Uint8Array): number | undefined {
  if (have.length < BLOCK_HEAD) {
    return undefined;
  }
  const view = viewOf(have);
  const length = codec === 'zstd' ? view.getUint32(8, true) : view.getUint32(GZIP_START.length, true);
  const isHead =
    codec === 'zstd'
      ? view.getUint32(0, true) === ZSTD_SKIPPABLE && view.getUint32(4, true) === ZSTD_SKIPPED
      : GZIP_START.every((byte, at) => have[at] === byte);
  const size = BLOCK_HEAD + length + (codec === 'zstd' ? 0 : GZIP_TAIL);
  if (!isHead || size > MAX_BLOCK_SIZE) {
    throw malformed(codec);
  }
  return size;
}

/**
 * The reverse of `compressBlock`, of exactly one block.
 * @param output BLOCK_LENGTH long at least: no block opens to more. @returns bytes written to it
 * @throws MALFORMED
 */
export function expandBlock(codec: Codec, block: Uint8Array, output: Uint8Array): number {
  const options = { ...ONE_PIECE, maxOutputLength: BLOCK_LENGTH };
  let plain: Buffer;
  try {
    plain =
      codec === 'zstd'
        ? zstdDecompressSync(block.subarray(BLOCK_HEAD), { ...options, ...ZSTD_WINDOW })
        : inflateRawSync(block.subarray(BLOCK_HEAD, block.length - GZIP_TAIL), {
            ...options,
            finishFlush: zlib.Z_FINISH,
          });
  } catch (error) {
    throw malformed(codec, error);
  }
  try {
    const view = viewOf(block);
    if (
      codec === 'gzip' &&
      (view.getUint32(block.length - 4, true) !== plain.length ||
        view.getUint32(block.length - 8, true) !== crc32(plain))
    ) {
      throw malformed(codec);
    }
    output.set(plain);
    return plain.length;
  } finally {
    plain.fill(0);
  }
}

function malformed(codec: Codec, cause?: unknown): DekdError {
  return new DekdError('MALFORMED', `a block of the compressed value is not what this agent writes as ${codec}`, {
    cause,
  });
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
