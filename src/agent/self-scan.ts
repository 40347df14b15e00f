/** `dekd prove`: whether a key that is in use has left copies outside the key table, and whether a leak would show. */
import { type Engine, type KeyHandle, TOKEN_OVERHEAD } from '../crypto/engine.ts';
import { proveLeakClear, proveLeakPlant, scanForCopies } from '../crypto/host.ts';
import { DekdError } from '../errors.ts';

const SEALS_BEFORE_SCAN = 1_000;
const PLAINTEXT = 64;

export interface ScanDocument {
  /** Copies of the key's bytes outside the table. */
  readonly copies: number;
  /** Bytes of memory looked at. */
  readonly bytes: number;
  readonly key: 'canary';
}

/** Uses a key of its own, made and used like every other, so that proving touches nothing real. */
export class SelfScan {
  readonly #engine: Engine;
  #canary: KeyHandle | undefined;

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /** @throws UNSUPPORTED without the addon: keys on the JavaScript heap cannot pass such a scan */
  async run(step: string): Promise<ScanDocument | Record<string, never>> {
    switch (step) {
      case 'scan':
        return this.#scan();
      case 'plant':
        if (!proveLeakPlant(this.#usedCanary())) {
          throw unsupported();
        }
        return {};
      case 'clear':
        proveLeakClear();
        if (this.#canary !== undefined) {
          this.#engine.destroyKey(this.#canary);
          this.#canary = undefined;
        }
        return {};
      default:
        throw new DekdError('INVALID_ARGUMENT', `step '${step}' is none of scan, plant, clear`);
    }
  }

  #scan(): ScanDocument {
    const found = this.#engine.info.name === 'native' ? scanForCopies(this.#usedCanary()) : undefined;
    if (found === undefined) {
      throw unsupported();
    }
    return { copies: found.copies, bytes: found.bytes, key: 'canary' };
  }

  #usedCanary(): KeyHandle {
    this.#canary ??= this.#engine.generateKey({ algorithm: 'xaes-256-gcm', purpose: 'seal' });
    const input = new Uint8Array(PLAINTEXT);
    const token = new Uint8Array(PLAINTEXT + TOKEN_OVERHEAD);
    for (let i = 0; i < SEALS_BEFORE_SCAN; i++) {
      this.#engine.seal(this.#canary, input, 0, 0, 0, PLAINTEXT, token, 0);
    }
    return this.#canary;
  }
}

function unsupported(): DekdError {
  return new DekdError('UNSUPPORTED', 'only the native engine keeps keys out of reach of a memory scan');
}
