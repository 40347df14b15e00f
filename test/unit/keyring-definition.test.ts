import { describe, expect, it } from 'vitest';
import { DEFAULT_ROTATION, KeyDefinitions } from '../../src/keyring/key-definition.ts';

describe('KeyDefinitions', () => {
  it('match a name by its pattern, in which a star stands for any run of characters', () => {
    const matches = (pattern: string, name: string) =>
      new KeyDefinitions([{ pattern, requiredContext: ['yes'] }]).rulesFor(name).requiredContext.length === 1;
    const table: [string, string, boolean][] = [
      ['a', 'a', true],
      ['a', 'ab', false],
      ['*', '', true],
      ['*', 'anything', true],
      ['a*', 'a', true],
      ['a*b', 'ab', true],
      ['a*b', 'axxb', true],
      ['a*a', 'a', false],
      ['*x*', 'axb', true],
      ['*x*y*', 'yx', false],
      ['*x*y*', 'xy', true],
      ['a*b*c', 'abbc', true],
      ['a*bc*c', 'abc', false],
      ['a.c', 'abc', false],
    ];
    for (const [pattern, name, expected] of table) {
      expect([pattern, name, matches(pattern, name)]).toEqual([pattern, name, expected]);
    }
  });

  it('give the defaults for what they leave out, and for names that none matches', () => {
    const definitions = new KeyDefinitions([{ pattern: 'a', rotation: { maxMessages: 5 } }]);
    expect(definitions.rulesFor('a').rotation).toEqual({ ...DEFAULT_ROTATION, maxMessages: 5 });
    expect(definitions.rulesFor('b')).toEqual({
      keyContext: {},
      requiredContext: [],
      rotation: DEFAULT_ROTATION,
      direct: false,
      recipients: ['keystore'],
      formerRecipients: [],
      isOneKey: false,
    });
    expect(definitions.rulesFor('a').isOneKey).toBe(true);
  });

  it('refuse a limit that is none and a key context that would not show in the binding', () => {
    for (const definition of [
      { pattern: '*', rotation: { maxAgeMs: 0 } },
      { pattern: '*', rotation: { maxMessages: Number.NaN } },
      { pattern: '*', keyContext: { tenant: '' } },
      { pattern: '*', keyContext: { '': 'x' } },
    ]) {
      expect(() => new KeyDefinitions([definition])).toThrow(/must be/);
    }
  });
});
