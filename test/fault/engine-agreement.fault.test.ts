import { describe, it } from 'vitest';
import { checkAgreement } from '../support/engine-agreement.ts';
import { ENGINE_PAIRS, engineUnderTest } from '../support/engines.ts';

const RUNS = Number(process.env.DEKD_RUNS ?? 50_000);

describe.each(ENGINE_PAIRS)('%s and %s', (one, other) => {
  // Three pairs share the runs: each run crosses sizes, contexts and directions of one pair.
  const runs = Math.ceil(RUNS / ENGINE_PAIRS.length);

  it(`agree in ${runs} random cases of 0 to 70,000 bytes`, async ({ skip }) => {
    const first = await engineUnderTest(one);
    const second = await engineUnderTest(other);
    if (first.missing !== undefined) {
      return skip(first.missing);
    }
    if (second.missing !== undefined) {
      return skip(second.missing);
    }
    checkAgreement(first.create(), second.create(), runs);
  });
});
