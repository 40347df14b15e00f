import { encodeContext } from '../envelope/context-encoding.ts';
import type { EncryptionContext } from './types.ts';

const NO_CONTEXT = new Uint8Array(0);

/**
 * Canonical bytes of contexts, remembering the last: callers bind many values alike. It compares what the context says,
 * not which object it is, so that changing an object between two calls changes what the second is bound to.
 */
export class ContextMemo {
  #names: readonly string[] = [];
  #values: readonly string[] = [];
  #bytes: Uint8Array = NO_CONTEXT;

  /** The bytes are shared: nobody writes to them. @throws INVALID_ARGUMENT as `encodeContext` */
  bytesOf(context: EncryptionContext | undefined): Uint8Array {
    if (context === undefined) {
      return NO_CONTEXT;
    }
    if (this.#isLast(context)) {
      return this.#bytes;
    }
    const bytes = encodeContext(context);
    this.#names = Object.keys(context);
    this.#values = this.#names.map((name) => context[name]!);
    this.#bytes = bytes;
    return bytes;
  }

  #isLast(context: EncryptionContext): boolean {
    // Anything else than a plain object is looked at by the encoder.
    if (typeof context !== 'object' || context === null || Object.getPrototypeOf(context) !== Object.prototype) {
      return false;
    }
    const names = Object.keys(context);
    const last = this.#names;
    if (names.length !== last.length || names.length === 0) {
      return false;
    }
    for (let i = 0; i < names.length; i++) {
      if (names[i] !== last[i] || context[names[i]!] !== this.#values[i]) {
        return false;
      }
    }
    return true;
  }
}
