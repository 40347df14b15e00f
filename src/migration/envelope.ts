import { LEGACY_IV_LENGTH, LEGACY_TAG_LENGTH, legacyEnvelopeOf } from '../envelope/legacy.ts';
import { DekdError } from '../errors.ts';

/** What an application stored of one value that it sealed with AES-256-GCM and no additional data. */
export interface LegacyParts {
  /** What the agent calls the key, in `legacy.keys`. */
  readonly kid: string;
  /** 12 bytes. */
  readonly iv: Uint8Array;
  readonly ciphertext: Uint8Array;
  /** 16 bytes. */
  readonly tag: Uint8Array;
}

const encoder = new TextEncoder();

/**
 * An item of `migrateLegacy` and `openLegacy`, from columns of another layout than envelopes have.
 * @returns the JSON text of an envelope. @throws INVALID_ARGUMENT for other lengths; MALFORMED for a kid that no key has
 */
export function legacyEnvelope({ kid, iv, ciphertext, tag }: LegacyParts): Uint8Array {
  if (iv?.length !== LEGACY_IV_LENGTH || tag?.length !== LEGACY_TAG_LENGTH || !(ciphertext instanceof Uint8Array)) {
    throw new DekdError(
      'INVALID_ARGUMENT',
      `an envelope has an iv of ${LEGACY_IV_LENGTH} bytes, a tag of ${LEGACY_TAG_LENGTH}, and a ciphertext in bytes`,
    );
  }
  const ct = new Uint8Array(ciphertext.length + tag.length);
  ct.set(ciphertext);
  ct.set(tag, ciphertext.length);
  const envelope = { __enc: 1, kid, iv: base64(iv), ct: base64(ct) };
  legacyEnvelopeOf(envelope);
  return encoder.encode(JSON.stringify(envelope));
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');
}
