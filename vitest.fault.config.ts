import { defineConfig } from 'vitest/config';
import { SkipReporter } from './test/support/skip-reporter.ts';

/** The long proofs: one file at a time, because each wants the machine for itself. */
export default defineConfig({
  test: {
    include: ['test/fault/**/*.fault.test.ts'],
    pool: 'forks',
    fileParallelism: false,
    reporters: ['verbose', new SkipReporter()],
    testTimeout: 20 * 60_000,
    hookTimeout: 20 * 60_000,
  },
});
