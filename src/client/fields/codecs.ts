import { strictBytes } from '../../bytes.ts';
import type { AnyCodec, CodecChoice, CodecName } from './definition.ts';
import { kindOf, NotJson } from './json-text.ts';
import type { FieldCodec } from './types.ts';

/** RFC 3339, or a day alone, which is then that of UTC. */
const DATE = /^(?:\d{4}|[+-]\d{6})-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d))?$/;
const INTEGER = /^(?:0|-?[1-9]\d*)$/;

const date: FieldCodec<Date> = {
  encode(value) {
    if (typeof value !== 'object' || kindOf(value) !== 'Date' || Number.isNaN(value.getTime())) {
      throw new NotJson('the value is not a valid Date');
    }
    return value.toISOString();
  },
  decode(json) {
    const value = typeof json === 'string' && DATE.test(json) ? new Date(json) : undefined;
    if (value === undefined || Number.isNaN(value.getTime())) {
      throw new NotJson("the plaintext is not a date in ISO 8601: it was not encrypted with the codec 'date'");
    }
    return value;
  },
};

const bigint: FieldCodec<bigint> = {
  encode(value) {
    if (typeof value !== 'bigint') {
      throw new NotJson('the value is not a bigint');
    }
    return String(value);
  },
  decode(json) {
    if (typeof json !== 'string' || !INTEGER.test(json)) {
      throw new NotJson("the plaintext is not a text of digits: it was not encrypted with the codec 'bigint'");
    }
    return BigInt(json);
  },
};

const bytes: FieldCodec<Uint8Array> = {
  encode(value) {
    if (!(value instanceof Uint8Array)) {
      throw new NotJson('the value is not a Uint8Array');
    }
    return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('base64');
  },
  decode(json) {
    const value = typeof json === 'string' ? strictBytes(json, 'base64') : undefined;
    if (value === undefined) {
      throw new NotJson("the plaintext is not base64: it was not encrypted with the codec 'bytes'");
    }
    return new Uint8Array(value);
  },
};

const BUILT_IN = { date, bigint, bytes } as unknown as Readonly<Record<CodecName, AnyCodec>>;

/** The codec that a definition names or is. */
export function codecOf(choice: CodecChoice): AnyCodec {
  return typeof choice === 'string' ? BUILT_IN[choice] : choice;
}
