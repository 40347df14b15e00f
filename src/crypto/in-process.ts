/** What dekd is measured against: an application that encrypts by itself, with the key in its own process. */
import { createCipheriv, createDecipheriv, createSecretKey, type KeyObject, randomBytes } from 'node:crypto';

export interface Sealed {
  iv: Buffer;
  body: Buffer;
  tag: Buffer;
}

/** AES-256-GCM of node:crypto with a fresh random IV a message. */
export class InProcess {
  readonly #key: KeyObject | Buffer;
  readonly #aad: Uint8Array;
  /** What was sealed last: kept, so that the work is not dropped. */
  sealed: Sealed = { iv: Buffer.alloc(0), body: Buffer.alloc(0), tag: Buffer.alloc(0) };

  /**
   * @param aad authenticated with every message; must not change
   * @param raw whether the key is a Buffer, which Node turns into a key object at every call
   */
  constructor(aad: Uint8Array, { raw = false } = {}) {
    this.#aad = aad;
    const bytes = randomBytes(32);
    this.#key = raw ? bytes : createSecretKey(bytes);
  }

  seal(data: Uint8Array): void {
    const iv = randomBytes(12);
    const cipher = createCipheriv('aes-256-gcm', this.#key, iv);
    cipher.setAAD(this.#aad);
    const body = cipher.update(data);
    cipher.final();
    this.sealed = { iv, body, tag: cipher.getAuthTag() };
  }

  open({ iv, body, tag }: Sealed): Buffer {
    const decipher = createDecipheriv('aes-256-gcm', this.#key, iv);
    decipher.setAAD(this.#aad);
    decipher.setAuthTag(tag);
    const plain = decipher.update(body);
    decipher.final();
    return plain;
  }

  /** @throws when what `seal` makes of `data` does not open to it */
  check(data: Uint8Array): void {
    this.seal(data);
    if (!this.open(this.sealed).equals(data)) {
      throw new Error('the baseline does not open what it sealed');
    }
  }
}
