import { hex } from '../bytes.ts';
import type { Engine, KeyHandle } from '../crypto/engine.ts';
import type { Custody, Root } from '../custody/custody.ts';
import { DekdError } from '../errors.ts';
import type { SteadyClock } from './clock.ts';
import { withCurrentRow } from './current-row.ts';
import type { DekCache } from './dek-cache.ts';
import type { HighWater } from './high-water.ts';
import { KekVersions } from './kek-versions.ts';
import { type KeyringLog, refusalEvent } from './keyring-event.ts';
import { Kek, NO_SLOT } from './loaded-key.ts';
import type { Placement } from './placement.ts';
import type { KeyRecord } from './record.ts';
import { checkAuthentic, checkOpens, checkRecord, RecordRefused, unwrapRecord } from './record-check.ts';
import { RootWatch, type WatchLimits } from './root-watch.ts';
import { canOpen, denies } from './states.ts';
import { Turns } from './turns.ts';

/** How long a KEK that the provider refused to unwrap is not asked for again, and how many are remembered. */
const REFUSED_MS = 5_000;
const MAX_REFUSED = 1_024;
/** Loads under a root at once. */
const MAX_ROOT_LOADS = 16;

export interface HierarchyParts {
  readonly engine: Engine;
  readonly custody: Custody;
  readonly cache: DekCache;
  readonly highWater: HighWater;
  readonly clock: SteadyClock;
  readonly log: KeyringLog;
  readonly watch: WatchLimits;
  readonly service: string;
  readonly node: string;
  readonly placement: Placement;
}

/** The loading of one KEK, and how many wait for it. */
interface Load {
  waiters: number;
  kek: Promise<Kek> | undefined;
  /** The KEK above, while its load is waited for. */
  waitsFor: string | undefined;
}

/**
 * The KEKs between the roots and the data keys: root → service KEK → data key, and for a partition with a root of its
 * own: root → tenant KEK → service KEK of that tenant → data key. One call to a provider opens a whole tree.
 */
export class Hierarchy {
  readonly #parts: HierarchyParts;
  readonly #keks = new Map<string, Kek>();
  readonly #loads = new Map<string, Load>();
  readonly #turns: Turns;
  /** Raised by the keyring at each refresh interval. */
  generation = 0;
  /** Told when a KEK may no longer open. */
  onDenied: (kek: Kek) => void = () => undefined;
  /** Told when the keys below a KEK may open and no longer seal. */
  onSealingEnd: (kek: Kek) => void = () => undefined;
  /** Whether a key below a KEK was used in the last `ms` milliseconds. */
  isUsed: (kek: Kek, ms: number) => boolean = () => true;
  /** Which versions of KEKs there are, and how new ones are made. */
  readonly versions: KekVersions;
  /** The KEKs under providers, and how long ago each was proved. */
  readonly watch: RootWatch;
  /** Rows under roots that are not configured here, which was said already. */
  readonly #outOfReach = new Set<string>();
  readonly #followed = new WeakSet<Root>();
  /** KEKs that a provider refused to unwrap lately. */
  readonly #refused = new Map<string, { readonly until: number; readonly error: unknown }>();

  constructor(parts: HierarchyParts) {
    this.#parts = parts;
    // Each load under a root has up to three slots that cannot be taken; they must never be most of the table.
    this.#turns = new Turns(Math.max(1, Math.min(MAX_ROOT_LOADS, Math.floor(parts.engine.stats().capacity / 8))));
    this.versions = new KekVersions({
      ...parts,
      turns: this.#turns,
      generation: () => this.generation,
      withKek: (kid, work) => this.withKek(kid, work),
    });
    this.watch = new RootWatch({
      limits: parts.watch,
      elapsedMs: () => parts.clock.elapsedMs(),
      log: parts.log,
      prove: (kek) => this.#prove(kek),
      isUsed: (kek, ms) => this.isUsed(kek, ms),
      stopSealing: (kek) => this.onSealingEnd(kek),
      stop: (kek) => this.#stop(kek),
    });
    this.followRoots();
  }

