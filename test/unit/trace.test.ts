import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { carriedTraceparent, traceIdOf } from '../../src/telemetry/trace-context.ts';
import { currentTraceparent, withTraceparent } from '../../src/trace.ts';

const ONE = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
const TWO = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00';

describe('the trace of a request', () => {
  it('is what its own code sees, over every wait, and not that of another', async () => {
    const seen = await Promise.all(
      [ONE, TWO].map(async (traceparent) => {
        const found: (string | undefined)[] = [];
        await withTraceparent(traceparent, async () => {
          found.push(currentTraceparent());
          await sleep(2);
          found.push(currentTraceparent());
        });
        return found;
      }),
    );
    expect(seen).toEqual([
      [ONE, ONE],
      [TWO, TWO],
    ]);
    expect(currentTraceparent()).toBeUndefined();
  });

  it('ends with the request: a timer that was begun for it works for nobody', async () => {
    let during: string | undefined;
    let after: string | undefined = 'not yet';
    await withTraceparent(ONE, async () => {
      setTimeout(() => {
        after = currentTraceparent();
      }, 10);
      during = currentTraceparent();
    });
    await sleep(30);
    expect([during, after]).toEqual([ONE, undefined]);
    void withTraceparent(TWO, () => {
      setTimeout(() => {
        after = currentTraceparent();
      }, 1);
      return undefined;
    });
    await sleep(20);
    expect(after).toBeUndefined();
  });

  it('ends with a request that fails, too, whose failure is its own', async () => {
    let after: string | undefined = 'not yet';
    const failing = withTraceparent(ONE, async () => {
      setTimeout(() => {
        after = currentTraceparent();
      }, 5);
      throw new Error('no');
    });
    await expect(failing).rejects.toThrow('no');
    await sleep(20);
    expect(after).toBeUndefined();
  });

  it('is none where there is none', () => {
    void withTraceparent('', () => {
      expect(currentTraceparent()).toBeUndefined();
      return undefined;
    });
  });
});

describe('traceparent', () => {
  it.each([
    ['of version 00', ONE, ONE],
    ['of a later version', ONE.replace('00-', '01-'), ''],
    ['in capitals', ONE.toUpperCase(), ''],
    ['with a trace of zeros', `00-${'0'.repeat(32)}-b7ad6b7169203331-01`, ''],
    ['with a span of zeros', `00-0af7651916cd43dd8448eb211c80319c-${'0'.repeat(16)}-01`, ''],
    ['with more behind it', `${ONE}\r\nx: y`, ''],
    ['with a line end', `${ONE}\n`, ''],
    ['that is empty', '', ''],
  ])('%s is carried or is none', (_what, text, carried) => {
    expect(carriedTraceparent(text)).toBe(carried);
  });

  it('has an id', () => {
    expect([traceIdOf(ONE), traceIdOf('')]).toEqual(['0af7651916cd43dd8448eb211c80319c', undefined]);
  });
});
