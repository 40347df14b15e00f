import type { LiveFigures } from './live-figures.ts';

/** What happened between two looks, as people read it. */
export interface LiveRates {
  /** Between the two looks. */
  readonly seconds: number;
  /** Busiest first. Times are in seconds, undefined where nothing happened. */
  readonly requests: readonly {
    readonly operation: string;
    readonly form: string;
    readonly perSecond: number;
    readonly p50: number | undefined;
    readonly p99: number | undefined;
  }[];
  /** The most first; `perSecond` of between the looks, `total` since the start. */
  readonly failures: readonly {
    readonly operation: string;
    readonly code: string;
    readonly total: number;
    readonly perSecond: number;
  }[];
  /** Calls to providers and keystores. */
  readonly calls: readonly {
    /** `root NAME` or `keystore NAME`. */
    readonly target: string;
    readonly operation: string;
    readonly perSecond: number;
    readonly p99: number | undefined;
    /** Since the start. */
    readonly total: number;
    readonly failed: number;
  }[];
  readonly requestsPerSecond: number;
  readonly itemsPerSecond: number;
  readonly failuresPerSecond: number;
  readonly p50: number | undefined;
  readonly p99: number | undefined;
  readonly sealedPerSecond: number;
  readonly openedPerSecond: number;
  /** Share of uses of keys that were there; undefined without any. */
  readonly hitShare: number | undefined;
  readonly evictionsPerSecond: number;
  readonly reloadsPerSecond: number;
  /** Cores, and the share of time in which the event loop was busy. */
  readonly cores: number;
  readonly busyShare: number;
  readonly loopDelayP99: number | undefined;
}

/**
 * Rates and quantiles between two looks at an agent. The page runs the text of this function in a browser, so it uses nothing
 * but its arguments.
 */
export function liveRates(before: LiveFigures, now: LiveFigures): LiveRates {
  const { bounds } = now;
  // Another process, or the same look twice: then everything since the start counts.
  const isSame = before.pid === now.pid && before.time < now.time;
  const seconds = isSame ? (now.time - before.time) / 1000 : Math.max(1, now.uptimeSeconds);
  const since = (later: number, earlier: number | undefined): number =>
    Math.max(0, later - (isSame ? (earlier ?? 0) : 0));
  const counted = (later: readonly number[], earlier: readonly number[] | undefined): number[] =>
    later.map((count, bucket) => since(count, earlier?.[bucket]));
  const sum = (counts: readonly number[]): number => counts.reduce((total, count) => total + count, 0);
  const quantile = (counts: readonly number[], share: number): number | undefined => {
    const wanted = sum(counts) * share;
    let below = 0;
    for (let bucket = 0; bucket < counts.length; bucket++) {
      const count = counts[bucket]!;
      if (count > 0 && below + count >= wanted) {
        const from = bucket === 0 ? 0 : bounds[bucket - 1]!;
        const to = bounds[bucket] ?? from;
        return from + ((to - from) * (wanted - below)) / count;
      }
      below += count;
    }
    return undefined;
  };

  const everything = bounds.map(() => 0).concat(0);
  const requests = now.requests
    .map(({ operation, form, counts }) => {
      const earlier = before.requests.find((one) => one.operation === operation && one.form === form);
      const difference = counted(counts, earlier?.counts);
      for (let bucket = 0; bucket < everything.length; bucket++) {
        everything[bucket] = everything[bucket]! + difference[bucket]!;
      }
      return {
        operation,
        form,
        perSecond: sum(difference) / seconds,
        p50: quantile(difference, 0.5),
        p99: quantile(difference, 0.99),
      };
    })
    .sort((a, b) => b.perSecond - a.perSecond);

  let items = 0;
  let failed = 0;
  const failures: { operation: string; code: string; total: number; perSecond: number }[] = [];
  const earlierOperations = before.counters.operations as Record<string, Record<string, number> | undefined>;
  for (const [operation, outcomes] of Object.entries(now.counters.operations)) {
    for (const [code, total] of Object.entries(outcomes)) {
      const perSecond = since(total, earlierOperations[operation]?.[code]) / seconds;
      items += perSecond;
      if (code !== 'ok') {
        failed += perSecond;
        failures.push({ operation, code, total, perSecond });
      }
    }
  }
  failures.sort((a, b) => b.perSecond - a.perSecond || b.total - a.total);

  const calls = [
    ...now.calls.providers.map((call) => ({ call, kind: 'root', all: before.calls.providers })),
    ...now.calls.keystores.map((call) => ({ call, kind: 'keystore', all: before.calls.keystores })),
  ].map(({ call, kind, all }) => {
    const earlier = all.find((one) => one.target === call.target && one.operation === call.operation);
    const difference = counted(call.counts, earlier?.counts);
    const total = sum(call.counts);
    return {
      target: `${kind} ${call.target}`,
      operation: call.operation,
      perSecond: sum(difference) / seconds,
      p99: quantile(difference, 0.99) ?? quantile(call.counts, 0.99),
      total,
      failed: total - (call.outcomes.ok ?? 0),
    };
  });

  const hits = since(now.keys.hits, before.keys.hits);
  const misses = since(now.keys.misses, before.keys.misses);
  return {
    seconds,
    requests,
    failures,
    calls,
    requestsPerSecond: sum(everything) / seconds,
    itemsPerSecond: items,
    failuresPerSecond: failed,
    p50: quantile(everything, 0.5),
    p99: quantile(everything, 0.99),
    sealedPerSecond: since(now.counters.bytesSealed, before.counters.bytesSealed) / seconds,
    openedPerSecond: since(now.counters.bytesOpened, before.counters.bytesOpened) / seconds,
    hitShare: hits + misses === 0 ? undefined : hits / (hits + misses),
    evictionsPerSecond: since(now.arena.evictions, before.arena.evictions) / seconds,
    reloadsPerSecond: since(now.arena.reloads, before.arena.reloads) / seconds,
    cores: since(now.process.cpuSeconds, before.process.cpuSeconds) / seconds,
    busyShare: Math.min(1, since(now.process.activeSeconds, before.process.activeSeconds) / seconds),
    loopDelayP99: quantile(counted(now.loopDelay, before.loopDelay), 0.99),
  };
}
