/**
 * Small clients: `small-process.ts SOCKET CLIENTS`, each with a connection of its own. Each line on standard input is for
 * how many milliseconds every one of them shall encrypt 64 bytes every now and then; it is answered with a `SmallCalls`.
 */
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, type DekdClient } from '../../src/client/index.ts';
import { percentile } from './interleave.ts';
import { BINDING } from './scenarios.ts';
import type { SmallCalls } from './small-clients.ts';

/** Between the end of one call and the next. */
const PAUSE_MS = 10;
const data = Buffer.alloc(64, 7);

const [socket, count] = process.argv.slice(2) as [string, string];
const clients = Array.from({ length: Number(count) }, () => connect({ socket }));
await Promise.all(clients.map((client) => client.encrypt(data, BINDING)));
process.stdout.write('ready\n');
for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await callFor(Number(line)))}\n`);
}
await Promise.all(clients.map((client) => client.close()));

async function callFor(milliseconds: number): Promise<SmallCalls> {
  const until = performance.now() + milliseconds;
  const samples: number[] = [];
  const failures: unknown[] = [];
  const one = async (client: DekdClient) => {
    // Not all at once: they are strangers to each other.
    await sleep(Math.random() * PAUSE_MS);
    while (performance.now() < until) {
      const begun = performance.now();
      await client.encrypt(data, BINDING).catch((error: unknown) => failures.push(error));
      samples.push((performance.now() - begun) * 1_000);
      await sleep(PAUSE_MS);
    }
  };
  await Promise.all(clients.map(one));
  return {
    calls: samples.length,
    failed: failures.length,
    ...(failures.length > 0 && { reason: String(failures[0]) }),
    p50: percentile(samples, 0.5),
    p99: percentile(samples, 0.99),
  };
}
