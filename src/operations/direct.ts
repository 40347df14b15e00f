/** Values that the provider of a root encrypts itself: each costs a call to it, and there is no key here. */
import { timingSafeEqual } from 'node:crypto';
import { TOKEN_OVERHEAD } from '../crypto/engine.ts';
import { DIRECT_DIGEST_LENGTH, DIRECT_HEAD_LENGTH, directDigest, directToken } from '../envelope/direct-token.ts';
import { SUITE_DIRECT, tokenKid } from '../envelope/token.ts';
import { DekdError, decryptionFailed } from '../errors.ts';
import type { DirectKey } from '../keyring/direct-keys.ts';
import { Turns } from '../keyring/turns.ts';
import type { OperationsEnvironment } from './environment.ts';
import { requireContext } from './limits.ts';
import { loadSealing } from './loading.ts';
import type { Caller } from './request.ts';

/** Calls to providers at once, whoever asks: more wait for their turn. */
const MAX_CALLS = 50;

/** Where the parts of one value lie in `frame`. */
export interface ValuePlace {
  readonly frame: Uint8Array;
  readonly contextOffset: number;
  readonly contextLength: number;
  readonly dataOffset: number;
  readonly dataLength: number;
}

const turns = new Turns(MAX_CALLS);

/** Whether the token at `frame[offset]` is direct; its head was read before. */
export function isDirectToken(frame: Uint8Array, offset: number): boolean {
  return frame[offset + 1] === SUITE_DIRECT;
}

/** @returns the token, a fresh copy. @throws INVALID_ARGUMENT over the limit, and what the provider throws */
export async function sealDirect(env: OperationsEnvironment, key: DirectKey, place: ValuePlace): Promise<Uint8Array> {
  const { frame, contextOffset, contextLength, dataOffset, dataLength } = place;
  requireContext(key, frame, contextOffset, contextLength);
  const most = key.limit - DIRECT_DIGEST_LENGTH;
  if (key.limit > 0 && dataLength > most) {
    throw new DekdError(
      'INVALID_ARGUMENT',
      `key '${key.name}' is direct: its provider encrypts at most ${most} bytes, and the value has ${dataLength}`,
    );
  }
  const inner = new Uint8Array(DIRECT_DIGEST_LENGTH + dataLength);
  inner.set(directDigest(key.reference, frame.subarray(contextOffset, contextOffset + contextLength)));
  inner.set(frame.subarray(dataOffset, dataOffset + dataLength), DIRECT_DIGEST_LENGTH);
  try {
    const made = await turns.run(() => key.encrypt(inner));
    env.volume.bytesSealed += dataLength;
    return directToken(key.reference, made);
  } finally {
    inner.fill(0);
  }
}

/**
 * @returns the plaintext, which the caller wipes.
 * @throws DECRYPTION_FAILED for a token of another key, root or context, and what the provider throws
 */
export async function openDirect(
  env: OperationsEnvironment,
  place: ValuePlace,
  expected: { readonly key: string; readonly partition: string; readonly anyKey: boolean },
): Promise<Uint8Array> {
  const { frame, contextOffset, contextLength, dataOffset, dataLength } = place;
  if (expected.anyKey) {
    throw decryptionFailed('a direct token does not say of which key it is: name the key');
  }
  const key = env.keyring.directOpening(tokenKid(frame, dataOffset), expected.key, expected.partition);
  if (key === undefined) {
    throw decryptionFailed('the direct token is of another key, or of a root that is not configured');
  }
  const digest = directDigest(key.reference, frame.subarray(contextOffset, contextOffset + contextLength));
  // A copy: the frame is gone by the time a turn comes. (The slice of a Buffer would be a view.)
  const ciphertext = new Uint8Array(frame.subarray(dataOffset + DIRECT_HEAD_LENGTH, dataOffset + dataLength));
  const inner = await turns.run(() => key.decrypt(ciphertext));
  try {
    if (inner.length < DIRECT_DIGEST_LENGTH || !timingSafeEqual(inner.subarray(0, DIRECT_DIGEST_LENGTH), digest)) {
      throw decryptionFailed('the digest of the context does not match');
    }
    env.volume.bytesOpened += inner.length - DIRECT_DIGEST_LENGTH;
    return inner.slice(DIRECT_DIGEST_LENGTH);
  } finally {
    inner.fill(0);
  }
}

/** Makes a direct token anew with what its key is now: direct still, or with a data key. @returns the new token */
export async function remakeDirect(
  env: OperationsEnvironment,
  caller: Caller,
  place: ValuePlace,
  binding: { readonly key: string; readonly partition: string; readonly root: string; readonly anyKey: boolean },
): Promise<Uint8Array> {
  const { contextOffset, contextLength } = place;
  const { key, partition, root } = binding;
  const context = new Uint8Array(place.frame.subarray(contextOffset, contextOffset + contextLength));
  const plaintext = await openDirect(env, place, binding);
  const frame = new Uint8Array(contextLength + plaintext.length);
  try {
    frame.set(context);
    frame.set(plaintext, contextLength);
    const moved = { frame, contextOffset: 0, contextLength, dataOffset: contextLength, dataLength: plaintext.length };
    const direct = env.keyring.directSealing(key, partition, root);
    if (direct !== undefined) {
      return await sealDirect(env, direct, moved);
    }
    const sealing =
      env.keyring.sealing(key, partition, root) ?? (await loadSealing(env, caller, key, partition, 'seal', root));
    requireContext(sealing, frame, 0, contextLength);
    const token = new Uint8Array(plaintext.length + TOKEN_OVERHEAD);
    env.engine.seal(sealing.handle(), frame, 0, contextLength, contextLength, plaintext.length, token, 0);
    sealing.used(1, plaintext.length);
    return token;
  } finally {
    frame.fill(0);
    plaintext.fill(0);
  }
}
