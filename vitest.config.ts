import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';
import type { Reporter } from 'vitest/node';
import { SkipReporter } from './test/support/skip-reporter.ts';

/** A file for the results in JSON, where somebody counts them. */
const report = process.env.DEKD_TEST_REPORT;

const reporters: (string | Reporter | [string, Record<string, unknown>])[] = ['default', new SkipReporter()];
if (report !== undefined) {
  reporters.push(['json', { outputFile: report }]);
}

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/**/*.fault.test.ts', '**/node_modules/**'],
    pool: 'forks',
    // Most of the time tests wait for processes and clocks, so no core is left to the runner alone.
    maxWorkers: Math.max(2, availableParallelism()),
    reporters,
    testTimeout: 30_000,
    hookTimeout: 30_000,
  },
});
