import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  checkContext,
  contextNames,
  decodeContext,
  encodeContext,
  hasContextName,
  mergedContext,
} from '../../src/envelope/context.ts';
import { decodeTokenText, encodeTokenText } from '../../src/envelope/token-text.ts';
import { DekdError } from '../../src/errors.ts';

const RUNS = { numRuns: Number(process.env.DEKD_RUNS ?? 500) };

const text = fc.oneof(
  fc.string({ maxLength: 12 }),
  fc.string({ unit: 'grapheme', maxLength: 8 }),
  fc.constantFrom('__proto__', 'constructor', '', 'a', 'aa', 'é', '\u{1f600}', '\uffee'),
);
const pairs = fc.uniqueArray(
  fc.tuple(
    text.filter((name) => !name.startsWith('aws-crypto-')),
    text,
  ),
  {
    selector: ([name]) => name,
    maxLength: 8,
  },
);

function contextOf(entries: readonly (readonly [string, string])[]): Record<string, string> {
  const context = Object.create(null) as Record<string, string>;
  for (const [name, value] of entries) {
    context[name] = value;
  }
  return context;
}

describe('canonical contexts', () => {
  it('of two without a common name are those of both together', () => {
    fc.assert(
      fc.property(pairs, fc.nat(8), (entries, cut) => {
        const [one, other] = [entries.slice(0, cut), entries.slice(cut)].map((part) => encodeContext(contextOf(part)));
        expect(mergedContext(one!, other!)).toEqual(encodeContext(contextOf(entries)));
      }),
      RUNS,
    );
  });

  it('come back as they were, whatever the order the names were set in', () => {
    fc.assert(
      fc.property(
        pairs.chain((entries) =>
          fc.tuple(fc.constant(entries), fc.shuffledSubarray(entries, { minLength: entries.length })),
        ),
        ([entries, shuffled]) => {
          const bytes = encodeContext(contextOf(entries));
          expect(encodeContext(contextOf(shuffled))).toEqual(bytes);
          checkContext(bytes, 0, bytes.length);
          const decoded = decodeContext(bytes);
          expect(decoded).toEqual(contextOf(entries));
          expect(contextNames(bytes)).toEqual(
            entries.map(([name]) => name).sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))),
          );
          for (const [name] of entries) {
            expect(hasContextName(bytes, 0, bytes.length, name)).toBe(true);
          }
        },
      ),
      RUNS,
    );
  });

  it('differ whenever the maps differ', () => {
    fc.assert(
      fc.property(pairs, pairs, (one, other) => {
        const same = JSON.stringify(one.toSorted(byName)) === JSON.stringify(other.toSorted(byName));
        const equal = Buffer.compare(encodeContext(contextOf(one)), encodeContext(contextOf(other))) === 0;
        expect(equal).toBe(same);
      }),
      RUNS,
    );
  });

  it('are the only bytes that pass the check: what passes encodes to itself', () => {
    let passed = 0;
    fc.assert(
      fc.property(
        pairs,
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 2 }),
        fc.nat(),
        (entries, changes, cut) => {
          let bytes = encodeContext(contextOf(entries)).slice();
          for (const [at, value] of changes) {
            if (bytes.length > 0) {
              bytes[at % bytes.length] = value;
            }
          }
          bytes = bytes.slice(0, cut % 4 === 0 ? cut % (bytes.length + 1) : bytes.length);
          try {
            checkContext(bytes, 0, bytes.length);
          } catch (error) {
            expect(DekdError.is(error, 'INVALID_ARGUMENT')).toBe(true);
            return;
          }
          passed++;
          expect(Buffer.compare(encodeContext(decodeContext(bytes)), bytes)).toBe(0);
        },
      ),
      RUNS,
    );
    expect(passed).toBeGreaterThan(20);
  });
});

describe('string forms', () => {
  it('come back as they were', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(decodeTokenText(encodeTokenText(bytes))).toEqual(bytes);
      }),
      RUNS,
    );
  });

  it('are the only strings that decode: what decodes encodes to itself', () => {
    const character = fc.constantFrom(...'AQgwBCz09-_+/= \n.é');
    fc.assert(
      fc.property(fc.string({ unit: character, maxLength: 12 }), (body) => {
        let bytes: Uint8Array;
        try {
          bytes = decodeTokenText(`dk1.${body}`);
        } catch (error) {
          expect(DekdError.is(error, 'MALFORMED')).toBe(true);
          return;
        }
        expect(encodeTokenText(bytes)).toBe(`dk1.${body}`);
      }),
      RUNS,
    );
  });
});

function byName([a]: readonly [string, string], [b]: readonly [string, string]): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
