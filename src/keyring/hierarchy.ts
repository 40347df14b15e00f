import type { Engine, KeyHandle, KeyUse } from '../crypto/engine.ts';
import type { Custody, Root } from '../custody/custody.ts';
import { encodeContext } from '../envelope/context.ts';
import { DekdError } from '../errors.ts';
import type { SteadyClock } from './clock.ts';
import type { DekCache } from './dek-cache.ts';
import { Flights } from './flights.ts';
import type { HighWater } from './high-water.ts';
import { serviceKekName, tenantKekName } from './key-name.ts';
import type { KeyringLog } from './keyring-event.ts';
import { Kek, NO_SLOT } from './loaded-key.ts';
import type { KeyParent, KeyRecord } from './record.ts';
import { toHex } from './record-binding.ts';
import { ALGORITHM_OF, checkRecord, KEY_SIZE, RecordRefused, unwrapRecord, wrapRecord } from './record-check.ts';
import { canOpen, canSeal, denies } from './states.ts';
import { Turns } from './turns.ts';

const WRAP_USE: KeyUse = { algorithm: ALGORITHM_OF.wrap, purpose: 'wrap' };
/** Attempts against other agents that write the same rows. */
const MAX_ATTEMPTS = 8;
/** Loads under a root at once. */
const MAX_ROOT_LOADS = 16;

export interface HierarchyParts {
  readonly engine: Engine;
  readonly custody: Custody;
  readonly cache: DekCache;
  readonly highWater: HighWater;
  readonly clock: SteadyClock;
  readonly log: KeyringLog;
  readonly service: string;
  readonly node: string;
  /** Name of the root under which a partition has a tenant KEK of its own; undefined for none. */
  readonly partitionRoot: (partition: string) => string | undefined;
}

/** The loading of one KEK, and how many wait for it. */
interface Load {
  waiters: number;
  kek: Promise<Kek> | undefined;
}

/**
 * The KEKs between the roots and the data keys: root → service KEK → data key, and for a partition with a root of its
 * own: root → tenant KEK → service KEK of that tenant → data key. One call to a provider opens a whole tree.
 */
export class Hierarchy {
  readonly #parts: HierarchyParts;
  readonly #keks = new Map<string, Kek>();
  readonly #loads = new Map<string, Load>();
  readonly #creating = new Flights<KeyRecord>();
  readonly #turns: Turns;
  /** The KEK under which new data keys of a tenant ('' for none) are made, and the generation it was looked up in. */
  readonly #sealing = new Map<string, { readonly kid: Uint8Array; readonly generation: number }>();
  /** Raised by the keyring at each refresh interval. */
  generation = 0;
  /** Told when a KEK may no longer open. */
  onDenied: (kek: Kek) => void = () => undefined;

  constructor(parts: HierarchyParts) {
    this.#parts = parts;
    // Each load under a root has up to three slots that cannot be taken; they must never be most of the table.
    this.#turns = new Turns(Math.max(1, Math.min(MAX_ROOT_LOADS, Math.floor(parts.engine.stats().capacity / 8))));
  }

  /**
   * Runs `work` with the KEK of this kid in the table; the handle is valid for that synchronous stretch.
   * @throws RecordRefused, KEY_DISABLED, KMS_UNAVAILABLE, KMS_DENIED, KEYSTORE_UNAVAILABLE, RESOURCE_EXHAUSTED.
   */
  async withKek<T>(kid: Uint8Array, work: (kek: Kek, handle: KeyHandle) => T): Promise<T> {
    const { cache } = this.#parts;
    const kek = await this.#acquire(kid);
    try {
      if (kek.slot === NO_SLOT) {
        throw new DekdError('KEY_DISABLED', `${kek.record.name} version ${kek.record.version} was stopped`);
      }
      return work(kek, kek.slot);
    } finally {
      cache.release(kek);
    }
  }

