import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type AgentProcessOptions, quantile, report } from './support/agent-process.ts';
import { KillLane } from './support/kill-lane.ts';
import { PowerRig } from './support/power-rig.ts';
import { PrivatePackage } from './support/private-package.ts';
import { randomNumbers } from './support/random-numbers.ts';

const CUTS = Number(process.env.DEKD_CUTS ?? 20);
/** Cuts within which a keystore that syncs nothing is found out. */
const RED_WITHIN = 20;
const SEED = Number(process.env.DEKD_SEED ?? Date.now() % 1_000_000);

describe(`${CUTS} power cuts while keys are made and rotated on sqlite`, () => {
  let built: PrivatePackage;
  let folder: string;

  beforeAll(() => {
    built = new PrivatePackage();
  });
  afterAll(() => built[Symbol.dispose]());
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'dekd-power-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  it(`lose no acknowledged version and leave one active version of each key (DEKD_SEED=${SEED})`, async ({ skip }) => {
    const rig = PowerRig.open(folder);
    if (typeof rig === 'string') {
      return skip(rig);
    }
    using _ = rig;
    const state = join(rig.mountPoint, 'state');
    const options: AgentProcessOptions = { package: built, folder, state, env: { DEKD_ENGINE: 'auto' } };
    const lane = new KillLane(options, randomNumbers(SEED), { by: () => rig.cut(), withinMs: 400 });
    for (let cut = 0; cut < CUTS && lane.problems.length === 0; cut++) {
      await lane.cycle();
      rig.restore();
    }
    await lane.checkAll();
    const { readyMs, kills, acknowledged, unacknowledged, landed, tokensChecked } = lane.figures;
    report('power cuts', {
      seed: SEED,
      cuts: kills,
      acknowledged,
      unacknowledged,
      landedUnacknowledged: landed,
      tokensOpened: tokensChecked,
      readyMs: { p50: Math.round(quantile(readyMs, 0.5)), longest: Math.round(Math.max(...readyMs)) },
    });
    expect(lane.problems).toEqual([]);
    expect(kills).toBe(CUTS);
    expect(acknowledged).toBeGreaterThan(CUTS);
  });

  it('find what is lost when sqlite syncs nothing: the proof can go red', async ({ skip }) => {
    const rig = PowerRig.open(folder);
    if (typeof rig === 'string') {
      return skip(rig);
    }
    using _ = rig;
    using careless = new PrivatePackage({ alone: true });
    careless.patch('keystores/sqlite', 'PRAGMA synchronous = FULL', 'PRAGMA synchronous = OFF');
    const state = join(rig.mountPoint, 'state');
    const options: AgentProcessOptions = { package: careless, folder, state, env: { DEKD_ENGINE: 'auto' } };
    const lane = new KillLane(options, randomNumbers(SEED), { by: () => rig.cut(), withinMs: 400 });
    let found: unknown;
    for (let cut = 0; cut < RED_WITHIN && found === undefined && lane.problems.length === 0; cut++) {
      // An agent that finds its keystore torn or older than what it saw does not start, or says so at the first command.
      found = await lane.cycle().catch((error: unknown) => error);
      rig.restore();
    }
    const problems = [...lane.problems, ...(found === undefined ? [] : [String(found)])];
    report('power cuts without syncs', { cuts: lane.figures.kills, found: problems.slice(0, 3) });
    expect(problems).not.toEqual([]);
  });

  it('take away what was not synced: the rig can go red', ({ skip }) => {
    const rig = PowerRig.open(folder);
    if (typeof rig === 'string') {
      return skip(rig);
    }
    using _ = rig;
    mkdirSync(join(rig.mountPoint, 'kept'));
    rig.restore();
    writeFileSync(join(rig.mountPoint, 'kept/lost'), 'not synced');
    rig.cut();
    rig.restore();
    expect(() => writeFileSync(join(rig.mountPoint, 'kept/lost'), '', { flag: 'r+' })).toThrow(/ENOENT/);
  });
});
