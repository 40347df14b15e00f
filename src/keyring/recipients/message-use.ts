import { DekdError } from '../../errors.ts';
import type { Keystore } from '../../keystores/keystore.ts';
import type { Freezes } from '../freezes.ts';
import { checkKeyName, checkPartition } from '../key-name.ts';
import type { KeyRecord } from '../record.ts';
import { canOpen, canSeal } from '../states.ts';

/** Names remembered; all are forgotten when there are more. */
const MAX_KNOWN = 4_096;

interface Known {
  readonly readAt: number;
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

  constructor(parts: MessageUseParts) {
    this.#parts = parts;
  }

  /** @throws KEY_DISABLED; INVALID_ARGUMENT for what is no name; KEYSTORE_UNAVAILABLE when that was never known and cannot be read */
  async check(name: string, partition: string, operation: 'seal' | 'open'): Promise<void> {
    checkKeyName(name);
    checkPartition(partition);
    this.#parts.freezes.check(name, partition);
    const id = JSON.stringify([name, partition]);
    let known = this.#known.get(id);
    if (known === undefined || this.#parts.elapsedMs() - known.readAt >= this.#parts.refreshMs) {
      known = await this.#read(id, name, partition, known);
    }
    if (operation === 'seal' ? !known.seals : !known.opens) {
      throw new DekdError('KEY_DISABLED', `no version of key ${name} for messages may be used`);
    }
  }

  /** The rows of this key were changed. */
  forget(name: string, partition: string): void {
    this.#known.delete(JSON.stringify([name, partition]));
  }

  async #read(id: string, name: string, partition: string, before: Known | undefined): Promise<Known> {
    let rows: readonly KeyRecord[];
    try {
      rows = await this.#rowsOf(name, partition);
    } catch (error) {
      if (before !== undefined) {
        // Silence changes nothing.
        return before;
      }
      throw error;
    }
    const known = {
      readAt: this.#parts.elapsedMs(),
      seals: rows.length === 0 || rows.some(({ state }) => canSeal(state)),
      opens: rows.length === 0 || rows.some(({ state }) => canOpen(state)),
    };
    if (this.#known.size >= MAX_KNOWN) {
      this.#known.clear();
    }
    this.#known.set(id, known);
    return known;
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
