/** Makes text the same before it is indexed. Nothing is done unless it is asked for. */
import { DekdError } from '../errors.ts';
import type { NamedNormalisation, Normalisation } from './types.ts';

const STEPS: Readonly<Record<NamedNormalisation, (text: string) => string>> = {
  nfkc: (text) => text.normalize('NFKC'),
  lowercase: (text) => text.toLowerCase(),
  trim: (text) => text.trim(),
  digits: (text) => text.normalize('NFKC').replace(/[^0-9]/g, ''),
  // Lower case may take characters out of NFKC again, and NFKC makes white space of some that are none.
  email: (text) => text.normalize('NFKC').toLowerCase().normalize('NFKC').trim(),
};

/** What normalising does to a value. @throws INVALID_ARGUMENT for a step that is not known */
export function normaliserOf(normalisation: Normalisation): (text: string) => string {
  if (typeof normalisation === 'function') {
    return normalisation;
  }
  if (typeof normalisation !== 'string' && !Array.isArray(normalisation)) {
    throw new DekdError('INVALID_ARGUMENT', `normalise is ${typeof normalisation}, not a name, names or a function`);
  }
  const names: readonly NamedNormalisation[] = typeof normalisation === 'string' ? [normalisation] : normalisation;
  const steps = names.map(stepOf);
  return (text) => steps.reduce((result, step) => step(result), text);
}

function stepOf(name: NamedNormalisation): (text: string) => string {
  if (!Object.hasOwn(STEPS, name)) {
    const known = Object.keys(STEPS).join(', ');
    throw new DekdError('INVALID_ARGUMENT', `normalise has a step that is not known; the known ones are ${known}`);
  }
  return STEPS[name];
}

/**
 * The text that is indexed.
 * @throws INVALID_ARGUMENT when a function gives something else than text, and when nothing is left: all such values would be
 * equal
 */
export function normalised(text: string, normalise: (text: string) => string): string {
  const result: unknown = normalise(text);
  if (typeof result !== 'string') {
    throw new DekdError('INVALID_ARGUMENT', `normalise gave ${typeof result}, not a string`);
  }
  if (result === '' && text !== '') {
    throw new DekdError(
      'INVALID_ARGUMENT',
      'normalise left nothing of the value, which would equal every other such value',
    );
  }
  return result;
}
