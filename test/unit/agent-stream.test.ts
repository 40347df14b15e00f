import { randomBytes } from 'node:crypto';
import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { AgentStream, INPUT_WINDOW, type StreamOutput } from '../../src/agent/stream.ts';
import { DekdError } from '../../src/errors.ts';
import type { MessageWork } from '../../src/operations/message-streams.ts';

const KIB = 1024;
const ID = 7;
const STEP = INPUT_WINDOW / 4;
const NOTHING = new Uint8Array(0);

describe('the credit of a stream', () => {
  it('is none before the work is there, and the whole window then', async () => {
    const { stream, output, opening } = opened();
    stream.part(NOTHING, false, 10);
    await turn();
    expect(output.parts).toEqual([]);
    opening.resolve(new Work());
    await turn();
    expect(output.parts).toEqual([{ id: ID, credit: INPUT_WINDOW, isEnd: false, data: Buffer.alloc(0) }]);
  });

  it('comes back for what was worked on, once that is worth a frame', async () => {
    const { stream, output } = await begun({ room: 4 * INPUT_WINDOW });
    stream.part(randomBytes(STEP - 1), false, 0);
    expect(output.credit).toBe(0);
    stream.part(randomBytes(1), false, 0);
    expect(output.credit).toBe(STEP);
    stream.part(randomBytes(STEP + 5), false, 0);
    expect(output.credit).toBe(2 * STEP + 5);
    expect(output.parts.filter(({ credit }) => credit > 0)).toHaveLength(2);
  });

  it('covers a whole window in one part, and again, and never more than a window is open', async () => {
    const { stream, output } = await begun({ room: 16 * INPUT_WINDOW });
    for (let round = 1; round <= 3; round++) {
      stream.part(randomBytes(INPUT_WINDOW), false, 0);
      expect(output.credit).toBe(round * INPUT_WINDOW);
    }
    expect(() => stream.part(randomBytes(INPUT_WINDOW + 1), false, 0)).toThrow(`may send ${INPUT_WINDOW}`);
  });

  it('comes back only when what was made has left', async () => {
    const { stream, output } = await begun({ room: 100 });
    stream.part(randomBytes(STEP), false, 0);
    expect(output.sizes).toEqual([100]);
    stream.part(NOTHING, false, STEP - 101);
    expect([output.bytes, output.credit]).toEqual([STEP - 1, 0]);
    stream.part(NOTHING, false, 1);
    expect([output.bytes, output.credit]).toEqual([STEP, STEP]);
  });

  it('comes back for what makes nothing', async () => {
    const work = new Work();
    work.make = () => NOTHING;
    const { stream, output } = await begun({ work, room: 0 });
    stream.part(randomBytes(INPUT_WINDOW), false, 0);
    expect(output.credit).toBe(INPUT_WINDOW);
  });

  it('does not come back before work that takes its time has ended', async () => {
    const work = new SlowWork();
    const { stream, output } = await begun({ work, room: INPUT_WINDOW });
    stream.part(randomBytes(STEP), false, 0);
    await turn();
    expect(output.credit).toBe(0);
    work.finish();
    await turn();
    expect(output.credit).toBe(STEP);
  });

  it('is none any more after the end of what comes', async () => {
    const { stream, output } = await begun({ room: 0 });
    stream.part(randomBytes(STEP), true, 0);
    stream.part(NOTHING, false, 2 * STEP);
    await stream.done;
    expect(output.credit).toBe(0);
  });
});

