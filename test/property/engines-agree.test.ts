import { describe, it } from 'vitest';
import { checkAgreement } from '../support/engine-agreement.ts';
import { ENGINE_PAIRS, engineUnderTest } from '../support/engines.ts';

const RUNS = Number(process.env.DEKD_RUNS ?? 300);

describe.each(ENGINE_PAIRS)('%s and %s', (one, other) => {
  it(`agree on tokens, batches, wraps and MACs in ${RUNS} random cases of 0 to 70,000 bytes`, async ({ skip }) => {
    const first = await engineUnderTest(one);
    const second = await engineUnderTest(other);
    if (first.missing !== undefined) {
      return skip(first.missing);
    }
    if (second.missing !== undefined) {
      return skip(second.missing);
    }
    checkAgreement(first.create(), second.create(), RUNS);
  });
});
