import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { jsonTextOf, jsonValueOf, NotJson } from '../../src/client/fields/json-text.ts';
import { PairSplice, withPair } from '../../src/client/fields/row-context.ts';
import { Slab } from '../../src/client/fields/slab.ts';
import { encodeContext, MAX_CONTEXT_BYTES } from '../../src/envelope/context.ts';
import { decodeTokenText, encodeTokenText } from '../../src/envelope/token-text.ts';
import { difference, type Json, jsonValue } from '../support/field-values.ts';
import { codeOf } from '../support/refusal.ts';

describe('a pair put into a canonical context', () => {
  const text = fc.oneof(
    fc.string({ maxLength: 8 }),
    fc.string({ unit: 'binary', maxLength: 6 }),
    fc.constantFrom('', 'fiel', 'field', 'fields', 'fielc', 'g', '\u{1f600}', '__proto__'),
  );
  const pairs = fc.uniqueArray(fc.tuple(text, text), { selector: ([name]) => name, maxLength: 6 });

  it('gives the bytes of the context that has it, whatever the names around it', () => {
    fc.assert(
      fc.property(pairs, text, text, (entries, name, value) => {
        fc.pre(![name, ...entries.map(([other]) => other)].some((each) => each.startsWith('aws-crypto-')));
        const context = encodeContext(Object.fromEntries(entries));
        const splice = new PairSplice(name);
        const place = splice.placeIn(context);
        const isThere = entries.some(([other]) => other === name);
        expect(place < 0).toBe(isThere);
        if (!isThere) {
          const whole = withPair(new Slab(), context, place, splice.pair(value));
          expect(Buffer.from(whole)).toEqual(
            Buffer.from(encodeContext(Object.fromEntries([...entries, [name, value]]))),
          );
        }
      }),
      { numRuns: 2_000 },
    );
  });

  it('is refused where the context becomes longer than one may be', () => {
    const splice = new PairSplice('field');
    const pair = splice.pair('email');
    const contextOf = (length: number) => encodeContext({ a: 'x'.repeat(length - 7) });
    const most = contextOf(MAX_CONTEXT_BYTES - pair.length);
    expect(withPair(new Slab(), most, splice.placeIn(most), pair)).toHaveLength(MAX_CONTEXT_BYTES);
    const over = contextOf(MAX_CONTEXT_BYTES - pair.length + 1);
    expect(codeOf(() => withPair(new Slab(), over, splice.placeIn(over), pair))).toBe('INVALID_ARGUMENT');
  });
});

describe('the JSON text of a value', () => {
  it('gives the value back, and is what JSON.stringify writes but for -0', () => {
    fc.assert(
      fc.property(jsonValue, (value: Json) => {
        const text = jsonTextOf(value);
        expect(difference(jsonValueOf(text), value)).toBeUndefined();
        expect(JSON.stringify(JSON.parse(text))).toBe(JSON.stringify(value));
      }),
      { numRuns: 2_000 },
    );
    expect(jsonTextOf({ a: undefined, b: [-0, 1e21, 0.1] })).toBe('{"b":[-0,1e+21,0.1]}');
  });

  it('says nothing of a text that is none', () => {
    expect(() => jsonValueOf('secret')).toThrow(NotJson);
    expect(() => jsonValueOf('secret')).not.toThrow(/secret/);
  });
});

describe('bytes one behind the other', () => {
  it('are those of each text, and stay what they are', () => {
    const text = fc.oneof(fc.string({ unit: 'binary', maxLength: 300 }), fc.string({ maxLength: 200 }));
    fc.assert(
      fc.property(fc.array(text, { maxLength: 200 }), (texts) => {
        const slab = new Slab();
        const views = texts.map((each) => slab.text(each));
        const quoted = texts.map((each) => slab.quoted(each));
        for (const [i, each] of texts.entries()) {
          expect(Buffer.from(views[i]!).toString('utf8')).toBe(each);
          const own = quoted[i];
          expect(own === undefined || Buffer.from(own).toString('utf8') === JSON.stringify(each)).toBe(true);
        }
      }),
      { numRuns: 300 },
    );
    expect(new Slab().quoted('ada@example.org')).toBeDefined();
    expect(new Slab().text('é'.repeat(100_000))).toHaveLength(200_000);
  });
});

describe('the string form of a token read in place', () => {
  const letters = fc.constantFrom(...'AZaz09-_+/=. \u0141\u0100é', '\u{1f600}');

  it('is what the general reader reads, and refused where that refuses', () => {
    const bytes = fc.uint8Array({ maxLength: 100 }).map((token) => encodeTokenText(token));
    const anything = fc.string({ unit: letters, maxLength: 12 }).map((body) => `dk1.${body}`);
    const changed = fc.tuple(bytes, fc.nat(), letters).map(([text, at, letter]) => {
      const place = 4 + (at % Math.max(1, text.length - 4));
      return text.slice(0, place) + letter + text.slice(place + 1);
    });
    fc.assert(
      fc.property(fc.oneof(bytes, anything, changed), (text) => {
        const read = new Slab().base64url(text, 4);
        expect(read !== undefined).toBe(codeOf(() => decodeTokenText(text)) === undefined);
        if (read !== undefined) {
          expect(Buffer.from(read)).toEqual(Buffer.from(decodeTokenText(text)));
        }
      }),
      { numRuns: 5_000 },
    );
  });
});