describe('what a stream sends', () => {
  it('is what was made, in order, in parts of at most 260 KiB', async () => {
    const data = randomBytes(800 * KIB);
    const { stream, output } = await begun({ room: 1024 * KIB });
    stream.part(data.subarray(0, 500 * KIB), false, 0);
    stream.part(data.subarray(500 * KIB), false, 0);
    expect(output.data.equals(data)).toBe(true);
    expect(output.sizes).toEqual([260, 240, 260, 40].map((size) => size * KIB));
  });

  it('is no more than a window ahead of a client without room, however much longer it is than what it is made of', async () => {
    const work = new Work();
    work.step = 1_000;
    work.make = (bytes) => new Uint8Array(33 * bytes.length).fill(bytes[0]!);
    const { stream, output } = await begun({ work, room: 0 });
    const length = INPUT_WINDOW / 2;
    stream.part(new Uint8Array(length).fill(7), true, 0);
    const taken = () => work.given.reduce((sum, { length }) => sum + length, 0);
    expect(33 * taken()).toBeGreaterThanOrEqual(INPUT_WINDOW);
    expect(33 * taken()).toBeLessThan(INPUT_WINDOW + 33 * 1_000);
    for (let left = 33 * length; left > 0; left -= 100 * KIB) {
      stream.part(NOTHING, false, 100 * KIB);
    }
    await stream.done;
    expect([taken(), output.bytes]).toEqual([length, 33 * length]);
  });

  it('is asked for piece by piece where little makes very much, and only as the client has room', async () => {
    const work = new Work();
    let left = 0;
    let made = 0;
    work.make = (bytes) => {
      left += bytes.length * 1_000;
      const piece = new Uint8Array(Math.min(left, 100 * KIB)).fill(9);
      left -= piece.length;
      made += piece.length;
      return piece;
    };
    Object.defineProperty(work, 'hasMore', { get: () => left > 0 });
    const { stream, output } = await begun({ work, room: 0 });
    stream.part(new Uint8Array(10 * KIB), true, 0);
    expect(made).toBeGreaterThanOrEqual(INPUT_WINDOW);
    expect(made).toBeLessThan(INPUT_WINDOW + 200 * KIB);
    for (let sent = 0; sent < 10 * KIB * 1_000; sent += 300 * KIB) {
      stream.part(NOTHING, false, 300 * KIB);
      expect(made - output.bytes).toBeLessThan(INPUT_WINDOW + 200 * KIB);
    }
    await stream.done;
    expect(output.bytes).toBe(10 * KIB * 1_000);
  });

  it('ends after an end that takes its time', async () => {
    const work = new Work();
    let finish!: (last: Uint8Array) => void;
    work.end = () => new Promise<Uint8Array>((resolve) => (finish = resolve)) as unknown as Uint8Array;
    const { stream, output } = await begun({ work, room: INPUT_WINDOW });
    stream.part(new Uint8Array(10), true, 0);
    await turn();
    expect(output.parts.some(({ isEnd }) => isEnd)).toBe(false);
    finish(new Uint8Array(5));
    await stream.done;
    expect(output.bytes).toBe(15);
    expect(output.parts.at(-1)!.isEnd).toBe(true);
  });

  it('is never more than the client has room for, with many small rooms too', async () => {
    const data = randomBytes(3_000);
    const { stream, output } = await begun({ room: 1 });
    stream.part(data, true, 0);
    let room = 1;
    for (let more = 1; output.bytes < data.length; more = (more * 7) % 101) {
      expect(output.bytes).toBe(Math.min(room, data.length));
      stream.part(NOTHING, false, more);
      room += more;
    }
    expect(output.data.equals(data)).toBe(true);
    await stream.done;
  });

  it('is wiped where it was made, part by part as it leaves', async () => {
    const work = new Work();
    const made = new Uint8Array(1_000).fill(9);
    work.make = () => made;
    const { stream } = await begun({ work, room: 400 });
    stream.part(randomBytes(1), false, 0);
    expect(made.findIndex((byte) => byte !== 0)).toBe(400);
    stream.part(NOTHING, false, 600);
    expect(made.some((byte) => byte !== 0)).toBe(false);
  });

  it('is a copy where it was lent and has to wait, and is not wiped there', async () => {
    const work = new LendingWork();
    const { stream, output } = await begun({ work, room: 6 });
    for (const text of ['abcd', 'efgh', 'ijkl']) {
      stream.part(Buffer.from(text), false, 0);
    }
    expect([output.data.toString(), Buffer.from(work.lent).toString()]).toEqual(['abcdef', 'ijkl']);
    stream.part(NOTHING, false, 5);
    expect(output.data.toString()).toBe('abcdefghijk');
    stream.part(Buffer.from('mnop'), true, 100);
    await stream.done;
    expect(output.data.toString()).toBe('abcdefghijklmnop');
    expect(Buffer.from(work.lent).toString()).toBe('mnop');
  });

  it('goes on where room was left before the end', async () => {
    const { stream, output } = await begun({ room: 10 });
    stream.part(randomBytes(4), false, 0);
    stream.part(randomBytes(4), false, 0);
    stream.part(randomBytes(4), false, 0);
    expect(output.sizes).toEqual([4, 4, 2]);
  });
});

