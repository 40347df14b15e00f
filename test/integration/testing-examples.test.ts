/** The examples for tests of applications, on the package as it is built. */
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { ensureDist } from '../../bench/support/agent-process.ts';
import { childEnvironment, NODE } from '../support/agent.ts';
import { run } from '../support/source-copy.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

describe('the examples for tests', () => {
  beforeAll(() => ensureDist(), 120_000);

  it.each([
    ['node:test', ['--test', 'examples/testing/node-test/customers.test.mjs'], /pass 5\b/],
    ['vitest', ['node_modules/vitest/vitest.mjs', 'run', '--root', 'examples/testing/vitest'], /Tests\s+3 passed/],
  ] as const)('pass with %s', { timeout: 60_000 }, async (_, args, passed) => {
    const done = await run(NODE, args, { cwd: ROOT, env: { ...childEnvironment(), NO_COLOR: '1' } });
    expect(done.code, done.stdout + done.stderr).toBe(0);
    expect(done.stdout).toMatch(passed);
  });
});
