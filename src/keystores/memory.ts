import { hex } from '../bytes.ts';
import { DekdError } from '../errors.ts';
import type { KeyRecord, UsageLease } from '../keyring/record.ts';
import type { Expectation, Keystore, KeystoreCapabilities, KeystoreHealth, ListFilter, ListPage } from './keystore.ts';
import { checkLimit, matches } from './list-filter.ts';
import { larger, mutablePart } from './records.ts';

/** Rows of this process only: gone with it, and every ciphertext with them. For tests and ephemeral agents. */
export class MemoryKeystore implements Keystore {
  readonly kind = 'memory';
  readonly #rows = new Map<string, KeyRecord>();
  /** kid by (name, partition, purpose, version). */
  readonly #versions = new Map<string, Map<number, string>>();
  readonly #leases = new Map<string, UsageLease>();
  /** kids in order, made when a listing asks. */
  #order: string[] | undefined;
  #closed = false;

  async store(record: KeyRecord, expect: Expectation): Promise<void> {
    this.#checkOpen();
    const kid = hex(record.kid);
    const stored = this.#rows.get(kid);
    if ('absent' in expect) {
      const holder = this.#versions.get(familyOf(record))?.get(record.version);
      if (stored !== undefined || holder !== undefined) {
        throw new DekdError('CONFLICT', `${record.name} version ${record.version} exists already`);
      }
      this.#put(kid, record);
      return;
    }
    this.#checkExpected(stored, expect);
    this.#checkVersionFree(kid, record);
    this.#put(kid, record);
  }

  async retrieve(kid: Uint8Array): Promise<KeyRecord | undefined> {
    this.#checkOpen();
    return this.#rows.get(hex(kid));
  }

  async versions(name: string, partition: string, purpose: string): Promise<readonly KeyRecord[]> {
    this.#checkOpen();
    const versions = this.#versions.get(family(name, partition, purpose));
    if (versions === undefined) {
      return [];
    }
    return [...versions.keys()].sort((a, b) => a - b).map((version) => this.#rows.get(versions.get(version)!)!);
  }

  async updateMetadata(
    changes: readonly { readonly record: KeyRecord; readonly expect: Expectation }[],
  ): Promise<void> {
    this.#checkOpen();
    const seen = new Set<string>();
    for (const { record, expect } of changes) {
      const kid = hex(record.kid);
      const stored = this.#rows.get(kid);
      if (stored === undefined) {
        throw new DekdError('KEY_NOT_FOUND', 'no record with this kid');
      }
      if ('absent' in expect || seen.has(kid)) {
        throw new DekdError('CONFLICT', 'the record exists already');
      }
      this.#checkExpected(stored, expect);
      seen.add(kid);
    }
    for (const { record } of changes) {
      const kid = hex(record.kid);
      const stored = this.#rows.get(kid)!;
      this.#rows.set(kid, own({ ...stored, ...mutablePart(record) }));
    }
  }

  async delete(tombstone: KeyRecord, expect: Expectation): Promise<void> {
    await this.updateMetadata([{ record: tombstone, expect }]);
  }

  async list(filter: ListFilter, cursor: string | undefined, limit: number): Promise<ListPage> {
    this.#checkOpen();
    checkLimit(limit);
    this.#order ??= [...this.#rows.keys()].sort();
    const records: KeyRecord[] = [];
    const start = cursor === undefined ? 0 : upperBound(this.#order, cursor);
    for (let i = start; i < this.#order.length; i++) {
      const kid = this.#order[i]!;
      const record = this.#rows.get(kid)!;
      if (!matches(record, filter)) {
        continue;
      }
      if (records.length === limit) {
        return { records, cursor: hex(records.at(-1)!.kid) };
      }
      records.push(record);
    }
    return { records, cursor: undefined };
  }

  async leases(): Promise<readonly UsageLease[]> {
    this.#checkOpen();
    return [...this.#leases.values()];
  }

  async storeLease(lease: UsageLease): Promise<void> {
    this.#checkOpen();
    const id = `${hex(lease.kid)} ${lease.holder}`;
    const stored = this.#leases.get(id);
    this.#leases.set(id, {
      kid: lease.kid.slice(),
      holder: lease.holder,
      messages: larger(lease.messages, stored?.messages),
      bytes: larger(lease.bytes, stored?.bytes),
    });
  }

  async health(): Promise<KeystoreHealth> {
    return this.#closed
      ? { ok: false, detail: 'closed' }
      : { ok: true, detail: `${this.#rows.size} records, lost when the agent stops` };
  }

  capabilities(): KeystoreCapabilities {
    return { durable: false, writable: true, watch: false };
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  #put(kid: string, record: KeyRecord): void {
    const stored = this.#rows.get(kid);
    if (stored === undefined) {
      this.#order = undefined;
    } else {
      this.#versions.get(familyOf(stored))?.delete(stored.version);
    }
    this.#rows.set(kid, own(record));
    const id = familyOf(record);
    let versions = this.#versions.get(id);
    if (versions === undefined) {
      versions = new Map();
      this.#versions.set(id, versions);
    }
    versions.set(record.version, kid);
  }

  #checkExpected(stored: KeyRecord | undefined, expect: Expectation): void {
    const seq = 'seq' in expect ? expect.seq : undefined;
    if (stored === undefined || stored.seq !== seq) {
      throw new DekdError('CONFLICT', 'the record was changed by another writer');
    }
  }

  #checkVersionFree(kid: string, record: KeyRecord): void {
    const holder = this.#versions.get(familyOf(record))?.get(record.version);
    if (holder !== undefined && holder !== kid) {
      throw new DekdError('CONFLICT', `${record.name} version ${record.version} exists already`);
    }
  }

  #checkOpen(): void {
    if (this.#closed) {
      throw new DekdError('KEYSTORE_UNAVAILABLE', 'the keystore is closed');
    }
  }
}

function familyOf(record: KeyRecord): string {
  return family(record.name, record.partition, record.purpose);
}

function family(name: string, partition: string, purpose: string): string {
  return JSON.stringify([name, partition, purpose]);
}

/** A copy whose bytes nobody else holds. */
function own(record: KeyRecord): KeyRecord {
  const { parent } = record;
  return Object.freeze({
    ...record,
    kid: record.kid.slice(),
    wrapped: record.wrapped.slice(),
    mac: record.mac.slice(),
    parent:
      parent.kind === 'root'
        ? { ...parent, wrappedSecret: parent.wrappedSecret.slice() }
        : { ...parent, kid: parent.kid.slice() },
  });
}

/** Index of the first entry after `value` in ascending `sorted`. */
function upperBound(sorted: readonly string[], value: string): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (sorted[middle]! <= value) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}
