import { hex } from '../bytes.ts';
import type { Engine } from '../crypto/engine.ts';
import { DekdError } from '../errors.ts';
import type { Keystore } from '../keystores/keystore.ts';
import type { DekCache } from './dek-cache.ts';
import type { Hierarchy } from './hierarchy.ts';
import type { HighWater } from './high-water.ts';
import { kekNameOf } from './key-name.ts';
import type { KeyParent, KeyRecord } from './record.ts';
import { checkRecord, RecordRefused, sameBytes, unwrapRecord, wrapRecord } from './record-check.ts';
import { lineOf, OWN_LINE } from './root-line.ts';
import { canSeal } from './states.ts';

export interface KekMoveParts {
  readonly engine: Engine;
  readonly cache: DekCache;
  readonly highWater: HighWater;
  readonly keystore: Keystore;
  readonly hierarchy: Hierarchy;
}

/** A record that hangs under another key. */
export type DerivedRecord = KeyRecord & { readonly parent: Extract<KeyParent, { kind: 'key' }> };

export function isDerived(record: KeyRecord): record is DerivedRecord {
  return record.parent.kind === 'key';
}

/**
 * Wraps a key anew under the newest version of the KEK above it: the same key and kid, another parent, so new wrapped bytes
 * and a new MAC. Revision and seq rise by one.
 */
export class KekMove {
  readonly #parts: KekMoveParts;

  constructor(parts: KekMoveParts) {
    this.#parts = parts;
  }

  /**
   * The version that should be above `record`: the one under which new keys of that parent's name are made, else the newest
   * that is active; undefined when there is none, so that the record stays where it is.
   * @param known answers of earlier calls, by kid of the parent
   */
  async target(record: DerivedRecord, known: Map<string, KeyRecord | undefined>): Promise<KeyRecord | undefined> {
    const { versions } = this.#parts.hierarchy;
    const { level, partition, name, parent } = record;
    // The tree of a KEK begins where it does; a data key goes to the tree in which it would be made now, and one that was made
    // for a root that its callers chose stays under it.
    const isRouted = level === 4 && lineOf(record) === OWN_LINE;
    const root = isRouted ? versions.rootOf(partition, name).name : await versions.rootNameOf(record);
    const id = `${hex(parent.kid)} ${root}`;
    if (!known.has(id)) {
      known.set(id, await this.#newest(parent.kid, root));
    }
    return known.get(id);
  }

  /** Whether `record` hangs under `target` already. */
  isUnder({ parent }: DerivedRecord, target: KeyRecord): boolean {
    return sameBytes(parent.kid, target.kid);
  }

  /** The next write of `record`, under `target`. @throws RecordRefused when it is not authentic; KEY_DISABLED and more. */
  async next(record: DerivedRecord, target: KeyRecord): Promise<KeyRecord> {
    const { engine, cache, highWater, hierarchy } = this.#parts;
    const key = await hierarchy.withKek(record.parent.kid, (_kek, secret) => {
      checkRecord(engine, secret, record, highWater);
      return cache.room(() => unwrapRecord(engine, secret, record));
    });
    try {
      return await hierarchy.withKek(target.kid, (kek, secret) => {
        if (kek.record.level >= record.level) {
          throw new RecordRefused('the parent it would get is not above it');
        }
        const parent: KeyParent = { kind: 'key', kid: kek.record.kid };
        const { revision, seq } = record;
        return wrapRecord(engine, secret, key, { ...record, parent, revision: revision + 1, seq: seq + 1n });
      });
    } finally {
      engine.destroyKey(key);
    }
  }

  async #newest(kid: Uint8Array, root: string | undefined): Promise<KeyRecord | undefined> {
    const { keystore, hierarchy } = this.#parts;
    const parent = await keystore.retrieve(kid);
    if (parent === undefined) {
      throw new RecordRefused(`its parent ${hex(kid)} is not in the keystore`);
    }
    const rows = await keystore.versions(parent.name, parent.partition, parent.purpose);
    try {
      const kek = kekNameOf(parent.name, parent.partition);
      const current = await hierarchy.versions.current(root === undefined ? kek : { ...kek, root }, rows);
      if (current !== undefined) {
        return current;
      }
    } catch (error) {
      if (!DekdError.is(error, 'KEY_DISABLED')) {
        throw error;
      }
    }
    return rows.findLast(({ state }) => canSeal(state));
  }
}
