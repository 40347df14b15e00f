import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { runTarget } from '../fuzz/run-target.ts';
import { PLANTED, TARGETS } from '../fuzz/targets.ts';

/** `npm run test:fuzz` gives each reader minutes; this is that the readers hold for some inputs, and the fuzzer works. */
const INPUTS = Number(process.env.DEKD_FUZZ_INPUTS ?? 500);
const CORPUS = join(import.meta.dirname, '../fault/corpus');
const SEED = Number(process.env.DEKD_FUZZ_SEED ?? 6);

describe('readers of hostile bytes, fuzzed', () => {
  it.each(TARGETS)(`keep their promises for ${INPUTS} inputs: $name`, (target) => {
    const run = { seed: SEED, inputs: INPUTS, seconds: 20, guided: false };
    expect(runTarget(target, run).finding).toBeUndefined();
  });

  it.each(TARGETS.filter(({ name }) => existsSync(join(CORPUS, name))))(
    'keep them for what earlier runs reached: $name',
    (target) => {
      const folder = join(CORPUS, target.name);
      const inputs = readdirSync(folder).map((name) => readFileSync(join(folder, name)));
      expect(inputs.length).toBeGreaterThan(0);
      expect(
        runTarget(target, { seed: SEED, inputs: 0, seconds: 20, corpus: inputs, guided: false }).finding,
      ).toBeUndefined();
    },
  );

  it('would not if one believed a length: the planted reader is caught', () => {
    const run = { seed: SEED, inputs: 100_000, seconds: 10, guided: false };
    expect(runTarget(PLANTED, run).finding?.message).toContain('planted: RangeError');
  });
});
