/**
 * One client at work: `load-client.ts PACKAGE SOCKET INDEX`. It encrypts and decrypts under four keys, single values and
 * batches, one call at a time, until standard input ends, and then prints how many calls it made.
 */
import { randomBytes } from 'node:crypto';
import { pathToFileURL } from 'node:url';

const [built, socket, index] = process.argv.slice(2) as [string, string, string];
const { connect } = (await import(
  pathToFileURL(`${built}/dist/client/index.js`).href
)) as typeof import('../../../src/client/index.ts');

const KEYS = ['alpha', 'beta', 'gamma', 'delta'];
const BATCH = 100;
let stopping = false;
process.stdin
  .once('end', () => {
    stopping = true;
  })
  .resume();

const client = connect({ socket });
let calls = 0;
while (!stopping) {
  const key = KEYS[(calls / 4) % KEYS.length]!;
  const options = { key, context: { client: index } };
  const data = randomBytes(64 + ((calls / 4) % 7) * 1000);
  const plain = await client.decrypt(await client.encrypt(data, options), options);
  const many = await client.encryptMany(
    Array.from({ length: BATCH }, () => data),
    options,
  );
  const tokens = many.map((result) => (result.ok ? result.value : new Uint8Array(0)));
  const back = await client.decryptMany(tokens, options);
  if (!data.equals(plain) || !back.every((result) => result.ok && data.equals(result.value))) {
    throw new Error('a value did not come back');
  }
  calls += 4;
}
await client.close();
process.stdout.write(`${calls}\n`);
