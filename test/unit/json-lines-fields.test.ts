import { describe, expect, it } from 'vitest';
import { parseFields } from '../../src/cli/json-lines/field-list.ts';
import { DekdError } from '../../src/errors.ts';

describe('field paths', () => {
  it('reads members, nested members and array elements, several in one text', () => {
    expect(parseFields(['email, address.street', 'cards[].pan,grid[][]']).paths).toEqual([
      'email',
      'address.street',
      'cards[].pan',
      'grid[][]',
    ]);
  });

  it.each([
    ['', 'no field is named'],
    ['a,', "field '' has an empty name"],
    ['a..b', "field 'a..b' has an empty name"],
    ['[].a', "field '[].a' has an empty name"],
    ['cards[0].pan', "field 'cards[0].pan' names one element; [] means every element of the array"],
    ['cards].pan', "field 'cards].pan' has a bracket that is not []"],
    ['a,a', "field 'a' is named twice"],
    ['a,a.b', "field 'a.b' lies inside field 'a'"],
    ['a.b,a', "field 'a' holds another field of the list"],
    ['a[],a', "field 'a' holds another field of the list"],
  ])('refuses %j with its reason', (list, reason) => {
    expect(() => parseFields([list])).toThrow(new DekdError('INVALID_ARGUMENT', reason));
  });

  it('refuses more fields and steps than the limits', () => {
    expect(() => parseFields([Array.from({ length: 257 }, (_, index) => `f${index}`).join(',')])).toThrow(
      /more than 256/,
    );
    expect(() => parseFields([Array.from({ length: 65 }, () => 'a').join('.')])).toThrow(/more than 64 steps/);
  });
});
