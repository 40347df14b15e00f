import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { STATUS_PAGE, STATUS_PAGE_POLICY } from '../../src/agent/status-page.ts';
import { cut, plain, Screen } from '../../src/cli/watch/screen.ts';
import { duration, took, viewOf } from '../../src/cli/watch/view.ts';
import { BUCKETS } from '../../src/telemetry/histogram.ts';
import type { LiveFigures } from '../../src/telemetry/live-figures.ts';
import { liveRates } from '../../src/telemetry/live-rates.ts';

const EMPTY = new Array<number>(BUCKETS.length + 1).fill(0);

/** Counts with so many in the bucket up to `bound` seconds. */
const counts = (bound: number, times: number): number[] => EMPTY.with(BUCKETS.indexOf(bound), times);

function figures(changes: Partial<LiveFigures> = {}): LiveFigures {
  return {
    ...{ agent: 'dekd/1.2.3', pid: 7, time: 1_000_000, uptimeSeconds: 100, ready: true, reasons: [] },
    ...{
      engine: 'native',
      lockLevel: 'secret',
      bounds: BUCKETS,
      requests: [],
      loopDelay: EMPTY,
      custodians: [],
      lane: null,
    },
    counters: {
      ...{ operations: {}, batches: 0, bytesSealed: 0, bytesOpened: 0, framesRefused: 0, connectionsOpen: 0 },
      ...{ connectionsAccepted: 0, connectionsRefused: 0, engineFallbacks: 0 },
    },
    traffic: { inFlight: 0, streams: 0, data: 1, admin: 1, limit: 8_192 },
    arena: { slots: 1_024, used: 512, evictions: 0, reloads: 0 },
    keys: { known: 40, loaded: 12, hits: 0, misses: 0, loads: 0, frozen: 0, oldestAgeMs: 86_400_000 },
    roots: [],
    calls: { providers: [], keystores: [] },
    pool: { workers: 2, threads: 0, inWorkers: 0, inSlices: 0, waiting: 0, heldBytes: 0, deaths: 0 },
    process: { cpuSeconds: 1, residentBytes: 100 << 20, openFiles: 33, activeSeconds: 2 },
    ...changes,
  };
}

/** An agent at work, and five seconds before. */
function atWork(): [LiveFigures, LiveFigures] {
  const before = figures({
    requests: [{ operation: 'encrypt', form: 'value', counts: counts(0.0001, 1_000) }],
    counters: { ...figures().counters, operations: { encrypt: { ok: 1_000, PERMISSION_DENIED: 4 } } },
  });
  const now = figures({
    time: before.time + 5_000,
    requests: [
      { operation: 'encrypt', form: 'value', counts: counts(0.0001, 1_000).map((n, i) => n + counts(0.002, 500)[i]!) },
      { operation: 'decrypt', form: 'stream', counts: counts(1, 5) },
    ],
    counters: { ...before.counters, operations: { encrypt: { ok: 1_500, PERMISSION_DENIED: 14 }, decrypt: { ok: 5 } } },
    roots: [
      {
        name: 'a-root-with-a-long-name',
        provider: 'vault-transit',
        default: true,
        breaker: 'half-open',
        answerAgeMs: 99_000,
        proofAgeMs: 7_000_000,
      },
    ],
    calls: {
      providers: [
        {
          target: 'a-root-with-a-long-name',
          operation: 'unwrap',
          outcomes: { ok: 2, TIMEOUT: 1 },
          counts: counts(0.05, 3),
        },
      ],
      keystores: [],
    },
    keys: { ...before.keys, hits: 99, misses: 1, names: [{ name: 'payroll', ageMs: 3_600_000 * 72 }] },
  });
  return [before, now];
}

describe('rates between two looks', () => {
  it('are of what happened between them, and quantiles too', () => {
    const rates = liveRates(...atWork());
    expect(rates.seconds).toBe(5);
    expect(rates.requests.map(({ operation, form, perSecond }) => [operation, form, perSecond])).toEqual([
      ['encrypt', 'value', 100],
      ['decrypt', 'stream', 1],
    ]);
    expect(rates.requests[0]!.p50).toBeGreaterThan(0.001);
    expect(rates.requests[0]!.p50).toBeLessThanOrEqual(0.002);
    expect(rates.failures).toEqual([{ operation: 'encrypt', code: 'PERMISSION_DENIED', total: 14, perSecond: 2 }]);
    expect(rates.hitShare).toBe(0.99);
    expect(rates.calls[0]).toMatchObject({
      target: 'root a-root-with-a-long-name',
      total: 3,
      failed: 1,
      perSecond: 0.6,
    });
  });

  it('count from the start when the agent is another one', () => {
    const [before, now] = atWork();
    expect(liveRates({ ...before, pid: 1 }, now).itemsPerSecond).toBeCloseTo(1_519 / 100);
  });
});

