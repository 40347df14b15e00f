import { Duplex } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { CustodianChannel } from '../../src/custody/custodian-channel.ts';
import { MAX_MESSAGE } from '../../src/custody/custodian-messages.ts';
import { Garbage } from '../../src/custody/untrusted.ts';
import { DekdError } from '../../src/errors.ts';

interface Heard {
  readonly messages: { readonly head: unknown; readonly body: Uint8Array }[];
  readonly garbage: unknown[];
  closed: number;
}

/** One end of a channel; what it sends is kept, and what it hears is given by hand. */
function oneEnd(onMessage: (head: unknown) => void = () => undefined) {
  const sent: Buffer[] = [];
  const socket = new Duplex({
    read: () => undefined,
    write: (chunk: Buffer, _, done) => {
      sent.push(Buffer.from(chunk));
      done();
    },
  });
  const heard: Heard = { messages: [], garbage: [], closed: 0 };
  const channel = new CustodianChannel(socket, {
    message: (head, body) => {
      onMessage(head);
      heard.messages.push({ head, body });
    },
    garbage: (error) => heard.garbage.push(error),
    closed: () => {
      heard.closed++;
    },
  });
  return { channel, socket, sent, heard, hear: (bytes: Buffer) => socket.emit('data', bytes) };
}

function framed(head: object, body?: Uint8Array): Buffer {
  const { channel, sent } = oneEnd();
  channel.send(head, body);
  return sent[0]!;
}

describe('CustodianChannel', () => {
  it('carries JSON with any text, and bytes beside it', () => {
    const { heard, hear } = oneEnd();
    const head = { text: 'Füße 漢字 🔑 \u0000 \ud800', __proto: 1, nothing: null };
    hear(framed(head, Uint8Array.of(0, 255, 10)));
    hear(framed({}));
    expect(heard.messages.map(({ head: each }) => each)).toEqual([head, {}]);
    expect(heard.messages.map(({ body }) => [...body])).toEqual([[0, 255, 10], []]);
  });

  it('takes messages whole, however their bytes arrive', () => {
    const stream = Buffer.concat([
      framed({ a: 1 }, Buffer.alloc(5, 1)),
      framed({ b: 2 }),
      framed({ c: 3 }, Buffer.alloc(3)),
    ]);
    for (const size of [1, 2, 3, 7, 16, stream.length]) {
      const { heard, hear } = oneEnd();
      for (let at = 0; at < stream.length; at += size) {
        hear(Buffer.from(stream.subarray(at, at + size)));
      }
      expect(heard.messages.map(({ head }) => head)).toEqual([{ a: 1 }, { b: 2 }, { c: 3 }]);
      expect(heard.messages.map(({ body }) => body.length)).toEqual([5, 0, 3]);
    }
  });

  it('gives the listener bytes of its own, and wipes those that were received and sent', async () => {
    const { channel, socket, heard, hear } = oneEnd();
    const secret = Buffer.from('plaintext of direct mode');
    const received = framed({}, secret);
    hear(received);
    expect(Buffer.from(heard.messages[0]!.body)).toEqual(secret);
    expect(received.includes('plaintext')).toBe(false);
    const chunks: Buffer[] = [];
    socket._write = (chunk: Buffer, _, done) => {
      chunks.push(chunk);
      done();
    };
    channel.send({}, secret);
    await new Promise(setImmediate);
    expect(chunks[0]!.includes('plaintext')).toBe(false);
    expect(secret.toString()).toBe('plaintext of direct mode');
  });

  it('refuses a length over the limit before it takes a byte of it, and hears nothing after it', () => {
    const { heard, hear } = oneEnd();
    const before = process.memoryUsage().arrayBuffers;
    hear(Buffer.from([0xff, 0xff, 0xff, 0xff, 0, 0]));
    hear(framed({ late: true }));
    expect(heard.messages).toEqual([]);
    expect(heard.garbage).toEqual([expect.any(DekdError)]);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1024 * 1024);
  });

  it.for([
    ['shorter than its own head', Buffer.from([0, 0, 0, 3, 0, 0, 0])],
    ['with a head longer than itself', Buffer.from([0, 0, 0, 5, 0, 0, 0, 2, 0x7b])],
    ['with a head of 4 GiB', Buffer.from([0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0x7b])],
    ['that is no JSON', Buffer.from([0, 0, 0, 5, 0, 0, 0, 1, 0x7b])],
  ] as const)('refuses a message %s', ([, bytes]) => {
    const { heard, hear } = oneEnd();
    hear(Buffer.from(bytes));
    expect(heard.messages).toEqual([]);
    expect(heard.garbage).toEqual([expect.any(Garbage)]);
  });

  it('hears nothing more once its listener refused a message, in the same chunk neither', () => {
    const { heard, hear } = oneEnd((head) => {
      if ((head as { bad?: boolean }).bad) {
        throw new Garbage('bad');
      }
    });
    hear(Buffer.concat([framed({ good: 1 }), framed({ bad: true }), framed({ good: 2 })]));
    hear(framed({ good: 3 }));
    expect(heard.messages.map(({ head }) => head)).toEqual([{ good: 1 }]);
    expect(heard.garbage).toHaveLength(1);
  });

  it('sends nothing of a message over the limit', () => {
    const { channel, sent } = oneEnd();
    expect(() => channel.send({}, Buffer.alloc(MAX_MESSAGE))).toThrow(Garbage);
    channel.send({}, Buffer.alloc(MAX_MESSAGE - 6));
    expect(sent.map(({ length }) => length)).toEqual([MAX_MESSAGE + 4]);
  });

  it('says once that the other side is gone', async () => {
    const { socket, heard } = oneEnd();
    socket.destroy(new Error('reset'));
    await new Promise(setImmediate);
    expect(heard.closed).toBe(1);
  });
});
