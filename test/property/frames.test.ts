import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DekdError } from '../../src/errors.ts';
import { FrameReader, ReusedAssembly } from '../../src/protocol/frame.ts';
import { messages, type RequestFields } from '../../src/protocol/messages.ts';
import { OPERATION } from '../../src/protocol/request-reader.ts';
import { startTestAgent, type TestAgent } from '../support/agent.ts';
import { anyRequest, anyTraffic, sendTraffic } from '../support/garbage.ts';
import { frameOf, RawClient } from '../support/raw-client.ts';
import { readByGenerated, readByHand } from '../support/request-readers.ts';

describe('the frame reader', () => {
  it('gives the same frames however the stream is cut', () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 10 }),
        fc.array(fc.nat(3_000), { maxLength: 20 }),
        (bodies, cuts) => {
          const stream = Buffer.concat(bodies.map(frameOf));
          const places = [...new Set(cuts.map((cut) => cut % (stream.length + 1)))].sort((a, b) => a - b);
          const frames: Buffer[] = [];
          const reader = new FrameReader(300, (frame) => frames.push(Buffer.from(frame)));
          for (const [i, end] of [...places, stream.length].entries()) {
            reader.push(stream.subarray(places[i - 1] ?? 0, end));
          }
          expect(frames).toEqual(bodies.map((body) => Buffer.from(body)));
          expect(reader.isMidFrame).toBe(false);
        },
      ),
      { numRuns: 300 },
    );
  });

  it('gives the same frames when large ones are read straight to their place, whoever assembles them', () => {
    const sizes = fc.oneof(fc.nat(300), fc.integer({ min: 60_000, max: 200_000 }));
    fc.assert(
      fc.property(
        fc.array(sizes, { maxLength: 6 }),
        fc.infiniteStream(fc.integer({ min: 1, max: 90_000 })),
        fc.boolean(),
        (lengths, reads, reused) => {
          const bodies = lengths.map((length, i) => Buffer.alloc(length, i + 1));
          const stream = Buffer.concat(bodies.map(frameOf));
          const frames: Buffer[] = [];
          const reader = new FrameReader(
            200_000,
            (frame) => frames.push(Buffer.from(frame)),
            reused ? new ReusedAssembly(150_000) : undefined,
          );
          for (let at = 0; at < stream.length; ) {
            const { space } = reader;
            const length = Math.min(reads.next().value, space?.length ?? Number.POSITIVE_INFINITY, stream.length - at);
            if (space === undefined) {
              reader.push(stream.subarray(at, at + length));
            } else {
              stream.copy(space, 0, at, at + length);
              reader.fill(length);
            }
            at += length;
          }
          expect(frames.map(({ length }) => length)).toEqual(lengths);
          expect(frames.every((frame, i) => frame.equals(bodies[i]!))).toBe(true);
          expect(reader.isMidFrame).toBe(false);
        },
      ),
      { numRuns: 100 },
    );
  });

  it('refuses a frame over its limit on the last byte of the prefix, wherever the cut', () => {
    fc.assert(
      fc.property(fc.integer({ min: 301, max: 0xffffffff }), fc.integer({ min: 0, max: 3 }), (length, cut) => {
        const prefix = Buffer.alloc(4);
        prefix.writeUInt32BE(length);
        const reader = new FrameReader(300, () => expect.fail('no frame is whole'));
        reader.push(prefix.subarray(0, cut));
        expect(() => reader.push(prefix.subarray(cut))).toThrow(`${length} bytes is over the limit of 300`);
        expect(() => reader.push(Buffer.alloc(1))).toThrow(DekdError);
      }),
      { numRuns: 200 },
    );
  });
});

describe('the request reader', () => {
  it('reads every request as the generated code does', () => {
    fc.assert(
      fc.property(anyRequest, (request: RequestFields) => {
        const body = messages.Request.encode(request).finish();
        let generated: object;
        try {
          generated = readByGenerated(body);
        } catch (error) {
          // A lone surrogate among the names: no UTF-8.
          expect(error).toBeInstanceOf(TypeError);
          expect(() => readByHand(body)).toThrow(DekdError);
          return;
        }
        expect(readByHand(body)).toEqual(generated);
      }),
      { numRuns: 1_000 },
    );
  });

  it('throws PROTOCOL_ERROR or reads, for any bytes, and never past their end', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 120 }), (body) => {
        try {
          readByHand(body);
        } catch (error) {
          expect(DekdError.is(error, 'PROTOCOL_ERROR'), String(error)).toBe(true);
        }
      }),
      { numRuns: 2_000 },
    );
  });

  it('reads a request of which bytes were changed as the generated code does, or refuses it', () => {
    fc.assert(
      fc.property(anyRequest, fc.nat(10_000), fc.nat(255), (request, at, byte) => {
        const body = messages.Request.encode(request).finish().slice();
        body[at % body.length] = byte;
        let mine: object | undefined;
        try {
          mine = readByHand(body);
        } catch (error) {
          expect(DekdError.is(error, 'PROTOCOL_ERROR'), String(error)).toBe(true);
          return;
        }
        let generated: object;
        try {
          generated = readByGenerated(body);
        } catch {
          // The generated code also checks operations that this reader only steps over.
          return;
        }
        const operations = Object.values(OPERATION) as number[];
        if (operations.includes((mine as { operation: number }).operation)) {
          expect(mine).toEqual(generated);
        }
      }),
      { numRuns: 1_000 },
    );
  });
});

describe('an agent under random traffic', () => {
  let agent: TestAgent;
  const rejections: unknown[] = [];
  const onRejection = (reason: unknown): void => void rejections.push(reason);
  beforeAll(async () => {
    process.on('unhandledRejection', onRejection);
    agent = await startTestAgent();
  });
  afterAll(async () => {
    await agent.stop();
    process.off('unhandledRejection', onRejection);
  });

  it('closes or answers, reports no defect, and serves the next one', { timeout: 60_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(anyTraffic, async (traffic) => {
        await sendTraffic(agent.socket, traffic);
      }),
      { numRuns: 400 },
    );
    const client = await RawClient.greeted(agent.socket);
    expect((await client.ask({ ping: {} })).document).toBeTruthy();
    client.destroy();
    expect(agent.log.filter(({ level }) => level === 'error')).toEqual([]);
    expect(rejections).toEqual([]);
  });
});
