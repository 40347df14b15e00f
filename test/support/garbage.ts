/** Random traffic for one agent: good frames cut anywhere, and frames of noise. */
import fc from 'fast-check';
import { messages, type RequestFields } from '../../src/protocol/messages.ts';
import { frameOf, HELLO, RawClient, requestFrame } from './raw-client.ts';

const key = fc.constantFrom('k', 'other', '', '.l3/default', 'x'.repeat(300), '__proto__', '\ud800');
const bytes = fc.uint8Array({ maxLength: 200 });
const context = fc.oneof(
  fc.constant(new Uint8Array(0)),
  bytes,
  fc.constant(new Uint8Array([0, 1, 0, 1, 97, 0, 1, 98])),
);
const binding = { key, partition: fc.constantFrom('', 'p', '\0'), context };
const item = fc.record({ ...binding, data: bytes }, { requiredKeys: ['data'] });
const many = fc.record({ ...binding, anyKey: fc.boolean(), items: fc.array(item, { maxLength: 20 }) });
const value = fc.record({ ...binding, data: bytes });

/** Requests that are right in form, whatever they say. */
export const anyRequest: fc.Arbitrary<RequestFields> = fc
  .tuple(
    fc.integer({ min: 0, max: 0xffffffff }),
    fc.constantFrom(0, 1, 1_000, 0xffffffff),
    fc.oneof(
      fc.record({ ping: fc.constant({}) }),
      fc.record({ hello: fc.constant(HELLO) }),
      fc.record({ cancel: fc.record({ id: fc.integer({ min: 0, max: 50 }) }) }),
      fc.record({ keyInfo: fc.record({ key }) }),
      fc.record({ encrypt: value }),
      fc.record({ decrypt: value }),
      fc.record({ reencrypt: value }),
      fc.record({ encryptMany: many }),
      fc.record({ decryptMany: many }),
      fc.record({ reencryptMany: many }),
      fc.record({ admin: fc.record({ status: fc.constant({}) }) }),
    ),
  )
  .map(([id, timeoutMs, operation]) => ({ id, timeoutMs, ...operation }) as RequestFields);

const noise = fc.oneof(
  fc.uint8Array({ maxLength: 300 }).map((body) => frameOf(body)),
  fc.uint8Array({ minLength: 1, maxLength: 300 }).map((raw) => Buffer.from(raw)),
  // A good request with some of its bytes changed.
  fc
    .tuple(anyRequest, fc.array(fc.tuple(fc.nat(10_000), fc.nat(255)), { minLength: 1, maxLength: 6 }))
    .map(([request, changes]) => {
      const body = messages.Request.encode(request).finish().slice();
      for (const [at, byte] of changes) {
        body[at % body.length] = byte;
      }
      return frameOf(body);
    }),
);

/** What one connection sends, as the pieces it is written in. */
export const anyTraffic: fc.Arbitrary<{ readonly greets: boolean; readonly pieces: Buffer[]; readonly half: boolean }> =
  fc
    .tuple(
      fc.boolean(),
      fc.array(fc.oneof({ weight: 2, arbitrary: anyRequest.map(requestFrame) }, { weight: 1, arbitrary: noise }), {
        minLength: 1,
        maxLength: 8,
      }),
      fc.array(fc.nat(5_000), { maxLength: 12 }),
      fc.boolean(),
    )
    .map(([greets, frames, cuts, half]) => {
      const all = Buffer.concat(frames);
      const places = [...new Set(cuts.map((cut) => cut % (all.length + 1)))].sort((a, b) => a - b);
      const pieces = [...places, all.length].map((end, i) => all.subarray(places[i - 1] ?? 0, end));
      return { greets, pieces, half };
    });

/** Sends it and goes; nothing is asked of the answers but that they are frames. */
export async function sendTraffic(
  socket: string,
  { greets, pieces, half }: { greets: boolean; pieces: Buffer[]; half: boolean },
): Promise<void> {
  const client = await (greets ? RawClient.greeted(socket) : RawClient.connect(socket));
  for (const piece of pieces) {
    if (client.isClosed) {
      break;
    }
    client.write(piece);
    await new Promise((resolve) => setImmediate(resolve));
  }
  if (half) {
    client.socket.end();
  } else {
    client.destroy();
  }
  await client.closed;
  client.destroy();
}
