/**
 * The JSON text of a field's value, and back. What JSON would give back as something else is refused, where `JSON.stringify`
 * leaves it out or writes null; -0, which it writes as 0, is written as -0.
 */
const MAX_DEPTH = 1_000;

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Why a value has no JSON text, or a text is no value: to be said behind where it is. Never says the value. */
export class NotJson extends Error {
  override readonly name = 'NotJson';
}

/** @throws NotJson */
export function jsonTextOf(value: unknown): string {
  return typeof value === 'string' ? stringText(value) : textAt(value, 0);
}

/** @throws NotJson */
export function jsonValueOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // What it would say quotes the plaintext.
    throw new NotJson('the plaintext is not one JSON value: it was not encrypted as a field');
  }
}

/** The text of a plaintext. @throws NotJson */
export function textOfUtf8(bytes: Uint8Array): string {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
  if (!text.includes('\ufffd')) {
    return text;
  }
  try {
    return decoder.decode(bytes);
  } catch {
    throw new NotJson('the plaintext is not UTF-8: it was not encrypted as a field');
  }
}

/** Whether an object is a plain one, of this realm or another: what JSON gives back. */
export function isPlain(object: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(object);
  return prototype === Object.prototype || prototype === null || Object.getPrototypeOf(prototype) === null;
}

/** `Date`, `Map` and so on, or `Object` for instances of classes that do not say. */
export function kindOf(object: object): string {
  return Object.prototype.toString.call(object).slice(8, -1);
}

function textAt(value: unknown, depth: number): string {
  switch (typeof value) {
    case 'string':
      return stringText(value, depth);
    case 'number':
      return numberText(value, depth);
    case 'boolean':
      return value ? 'true' : 'false';
    case 'object':
      if (value === null) {
        return 'null';
      }
      if (depth >= MAX_DEPTH) {
        throw new NotJson(`the value is nested deeper than ${MAX_DEPTH} levels, or holds itself`);
      }
      return Array.isArray(value) ? arrayText(value, depth) : objectText(value, depth);
    case 'bigint':
      throw refused("is a bigint: give the field the codec 'bigint'", depth);
    default:
      throw refused(
        `is ${typeof value === 'undefined' ? 'undefined' : `a ${typeof value}`}, which JSON cannot carry`,
        depth,
      );
  }
}

function stringText(text: string, depth = 0): string {
  if (!text.isWellFormed()) {
    throw refused('has a lone surrogate, which UTF-8 cannot carry', depth);
  }
  return JSON.stringify(text);
}

function numberText(number: number, depth: number): string {
  if (!Number.isFinite(number)) {
    throw refused(`is ${number}, which JSON cannot carry`, depth);
  }
  return Object.is(number, -0) ? '-0' : String(number);
}

function arrayText(array: readonly unknown[], depth: number): string {
  let text = '[';
  for (let i = 0; i < array.length; i++) {
    text += (i === 0 ? '' : ',') + textAt(array[i], depth + 1);
  }
  return `${text}]`;
}

function objectText(object: object, depth: number): string {
  if (!isPlain(object)) {
    throw refused(foreignObject(object), depth);
  }
  if (Object.getOwnPropertySymbols(object).length > 0) {
    throw refused('has a member whose name is a symbol, which JSON cannot carry', depth);
  }
  let text = '{';
  for (const name of Object.keys(object)) {
    const value = (object as Record<string, unknown>)[name];
    if (value !== undefined) {
      text += `${text === '{' ? '' : ','}${stringText(name, depth + 1)}:${textAt(value, depth + 1)}`;
    }
  }
  return `${text}}`;
}

function foreignObject(object: object): string {
  const kind = kindOf(object);
  if (kind === 'Date') {
    return "is a Date: give the field the codec 'date'";
  }
  if (object instanceof Uint8Array) {
    return "is a Uint8Array: give the field the codec 'bytes'";
  }
  return kind === 'Object'
    ? 'is an instance of a class, which JSON would give back as a plain object: give the field a codec'
    : `is a ${kind}, which JSON would not give back: give the field a codec`;
}

function refused(reason: string, depth: number): NotJson {
  return new NotJson(`${depth === 0 ? 'the value' : 'something in the value'} ${reason}`);
}
