/**
 * A stand-in for the library of an application from before: AES-256-GCM in the process itself, keys in variables, envelopes told
 * by their shape, and what is no envelope let through. Written to what is known of such libraries; it is no copy of one.
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';

interface Envelope {
  readonly __enc: 1;
  readonly kid: string;
  readonly iv: string;
  readonly ct: string;
}

export class LegacyLibrary {
  readonly #keys: ReadonlyMap<string, Buffer>;
  readonly #activeKid: string;

  constructor(keys: Readonly<Record<string, string>>, activeKid: string) {
    this.#keys = new Map(Object.entries(keys).map(([kid, key]) => [kid, Buffer.from(key, 'base64')]));
    this.#activeKid = activeKid;
  }

  isEncrypted(value: unknown): value is Envelope {
    const { __enc, kid, iv, ct } = (value ?? {}) as Record<string, unknown>;
    return __enc === 1 && [kid, iv, ct].every((each) => typeof each === 'string');
  }

  encryptCredentials(value: unknown): unknown {
    if (this.isEncrypted(value)) {
      return value;
    }
    const iv = randomBytes(12);
    const cipher = createCipheriv('aes-256-gcm', this.#key(this.#activeKid), iv);
    const ct = Buffer.concat([cipher.update(JSON.stringify(value)), cipher.final(), cipher.getAuthTag()]);
    return { __enc: 1, kid: this.#activeKid, iv: iv.toString('base64'), ct: ct.toString('base64') };
  }

  decryptCredentials(value: unknown): unknown {
    if (!this.isEncrypted(value)) {
      return value;
    }
    const sealed = Buffer.from(value.ct, 'base64');
    const decipher = createDecipheriv('aes-256-gcm', this.#key(value.kid), Buffer.from(value.iv, 'base64'));
    decipher.setAuthTag(sealed.subarray(-16));
    return JSON.parse(Buffer.concat([decipher.update(sealed.subarray(0, -16)), decipher.final()]).toString());
  }

  #key(kid: string): Buffer {
    const key = this.#keys.get(kid);
    if (key === undefined) {
      throw new Error(`unknown kid ${kid}`);
    }
    return key;
  }
}
