import {
  type CipherGCMTypes,
  createCipheriv,
  createDecipheriv,
  createHmac,
  createSecretKey,
  hkdfSync,
  type KeyObject,
  randomFillSync,
  timingSafeEqual,
} from 'node:crypto';
import { aeadPrimitives, type CipherLibrary, JsEngine, type JsEngineOptions } from './js-engine.ts';
import { checkHkdfLength, KEY_LENGTH, type Primitives, TAG_LENGTH } from './primitives.ts';

const GCM: CipherGCMTypes = 'aes-256-gcm';
const GCM_OPTIONS = { authTagLength: TAG_LENGTH };
const EMPTY = new Uint8Array(0);

/**
 * Keys are KeyObjects: one copy each outside the JavaScript heap, wiped by Node when the object is collected, and one
 * more for as long as a cipher is under way.
 */
const library: CipherLibrary<KeyObject> = {
  importKey: (bytes) => createSecretKey(bytes),
  exportKey: (key) => key.export(),
  wipeKey: () => undefined,
  aesBlocks(key, block) {
    const cipher = createCipheriv('aes-256-ecb', key, null);
    cipher.setAutoPadding(false);
    const result = cipher.update(block);
    // Without it the cipher keeps its copy of the key until it is collected.
    cipher.final();
    return result;
  },
  gcmSeal(key, nonce, aad, data, output, offset) {
    const cipher = createCipheriv(GCM, key, nonce, GCM_OPTIONS);
    cipher.setAAD(aad);
    output.set(cipher.update(data), offset);
    cipher.final();
    output.set(cipher.getAuthTag(), offset + data.length);
  },
  gcmOpen(key, nonce, aad, sealed, output, offset) {
    const decipher = createDecipheriv(GCM, key, nonce, GCM_OPTIONS);
    decipher.setAAD(aad);
    const length = sealed.length - TAG_LENGTH;
    decipher.setAuthTag(sealed.subarray(length));
    const plaintext = decipher.update(sealed.subarray(0, length));
    try {
      decipher.final();
      output.set(plaintext, offset);
      return true;
    } catch {
      return false;
    } finally {
      plaintext.fill(0);
    }
  },
  hkdf(key, info) {
    const bytes = new Uint8Array(hkdfSync('sha256', key, EMPTY, info, KEY_LENGTH));
    const derived = createSecretKey(bytes);
    bytes.fill(0);
    return derived;
  },
  hkdf512: (key, salt, info, length) => new Uint8Array(hkdfSync('sha512', key, salt, info, length)),
  hmac(key, ...parts) {
    const hmac = createHmac('sha256', key);
    for (const part of parts) {
      hmac.update(part);
    }
    return new Uint8Array(hmac.digest());
  },
  equal: (a, b) => timingSafeEqual(a, b),
  fillRandom: (target) => {
    randomFillSync(target);
  },
};

/** For published vectors; see `Primitives`. */
export const primitives: Primitives = {
  ...aeadPrimitives(library),
  hkdfSha256(ikm, salt, info, length) {
    checkHkdfLength(length);
    return new Uint8Array(hkdfSync('sha256', ikm, salt, info, length));
  },
  hmacSha256: (key, data) => new Uint8Array(createHmac('sha256', key).update(data).digest()),
};

/** The engine over node:crypto, for hosts without the addon: same bytes, but keys in ordinary memory. */
export class NodeEngine extends JsEngine<KeyObject> {
  constructor(options: JsEngineOptions = {}) {
    super(
      {
        name: 'node',
        library: `OpenSSL ${process.versions.openssl}`,
        cpu: '',
        keysInJs: true,
        lockLevel: 'heap',
        lockReason: 'node:crypto keeps keys in ordinary memory',
      },
      library,
      options,
    );
  }
}
