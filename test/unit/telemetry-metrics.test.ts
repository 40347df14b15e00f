import { describe, expect, it } from 'vitest';
import { CallTimes } from '../../src/telemetry/call-times.ts';
import { Exposition } from '../../src/telemetry/exposition.ts';
import { BUCKETS, Histogram, quantile } from '../../src/telemetry/histogram.ts';
import { METRICS, type MetricFamily } from '../../src/telemetry/metrics.ts';
import type { Observation } from '../../src/telemetry/observation.ts';
import { RequestTimes } from '../../src/telemetry/request-times.ts';
import { readExposition, sampleOf } from '../support/exposition.ts';

describe('a histogram', () => {
  it('counts a value in the first bucket whose bound it does not pass, and one above all bounds apart', () => {
    const histogram = new Histogram();
    histogram.record(0.00001);
    histogram.record(0.000011);
    histogram.record(10);
    histogram.record(11, 3);
    expect([...histogram.counts]).toEqual([1, 1, ...new Array(16).fill(0), 1, 3]);
    expect(histogram.sum).toBeCloseTo(43.000021);
  });

  it('has bounds from 10 µs to 10 s that rise', () => {
    expect([BUCKETS[0], BUCKETS.at(-1)]).toEqual([0.00001, 10]);
    expect([...BUCKETS].sort((a, b) => a - b)).toEqual(BUCKETS);
  });

  it('gives quantiles inside of the right bucket, and none of nothing', () => {
    const histogram = new Histogram();
    histogram.record(0.0015, 99);
    histogram.record(0.3);
    expect(quantile(histogram.counts, 0.5)).toBeGreaterThan(0.001);
    expect(quantile(histogram.counts, 0.5)).toBeLessThan(0.002);
    expect(quantile(histogram.counts, 0.995)).toBeGreaterThan(0.2);
    expect(quantile(new Histogram().counts, 0.5)).toBeUndefined();
  });
});

describe('an exposition', () => {
  it('escapes what labels say, so that no label can end its line or add another', () => {
    const to = new Exposition('text');
    to.values('dekd_key_age_seconds', [[{ key: 'a"b\\c\nd' }, 1]]);
    expect(to.text().split('\n').at(-2)).toBe('dekd_key_age_seconds{key="a\\"b\\\\c\\nd"} 1');
  });

  it('has cumulative buckets that end with the count', () => {
    const histogram = new Histogram();
    histogram.record(0.00001);
    histogram.record(99);
    const to = new Exposition('text');
    to.histograms('dekd_event_loop_delay_seconds', [[{}, histogram]]);
    const families = readExposition(to.text());
    const { samples } = families.get('dekd_event_loop_delay_seconds')!;
    expect(samples[0]).toMatchObject({ labels: { le: '0.00001' }, value: 1 });
    expect(samples.at(-3)).toMatchObject({ labels: { le: '+Inf' }, value: 2 });
    expect(sampleOf(families, 'dekd_event_loop_delay_seconds_count')).toBe(2);
  });

  it('refuses to write a family twice', () => {
    const to = new Exposition('text');
    to.value('dekd_ready', 1);
    expect(() => to.value('dekd_ready', 1)).toThrow('written twice');
  });

  it('ends with # EOF as OpenMetrics, and names the family of a counter without _total', () => {
    const to = new Exposition('openmetrics');
    to.value('dekd_batches_total', 2);
    expect(to.text()).toMatch(/# TYPE dekd_batches counter\ndekd_batches_total 2\n# EOF\n$/);
  });
});

describe('the list of metrics', () => {
  it('has names with units where they have one, counters that end in _total, and no label that callers fill', () => {
    for (const [name, { type, help, labels }] of Object.entries(METRICS) as [string, MetricFamily][]) {
      expect(name).toMatch(/^(dekd|process)_[a-z_]+$/);
      expect(name.endsWith('_total'), name).toBe(type === 'counter');
      expect(help, name).toMatch(/\.$/);
      expect(
        labels.filter((label) => /partition|context|caller|tenant/.test(label)),
        name,
      ).toEqual([]);
      if (type === 'histogram') {
        expect(name).toMatch(/_seconds$/);
      }
    }
  });
});

describe('times of requests', () => {
  const told = (fields: Partial<Observation>): Observation => ({
    ...{ operation: 'encrypt', form: 'value', arrived: 0, caller: '', client: '', key: '', partition: '' },
    ...{ used: undefined, outcome: 'ok', items: 1, failed: 0, failure: undefined, incident: '', bytes: 0 },
    ...{ context: new Uint8Array(0), traceparent: '', gid: undefined, socket: undefined },
    ...fields,
  });

  it('of one chunk are counted together when they leave, and those that waited by themselves', () => {
    const times = new RequestTimes();
    const now = performance.now();
    times.answered(told({ arrived: now }));
    times.answered(told({ arrived: now }));
    times.answered(told({ arrived: now, operation: 'decrypt' }));
    times.answered(told({ arrived: now - 5_000, form: 'stream' }));
    expect(times.all().map(({ form, histogram }) => [form, histogram.count])).toEqual([['stream', 1]]);
    times.left();
    times.left();
    const all = times.all().map(({ operation, form, histogram }) => [operation, form, histogram.count]);
    expect(all).toEqual([
      ['encrypt', 'value', 2],
      ['encrypt', 'stream', 1],
      ['decrypt', 'value', 1],
    ]);
    expect(times.all()[1]!.histogram.sum).toBeGreaterThanOrEqual(5);
  });
});

describe('times of calls', () => {
  it('are kept by target and operation, outcomes apart', () => {
    const calls = new CallTimes();
    calls.ended({ target: 'main', operation: 'wrap', outcome: 'ok', milliseconds: 3 });
    calls.ended({ target: 'main', operation: 'wrap', outcome: 'TIMEOUT', milliseconds: 900 });
    calls.ended({ target: 'other', operation: 'wrap', outcome: 'ok', milliseconds: 1 });
    expect(calls.all().map(({ target, outcomes, histogram }) => [target, [...outcomes], histogram.count])).toEqual([
      [
        'main',
        [
          ['ok', 1],
          ['TIMEOUT', 1],
        ],
        2,
      ],
      ['other', [['ok', 1]], 1],
    ]);
  });
});
