/**
 * Worlds that run in a process of their own, where Node's clock, timers, random numbers, files and sockets are taken over.
 * DEKD_SIM_SEEDS says how many of them; `npm run test:simulation` runs them without this.
 */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { NODE } from '../support/agent.ts';
import { DEFECTS } from './defects.ts';

const MAIN = fileURLToPath(new URL('main.ts', import.meta.url));
const SEEDS = Number(process.env.DEKD_SIM_SEEDS ?? 6);
/** Within so many worlds each defect has to be found. */
const ENOUGH = 60;
/** Those that one of the first worlds finds; the others are run where there is time. */
const QUICK = ['rotation-leaves-two', 'context-is-not-bound', 'freeze-stops-nothing', 'destroyed-stays-warm'];
const TIMEOUT_MS = 30 * 60_000;

interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function simulate(...args: readonly string[]): Promise<Ran> {
  const { DEKD_SIM_SEED: _one, DEKD_SIM_SEEDS: _many, ...env } = process.env;
  return new Promise((resolve) => {
    execFile(NODE, [MAIN, ...args], { env, maxBuffer: 1 << 28 }, (error, stdout, stderr) =>
      resolve({ code: Number(error?.code ?? 0), stdout, stderr }),
    );
  });
}

describe(`${SEEDS} simulated worlds of agents, a keystore and roots that fail`, { timeout: TIMEOUT_MS }, () => {
  it('answer nothing wrong, refuse nothing without a reason, and open everything once all is well', async () => {
    const { code, stdout, stderr } = await simulate('--seeds', String(SEEDS), '--json');
    expect(stderr).toBe('');
    expect(code).toBe(0);
    const { failed, outcomes, starts } = JSON.parse(stdout) as {
      failed: number[];
      outcomes: Record<string, number>;
      starts: number;
    };
    expect(failed).toEqual([]);
    // A world in which nothing happens proves nothing.
    expect(starts).toBeGreaterThan(3 * SEEDS);
    for (const happened of ['decrypt ok', 'encrypt ok', 'rotate ok']) {
      expect(outcomes[happened], happened).toBeGreaterThan(SEEDS);
    }
    for (const happened of [
      'destroy ok',
      'disable ok',
      'freeze ok',
      'rewrap ok',
      'misuse DECRYPTION_FAILED',
      'encrypt KMS_UNAVAILABLE',
    ]) {
      expect(outcomes[happened], happened).toBeGreaterThan(0);
    }
  });

  it('are the same for the same seed, also in another process', async () => {
    const runs = await Promise.all([simulate('--seed', '7', '--trace'), simulate('--seed', '7', '--trace')]);
    const [first, second] = runs.map(({ stdout }) => stdout.split('\n').filter((line) => /^(\d|digest)/.test(line)));
    expect(first!.length).toBeGreaterThan(1_000);
    expect(first!.filter((line) => line.startsWith('digest'))).toHaveLength(1);
    // The last line says how long it took.
    expect(first!.slice(0, -1)).toEqual(second!.slice(0, -1));
  });

  it.each(SEEDS >= ENOUGH ? Object.keys(DEFECTS) : QUICK)(
    'find the defect %s, and say how it is seen again',
    async (defect) => {
      const { code, stderr } = await simulate('--seeds', String(ENOUGH), '--defect', defect);
      expect(code).toBe(1);
      expect(stderr).toMatch(/^seed \d+: \d+ problems\n/);
      expect(stderr).toMatch(new RegExp(`npm run test:simulation -- --seed \\d+ --trace --defect ${defect}\n`));
    },
  );
});
