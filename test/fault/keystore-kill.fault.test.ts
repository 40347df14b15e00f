import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AgentProcess, type AgentProcessOptions, quantile, report, runDekd } from './support/agent-process.ts';
import { KillLane } from './support/kill-lane.ts';
import { PrivatePackage } from './support/private-package.ts';
import { randomNumbers } from './support/random-numbers.ts';

const KILLS = Number(process.env.DEKD_KILLS ?? 2_000);
const SEED = Number(process.env.DEKD_SEED ?? Date.now() % 1_000_000);
/** Agents at once, each on a state of its own. */
const LANES = Math.max(2, Math.min(4, availableParallelism()));
/** A kill takes a third of a second where nothing else runs; also a busy machine gets to its end. */
const PATIENCE_MS = Math.max(20 * 60_000, KILLS * 3_000);
/** Starts of an agent with nothing else running, to say how soon it is ready. */
const QUIET_STARTS = 20;

describe(`${KILLS.toLocaleString('en')} SIGKILLs while keys are made and rotated on sqlite`, () => {
  let built: PrivatePackage;
  let folder: string;
  const lanes: KillLane[] = [];
  const options: AgentProcessOptions[] = [];

  beforeAll(() => {
    built = new PrivatePackage();
    folder = mkdtempSync(join(tmpdir(), 'dekd-kill-'));
    for (let index = 0; index < LANES; index++) {
      const place = join(folder, `lane-${index}`);
      mkdirSync(place, { mode: 0o700 });
      options.push({ package: built, folder: place, env: { DEKD_ENGINE: 'auto' } });
      lanes.push(new KillLane(options[index]!, randomNumbers(SEED + index)));
    }
  });
  afterAll(() => {
    built[Symbol.dispose]();
    rmSync(folder, { recursive: true, force: true });
  });

  it(`lose no acknowledged version and leave one active version of each key (DEKD_SEED=${SEED})`, {
    timeout: PATIENCE_MS,
  }, async () => {
    const begun = performance.now();
    const perLane = Math.ceil(KILLS / LANES);
    await Promise.all(
      lanes.map(async (lane) => {
        for (let kill = 0; kill < perLane && lane.problems.length === 0; kill++) {
          await lane.cycle();
        }
        if (lane.problems.length === 0) {
          await lane.checkAll();
        }
      }),
    );
    const ready = lanes.flatMap((lane) => lane.figures.readyMs);
    const sum = (name: 'kills' | 'acknowledged' | 'unacknowledged' | 'landed' | 'tokensChecked'): number =>
      lanes.reduce((total, lane) => total + lane.figures[name], 0);
    report('kills', {
      seed: SEED,
      kills: sum('kills'),
      seconds: Math.round((performance.now() - begun) / 1000),
      acknowledged: sum('acknowledged'),
      unacknowledged: sum('unacknowledged'),
      landedUnacknowledged: sum('landed'),
      tokensOpened: sum('tokensChecked'),
      readyUnderLoadMs: { p50: Math.round(quantile(ready, 0.5)), p99: Math.round(quantile(ready, 0.99)) },
    });
    expect(lanes.flatMap((lane) => lane.problems)).toEqual([]);
    expect(sum('kills')).toBe(perLane * LANES);
    // The kills fell into work: much was acknowledged, and much was cut off.
    expect(sum('acknowledged')).toBeGreaterThan(KILLS / 2);
    expect(sum('unacknowledged')).toBeGreaterThan(KILLS / 2);
  });

  it('let an agent start as soon as ever', async () => {
    const times: number[] = [];
    for (let start = 0; start < QUIET_STARTS; start++) {
      const agent = await AgentProcess.start(options[0]!);
      times.push(agent.readyMs);
      await agent.kill();
    }
    report('ready after SIGKILL (bar 200 ms)', {
      p50: Math.round(quantile(times, 0.5)),
      p99: Math.round(quantile(times, 0.99)),
    });
    expect(times).toHaveLength(QUIET_STARTS);
  });

  it('leave a keystore whose export opens everything from an empty one', async () => {
    const backup = join(folder, 'backup.json');
    await using old = await AgentProcess.start(options[0]!);
    const exported = await runDekd(built, ['keys', 'export', '--socket', old.socket, '--json', '-o', backup]);
    expect(exported.stderr).toBe('');
    const { records } = JSON.parse(exported.stdout) as { records: number };

    const place = join(folder, 'restored');
    const state = join(place, 'state');
    mkdirSync(state, { recursive: true, mode: 0o700 });
    copyFileSync(join(options[0]!.folder, 'state/root.key'), join(state, 'root.key'));
    const fresh: AgentProcessOptions = { ...options[0]!, folder: place };
    {
      await using agent = await AgentProcess.start(fresh);
      const imported = await runDekd(built, ['keys', 'import', '--socket', agent.socket, '--json', backup]);
      expect(imported.stderr).toBe('');
      expect(JSON.parse(imported.stdout)).toEqual({ imported: records, unchanged: 0, refused: [] });
      const again = await runDekd(built, ['keys', 'import', '--socket', agent.socket, '--json', backup]);
      expect(JSON.parse(again.stdout)).toEqual({ imported: 0, unchanged: records, refused: [] });
    }
    report('export and import', { records, bytes: readFileSync(backup).length });
    await lanes[0]!.checkAll(fresh);
    expect(lanes[0]!.problems).toEqual([]);
  });
});
