/**
 * Loaded into an agent with `--import`: how long its event loop was held up. SIGUSR2 begins anew; at the end of the
 * process the milliseconds go into the file that DEKD_BENCH_LOOP names, as `{ most, p99 }`.
 */
import { writeFileSync } from 'node:fs';
import { monitorEventLoopDelay } from 'node:perf_hooks';

const RESOLUTION_MS = 1;
const histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
histogram.enable();
process.on('SIGUSR2', () => histogram.reset());
process.once('exit', () => {
  // The timer that measures comes a resolution late by itself.
  const delay = (nanoseconds: number) => Math.max(0, nanoseconds / 1e6 - RESOLUTION_MS);
  const figures = { most: delay(histogram.max), p99: delay(histogram.percentile(99)) };
  writeFileSync(process.env.DEKD_BENCH_LOOP!, JSON.stringify(figures));
});
