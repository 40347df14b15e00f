/** The baseline: what an application does that encrypts by itself, with the key in its own process. */
import { createCipheriv, createDecipheriv, createSecretKey, type KeyObject, randomBytes } from 'node:crypto';
import { encodeContext } from '../../src/envelope/context.ts';
import { TOKEN_AAD_LENGTH } from '../../src/envelope/token.ts';

/** The record context of every measurement, ours and the baselines'. */
export const CONTEXT = { field: 'pan' } as const;
export const CONTEXT_BYTES = encodeContext(CONTEXT);

/** As many bytes of AAD as a token with `CONTEXT` has. */
export const AAD = Buffer.concat([randomBytes(TOKEN_AAD_LENGTH), CONTEXT_BYTES]);

export interface Sealed {
  iv: Buffer;
  body: Buffer;
  tag: Buffer;
}

/** AES-256-GCM of node:crypto with a fresh random IV a message. */
export class InProcess {
  readonly #key: KeyObject | Buffer;
  /** What was sealed last: kept, so that the work is not dropped. */
  sealed: Sealed = { iv: Buffer.alloc(0), body: Buffer.alloc(0), tag: Buffer.alloc(0) };

  /** @param raw whether the key is a Buffer, which Node turns into a key object at every call */
  constructor({ raw = false } = {}) {
    const bytes = randomBytes(32);
    this.#key = raw ? bytes : createSecretKey(bytes);
  }

  seal(data: Uint8Array): void {
    const iv = randomBytes(12);
    const cipher = createCipheriv('aes-256-gcm', this.#key, iv);
    cipher.setAAD(AAD);
    const body = cipher.update(data);
    cipher.final();
    this.sealed = { iv, body, tag: cipher.getAuthTag() };
  }

  open({ iv, body, tag }: Sealed): Buffer {
    const decipher = createDecipheriv('aes-256-gcm', this.#key, iv);
    decipher.setAAD(AAD);
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
