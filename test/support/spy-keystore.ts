import type { Keystore } from '../../src/keystores/keystore.ts';

/** Everything that was handed to a keystore, of any type, and to whoever shares the spy. */
export class KeystoreSpy {
  readonly #seen: Buffer[] = [];
  /** Calls by method. */
  readonly calls = new Map<string, number>();

  /** `keystore`, with every argument of every call recorded before it is passed on. */
  watch(keystore: Keystore): Keystore {
    return new Proxy(keystore, {
      get: (target, property) => {
        const value: unknown = Reflect.get(target, property, target);
        if (typeof value !== 'function') {
          return value;
        }
        return (...passed: unknown[]) => {
          this.calls.set(String(property), (this.calls.get(String(property)) ?? 0) + 1);
          for (const argument of passed) {
            this.#take(argument);
          }
          return Reflect.apply(value, target, passed);
        };
      },
    });
  }

  /** Bytes recorded so far. */
  get size(): number {
    return this.#seen.reduce((sum, { length }) => sum + length, 0);
  }

  /** Whether `canary` arrived in any form. */
  saw(canary: Uint8Array): boolean {
    const forms = formsOf(canary);
    return this.#seen.some((seen) => forms.some((form) => seen.includes(form)));
  }

  #take(value: unknown): void {
    if (value instanceof Uint8Array) {
      this.#seen.push(Buffer.from(value));
    } else if (ArrayBuffer.isView(value)) {
      this.#seen.push(Buffer.from(value.buffer.slice(value.byteOffset, value.byteOffset + value.byteLength)));
    } else if (typeof value === 'string' || typeof value === 'bigint') {
      this.#seen.push(Buffer.from(String(value)));
    } else if (typeof value === 'object' && value !== null) {
      for (const [name, field] of value instanceof Map ? value : Object.entries(value)) {
        this.#take(name);
        this.#take(field);
      }
    }
  }
}

/** The forms in which bytes may lie about: raw, hex, base64 at each of its three alignments, and UTF-16. */
export function formsOf(bytes: Uint8Array): Buffer[] {
  const raw = Buffer.from(bytes);
  const texts = [raw.toString('hex'), raw.toString('hex').toUpperCase()];
  for (let offset = 0; offset < 3; offset++) {
    // Whole groups of three only, so that neither neighbours nor padding change what is looked for.
    const middle = raw.subarray(offset, offset + Math.floor((raw.length - offset) / 3) * 3);
    texts.push(middle.toString('base64'), middle.toString('base64url'));
  }
  return [raw, ...texts.flatMap((text) => [Buffer.from(text), Buffer.from(text, 'utf16le')])];
}
