import { defineConfig } from 'vitest/config';
import { SkipReporter } from './test/support/skip-reporter.ts';

/** What others of the machine get out of an agent, and who may do what: rows M and U of docs/test-plan.md. */
export default defineConfig({
  test: {
    include: [
      'test/unit/cli-host-checks.test.ts',
      'test/unit/swap.test.ts',
      'test/unit/policy-*.test.ts',
      'test/property/policy-oracle.test.ts',
      'test/integration/policy-callers.test.ts',
      'test/fault/socket-replace.fault.test.ts',
      'test/integration/agent-attacks.test.ts',
      'test/integration/agent-callers.test.ts',
      'test/integration/agent-caller-matrix.test.ts',
      'test/integration/direct-mode.test.ts',
      'test/integration/listener.test.ts',
      'test/integration/policy-callers.test.ts',
      'test/property/policy-oracle.test.ts',
      'test/fault/custodian-memory.fault.test.ts',
      'test/fault/key-remains.fault.test.ts',
      'test/fault/locked-levels.fault.test.ts',
      'test/fault/memory-scan.fault.test.ts',
      'test/fault/message-recipients-memory.fault.test.ts',
      'test/fault/seccomp.fault.test.ts',
    ],
    pool: 'forks',
    // Each of the long ones wants the machine for itself.
    fileParallelism: false,
    reporters: ['verbose', new SkipReporter()],
    testTimeout: 20 * 60_000,
    hookTimeout: 20 * 60_000,
  },
});
