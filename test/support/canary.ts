/** Traces of a plaintext where there should be none. */
import { contentBelow } from './file-tree.ts';

/** Of shorter texts, base64 is found by chance. */
const SHORTEST = 8;

/**
 * In which of the forms that stores keep bytes in `sought`, a text of 8 characters and more or bytes, is found in `held`: as it is,
 * base64 at any offset, hex, JSON, UTF-16, backwards.
 */
export function formsFound(held: Uint8Array, sought: string | Uint8Array): string[] {
  if (sought.length < SHORTEST) {
    throw new Error(`${sought} is too short to be looked for`);
  }
  const where = Buffer.from(held.buffer, held.byteOffset, held.byteLength);
  const bytes = Buffer.from(sought as Uint8Array);
  const forms: [string, string | Buffer][] = [
    ['as it is', bytes],
    ['hex', bytes.toString('hex')],
    ['HEX', bytes.toString('hex').toUpperCase()],
    ...(typeof sought === 'string' ? formsOfText(sought) : [['numbers', bytes.join(',')] as [string, string]]),
  ];
  for (const encoding of ['base64', 'base64url'] as const) {
    for (const shift of [0, 1, 2]) {
      const shifted = Buffer.concat([Buffer.alloc(shift), bytes]).toString(encoding);
      // Without the characters that neighbours have a part in.
      forms.push([`${encoding} at ${shift}`, shifted.slice(shift === 0 ? 0 : shift + 1, -4)]);
    }
  }
  return forms.filter(([, form]) => where.includes(form)).map(([name]) => name);
}

function formsOfText(text: string): [string, string | Buffer][] {
  return [
    ['JSON', JSON.stringify(text).slice(1, -1)],
    ['JSON in JSON', JSON.stringify(JSON.stringify(text).slice(1, -1)).slice(1, -1)],
    ['UTF-16', Buffer.from(text, 'utf16le')],
    ['backwards', [...text].reverse().join('')],
  ];
}

/** A text that nobody writes by chance; long enough that no encoding of it is, either. */
export function canary(name: string): string {
  return `canary-${name}-${'0123456789abcdef'.repeat(2)}-zebra`;
}

/** In which files below a folder, and in which forms, any of the texts is. */
export function tracesBelow(folder: string, texts: readonly string[]): string[] {
  return [...contentBelow(folder)].flatMap(([name, bytes]) =>
    texts.flatMap((text) => formsFound(bytes, text).map((form) => `${name}: ${text} as ${form}`)),
  );
}
