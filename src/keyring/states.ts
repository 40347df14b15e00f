import { DekdError } from '../errors.ts';
import type { KeyState } from './record.ts';

/**
 * The life of a key version after NIST SP 800-57 part 1, section 7, and what each state allows.
 *
 * One step is added to the standard's: deactivated → suspended, because disabling a key must also stop what its older
 * versions still open. Enabling leads back to where the version was before.
 */
const NEXT: Readonly<Record<KeyState, readonly KeyState[]>> = {
  'pre-active': ['active', 'compromised', 'destroyed'],
  active: ['suspended', 'deactivated', 'compromised', 'destroyed'],
  suspended: ['active', 'deactivated', 'compromised', 'destroyed'],
  deactivated: ['suspended', 'compromised', 'destroyed'],
  compromised: ['destroyed'],
  destroyed: [],
};

/** How little a state allows: 0 seals and opens, 1 opens, 2 neither, 3 never again. */
const DENIAL: Readonly<Record<KeyState, number>> = {
  active: 0,
  deactivated: 1,
  compromised: 1,
  'pre-active': 2,
  suspended: 2,
  destroyed: 3,
};

/** Whether `state` is one of the six: rows are read from stores that others may write. */
export function isKeyState(state: string): state is KeyState {
  return Object.hasOwn(NEXT, state);
}

export function canSeal(state: KeyState): boolean {
  return state === 'active';
}

export function canOpen(state: KeyState): boolean {
  return state === 'active' || state === 'deactivated' || state === 'compromised';
}

/** Whether `next` allows strictly less than `now`. An unknown state allows nothing. */
export function denies(next: string, now: KeyState): boolean {
  return (isKeyState(next) ? DENIAL[next] : 2) > DENIAL[now];
}

export function canBecome(from: KeyState, to: KeyState): boolean {
  return NEXT[from].includes(to);
}

/** @throws INVALID_ARGUMENT when `from` does not lead to `to`. */
export function checkTransition(from: KeyState, to: KeyState): void {
  if (!canBecome(from, to)) {
    throw new DekdError('INVALID_ARGUMENT', `a key version that is ${from} cannot become ${to}`);
  }
}
