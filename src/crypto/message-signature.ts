import { createPublicKey, createVerify, type KeyObject, type Verify } from 'node:crypto';
import { strictBytes } from '../bytes.ts';
import { DekdError } from '../errors.ts';

/** A point of P-384, compressed (SEC 1, 2.3.3). */
const POINT_LENGTH = 49;
/** SubjectPublicKeyInfo of such a point up to the point itself (RFC 5480 2.1): id-ecPublicKey, secp384r1. */
const SPKI_HEAD = Buffer.from('3046301006072a8648ce3d020106052b81040022033200', 'hex');
/** Two INTEGERs of up to 49 bytes in a SEQUENCE (RFC 3279 2.2.3). */
export const MAX_SIGNATURE_LENGTH = 104;

/** Verifies the ECDSA P-384 signature with SHA-384 that follows the body of a message of suite 0x0578. */
export class MessageSignature {
  readonly #key: KeyObject;
  readonly #verify: Verify;

  /**
   * @param publicKey the compressed point in base64, as the message stores it
   * @throws MALFORMED when it is no point of the curve
   */
  constructor(publicKey: string) {
    this.#key = keyOf(publicKey);
    this.#verify = createVerify('sha384');
  }

  /** Takes the next bytes of header, tag and body. */
  update(bytes: Uint8Array): void {
    this.#verify.update(bytes);
  }

  /** Whether `signature`, in DER, is one of all bytes taken. Once. */
  verify(signature: Uint8Array): boolean {
    return this.#verify.verify(this.#key, signature);
  }
}

function keyOf(publicKey: string): KeyObject {
  const point = strictBytes(publicKey, 'base64');
  if (point?.length === POINT_LENGTH) {
    try {
      return createPublicKey({ key: Buffer.concat([SPKI_HEAD, point]), format: 'der', type: 'spki' });
    } catch {
      // OpenSSL says more than a caller can use.
    }
  }
  throw new DekdError('MALFORMED', 'malformed message header: its public key is no point of P-384');
}
