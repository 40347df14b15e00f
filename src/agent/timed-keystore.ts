/** A keystore whose calls are counted and timed; it does nothing else. */

import { DekdError } from '../errors.ts';
import type { KeyRecord, UsageLease } from '../keyring/record.ts';
import type {
  Expectation,
  Keystore,
  KeystoreCapabilities,
  KeystoreHealth,
  ListFilter,
  ListPage,
} from '../keystores/keystore.ts';
import type { CallTimes } from '../telemetry/call-times.ts';

export class TimedKeystore implements Keystore {
  readonly kind: string;
  readonly identity: string | undefined;
  readonly #name: string;
  readonly #keystore: Keystore;
  readonly #calls: CallTimes;

  /**
   * @param name of the keystore in the configuration
   * @param keystore taken over: closed with this
   */
  constructor(name: string, keystore: Keystore, calls: CallTimes) {
    this.kind = keystore.kind;
    this.identity = keystore.identity;
    this.#name = name;
    this.#keystore = keystore;
    this.#calls = calls;
  }

  store(record: KeyRecord, expect: Expectation): Promise<void> {
    return this.#timed('store', this.#keystore.store(record, expect));
  }

  retrieve(kid: Uint8Array): Promise<KeyRecord | undefined> {
    return this.#timed('retrieve', this.#keystore.retrieve(kid));
  }

  versions(name: string, partition: string, purpose: string): Promise<readonly KeyRecord[]> {
    return this.#timed('versions', this.#keystore.versions(name, partition, purpose));
  }

  updateMetadata(changes: readonly { readonly record: KeyRecord; readonly expect: Expectation }[]): Promise<void> {
    return this.#timed('updateMetadata', this.#keystore.updateMetadata(changes));
  }

  delete(tombstone: KeyRecord, expect: Expectation): Promise<void> {
    return this.#timed('delete', this.#keystore.delete(tombstone, expect));
  }

  list(filter: ListFilter, cursor: string | undefined, limit: number): Promise<ListPage> {
    return this.#timed('list', this.#keystore.list(filter, cursor, limit));
  }

  leases(): Promise<readonly UsageLease[]> {
    return this.#timed('leases', this.#keystore.leases());
  }

  storeLease(lease: UsageLease): Promise<void> {
    return this.#timed('storeLease', this.#keystore.storeLease(lease));
  }

  health(): Promise<KeystoreHealth> {
    return this.#keystore.health();
  }

  capabilities(): KeystoreCapabilities {
    return this.#keystore.capabilities();
  }

  close(): Promise<void> {
    return this.#keystore.close();
  }

  async #timed<T>(operation: string, call: Promise<T>): Promise<T> {
    const begun = performance.now();
    let outcome = 'ok';
    try {
      return await call;
    } catch (error) {
      outcome = DekdError.from(error).code;
      throw error;
    } finally {
      this.#calls.ended({ target: this.#name, operation, outcome, milliseconds: performance.now() - begun });
    }
  }
}
