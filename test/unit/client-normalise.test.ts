import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { normalised, normaliserOf } from '../../src/client/normalise.ts';
import type { NamedNormalisation, Normalisation } from '../../src/client/types.ts';

const NAMES: readonly NamedNormalisation[] = ['nfkc', 'lowercase', 'trim', 'digits', 'email'];

function run(text: string, normalisation: Normalisation): string {
  return normalised(text, normaliserOf(normalisation));
}

describe('normalise', () => {
  it.each([
    ['nfkc', 'ﬁ ①', 'fi 1'],
    ['lowercase', 'ÄBC', 'äbc'],
    ['lowercase', 'TITLE', 'title'],
    ['trim', '\u00a0 a b\n', 'a b'],
    ['digits', '+49 (0)30 １２-34', '490301234'],
    ['email', '  Ada.Lovelace+x@EXAMPLE.org\n', 'ada.lovelace+x@example.org'],
    ['email', 'ａ@b.c', 'a@b.c'],
  ] as const)('%s makes %j %j', (name, text, expected) => {
    expect(run(text, name)).toBe(expected);
  });

  it('does the steps of a list in their order, none of an empty one, and what a function does', () => {
    expect(run(' Ａ ', ['nfkc', 'trim', 'lowercase'])).toBe('a');
    expect(run(' A ', [])).toBe(' A ');
    expect(run('abc', (text) => text.slice(1))).toBe('bc');
  });

  it('changes nothing more when it is done again, by any name', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        for (const name of NAMES) {
          const once = normaliserOf(name)(text);
          expect(normaliserOf(name)(once)).toBe(once);
        }
      }),
      { numRuns: 3_000 },
    );
  });

  it('refuses a value of which nothing is left, but not one that is empty to begin with', () => {
    expect(() => run('n/a', 'digits')).toThrow(/left nothing/);
    expect(() => run('  ', 'trim')).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
    expect(run('', 'email')).toBe('');
  });

  it('refuses steps that are not known, whatever an object has by that name, and functions that give no text', () => {
    for (const wrong of ['upper', 'toString', '__proto__', ['trim', 'x']]) {
      expect(() => normaliserOf(wrong as never)).toThrow(/the known ones are nfkc, lowercase, trim, digits, email/);
    }
    for (const wrong of [7, {}, null, true]) {
      expect(() => normaliserOf(wrong as never)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
    }
    expect(() => run('x', (() => undefined) as never)).toThrow(/gave undefined/);
  });
});
