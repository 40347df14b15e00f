import { DekdError } from '../errors.ts';

/** The JSON text of a value. @throws INVALID_ARGUMENT for what JSON cannot carry, or would carry as something else */
export function jsonText(value: unknown): string {
  let text: string | undefined;
  try {
    text = JSON.stringify(value, onlyFinite);
  } catch (error) {
    throw error instanceof DekdError
      ? error
      : new DekdError(
          'INVALID_ARGUMENT',
          'the value cannot be written as JSON: it has a cycle, a BigInt, or a toJSON that throws',
          {
            cause: error,
          },
        );
  }
  if (text === undefined) {
    throw new DekdError('INVALID_ARGUMENT', `the value is ${typeof value}, which JSON cannot carry`);
  }
  return text;
}

/** JSON would make null of it, and nobody would know. */
function onlyFinite(_name: string, value: unknown): unknown {
  if (typeof value === 'number' && !Number.isFinite(value)) {
    throw new DekdError('INVALID_ARGUMENT', `the value has a number that JSON cannot carry: ${value}`);
  }
  return value;
}
