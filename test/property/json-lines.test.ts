import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { splice } from '../support/json-lines.ts';

const name = fc.constantFrom('a', 'b', 'cards', 'ü', '__proto__', 'long name "quoted"');
const space = fc.constantFrom('', '', ' ', '\t', ' \r ');
const number = fc.constantFrom('0', '-0', '1.0', '12345678901234567890', '1e5', '-3.25E-7');
const text = fc.string({ unit: 'grapheme', maxLength: 12 }).map((value) => JSON.stringify(value));

/** Spells a string as JSON with some characters escaped that need not be. */
const spelled = fc
  .tuple(name, fc.boolean())
  .map(([value, escaped]) =>
    escaped
      ? `"${[...value].map((char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`).join('')}"`
      : JSON.stringify(value),
  );

/** JSON texts, not values: white space, repeated names and spellings that a serialiser would not write. */
const json = fc.letrec<{ value: string }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    fc.constantFrom('null', 'true', 'false'),
    number,
    text,
    fc
      .array(fc.tuple(space, tie('value'), space), { maxLength: 4 })
      .map((items) => `[${items.map((item) => item.join('')).join(',')}]`),
    fc
      .array(fc.tuple(space, spelled, space, fc.constant(':'), space, tie('value'), space), { maxLength: 5 })
      .map((members) => `{${members.map((member) => member.join('')).join(',')}}`),
  ),
})).value;

const lines = fc
  .tuple(fc.array(fc.tuple(json, fc.constantFrom('\n', '\r\n', '\n\n')), { maxLength: 8 }), fc.boolean())
  .map(([records, cut]) => {
    const all = records.flat().join('');
    return cut ? all.trimEnd() : all;
  });

const fields = fc.constantFrom('a', 'a,b', 'a.b,cards[].a', 'cards[],ü', '__proto__', 'a[],b.a.b', 'a.a.a,a.b,b[][]');

describe('JSON Lines', () => {
  it('comes back byte for byte, in chunks of any size', async () => {
    await fc.assert(
      fc.asyncProperty(lines, fields, fc.integer({ min: 1, max: 64 }), async (input, paths, chunkBytes) => {
        const encrypted = await splice('encrypt', input, paths, { chunkBytes });
        expect(encrypted.error).toBeUndefined();
        const decrypted = await splice('decrypt', encrypted.output, paths, { chunkBytes });
        expect(decrypted.error).toBeUndefined();
        expect(decrypted.output.toString()).toBe(input);
        expect(decrypted.report?.values).toBe(encrypted.report?.values);
      }),
      { numRuns: 300 },
    );
  });

  it('finds in JSON.stringify output exactly the values that a parser finds', async () => {
    const object = fc.dictionary(name, fc.jsonValue({ maxDepth: 2 }), { maxKeys: 5 });
    await fc.assert(
      fc.asyncProperty(object, async (value) => {
        const { output } = await splice('encrypt', `${JSON.stringify(value)}\n`, 'a,ü');
        const parsed = JSON.parse(output.toString()) as Record<string, unknown>;
        for (const [key, item] of Object.entries(parsed)) {
          if (key === 'a' || key === 'ü') {
            expect(item).toMatch(/^dk1\./);
          } else {
            expect(item).toEqual(Object.getOwnPropertyDescriptor(JSON.parse(JSON.stringify(value)), key)?.value);
          }
        }
      }),
      { numRuns: 300 },
    );
  });

  it('takes and refuses the lines that JSON.parse takes and refuses', async () => {
    const broken = fc
      .tuple(json, fc.nat(), fc.constantFrom('', '"', '\\', '{', '}', '[', ']', ',', ':', '0', '.', 'e', '-', 'x'))
      .map(([value, at, piece]) => {
        const cut = at % (value.length + 1);
        return value.slice(0, cut) + piece + value.slice(cut + 1);
      });
    await fc.assert(
      fc.asyncProperty(broken, async (line) => {
        let valid = line.trim() === '';
        try {
          JSON.parse(line);
          valid = true;
        } catch {}
        const { error } = await splice('encrypt', `${line}\n`, 'a');
        expect(error === undefined).toBe(valid);
      }),
      { numRuns: 1_000 },
    );
  });
});