  /** Runs `work` with the KEK under which new data keys of `partition` are made; it is created when there is none. */
  async withSealingKek<T>(partition: string, work: (kek: Kek, handle: KeyHandle) => T): Promise<T> {
    const tenant = this.#parts.partitionRoot(partition) === undefined ? '' : partition;
    return this.withKek(await this.#sealingKid(tenant), work);
  }

  /**
   * Runs `work` with the secret under which `record` is wrapped: its parent KEK, or the W that the root unwraps for the
   * occasion and that is wiped afterwards.
   */
  async withParentSecret<T>(record: KeyRecord, work: (secret: KeyHandle) => T): Promise<T> {
    const { parent } = record;
    if (parent.kind === 'key') {
      return this.withKek(parent.kid, (_kek, handle) => work(handle));
    }
    const { engine, cache } = this.#parts;
    const root = this.#root(parent.reference.root);
    const context = encodeContext(record.keyContext);
    const secret = await cache.roomAsync(() => root.unwrap(parent.wrappedSecret, parent.reference, context));
    try {
      return work(secret);
    } finally {
      engine.destroyKey(secret);
    }
  }

  /** The KEK of this kid when it is in the table. */
  loaded(kid: Uint8Array): Kek | undefined {
    const kek = this.#keks.get(toHex(kid));
    return kek === undefined || kek.slot === NO_SLOT ? undefined : kek;
  }

  /** Compares the row of `kek`, and of those above it, with the keystore, once a generation; honours denials. */
  async recheck(kek: Kek): Promise<void> {
    if (kek.checked >= this.generation) {
      return;
    }
    kek.checked = this.generation;
    if (kek.parent instanceof Kek) {
      await this.recheck(kek.parent);
    }
    const row = await this.#parts.custody.keystore.retrieve(kek.record.kid);
    if (row !== undefined && denies(row.state, kek.record.state) && !canOpen(row.state)) {
      this.deny(kek, row);
    }
  }

  /** Takes a KEK out of use. Towards denial a row is believed whatever its MAC. */
  deny(kek: Kek, row: KeyRecord): void {
    this.#parts.log({
      event: 'unauthenticated-denial',
      level: 'warn',
      key: kek.record.name,
      version: kek.record.version,
      kid: kek.id,
      reason: `the row says ${row.state}; every key below it is stopped`,
    });
    this.#stop(kek);
    this.#sealing.clear();
  }

  /** Forgets which KEK seals, after rows were imported. */
  forgetSealing(): void {
    this.#sealing.clear();
  }

  /** Wipes every KEK. */
  async close(): Promise<void> {
    await Promise.allSettled([...this.#loads.values()].map(({ kek }) => kek));
    await this.#creating.settle();
    for (const kek of this.#keks.values()) {
      this.#parts.cache.dropKek(kek);
    }
    this.#keks.clear();
  }

  /** Stops `kek` and everything below it. */
  #stop(kek: Kek): void {
    this.#keks.delete(kek.id);
    for (const child of [...this.#keks.values()]) {
      if (child.parent === kek) {
        this.#stop(child);
      }
    }
    this.onDenied(kek);
    this.#parts.cache.dropKek(kek);
  }

  /** The KEK in the table, retained once for the caller: nobody takes its slot before the caller has run. */
  async #acquire(kid: Uint8Array): Promise<Kek> {
    const id = toHex(kid);
    const known = this.#keks.get(id);
    if (known !== undefined && known.slot !== NO_SLOT) {
      this.#parts.cache.retain(known);
      return known;
    }
    let load = this.#loads.get(id);
    if (load === undefined) {
      load = { waiters: 0, kek: undefined };
      load.kek = this.#load(kid, load).finally(() => this.#loads.delete(id));
      this.#loads.set(id, load);
    }
    load.waiters++;
    return load.kek!;
  }

  async #load(kid: Uint8Array, load: Load): Promise<Kek> {
    const record = await this.#parts.custody.keystore.retrieve(kid);
    if (record === undefined) {
      throw new RecordRefused(`its parent ${toHex(kid)} is not in the keystore`);
    }
    return this.#loadRecord(record, load);
  }

  /** Checks and unwraps the row of a KEK. @throws what `withKek` does. */
  async #loadRecord(record: KeyRecord, load: Load): Promise<Kek> {
    const { log } = this.#parts;
    const { parent } = record;
    const id = toHex(record.kid);
    try {
      if (record.level === 4 || record.purpose !== 'wrap') {
        throw new RecordRefused('the parent that the row names is no key that wraps keys');
      }
      if (!canOpen(record.state)) {
        throw new DekdError('KEY_DISABLED', `${record.name} version ${record.version} is ${record.state}`);
      }
      return parent.kind === 'key'
        ? await this.#loadDerived(record, parent.kid, load)
        : await this.#turns.run(() => this.#loadRooted(record, this.#root(parent.reference.root), load));
    } catch (error) {
      if (error instanceof RecordRefused) {
        log({
          event: error.isRollback ? 'rollback-refused' : 'record-refused',
          level: 'error',
          key: record.name,
          partition: record.partition,
          version: record.version,
          kid: id,
          reason: error.reason,
        });
      }
      throw error;
    }
  }

  async #loadDerived(record: KeyRecord, parent: Uint8Array, load: Load): Promise<Kek> {
    const { engine, cache, highWater } = this.#parts;
    await this.withKek(parent, (kek, secret) => {
      if (kek.record.level >= record.level) {
        throw new RecordRefused('the parent that the row names is not above it');
      }
      checkRecord(engine, secret, record, highWater);
    });
    await highWater.raise([record]);
    return this.withKek(parent, (kek, secret) =>
      this.#admit(
        record,
        kek,
        cache.room(() => unwrapRecord(engine, secret, record)),
        load,
      ),
    );
  }

  /** Costs a call to the provider, so the handle is kept over the write of the high-water mark. */
  async #loadRooted(record: KeyRecord, root: Root, load: Load): Promise<Kek> {
    const { engine, cache, highWater } = this.#parts;
    const handle = await this.withParentSecret(record, (secret) => {
      checkRecord(engine, secret, record, highWater);
      return cache.room(() => unwrapRecord(engine, secret, record));
    });
    try {
      await highWater.raise([record]);
    } catch (error) {
      engine.destroyKey(handle);
      throw error;
    }
    return this.#admit(record, root, handle, load);
  }

  /** Takes over `handle`, and retains the KEK for each who waits for it. */
  #admit(record: KeyRecord, parent: Root | Kek, handle: KeyHandle, load: Load): Kek {
    const { cache } = this.#parts;
    const id = toHex(record.kid);
    let kek = this.#keks.get(id);
    if (kek === undefined || kek.parent !== parent) {
      kek = new Kek(record, parent);
      this.#keks.set(id, kek);
    }
    kek.record = record;
    kek.checked = this.generation;
    cache.admitKek(kek, handle);
    for (; load.waiters > 0; load.waiters--) {
      cache.retain(kek);
    }
    return kek;
  }

  #root(name: string): Root {
    const root = this.#parts.custody.roots.get(name);
    if (root === undefined) {
      throw new DekdError('KMS_DENIED', `the record names root ${name}, which is not configured`);
    }
    return root;
  }

  async #sealingKid(tenant: string): Promise<Uint8Array> {
    const known = this.#sealing.get(tenant);
    if (known !== undefined && known.generation === this.generation) {
      return known.kid;
    }
    const name = serviceKekName(this.#parts.service);
    const { kid } = await this.#sealingVersion(name, tenant, 3, async () =>
      tenant === ''
        ? this.#parts.custody.defaultRoot
        : this.#sealingVersion(tenantKekName(tenant), tenant, 2, async () => this.#rootOf(tenant)),
    );
    this.#sealing.set(tenant, { kid, generation: this.generation });
    return kid;
  }

  #rootOf(tenant: string): Root {
    const name = this.#parts.partitionRoot(tenant) ?? '';
    const root = this.#parts.custody.roots.get(name);
    if (root === undefined) {
      throw new DekdError('INVALID_ARGUMENT', `root ${name} of partition ${tenant} is not configured`);
    }
    return root;
  }

  /** The row of the version of a KEK that wraps new keys; made when there is none at all. */
  #sealingVersion(
    name: string,
    tenant: string,
    level: 2 | 3,
    parentOf: () => Promise<Root | KeyRecord>,
  ): Promise<KeyRecord> {
    return this.#creating.run(JSON.stringify([name, tenant]), async () => {
      const { keystore } = this.#parts.custody;
      for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
        const rows = await keystore.versions(name, tenant, 'wrap');
        const active = rows.findLast((row) => canSeal(row.state));
        if (active !== undefined) {
          return active;
        }
        if (rows.length > 0) {
          throw new DekdError('KEY_DISABLED', `${name} is ${rows.at(-1)!.state}: no new key can be made under it`);
        }
        if (this.#parts.highWater.version(name, tenant, 'wrap') > 0) {
          throw new RecordRefused(
            `${name} was in this keystore and is gone: restore the keystore, or import an export of it`,
            true,
          );
        }
        const made = await this.#create(name, tenant, level, await parentOf());
        if (made !== undefined) {
          return made;
        }
      }
      throw new DekdError('CONFLICT', `${name} is being written by others`);
    });
  }

  /**
   * Makes and stores the first version of a KEK; undefined when another agent was faster. Its key is wiped again and
   * loaded from the row like any other, which proves that the row opens before a data key hangs under it.
   */
  async #create(name: string, tenant: string, level: 2 | 3, parent: Root | KeyRecord): Promise<KeyRecord | undefined> {
    const { engine, cache, custody, highWater, log } = this.#parts;
    const make = (wrap: (key: KeyHandle, draft: KeyRecord) => KeyRecord): KeyRecord => {
      const key = cache.room(() => engine.generateKey(WRAP_USE));
      try {
        return wrap(key, this.#draft(name, tenant, level, engine.kid(key)));
      } finally {
        engine.destroyKey(key);
      }
    };
    const record =
      'kid' in parent
        ? await this.withKek(parent.kid, (kek, secret) =>
            make((key, draft) =>
              wrapRecord(engine, secret, key, { ...draft, parent: { kind: 'key', kid: kek.record.kid } }),
            ),
          )
        : await this.#turns.run(() => this.#makeUnderRoot(parent, tenant, level, make));
    try {
      await custody.keystore.store(record, { absent: true });
    } catch (error) {
      if (DekdError.is(error, 'CONFLICT')) {
        return undefined;
      }
      throw error;
    }
    await highWater.raise([record]);
    log({ event: 'key-created', level: 'info', key: name, partition: tenant, version: 1, kid: toHex(record.kid) });
    return record;
  }

  async #makeUnderRoot(
    root: Root,
    tenant: string,
    level: 2 | 3,
    make: (wrap: (key: KeyHandle, draft: KeyRecord) => KeyRecord) => KeyRecord,
  ): Promise<KeyRecord> {
    const { engine, cache, service } = this.#parts;
    const secret = cache.room(() => engine.generateKey(WRAP_USE));
    try {
      const context = encodeContext(kekContext(tenant, level === 3 ? service : ''));
      const { wrapped, reference } = await root.wrap(secret, context);
      const parent: KeyParent = { kind: 'root', reference, wrappedSecret: wrapped };
      return make((key, draft) => wrapRecord(engine, secret, key, { ...draft, parent }));
    } finally {
      engine.destroyKey(secret);
    }
  }

  #draft(name: string, tenant: string, level: 2 | 3, kid: Uint8Array): KeyRecord {
    const now = this.#parts.clock.now();
    const { service, node } = this.#parts;
    return {
      kid,
      name,
      partition: tenant,
      level,
      version: 1,
      revision: 1,
      algorithm: WRAP_USE.algorithm,
      purpose: WRAP_USE.purpose,
      size: KEY_SIZE,
      state: 'active',
      owner: { tenant, service: level === 3 ? service : '', node },
      dates: { created: now, activated: now, deactivated: 0, destroyed: 0 },
      parent: { kind: 'key', kid: new Uint8Array(0) },
      wrapped: new Uint8Array(0),
      keyContext: kekContext(tenant, level === 3 ? service : ''),
      seq: 1n,
      mac: new Uint8Array(0),
    };
  }
}

/** The key context of a KEK: what a KMS sees and audits when it wraps W. */
function kekContext(tenant: string, service: string): Readonly<Record<string, string>> {
  const context = Object.create(null) as Record<string, string>;
  if (tenant !== '') {
    context.tenant = tenant;
  }
  if (service !== '') {
    context.service = service;
  }
  return Object.freeze(context);
}
