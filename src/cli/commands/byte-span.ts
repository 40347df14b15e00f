/** Bytes of a plaintext as HTTP counts them (RFC 9110 section 14.1.2): from `first` up to and with `last`, or to its end. */
export interface ByteSpan {
  readonly first: number;
  readonly last: number | undefined;
}

/** `START-END` or `START-`; undefined for anything else. */
export function parseByteSpan(text: string): ByteSpan | undefined {
  const [, from, to] = /^(\d+)-(\d*)$/.exec(text) ?? [];
  if (from === undefined) {
    return undefined;
  }
  const first = Number(from);
  const last = to === '' ? undefined : Number(to);
  // The end of a range is one behind its last byte.
  const isExact = Number.isSafeInteger(first) && (last === undefined || Number.isSafeInteger(last + 1));
  return isExact && (last ?? first) >= first ? { first, last } : undefined;
}
