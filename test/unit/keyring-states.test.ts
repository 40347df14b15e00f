import { describe, expect, it } from 'vitest';
import type { KeyState } from '../../src/keyring/record.ts';
import { canBecome, canOpen, canSeal, denies } from '../../src/keyring/states.ts';

const STATES: readonly KeyState[] = ['pre-active', 'active', 'suspended', 'deactivated', 'compromised', 'destroyed'];

describe('key states', () => {
  it('allow what NIST SP 800-57 says, and opening stops with suspension', () => {
    expect(STATES.filter(canSeal)).toEqual(['active']);
    expect(STATES.filter(canOpen)).toEqual(['active', 'deactivated', 'compromised']);
  });

  it('lead where the standard says, and from deactivated to suspended', () => {
    const steps = STATES.map((from) => [from, STATES.filter((to) => canBecome(from, to))]);
    expect(Object.fromEntries(steps)).toEqual({
      'pre-active': ['active', 'compromised', 'destroyed'],
      active: ['suspended', 'deactivated', 'compromised', 'destroyed'],
      suspended: ['active', 'deactivated', 'compromised', 'destroyed'],
      deactivated: ['suspended', 'compromised', 'destroyed'],
      compromised: ['destroyed'],
      destroyed: [],
    });
  });

  it('count as a denial only when less is allowed than before', () => {
    for (const from of STATES) {
      for (const to of STATES) {
        if (denies(to, from)) {
          expect(canSeal(to) && !canSeal(from)).toBe(false);
          expect(canOpen(to) && !canOpen(from)).toBe(false);
        }
      }
    }
    expect(denies('suspended', 'active')).toBe(true);
    expect(denies('destroyed', 'suspended')).toBe(true);
    expect(denies('deactivated', 'compromised')).toBe(false);
    expect(denies('active', 'suspended')).toBe(false);
    expect(denies('no such state', 'active')).toBe(true);
    expect(denies('toString', 'destroyed')).toBe(false);
  });
});