describe('the view in a terminal', () => {
  it('has no line over 80 columns, and says what is going on', () => {
    const [before, now] = atWork();
    const lines = viewOf(now, liveRates(before, now), plain, { width: 80, rows: Number.POSITIVE_INFINITY });
    expect(lines.filter((line) => line.length > 80)).toEqual([]);
    const text = lines.join('\n');
    for (const piece of [
      'dekd/1.2.3',
      'ready',
      'encrypt',
      'decrypt stream',
      '512 of 1,024',
      'half-open',
      'PERMISSION_DENIED',
      'payroll',
    ]) {
      expect(text).toContain(piece);
    }
  });

  it('leaves sections out that do not fit, and keeps what comes first', () => {
    const [before, now] = atWork();
    const lines = viewOf(now, liveRates(before, now), plain, { width: 80, rows: 12 });
    expect(lines.length).toBeLessThanOrEqual(12);
    expect(lines.join('\n')).toContain('REQUESTS');
  });

  it('lets no name give orders to the terminal', () => {
    const root = {
      name: 'x\u001b[2J',
      provider: 'local',
      default: false,
      breaker: 'closed',
      answerAgeMs: null,
      proofAgeMs: null,
    } as const;
    const now = figures({ roots: [root] });
    expect(viewOf(now, liveRates(now, now), plain, { width: 80, rows: 99 }).join('')).not.toContain('\u001b');
  });

  it('writes times as people read them', () => {
    expect([undefined, 0.000018, 0.0024, 1.25, 30].map((seconds) => took(seconds))).toEqual([
      '-',
      '18 µs',
      '2.4 ms',
      '1.3 s',
      '30 s',
    ]);
    expect([42_000, 600_000, 18_000_000, 1e9].map((ms) => duration(ms))).toEqual(['42 s', '10 min', '5 h', '12 d']);
  });

  it('draws over what was there without a blank moment, and cuts lines by what is seen of them', () => {
    const paint = (text: string) => `\u001b[31m${text}\u001b[0m`;
    expect(cut(`${paint('abc')}def`, 4)).toBe('\u001b[31mabc\u001b[0md\u001b[0m');
    const written: string[] = [];
    const output = {
      columns: 10,
      rows: 2,
      write: (text: string) => written.push(text),
    } as unknown as NodeJS.WriteStream;
    const input = { isTTY: false, off: () => {}, on: () => {} } as unknown as NodeJS.ReadStream;
    const screen = new Screen(output, input);
    screen.open(() => {});
    screen.draw(['one', 'two', 'three']);
    screen.close();
    expect(written).toEqual([
      '\u001b[?1049h\u001b[?25l',
      '\u001b[Hone\u001b[K\r\ntwo\u001b[K\u001b[J',
      '\u001b[?25h\u001b[?1049l',
    ]);
  });
});

describe('the page', () => {
  const script = /<script>([\s\S]*)<\/script>/.exec(STATUS_PAGE)![1]!;

  it('names nothing outside of itself and its address', () => {
    expect(STATUS_PAGE).not.toMatch(/https?:|\/\/[a-z]|@import|url\(|src=|innerHTML|document\.write|eval\(/);
    expect([...STATUS_PAGE.matchAll(/href="([^"]*)"/g)].map(([, to]) => to)).toEqual(['data:,']);
    expect([...script.matchAll(/fetch\(([^,]*)/g)].map(([, what]) => what)).toEqual(["'status.json'"]);
  });

  it('has a policy that lets in its own style and script by their digests, and figures of its address', async () => {
    const style = /<style>([\s\S]*)<\/style>/.exec(STATUS_PAGE)![1]!;
    const digest = async (text: string) =>
      `'sha256-${Buffer.from(await crypto.subtle.digest('SHA-256', Buffer.from(text))).toString('base64')}'`;
    const policy = new Map(
      STATUS_PAGE_POLICY.split('; ').map((part) => [part.split(' ')[0], part.split(' ').slice(1).join(' ')]),
    );
    expect(policy.get('default-src')).toBe("'none'");
    expect(policy.get('style-src')).toBe(await digest(style));
    expect(policy.get('script-src')).toBe(await digest(script));
    expect([policy.get('connect-src'), policy.get('frame-ancestors')]).toEqual(["'self'", "'none'"]);
    expect(STATUS_PAGE).not.toMatch(/ style="| on[a-z]+="/);
  });

  it('computes rates with the function that the terminal has, in a world that has nothing else', () => {
    const body = script.slice(script.indexOf('function liveRates'), script.indexOf('const INTERVAL'));
    const [before, now] = atWork();
    const there = runInNewContext(`${body}; JSON.stringify(liveRates(...JSON.parse(looks)))`, {
      looks: JSON.stringify([before, now]),
    }) as string;
    expect(JSON.parse(there)).toEqual(JSON.parse(JSON.stringify(liveRates(before, now))));
  });

  it('has an element for everything that its script writes to', () => {
    const ids = new Set([...STATUS_PAGE.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id));
    const used = [...script.matchAll(/(?:by|put|rows|pairs|curve)\('([a-z0-9-]+)'/g)].map(([, id]) => id!);
    expect(used.length).toBeGreaterThan(20);
    expect(used.filter((id) => !ids.has(id))).toEqual([]);
  });
});
