import { describe, expect, it } from 'vitest';
import { DekdError } from '../../src/errors.ts';
import { FrameReader, varintLength, writeVarint } from '../../src/protocol/frame.ts';
import { messages } from '../../src/protocol/messages.ts';
import { ReplyWriter } from '../../src/protocol/reply-writer.ts';
import { Reader } from '../../src/protocol/runtime.ts';
import type { RawReply } from '../support/raw-client.ts';

/** Flushes a writer and reads back what it wrote. */
function written(writer: ReplyWriter): RawReply[] {
  const chunks: Buffer[] = [];
  writer.flush({
    write: (bytes, done) => {
      chunks.push(Buffer.from(bytes));
      done();
      return true;
    },
  });
  const replies: RawReply[] = [];
  const reader = new FrameReader(64 << 20, (frame) =>
    replies.push(messages.Reply.decode(Buffer.from(frame)) as unknown as RawReply),
  );
  for (const chunk of chunks) {
    reader.push(chunk);
  }
  expect(reader.isMidFrame).toBe(false);
  return replies;
}

describe('varints', () => {
  it.each([0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455, 268_435_456, 4_294_967_295])(
    'of %i are as long as said and read back',
    (value) => {
      const bytes = new Uint8Array(8);
      const end = writeVarint(bytes, 0, value);
      expect(end).toBe(varintLength(value));
      expect(new Reader(bytes).uint32()).toBe(value);
    },
  );
});

describe('the reply writer', () => {
  it('writes values of every size, each in a frame of its own', () => {
    const writer = new ReplyWriter();
    const sizes = [0, 1, 127, 128, 16_383, 16_384, 65_000, 65_536, 200_000, 3];
    for (const [i, size] of sizes.entries()) {
      const at = writer.reserveValue(i + 1, size);
      writer.buffer.fill(i, at, at + size);
    }
    const replies = written(writer);
    expect(replies.map(({ id }) => id)).toEqual(sizes.map((_, i) => i + 1));
    for (const [i, { value }] of replies.entries()) {
      expect(value!.length).toBe(sizes[i]);
      expect(value!.every((byte) => byte === i)).toBe(true);
    }
  });

  it('takes over what another one wrote, behind its own, and gives its memory back to where it came from', () => {
    const given: [Buffer, number][] = [];
    const memory = {
      take: (size: number) => Buffer.alloc(size),
      give: (slab: Buffer, used: number) => void given.push([slab, used]),
    };
    const writer = new ReplyWriter();
    const other = new ReplyWriter(memory);
    writer.buffer.fill(1, writer.reserveValue(1, 10));
    const at = other.reserveValue(2, 100_000);
    other.buffer.fill(2, at, at + 100_000);
    const { buffer } = other;
    writer.adopt(other);
    writer.reserveValue(3, 5);
    expect(other.pending).toBe(false);
    const slabs: [Buffer, () => void][] = [];
    writer.flush({ write: (bytes, done) => slabs.push([Buffer.from(bytes), done]) > 0 });
    expect(slabs).toHaveLength(3);
    expect(slabs[1]![0].subarray(-100_000).every((byte) => byte === 2)).toBe(true);
    expect(given).toEqual([]);
    slabs[1]![1]();
    expect(given).toEqual([[buffer, at + 100_000]]);
  });

  it('gives up what was written and is not wanted', () => {
    const given: number[] = [];
    const writer = new ReplyWriter({
      take: (size) => Buffer.alloc(size),
      give: (_slab, used) => void given.push(used),
    });
    writer.beginMany(1, 1_000);
    writer.manyValue(900);
    writer.discard();
    expect(writer.pending).toBe(false);
    expect(given).toHaveLength(1);
    expect(given[0]).toBeGreaterThan(900);
  });

  it('grows under the failures of a batch, with replies before and after it', () => {
    const writer = new ReplyWriter();
    writer.document(1, { before: true });
    const count = 3_000;
    writer.beginMany(2, count * 8);
    for (let i = 0; i < count; i++) {
      const at = writer.manyValue(i % 3);
      writer.buffer.fill(7, at, at + (i % 3));
    }
    const error = new DekdError('KEY_DISABLED', 'x'.repeat(200), { incident: 'abcde-1', retryAfterMs: 5 });
    writer.endMany(Array.from({ length: count }, (_, index) => ({ index, error })));
    writer.error(3, error);
    const [before, many, after] = written(writer);
    expect(before!.id).toBe(1);
    expect(many!.many!.values.map(({ length }) => length)).toEqual(Array.from({ length: count }, (_, i) => i % 3));
    expect(many!.many!.errors).toHaveLength(count);
    expect(many!.many!.errors[count - 1]).toMatchObject({ index: count - 1, error: { code: 5, retryAfterMs: 5 } });
    expect(after).toMatchObject({ id: 3, error: { incident: 'abcde-1' } });
  });

  it('takes back the reply opened last and wipes it, and leaves those before it', () => {
    const writer = new ReplyWriter();
    writer.reserveValue(1, 10);
    const at = writer.reserveValue(2, 10);
    writer.buffer.fill(0x55, at, at + 10);
    const { buffer } = writer;
    writer.rewind();
    expect(buffer.subarray(at, at + 10).every((byte) => byte === 0)).toBe(true);
    writer.beginMany(3, 100);
    writer.manyValue(10);
    writer.rewind();
    writer.error(4, new DekdError('INTERNAL', 'internal error'));
    expect(written(writer).map(({ id }) => id)).toEqual([1, 4]);
  });

  it('wipes what it sent once it is sent', () => {
    const writer = new ReplyWriter();
    const at = writer.reserveValue(1, 100);
    writer.buffer.fill(0x55, at, at + 100);
    const { buffer } = writer;
    let done = (): void => {};
    writer.flush({
      write: (_bytes, sent) => {
        done = sent;
        return true;
      },
    });
    expect(buffer[at]).toBe(0x55);
    done();
    expect(buffer.subarray(at, at + 100).every((byte) => byte === 0)).toBe(true);
  });
});
