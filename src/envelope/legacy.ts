/**
 * Envelopes that applications made themselves, before: `{ "__enc": 1, "kid": "v1", "iv": base64, "ct": base64 }`, AES-256-GCM
 * with an iv of 12 bytes, `ct` being ciphertext ‖ tag 16. Nothing else is authenticated, `kid` included. They are read, and
 * never written.
 */
import { strictBytes } from '../bytes.ts';
import { DekdError } from '../errors.ts';

/** What no legacy key is called: envelopes that hold a token say it, so that readers from before refuse them. */
export const OWN_KID = 'dekd';

export const LEGACY_IV_LENGTH = 12;
export const LEGACY_TAG_LENGTH = 16;
const MAX_KID_LENGTH = 64;
const NAMES = ['__enc', 'kid', 'iv', 'ct'];
/** What begins a value in JSON, or another member. */
const STRUCTURE = [0x7b, 0x5b, 0x2c];
/** How often each is in an envelope at most: between its members, and in its kid. */
const MAX_STRUCTURE = NAMES.length + MAX_KID_LENGTH;

export interface LegacyEnvelope {
  readonly kid: string;
  readonly iv: Uint8Array;
  /** Ciphertext ‖ tag. */
  readonly sealed: Uint8Array;
}

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** @param bytes JSON text in UTF-8. @throws MALFORMED for anything but an envelope, with no other key and strict base64 */
export function readLegacyEnvelope(bytes: Uint8Array): LegacyEnvelope {
  if (STRUCTURE.some((byte) => hasMoreOf(bytes, byte, MAX_STRUCTURE))) {
    throw malformed('it has more members or values in it than an envelope');
  }
  let value: unknown;
  try {
    value = JSON.parse(decoder.decode(bytes));
  } catch {
    throw malformed('it is not JSON');
  }
  return legacyEnvelopeOf(value);
}

/** The same of a parsed value. @throws MALFORMED */
export function legacyEnvelopeOf(value: unknown): LegacyEnvelope {
  if (!hasLegacyShape(value)) {
    throw malformed('it does not have exactly __enc, kid, iv and ct, with __enc 1 and texts');
  }
  const { kid, iv, ct } = value;
  if (kid === '' || kid.length > MAX_KID_LENGTH || kid === OWN_KID) {
    throw malformed(`its kid is not one of 1 to ${MAX_KID_LENGTH} characters other than ${OWN_KID}`);
  }
  const nonce = strictBytes(iv, 'base64');
  if (nonce?.length !== LEGACY_IV_LENGTH) {
    throw malformed(`its iv is not strict base64 of ${LEGACY_IV_LENGTH} bytes`);
  }
  const sealed = strictBytes(ct, 'base64');
  if (sealed === undefined || sealed.length < LEGACY_TAG_LENGTH) {
    throw malformed(`its ct is not strict base64 of ${LEGACY_TAG_LENGTH} bytes or more`);
  }
  return { kid, iv: nonce, sealed };
}

/** The four texts of an envelope, of which nothing was checked. */
export interface LegacyShape {
  readonly __enc: 1;
  readonly kid: string;
  readonly iv: string;
  readonly ct: string;
}

/** Whether a value has exactly the keys of an envelope, of the right types. */
export function hasLegacyShape(value: unknown): value is LegacyShape {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return false;
  }
  const { __enc, kid, iv, ct } = value as Record<string, unknown>;
  return (
    __enc === 1 &&
    typeof kid === 'string' &&
    typeof iv === 'string' &&
    typeof ct === 'string' &&
    Object.keys(value).length === NAMES.length &&
    NAMES.every((name) => Object.hasOwn(value, name))
  );
}

/** A parser makes an object of every two bytes: some that are none of an envelope would hold up everybody, and fill the memory. */
function hasMoreOf(bytes: Uint8Array, byte: number, most: number): boolean {
  let at = -1;
  for (let count = 0; count <= most; count++) {
    at = bytes.indexOf(byte, at + 1);
    if (at < 0) {
      return false;
    }
  }
  return true;
}

function malformed(why: string): DekdError {
  return new DekdError('MALFORMED', `not a legacy envelope: ${why}`);
}
