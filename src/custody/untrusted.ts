/** What another process says, checked before it is used: a custodian runs foreign code and may say anything. */

/** A custodian said what none of ours says. Its process is ended. */
export class Garbage extends Error {
  override readonly name = 'Garbage';
}

export function objectOf(value: unknown, field: string): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new Garbage(`${field} is not an object`);
  }
  return value as Readonly<Record<string, unknown>>;
}

/** @param most longest text, in UTF-16 units */
export function textOf(value: unknown, field: string, most: number): string {
  if (typeof value !== 'string' || value.length > most) {
    throw new Garbage(`${field} is not a text of at most ${most} characters`);
  }
  return value;
}

export function wholeOf(value: unknown, field: string, most: number): number {
  if (!Number.isInteger(value) || (value as number) < 0 || (value as number) > most) {
    throw new Garbage(`${field} is not a whole number up to ${most}`);
  }
  return value as number;
}

export function booleanOf(value: unknown, field: string): boolean {
  if (typeof value !== 'boolean') {
    throw new Garbage(`${field} is not true or false`);
  }
  return value;
}

export function listOf(value: unknown, field: string, most: number): readonly unknown[] {
  if (!Array.isArray(value) || value.length > most) {
    throw new Garbage(`${field} is not a list of at most ${most}`);
  }
  return value;
}

/** Bytes that must be there: 1 to `most`. */
export function bytesOf(value: Uint8Array, field: string, most: number): Uint8Array {
  if (value.length === 0 || value.length > most) {
    throw new Garbage(`${field} has ${value.length} bytes, not 1 to ${most}`);
  }
  return value;
}

/** Nothing may come where nothing is expected. */
export function nothingOf(value: unknown, body: Uint8Array, field: string): void {
  if (value !== null || body.length > 0) {
    throw new Garbage(`${field} has content`);
  }
}
