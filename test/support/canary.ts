/** In which of the forms that bytes are stored in `text` is found in `held`: as it is, base64 at any offset, hex, JSON. */
export function formsFound(held: Uint8Array, text: string): string[] {
  const where = Buffer.from(held.buffer, held.byteOffset, held.byteLength);
  const bytes = Buffer.from(text);
  const forms: [string, string][] = [
    ['as it is', text],
    ['hex', bytes.toString('hex')],
    ['HEX', bytes.toString('hex').toUpperCase()],
    ['JSON', JSON.stringify(text).slice(1, -1)],
    ['JSON in JSON', JSON.stringify(JSON.stringify(text).slice(1, -1)).slice(1, -1)],
    ['UTF-16', bytes.toString('utf8').split('').join('\0')],
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