describe('the end of a stream', () => {
  it('comes once, with the last data', async () => {
    const work = new Work();
    work.last = () => new Uint8Array([1, 2, 3]);
    const { stream, output } = await begun({ work, room: 400 * KIB });
    stream.part(randomBytes(300 * KIB), true, 0);
    await stream.done;
    expect(output.parts.map(({ data, isEnd }) => [data.length, isEnd])).toEqual([
      [260 * KIB, false],
      [40 * KIB, false],
      [3, true],
    ]);
    expect(work.closed).toBe(1);
  });

  it('comes alone when nothing is left to send, also without room', async () => {
    const { stream, output } = await begun({ room: 5 });
    stream.part(randomBytes(5), false, 0);
    expect(output.parts.at(-1)!.isEnd).toBe(false);
    stream.part(NOTHING, true, 0);
    await stream.done;
    expect(output.parts.at(-1)).toEqual({ id: ID, credit: 0, isEnd: true, data: Buffer.alloc(0) });
    expect(output.parts.filter(({ isEnd }) => isEnd)).toHaveLength(1);
  });

  it('waits for room when something is left, and then comes with exactly the last of it', async () => {
    const { stream, output } = await begun({ room: 5 });
    stream.part(randomBytes(10), true, 0);
    stream.part(NOTHING, false, 4);
    expect([output.sizes, output.parts.some(({ isEnd }) => isEnd)]).toEqual([[5, 4], false]);
    stream.part(NOTHING, false, 1);
    await stream.done;
    expect(output.parts.at(-1)).toMatchObject({ isEnd: true, data: { length: 1 } });
  });

  it('may be said before the work is there', async () => {
    const work = new Work();
    work.last = () => new Uint8Array([1]);
    const { stream, output, opening } = opened(10);
    stream.part(NOTHING, true, 0);
    opening.resolve(work);
    await stream.done;
    expect(output.parts).toEqual([{ id: ID, credit: 0, isEnd: true, data: Buffer.from([1]) }]);
  });

  it('waits for work that takes its time', async () => {
    const work = new SlowWork();
    const { stream, output } = await begun({ work, room: 100 });
    stream.part(Buffer.from('ab'), false, 0);
    stream.part(Buffer.from('cd'), true, 0);
    await turn();
    expect([output.parts, work.ended]).toEqual([[], 0]);
    work.finish();
    await turn();
    work.finish();
    await stream.done;
    expect([output.data.toString(), work.ended]).toEqual(['abcd', 1]);
    expect(output.parts.filter(({ isEnd }) => isEnd)).toHaveLength(1);
  });

  it('leaves whatever still comes without an answer', async () => {
    const work = new Work();
    const { stream, output } = await begun({ work, room: 100 });
    stream.part(Buffer.from('ab'), true, 0);
    await stream.done;
    const before = output.parts.length;
    stream.part(randomBytes(INPUT_WINDOW + 1), true, 5);
    stream.part(Buffer.from('x'), false, 0);
    stream.fail(new Error('late'));
    await turn();
    expect([output.parts.length, work.taken, work.closed]).toEqual([before, ['ab'], 1]);
  });
});

describe('a client that breaks the rules of a stream', () => {
  it('by more than its window is told PROTOCOL_ERROR with both numbers', async () => {
    const { stream } = await begun({ room: 0 });
    stream.part(randomBytes(INPUT_WINDOW - 10), false, 0);
    expect(codeOf(() => stream.part(randomBytes(11), false, 0))).toEqual([
      'PROTOCOL_ERROR',
      'stream 7 sent 11 bytes and may send 10',
    ]);
  });

  it('by sending before it was given credit is told PROTOCOL_ERROR', () => {
    const { stream } = opened();
    expect(codeOf(() => stream.part(randomBytes(1), false, 0))[0]).toBe('PROTOCOL_ERROR');
  });

  it.each([
    ['data', Buffer.from('x'), false],
    ['data and an end', Buffer.from('x'), true],
    ['another end', NOTHING, true],
  ])('by %s after its end is told PROTOCOL_ERROR', async (_what, data, isEnd) => {
    const { stream } = await begun({ room: 0 });
    stream.part(Buffer.from('ab'), true, 0);
    expect(codeOf(() => stream.part(data, isEnd, 0))).toEqual(['PROTOCOL_ERROR', 'stream 7 goes on after its end']);
  });

  it('may give credit after its end', async () => {
    const { stream } = await begun({ room: 0 });
    stream.part(Buffer.from('ab'), true, 0);
    stream.part(NOTHING, false, 2);
    await stream.done;
  });
});

