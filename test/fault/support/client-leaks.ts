/**
 * A million calls, and what is left of them: `client-leaks.ts CLIENT SOCKET CALLS`, run with --expose-gc. Prints one JSON line.
 *
 * Calls of every end: answered, refused, past their deadline, aborted before and while they were under way; all with one
 * signal that outlives them, which is where listeners would pile up.
 */
import { getEventListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';

const [clientModule, socket, count] = process.argv.slice(2) as [string, string, string];
const { connect, connectSync } = (await import(clientModule)) as typeof import('../../../src/client/index.ts');

/** Of one kind in flight. */
const WIDTH = 500;
const rejections: string[] = [];
process.on('unhandledRejection', (reason) => void rejections.push(String(reason)));

const dekd = connect({ socket, timeoutMs: 60_000 });
const sync = connectSync({ socket, timeoutMs: 60_000 });
const kept = new AbortController();
const { signal } = kept;
const data = new Uint8Array(64);
const options = { key: 'k', context: { a: 'b' }, signal };
const token = await dekd.encrypt(data, options);
const damaged = Uint8Array.from(token, (byte, index) => (index === token.length - 1 ? byte ^ 1 : byte));

const ends: Record<string, number> = {};
function count1(end: string): void {
  ends[end] = (ends[end] ?? 0) + 1;
}

async function ended(call: Promise<unknown>): Promise<void> {
  await call.then(
    () => count1('ok'),
    (error: unknown) => count1((error as { code?: string | number }).code?.toString() ?? String(error)),
  );
}

async function round(): Promise<number> {
  const calls: Promise<void>[] = [];
  const aborter = new AbortController();
  for (let i = 0; i < WIDTH; i++) {
    calls.push(ended(dekd.encrypt(data, options)), ended(dekd.decrypt(token, options)));
  }
  for (let i = 0; i < WIDTH / 10; i++) {
    calls.push(
      ended(dekd.decrypt(damaged, options)),
      ended(dekd.encrypt(data, { ...options, key: '' })),
      ended(dekd.encrypt(data, { ...options, signal: aborter.signal })),
      ended(dekd.encryptMany([data, data], { ...options, signal: aborter.signal })),
      ended(dekd.encrypt(data, { ...options, signal: AbortSignal.abort('before') })),
      // Half of them are too late, and nobody can say which.
      ended(dekd.encrypt(data, { ...options, timeoutMs: 0.01 + (i % 2) })),
    );
  }
  setImmediate(() => aborter.abort('under way'));
  await Promise.all(calls);
  for (let i = 0; i < WIDTH / 5; i++) {
    sync.encrypt(data, { key: 'k', context: { a: 'b' } });
  }
  return calls.length + WIDTH / 5;
}

interface Left {
  readonly heapBytes: number;
  readonly externalBytes: number;
  readonly residentBytes: number;
  readonly resources: number;
  readonly listeners: number;
  readonly processListeners: number;
}

async function left(): Promise<Left> {
  await sleep(200);
  for (let i = 0; i < 4; i++) {
    (globalThis as { gc?: () => void }).gc!();
    await sleep(20);
  }
  const { heapUsed, external, rss } = process.memoryUsage();
  return {
    heapBytes: heapUsed,
    externalBytes: external,
    residentBytes: rss,
    resources: process.getActiveResourcesInfo().length,
    listeners: getEventListeners(signal, 'abort').length,
    processListeners: process.eventNames().reduce((sum, name) => sum + process.listenerCount(name), 0),
  };
}

let done = 0;
while (done < Number(count) / 10) {
  done += await round();
}
const before = await left();
const warmed = done;
while (done < Number(count) + warmed) {
  done += await round();
}
const after = await left();
sync.close();
await dekd.close();
await sleep(100);
const open = process.getActiveResourcesInfo();
process.stdout.write(`${JSON.stringify({ calls: done - warmed, ends, before, after, open, rejections })}\n`);
