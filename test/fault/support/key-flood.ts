/**
 * A caller with many keys: `key-flood.ts PACKAGE SOCKET PREFIX COUNT`. Encrypts one value under each key, which makes it,
 * then opens each token, oldest first, and prints how many came back.
 */
import { pathToFileURL } from 'node:url';

const [built, socket, prefix, wanted] = process.argv.slice(2) as [string, string, string, string];
const { connect } = (await import(
  pathToFileURL(`${built}/dist/client/index.js`).href
)) as typeof import('../../../src/client/index.ts');

const IN_FLIGHT = 32;
const count = Number(wanted);
const client = connect({ socket, timeoutMs: 60_000 });
const tokens: Uint8Array[] = new Array(count);

const plaintext = (index: number): Buffer => Buffer.from(`value of ${prefix}${index}`);
const options = (index: number) => ({ key: `${prefix}${index}`, context: { row: String(index) } });

async function all(work: (index: number) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < count) {
      await work(next++);
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, worker));
}

const begun = performance.now();
await all(async (index) => {
  tokens[index] = await client.encrypt(plaintext(index), options(index));
});
const made = performance.now();
let opened = 0;
await all(async (index) => {
  const plain = await client.decrypt(tokens[index]!, options(index));
  opened += plaintext(index).equals(plain) ? 1 : 0;
});
const done = performance.now();
await client.close();
process.stdout.write(JSON.stringify({ opened, makeMs: Math.round(made - begun), openMs: Math.round(done - made) }));
