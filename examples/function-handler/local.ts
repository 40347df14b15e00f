/** Stands in for the runtime of a platform: an event a line on standard input, its result on standard output. */
import { createInterface } from 'node:readline';
import { DekdError } from 'dekd/client';

const before = performance.now();
const { close, handler } = await import('./handler.ts');
const after = performance.now();

let isFirst = true;
for await (const line of createInterface({ input: process.stdin })) {
  const result = await handler(JSON.parse(line)).catch((error: unknown) => ({
    error: DekdError.is(error) ? error.code : String(error),
  }));
  console.log(JSON.stringify(result));
  if (isFirst) {
    isFirst = false;
    const initMs = Math.round(after - before);
    const firstEventMs = Math.round(performance.now() - after);
    console.error(
      JSON.stringify({ message: 'cold start', initMs, firstEventMs, processMs: Math.round(performance.now()) }),
    );
  }
}
await close();