describe('a stream that fails', () => {
  const failure = new DekdError('DECRYPTION_FAILED', 'decryption failed');

  it('because its work cannot be had rejects, and takes what comes without a word', async () => {
    const { stream, output, opening } = opened();
    opening.reject(failure);
    await expect(stream.done).rejects.toBe(failure);
    stream.part(randomBytes(10), true, 10);
    expect(output.parts).toEqual([]);
  });

  it.each([
    ['throws', () => raise(failure)],
    ['rejects', () => Promise.reject(failure)],
  ])('because taking %s rejects once, closes its work and sends nothing more', async (_how, make) => {
    const work = new Work();
    const { stream, output } = await begun({ work, room: 1 });
    stream.part(Buffer.from('ab'), false, 0);
    work.make = make;
    stream.part(Buffer.from('cd'), false, 0);
    await expect(stream.done).rejects.toBe(failure);
    stream.part(NOTHING, true, 100);
    stream.fail(new Error('late'));
    await turn();
    expect([output.data.toString(), output.parts.some(({ isEnd }) => isEnd), work.closed]).toEqual(['a', false, 1]);
  });

  it('because its end is refused rejects, and says no end', async () => {
    const work = new Work();
    work.last = () => raise(failure);
    const { stream, output } = await begun({ work, room: 1 });
    stream.part(Buffer.from('ab'), true, 0);
    await expect(stream.done).rejects.toBe(failure);
    expect([output.parts.some(({ isEnd }) => isEnd), work.closed]).toEqual([false, 1]);
  });

  it('wipes what was made and has not left', async () => {
    const work = new Work();
    const made = [new Uint8Array(100).fill(1), new Uint8Array(100).fill(2)];
    let next = 0;
    work.make = () => made[next++]!;
    const { stream } = await begun({ work, room: 50 });
    stream.part(Buffer.from('a'), false, 0);
    stream.part(Buffer.from('b'), false, 0);
    stream.fail(failure);
    await expect(stream.done).rejects.toBe(failure);
    expect(made.flatMap((bytes) => [...bytes]).some((byte) => byte !== 0)).toBe(false);
  });

  it('wipes what slow work makes of what it had taken', async () => {
    const work = new SlowWork();
    const { stream, output } = await begun({ work, room: 100 });
    stream.part(Buffer.from('secret'), false, 0);
    stream.fail(failure);
    await expect(stream.done).rejects.toBe(failure);
    const made = work.finish();
    await turn();
    expect([[...made].some((byte) => byte !== 0), output.parts]).toEqual([false, []]);
  });

  it('takes nothing that waits after work that was given up', async () => {
    const work = new SlowWork();
    const { stream } = await begun({ work, room: 100 });
    stream.part(Buffer.from('a'), false, 0);
    stream.part(Buffer.from('b'), true, 0);
    stream.fail(failure);
    await expect(stream.done).rejects.toBe(failure);
    work.finish();
    await turn();
    expect([work.taken, work.ended]).toEqual([['a'], 0]);
  });

  it('before its work is there closes it when it comes', async () => {
    const work = new Work();
    const { stream, output, opening } = opened();
    stream.fail(failure);
    opening.resolve(work);
    await expect(stream.done).rejects.toBe(failure);
    await turn();
    expect([work.closed, output.parts]).toEqual([1, []]);
  });
});

describe('work that takes its time', () => {
  it('is given one piece at a time, in order, and copies of what had to wait', async () => {
    const work = new SlowWork();
    const { stream, output } = await begun({ work, room: 100 });
    const frame = Buffer.alloc(2);
    for (const text of ['ab', 'cd', 'ef']) {
      frame.write(text);
      stream.part(frame, false, 0);
    }
    frame.fill('!');
    expect(work.taken).toEqual(['ab']);
    for (const known of [
      ['ab', 'cd'],
      ['ab', 'cd', 'ef'],
      ['ab', 'cd', 'ef'],
    ]) {
      work.finish();
      await turn();
      expect(work.taken).toEqual(known);
    }
    stream.part(NOTHING, true, 0);
    await stream.done;
    expect(output.data.toString()).toBe('abcdef');
  });

  it('leaves nothing of the copies that had to wait once it is done with them', async () => {
    const work = new SlowWork();
    const { stream } = await begun({ work, room: 100 });
    stream.part(Buffer.from('ab'), false, 0);
    stream.part(Buffer.from('secret'), false, 0);
    work.finish();
    await turn();
    expect([work.taken[1], [...work.given[1]!].some((byte) => byte !== 0)]).toEqual(['secret', false]);
  });

  it('that is not ready gets a copy even of the first piece', async () => {
    const work = new SlowWork();
    work.isReady = false;
    const { stream, output } = await begun({ work, room: 100 });
    const frame = Buffer.from('ab');
    stream.part(frame, true, 0);
    frame.fill('!');
    work.finish();
    await stream.done;
    expect(output.data.toString()).toBe('ab');
  });

  it('that is ready gets what came as it is', async () => {
    const work = new Work();
    const { stream } = await begun({ work, room: 100 });
    const frame = Buffer.from('ab');
    stream.part(frame, false, 0);
    expect([work.given[0]!.buffer, work.given[0]!.byteOffset]).toEqual([frame.buffer, frame.byteOffset]);
  });
});

