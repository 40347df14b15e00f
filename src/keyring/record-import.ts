import { hex } from '../bytes.ts';
import type { Engine, KeyHandle } from '../crypto/engine.ts';
import { DekdError } from '../errors.ts';
import type { Keystore } from '../keystores/keystore.ts';
import type { DekCache } from './dek-cache.ts';
import type { Hierarchy } from './hierarchy.ts';
import type { HighWater } from './high-water.ts';
import type { ImportReport } from './keyring.ts';
import type { LiveKeys } from './live-keys.ts';
import type { MissLimit } from './miss-limit.ts';
import type { KeyRecord } from './record.ts';
import { checkAuthentic, checkOpens, RecordRefused, sameBytes } from './record-check.ts';

export interface RecordImportParts {
  readonly engine: Engine;
  readonly keystore: Keystore;
  readonly cache: DekCache;
  readonly hierarchy: Hierarchy;
  readonly highWater: HighWater;
  readonly live: LiveKeys;
  readonly misses: MissLimit;
}

type Outcome = 'imported' | 'unchanged' | { readonly reason: string };

/**
 * Takes records of an export into the keystore. Each is checked under its parent before it is written: MAC, wrapped key
 * and kid. Parents come first whatever the order given, and a record that is refused takes nothing else with it but what
 * hangs below it.
 */
export class RecordImport {
  readonly #parts: RecordImportParts;

  constructor(parts: RecordImportParts) {
    this.#parts = parts;
  }

  /** @throws KEYSTORE_UNAVAILABLE, KMS_UNAVAILABLE, UNSUPPORTED; what was imported by then stays, and may be run again. */
  async run(records: Iterable<KeyRecord>, acceptRollback: boolean): Promise<ImportReport> {
    let imported = 0;
    let unchanged = 0;
    const refused: { kid: string; reason: string }[] = [];
    for (const record of parentsFirst(records)) {
      const outcome = await this.#take(record, acceptRollback);
      if (outcome === 'imported') {
        imported++;
        this.#parts.live.forget(record.kid);
      } else if (outcome === 'unchanged') {
        unchanged++;
      } else {
        refused.push({ kid: hex(record.kid), reason: outcome.reason });
      }
    }
    this.#parts.misses.clear();
    this.#parts.hierarchy.forgetSealing();
    return { imported, unchanged, refused };
  }

  async #take(record: KeyRecord, acceptRollback: boolean): Promise<Outcome> {
    try {
      return await this.#check(record, acceptRollback);
    } catch (error) {
      if (error instanceof RecordRefused) {
        return { reason: error.reason };
      }
      if (record.state === 'destroyed' && DekdError.is(error, 'KEY_DISABLED')) {
        return this.#takeTombstone(record);
      }
      if (
        DekdError.is(error, 'CONFLICT') ||
        DekdError.is(error, 'KMS_DENIED') ||
        DekdError.is(error, 'DECRYPTION_FAILED') ||
        DekdError.is(error, 'KEY_DISABLED')
      ) {
        return { reason: error.reason ?? error.message };
      }
      throw error;
    }
  }

  async #check(record: KeyRecord, acceptRollback: boolean): Promise<Outcome> {
    const { hierarchy, highWater, keystore } = this.#parts;
    const stored = await keystore.retrieve(record.kid);
    if (stored !== undefined && record.state === 'destroyed' && isSame(stored, record)) {
      return 'unchanged';
    }
    const isStoredAuthentic = await hierarchy.withParentSecret(record, (secret) => {
      this.#checkUnder(secret, record);
      return stored !== undefined && this.#isAuthentic(secret, stored);
    });
    const seen = highWater.seq(record.kid);
    const newest = stored !== undefined && isStoredAuthentic && stored.seq > seen ? stored.seq : seen;
    if (record.seq < newest && !acceptRollback) {
      return { reason: `seq ${record.seq} is older than ${newest}, which was seen: add --accept-rollback to take it` };
    }
    if (stored !== undefined && isStoredAuthentic && stored.seq === record.seq && sameBytes(stored.mac, record.mac)) {
      await this.#raise(record, acceptRollback);
      return 'unchanged';
    }
    await keystore.store(record, stored === undefined ? { absent: true } : { seq: stored.seq });
    await this.#raise(record, acceptRollback);
    return 'imported';
  }

  /** Of a tree that is gone nothing can be checked any more; what denies is believed nevertheless. */
  async #takeTombstone(record: KeyRecord): Promise<Outcome> {
    const { keystore } = this.#parts;
    if ((await keystore.retrieve(record.kid)) !== undefined) {
      return { reason: 'the key that wraps it is destroyed, and the keystore has another row of it' };
    }
    await keystore.store(record, { absent: true });
    return 'imported';
  }

  async #raise(record: KeyRecord, acceptRollback: boolean): Promise<void> {
    const { highWater, keystore } = this.#parts;
    if (!acceptRollback) {
      await highWater.raise([record]);
      return;
    }
    const rows = await keystore.versions(record.name, record.partition, record.purpose);
    await highWater.accept(record, rows.at(-1)?.version ?? record.version);
  }

  /** @throws RecordRefused, RESOURCE_EXHAUSTED. */
  #checkUnder(secret: KeyHandle, record: KeyRecord): void {
    const { engine, cache } = this.#parts;
    checkAuthentic(engine, secret, record);
    checkOpens(engine, cache, secret, record);
  }

  #isAuthentic(secret: KeyHandle, record: KeyRecord): boolean {
    try {
      checkAuthentic(this.#parts.engine, secret, record);
      return true;
    } catch (error) {
      if (error instanceof RecordRefused) {
        return false;
      }
      throw error;
    }
  }
}

/** By level: a parent's is always the smaller. */
function parentsFirst(records: Iterable<KeyRecord>): KeyRecord[] {
  return [...records].sort((a, b) => a.level - b.level || a.version - b.version);
}

function isSame(a: KeyRecord, b: KeyRecord): boolean {
  return (
    a.seq === b.seq &&
    a.state === b.state &&
    a.revision === b.revision &&
    sameBytes(a.mac, b.mac) &&
    sameBytes(a.wrapped, b.wrapped)
  );
}