  /** Hears of the return of every root there is; again after some came or went: what was out of reach may not be any more. */
  followRoots(): void {
    this.#refused.clear();
    this.#outOfReach.clear();
    for (const root of this.#parts.custody.roots.values()) {
      if (!this.#followed.has(root)) {
        this.#followed.add(root);
        root.onReturn(() => this.watch.returned(root));
      }
    }
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

  /**
   * Runs `work` with the KEK under which new data keys of `partition` are made; it is created when there is none.
   * @param root name of the root that was chosen, if one was
   */
  async withSealingKek<T>(
    partition: string,
    key: string,
    work: (kek: Kek, handle: KeyHandle) => T,
    root?: string,
  ): Promise<T> {
    return this.withKek(await this.versions.sealingKid(partition, key, root), work);
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
    const secret = await cache.roomAsync(() => root.unwrap(parent.wrappedSecret, parent.reference, record.keyContext));
    try {
      return work(secret);
    } finally {
      engine.destroyKey(secret);
    }
  }

  /** Opens `record` under the parent that it names, and keeps nothing of it. @throws RecordRefused and more. */
  prove(record: KeyRecord): Promise<void> {
    const { engine, cache, highWater } = this.#parts;
    return this.withParentSecret(record, (secret) => {
      checkRecord(engine, secret, record, highWater);
      checkOpens(engine, cache, secret, record);
    });
  }

  /** The KEK of this kid when it is in the table. */
  loaded(kid: Uint8Array): Kek | undefined {
    const kek = this.#keks.get(hex(kid));
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
    if (row === undefined) {
      return;
    }
    if (denies(row.state, kek.record.state) && !canOpen(row.state)) {
      this.deny(kek, row);
    } else if (isNewer(row, kek.record)) {
      await this.#follow(row).catch((error: unknown) => {
        const { name, partition, version } = row;
        this.#parts.log({ event: 'refresh-failed', level: 'warn', key: name, partition, version, kid: kek.id, error });
      });
    }
  }

  /** Compares the KEKs of `rows` with their rows now, and looks anew for those that wrap. */
  async reread(rows: readonly KeyRecord[]): Promise<void> {
    this.versions.forget();
    for (const { kid } of rows) {
      const kek = this.#keks.get(hex(kid));
      if (kek !== undefined) {
        kek.checked = -1;
        await this.recheck(kek);
      }
    }
  }

  /** Takes over a row of a KEK that is authentic, when the KEK is in the table. */
  take(row: KeyRecord): void {
    const kek = this.#keks.get(hex(row.kid));
    if (kek === undefined || kek.slot === NO_SLOT || !isNewer(row, kek.record)) {
      return;
    }
    const { parent } = row;
    const above =
      parent.kind === 'root' ? this.#parts.custody.roots.get(parent.reference.root) : this.loaded(parent.kid);
    if (above === undefined) {
      return;
    }
    kek.record = row;
    if (kek.parent === above) {
      return;
    }
    this.#parts.cache.moveKek(kek, above);
    if (above instanceof Kek || !above.remote) {
      this.watch.forget(kek);
    } else {
      this.watch.proved(kek);
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
    this.versions.forget();
  }

  /** Takes every KEK, or those of one root, and all below, out of the table; each is loaded again when it is next needed. */
  dropAll(root?: string): void {
    for (const kek of [...this.#keks.values()]) {
      const { parent } = kek;
      if (!(parent instanceof Kek) && (root === undefined || parent.name === root)) {
        this.#stop(kek);
      }
    }
  }

  /** Forgets which KEK seals, after rows were imported. */
  forgetSealing(): void {
    this.versions.forget();
  }

  /** Wipes every KEK. */
  async close(): Promise<void> {
    this.watch.close();
    await Promise.allSettled([...this.#loads.values()].map(({ kek }) => kek));
    await this.versions.settle();
    for (const kek of this.#keks.values()) {
      this.#parts.cache.dropKek(kek);
    }
    this.#keks.clear();
  }

  /** Stops `kek` and everything below it. */
  #stop(kek: Kek): void {
    this.#keks.delete(kek.id);
    this.watch.forget(kek);
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
    const id = hex(kid);
    const known = this.#keks.get(id);
    if (known !== undefined && known.slot !== NO_SLOT) {
      this.#parts.cache.retain(known);
      return known;
    }
    this.#checkRefused(id);
    let load = this.#loads.get(id);
    if (load === undefined) {
      load = { waiters: 0, kek: undefined, waitsFor: undefined };
      load.kek = this.#load(kid, load)
        .catch((error: unknown) => {
          this.#rememberRefusal(id, error);
          throw error;
        })
        .finally(() => this.#loads.delete(id));
      this.#loads.set(id, load);
    }
    load.waiters++;
    return load.kek!;
  }

  /** What a provider refused a moment ago it refuses now, without being asked for every caller. */
  #checkRefused(id: string): void {
    const refusal = this.#refused.get(id);
    if (refusal !== undefined) {
      if (this.#parts.clock.elapsedMs() < refusal.until) {
        throw refusal.error;
      }
      this.#refused.delete(id);
    }
  }

  #rememberRefusal(id: string, error: unknown): void {
    if (DekdError.is(error, 'KMS_DENIED')) {
      this.#refused.set(id, { until: this.#parts.clock.elapsedMs() + REFUSED_MS, error });
      const [oldest] = this.#refused.keys();
      if (this.#refused.size > MAX_REFUSED) {
        this.#refused.delete(oldest!);
      }
    }
  }

  async #load(kid: Uint8Array, load: Load): Promise<Kek> {
    const record = await this.#parts.custody.keystore.retrieve(kid);
    if (record === undefined) {
      throw new RecordRefused(`its parent ${hex(kid)} is not in the keystore`);
    }
    try {
      return await withCurrentRow(this.#parts.custody.keystore, record, (row) => this.#loadRecord(row, load));
    } catch (error) {
      if (error instanceof RecordRefused) {
        this.#parts.log(refusalEvent(record, error));
      }
      throw error;
    }
  }

  /** Checks and unwraps the row of a KEK. @throws what `withKek` does. */
  async #loadRecord(record: KeyRecord, load: Load): Promise<Kek> {
    const { parent } = record;
    if (record.level === 4 || record.purpose !== 'wrap') {
      throw new RecordRefused('the parent that the row names is no key that wraps keys');
    }
    if (!canOpen(record.state)) {
      throw new DekdError('KEY_DISABLED', `${record.name} version ${record.version} is ${record.state}`);
    }
    return parent.kind === 'key'
      ? this.#loadDerived(record, parent.kid, load)
      : this.#turns.run(() => this.#loadRooted(record, this.#root(parent.reference.root), load));
  }

  async #loadDerived(record: KeyRecord, parent: Uint8Array, load: Load): Promise<Kek> {
    const { engine, cache, highWater } = this.#parts;
    this.#waitFor(hex(parent), load);
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

  /** Rows may name each other as parents: loads that wait in a circle would wait for ever. @throws RecordRefused */
  #waitFor(parent: string, load: Load): void {
    for (let above = this.#loads.get(parent); above !== undefined; above = this.#loads.get(above.waitsFor ?? '')) {
      if (above === load) {
        throw new RecordRefused('the row hangs under itself');
      }
    }
    load.waitsFor = parent;
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
    const id = hex(record.kid);
    let kek = this.#keks.get(id);
    if (kek === undefined || kek.parent !== parent) {
      kek = new Kek(record, parent);
      this.#keks.set(id, kek);
    }
    kek.record = record;
    kek.checked = this.generation;
    cache.admitKek(kek, handle);
    if (!(parent instanceof Kek) && parent.remote) {
      this.watch.proved(kek);
    }
    for (; load.waiters > 0; load.waiters--) {
      cache.retain(kek);
    }
    return kek;
  }

  /**
   * Unwraps the secret of a KEK again, as its row says now: the secret may have been moved to another root. A row that is
   * refused, or that names a root which is not configured here, proves nothing; then the one that was loaded is proved.
   */
  async #prove(kek: Kek): Promise<void> {
    const row = await this.#parts.custody.keystore.retrieve(kek.record.kid).catch(() => undefined);
    if (row?.parent.kind === 'root' && isNewer(row, kek.record)) {
      const isProved = await this.#follow(row).catch((error: unknown) => {
        // The provider has answered: a disk that takes no high-water mark keeps the row from being taken over, and is no silence.
        if (DekdError.is(error, 'KEYSTORE_UNAVAILABLE')) {
          return true;
        }
        throw error;
      });
      if (isProved) {
        return;
      }
    }
    const { engine } = this.#parts;
    const { record } = kek;
    await this.withParentSecret(record, (secret) => checkAuthentic(engine, secret, record));
  }

  /**
   * Takes over a newer row of a KEK: it may have been wrapped anew under another root or KEK. The key in the table is the same
   * and stays. @returns false when the row is refused, or names a root that is not configured here; then the KEK goes on as it
   * was. @throws what the parent's provider does.
   */
  async #follow(row: KeyRecord): Promise<boolean> {
    const { engine, custody, highWater } = this.#parts;
    const { parent } = row;
    if (parent.kind === 'root' && !custody.roots.has(parent.reference.root)) {
      this.#reportOutOfReach(row);
      return false;
    }
    try {
      await this.withParentSecret(row, (secret) => checkRecord(engine, secret, row, highWater));
      await highWater.raise([row]);
    } catch (error) {
      if (error instanceof RecordRefused) {
        this.#parts.log(refusalEvent(row, error));
        return false;
      }
      throw error;
    }
    this.take(row);
    return true;
  }

  /** Said once for each row: the row stays as it is for as long as the configuration does. */
  #reportOutOfReach({ kid, seq, name, partition, version, parent }: KeyRecord): void {
    const id = `${hex(kid)} ${seq}`;
    if (parent.kind === 'root' && !this.#outOfReach.has(id)) {
      this.#outOfReach.add(id);
      this.#parts.log({
        event: 'moved-out-of-reach',
        level: 'warn',
        key: name,
        partition,
        version,
        kid: hex(kid),
        reason:
          `it is under root ${parent.reference.root} now, which is not configured here: it goes on while it is loaded, and ` +
          'cannot be loaded again',
      });
    }
  }

  #root(name: string): Root {
    const root = this.#parts.custody.roots.get(name);
    if (root === undefined) {
      throw new DekdError('KMS_DENIED', `the record names root ${name}, which is not configured`);
    }
    return root;
  }
}

/** Whether `row` was written after `known`: a state, or another wrapping of the same key. */
function isNewer(row: KeyRecord, known: KeyRecord): boolean {
  return row.seq > known.seq || (row.seq === known.seq && row.revision > known.revision);
}