interface Part {
  readonly id: number;
  readonly credit: number;
  readonly isEnd: boolean;
  readonly data: Buffer;
}

class RecordingOutput implements StreamOutput {
  readonly parts: Part[] = [];

  streamPart(id: number, credit: number, isEnd: boolean, data: Uint8Array): void {
    this.parts.push({ id, credit, isEnd, data: Buffer.from(data) });
  }

  get data(): Buffer {
    return Buffer.concat(this.parts.map(({ data }) => data));
  }

  get bytes(): number {
    return this.data.length;
  }

  /** Of the parts that have data. */
  get sizes(): number[] {
    return this.parts.map(({ data }) => data.length).filter((length) => length > 0);
  }

  get credit(): number {
    return this.parts.reduce((sum, { credit }) => sum + credit, 0);
  }
}

/** Gives back what it is given, at once. */
class Work implements MessageWork {
  isReady = true;
  step = Number.POSITIVE_INFINITY;
  /** What it was given, as text, and the very arrays. */
  readonly taken: string[] = [];
  readonly given: Uint8Array[] = [];
  ended = 0;
  closed = 0;
  make: (bytes: Uint8Array) => Uint8Array | Promise<Uint8Array> = (bytes) => new Uint8Array(bytes);
  last: () => Uint8Array = () => NOTHING;

  take(bytes: Uint8Array): Uint8Array | Promise<Uint8Array> {
    this.taken.push(Buffer.from(bytes).toString());
    this.given.push(bytes);
    return this.make(bytes);
  }

  end(): Uint8Array {
    this.ended++;
    return this.last();
  }

  close(): void {
    this.closed++;
  }
}

/** Gives back what it is given, four bytes of it, and every time in the same place. */
class LendingWork extends Work {
  readonly lends = true;
  readonly lent = new Uint8Array(4);

  constructor() {
    super();
    this.make = (bytes) => {
      this.lent.set(bytes);
      return this.lent;
    };
  }
}

/** Gives back what it is given when the test says so; of what it is given it may look at the first word only then. */
class SlowWork extends Work {
  readonly #waiting: (() => Uint8Array)[] = [];

  constructor() {
    super();
    this.make = (bytes) =>
      new Promise((resolve) => {
        // Like work that is ready: what it needs of the bytes it takes before it waits.
        const kept = this.isReady ? new Uint8Array(bytes) : bytes;
        this.#waiting.push(() => {
          const made = new Uint8Array(kept);
          resolve(made);
          return made;
        });
      });
  }

  /** Ends the oldest piece of work; what it made. */
  finish(): Uint8Array {
    return this.#waiting.shift()!();
  }
}

function opened(room = 0) {
  const output = new RecordingOutput();
  const opening = Promise.withResolvers<MessageWork>();
  return { stream: new AgentStream(ID, room, output, opening.promise), output, opening };
}

/** A stream whose work is there and whose client has heard of its first credit, which is taken out of the record. */
async function begun({ work = new Work(), room }: { work?: MessageWork; room: number }) {
  const { stream, output, opening } = opened(room);
  opening.resolve(work);
  await turn();
  expect(output.parts.splice(0).map(({ credit }) => credit)).toEqual([INPUT_WINDOW]);
  return { stream, output };
}

function codeOf(action: () => void): [string, string] {
  try {
    action();
  } catch (error) {
    const { code, message } = DekdError.from(error);
    return [code, message];
  }
  return ['', 'nothing was thrown'];
}

function raise(error: Error): never {
  throw error;
}
