import { describe, expect, it } from 'vitest';
import { ENGINE_NAMES, engineUnderTest } from '../support/engines.ts';
import { countRepeats } from '../support/nonce-buckets.ts';

/** The JavaScript engines are slower by the factor that their draws are fewer. */
const DRAWS = { native: Number(process.env.DEKD_NONCES ?? 100_000_000), node: 1_000_000, noble: 400_000 };

describe.each(ENGINE_NAMES)('nonces of the %s engine', (name) => {
  it(`never repeat: ${DRAWS[name].toLocaleString('en')} from 4 workers, single and batch`, async ({ skip }) => {
    const subject = await engineUnderTest(name);
    if (subject.missing !== undefined) {
      return skip(subject.missing);
    }
    const result = await countRepeats({ engine: name, total: DRAWS[name], workers: 4, batchRows: 1000 });
    expect(result).toEqual({ drawn: DRAWS[name], repeats: 0 });
  });
});
