/** A client with streams in a process of its own: `stream-process.ts SOCKET`. Each line on standard input is a `Streams`. */
import { createInterface } from 'node:readline';
import { connect, type DekdClient } from '../../src/client/index.ts';
import { pass } from './passing.ts';
import { BINDING } from './scenarios.ts';
import type { Streams } from './stream-clients.ts';

/** As many as an agent lets a connection have, with those that open again. */
const STREAMS_A_CONNECTION = 10;

const clients: DekdClient[] = [];
await clientFor(0).encrypt(Buffer.from('first'), BINDING);
process.stdout.write('ready\n');
for await (const line of createInterface({ input: process.stdin })) {
  const { streams, bytes, both } = JSON.parse(line) as Streams;
  const begun = performance.now();
  const received = await Promise.all(
    Array.from({ length: streams }, (_, i) => {
      const client = clientFor(i);
      return pass(bytes, client.encryptStream(BINDING), ...(both ? [client.decryptStream(BINDING)] : []));
    }),
  );
  if (received.some((length) => (both ? length !== bytes : length <= bytes))) {
    throw new Error('a stream lost something');
  }
  process.stdout.write(`${performance.now() - begun}\n`);
}
await Promise.all(clients.map((client) => client.close()));

function clientFor(stream: number): DekdClient {
  const connection = Math.floor(stream / STREAMS_A_CONNECTION);
  clients[connection] ??= connect({ socket: process.argv[2]!, timeoutMs: 60_000 });
  return clients[connection];
}
