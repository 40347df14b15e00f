import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NodeEngine } from '../../src/crypto/node.ts';
import { BlockExpander } from '../../src/operations/compressed-value.ts';
import { BLOCK_HEAD, type Codec, compressBlock, MAX_BLOCK_SIZE } from '../../src/pool/blocks.ts';
import { WorkPool } from '../../src/pool/pool.ts';

const CODECS: readonly Codec[] = ['gzip', 'zstd'];

let engine: NodeEngine;
let pool: WorkPool;

beforeEach(() => {
  engine = new NodeEngine({ capacity: 16 });
  pool = new WorkPool({ engine, workers: 0, maxPayload: 1024 * 1024 });
});

afterEach(async () => {
  await pool.close();
  engine.close();
});

function blockOf(codec: Codec, value: Uint8Array): Uint8Array {
  const block = new Uint8Array(MAX_BLOCK_SIZE);
  return block.slice(0, compressBlock(codec, value, block));
}

describe('what a compressed value is read from', () => {
  it.each(CODECS)('is wiped, whether it was expanded or given up: %s', async (codec) => {
    const blocks = [1, 2, 3, 4].map((length) => blockOf(codec, randomBytes(1_000 * length)));
    const pushed = Uint8Array.from(Buffer.concat(blocks));
    const expander = new BlockExpander(pool, {}, codec, 1_000_000);
    expander.push(pushed);
    expect((await expander.next()).length).toBe(3_000);
    const left = blocks[2]!.length + blocks[3]!.length;
    expect(pushed.subarray(0, -left).every((byte) => byte === 0)).toBe(true);
    expect(pushed.subarray(-left).every((byte) => byte === 0)).toBe(false);
    expander.close();
    expect(pushed.every((byte) => byte === 0)).toBe(true);
  });

  it('is refused where zstd would need more memory for it than for any block', async () => {
    // RFC 8878, 3.1.1.1: a window of 128 MiB, and one block of a byte that is repeated.
    const frame = Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0, (27 - 10) << 3, (8 << 3) | 3, 0, 0, 7);
    const block = blockOf('zstd', new Uint8Array(0)).subarray(0, BLOCK_HEAD);
    new DataView(block.buffer).setUint32(8, frame.length, true);
    const expander = new BlockExpander(pool, {}, 'zstd', 1_000_000);
    expander.push(Uint8Array.from(Buffer.concat([block, frame])));
    await expect(expander.next()).rejects.toMatchObject({ code: 'MALFORMED' });
  });

  it.each(CODECS)('is refused when it is not what its message says: not %s', (codec) => {
    const expander = new BlockExpander(pool, {}, codec, 1_000_000);
    expander.push(new Uint8Array(BLOCK_HEAD).fill(0x20));
    expect(() => expander.hasWhole).toThrow(/not what this agent writes/);
  });
});
