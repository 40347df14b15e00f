import { DekdError } from '../../errors.ts';
import type { Keystore } from '../../keystores/keystore.ts';
import type { Freezes } from '../freezes.ts';
import { checkKeyName, checkPartition } from '../key-name.ts';
import type { KeyRecord } from '../record.ts';
import { canOpen, canSeal } from '../states.ts';

/** Names remembered; all are forgotten when there are more. */
const MAX_KNOWN = 4_096;

/** How often a keystore that did not answer is asked again. */
const SILENT_RETRY_MS = 10_000;

interface Known {
  readonly readAt: number;
  /** When the keystore last did not answer, where it was asked since. */
  readonly silentAt?: number;
  readonly seals: boolean;
  readonly opens: boolean;
}

export interface MessageUseParts {
  readonly keystore: Keystore;
  readonly freezes: Freezes;
  readonly elapsedMs: () => number;
  /** Milliseconds for which what was read holds. */
  readonly refreshMs: number;
}

/**
 * Whether a key may be used for messages that the keystore has no part in. Such a key need not have a version; but where it
 * has, and none of them may be used, that is what the operator said of the key, whoever wraps its data keys.
 */
export class MessageUse {
  readonly #parts: MessageUseParts;
  readonly #known = new Map<string, Known>();
  /** What is being read: once for all who ask at the same time. */
  readonly #readings = new Map<string, Promise<Known>>();

  constructor(parts: MessageUseParts) {
    this.#parts = parts;
  }

  /** @throws KEY_DISABLED; INVALID_ARGUMENT for what is no name; KEYSTORE_UNAVAILABLE when that was never known and cannot be read */
  async check(name: string, partition: string, operation: 'seal' | 'open'): Promise<void> {
    checkKeyName(name);
    checkPartition(partition);
    this.#parts.freezes.check(name, partition);
    const known = await this.#current(JSON.stringify([name, partition]), name, partition);
    // It may have been frozen meanwhile.
    this.#parts.freezes.check(name, partition);
    if (operation === 'seal' ? !known.seals : !known.opens) {
      throw new DekdError('KEY_DISABLED', `no version of key ${name} for messages may be used`);
    }
  }

  /** The rows of this key were changed. */
  forget(name: string, partition: string): void {
    const id = JSON.stringify([name, partition]);
    this.#known.delete(id);
    // It may have been read before they were.
    this.#readings.delete(id);
  }

  #current(id: string, name: string, partition: string): Known | Promise<Known> {
    const { elapsedMs, refreshMs } = this.#parts;
    const known = this.#known.get(id);
    if (known === undefined || elapsedMs() - known.readAt < refreshMs) {
      return known ?? this.#reading(id, name, partition);
    }
    if (known.silentAt === undefined) {
      return this.#reading(id, name, partition);
    }
    // Nobody waits for a keystore that is known to be silent.
    if (elapsedMs() - known.silentAt >= Math.min(SILENT_RETRY_MS, refreshMs)) {
      void this.#reading(id, name, partition).catch(() => undefined);
    }
    return known;
  }

  #reading(id: string, name: string, partition: string): Promise<Known> {
    const running = this.#readings.get(id);
    if (running !== undefined) {
      return running;
    }
    const reading = this.#read(name, partition, this.#known.get(id)).then(
      (known) => {
        if (this.#readings.get(id) !== reading) {
          return this.#current(id, name, partition);
        }
        this.#readings.delete(id);
        if (this.#known.size >= MAX_KNOWN) {
          this.#known.clear();
        }
        this.#known.set(id, known);
        return known;
      },
      (error: unknown) => {
        if (this.#readings.get(id) === reading) {
          this.#readings.delete(id);
        }
        throw error;
      },
    );
    this.#readings.set(id, reading);
    return reading;
  }

  /** @param before what was known, which silence does not change */
  async #read(name: string, partition: string, before: Known | undefined): Promise<Known> {
    try {
      const rows = await this.#rowsOf(name, partition);
      return {
        readAt: this.#parts.elapsedMs(),
        seals: rows.length === 0 || rows.some(({ state }) => canSeal(state)),
        opens: rows.length === 0 || rows.some(({ state }) => canOpen(state)),
      };
    } catch (error) {
      if (before === undefined) {
        throw error;
      }
      return { ...before, silentAt: this.#parts.elapsedMs() };
    }
  }

  async #rowsOf(name: string, partition: string): Promise<readonly KeyRecord[]> {
    try {
      return await this.#parts.keystore.versions(name, partition, 'message');
    } catch (error) {
      if (DekdError.is(error, 'INVALID_ARGUMENT')) {
        // No route is for it, so it has no rows anywhere.
        return [];
      }
      throw error;
    }
  }
}
