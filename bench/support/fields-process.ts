/**
 * A client in a process of its own that encrypts or decrypts fields: `fields-process.ts SOCKET encrypt|decrypt`. Each line on
 * standard input is a number of calls to make; each is answered with the milliseconds they took.
 */
import { createInterface } from 'node:readline';
import { connect } from '../../src/client/index.ts';
import { type FieldDirection, fieldCalls } from './field-rows.ts';

const [socket, direction] = process.argv.slice(2) as [string, FieldDirection];
const client = connect({ socket, timeoutMs: 60_000 });
const work = await fieldCalls(client, direction);
process.stdout.write('ready\n');
for await (const line of createInterface({ input: process.stdin })) {
  const begun = performance.now();
  await work(Number(line));
  process.stdout.write(`${performance.now() - begun}\n`);
}
await client.close();
