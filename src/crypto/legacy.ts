import { DekdError } from '../errors.ts';
import { GCM_NONCE_LENGTH, TAG_LENGTH } from './primitives.ts';

/**
 * Where the plaintext of `Engine.openLegacy` goes.
 * @throws INVALID_ARGUMENT unless the nonce has 12 bytes and the region lies inside of `output` and not over `sealed`
 */
export function legacyRegion(nonce: Uint8Array, sealed: Uint8Array, output: Uint8Array, outOffset: number): Uint8Array {
  const length = Math.max(0, sealed.length - TAG_LENGTH);
  if (nonce.length !== GCM_NONCE_LENGTH) {
    throw new DekdError('INVALID_ARGUMENT', `nonce has ${nonce.length} bytes, not ${GCM_NONCE_LENGTH}`);
  }
  const inside = Number.isInteger(outOffset) && outOffset >= 0 && outOffset + length <= output.length;
  if (!inside || overlaps(sealed, output, outOffset, length)) {
    throw new DekdError('INVALID_ARGUMENT', 'the output region leaves its buffer or overlaps the input');
  }
  return output.subarray(outOffset, outOffset + length);
}

function overlaps(sealed: Uint8Array, output: Uint8Array, offset: number, length: number): boolean {
  const start = output.byteOffset + offset;
  return (
    sealed.buffer === output.buffer &&
    length > 0 &&
    start < sealed.byteOffset + sealed.length &&
    sealed.byteOffset < start + length
  );
}
