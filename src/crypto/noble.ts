import { ecb, gcm } from '@noble/ciphers/aes.js';
import { equalBytes } from '@noble/ciphers/utils.js';
import { hkdf } from '@noble/hashes/hkdf.js';
import { hmac } from '@noble/hashes/hmac.js';
import { sha256, sha512 } from '@noble/hashes/sha2.js';
import { aeadPrimitives, type CipherLibrary, JsEngine, type JsEngineOptions } from './js-engine.ts';
import { lastingBytes } from './key-pipe.ts';
import { checkHkdfLength, KEY_LENGTH, type Primitives } from './primitives.ts';

/** The version package.json pins; the package does not export its own. */
export const NOBLE_VERSION = '2.4.0';

/** One call to getRandomValues gives at most this many bytes (Web Cryptography API, 10.1.1). */
const RANDOM_STRIDE = 65_536;
const NO_PADDING = { disablePadding: true };

/** Keys are 32 bytes each outside the garbage-collected heap, wiped when they leave; key schedules are wiped by noble. */
const library: CipherLibrary<Uint8Array> = {
  importKey(bytes) {
    // Not slice: a Buffer's gives the same memory again, which the caller wipes.
    const key = lastingBytes(bytes.length);
    key.set(bytes);
    return key;
  },
  exportKey: (key) => key.slice(),
  wipeKey: (key) => {
    key.fill(0);
  },
  aesBlocks: (key, block) => ecb(key, NO_PADDING).encrypt(block),
  gcmSeal(key, nonce, aad, data, output, offset) {
    output.set(gcm(key, nonce, aad).encrypt(data), offset);
  },
  gcmOpen(key, nonce, aad, sealed, output, offset) {
    let plaintext: Uint8Array;
    try {
      plaintext = gcm(key, nonce, aad).decrypt(sealed);
    } catch {
      return false;
    }
    output.set(plaintext, offset);
    plaintext.fill(0);
    return true;
  },
  hkdf: (key, info) => hkdf(sha256, key, undefined, info, KEY_LENGTH),
  hkdf512: (key, salt, info, length) => hkdf(sha512, key, salt, info, length),
  hmac(key, ...parts) {
    const running = hmac.create(sha256, key);
    for (const part of parts) {
      running.update(part);
    }
    return running.digest();
  },
  equal: (a, b) => equalBytes(a, b),
  fillRandom(target) {
    for (let start = 0; start < target.length; start += RANDOM_STRIDE) {
      globalThis.crypto.getRandomValues(target.subarray(start, start + RANDOM_STRIDE));
    }
  },
};

/** For published vectors; see `Primitives`. */
export const primitives: Primitives = {
  ...aeadPrimitives(library),
  hkdfSha256(ikm, salt, info, length) {
    checkHkdfLength(length);
    return hkdf(sha256, ikm, salt, info, length);
  },
  hmacSha256: (key, data) => hmac(sha256, key, data),
};

/** The engine in pure JavaScript, for measuring and for hosts with nothing else. Never chosen by itself. */
export class NobleEngine extends JsEngine<Uint8Array> {
  constructor(options: JsEngineOptions = {}) {
    super(
      {
        name: 'noble',
        library: `@noble/ciphers ${NOBLE_VERSION}`,
        cpu: '',
        keysInJs: true,
        lockLevel: 'heap',
        lockReason: 'pure JavaScript keeps keys in ordinary memory',
      },
      library,
      options,
    );
  }
}
