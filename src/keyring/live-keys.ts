import { hex } from '../bytes.ts';
import type { Engine } from '../crypto/engine.ts';
import { DekdError } from '../errors.ts';
import type { Keystore } from '../keystores/keystore.ts';
import { isRollback, withCurrentRow } from './current-row.ts';
import type { DekCache } from './dek-cache.ts';
import { Flights } from './flights.ts';
import { type Freeze, type Freezes, matches } from './freezes.ts';
import type { Hierarchy } from './hierarchy.ts';
import type { HighWater } from './high-water.ts';
import type { KeyDefinitions } from './key-definition.ts';
import type { KeyIndex } from './key-index.ts';
import { checkKeyName, checkPartition } from './key-name.ts';
import type { KeyVersions } from './key-versions.ts';
import type { ChosenRoot, CreateRequest, DataKey, DataPurpose, Share } from './keyring.ts';
import { type KeyringLog, refusalEvent } from './keyring-event.ts';
import { isDataPurpose, type Kek, type KeyFamily, LoadedKey, NO_SLOT } from './loaded-key.ts';
import type { MissLimit } from './miss-limit.ts';
import type { KeyRecord, KeyState } from './record.ts';
import { checkRecord, RecordRefused, unwrapRecord } from './record-check.ts';
import { lineOf, mayBeMade, OWN_LINE } from './root-line.ts';
import type { UsageLedger } from './rotation.ts';
import { canOpen, denies } from './states.ts';
import { Turns } from './turns.ts';

/** Families compared with the keystore before the event loop gets a turn. */
const REFRESH_SLICE = 16;
const MAX_ATTEMPTS = 8;
/** Keys that are loaded at once. */
const MAX_LOADS = 64;

/** What a caller wants to seal with. */
interface SealingRequest extends CreateRequest {
  readonly purpose: DataPurpose;
  /** Name of the root that the version must hang under; empty leaves it to routes and the default root. */
  readonly root: ChosenRoot;
}

/** What names a family. */
interface FamilyRequest extends CreateRequest {
  readonly purpose: DataPurpose;
  readonly line: string;
}

/** The version that seals for a line, and the rows of that line. */
interface Active {
  readonly request: FamilyRequest;
  readonly rows: readonly KeyRecord[];
  readonly key: LoadedKey;
}

export interface LiveKeyParts {
  readonly engine: Engine;
  readonly keystore: Keystore;
  readonly cache: DekCache;
  readonly index: KeyIndex;
  readonly hierarchy: Hierarchy;
  readonly highWater: HighWater;
  readonly definitions: KeyDefinitions;
  readonly ledger: UsageLedger;
  readonly versions: KeyVersions;
  readonly misses: MissLimit;
  readonly freezes: Freezes;
  /** Milliseconds between two generations. */
  readonly refreshMs: number;
  readonly log: KeyringLog;
}

/**
 * The data keys that are known, kept in step with the keystore.
 *
 * Time is counted in generations, one for each refresh interval. A key whose row was last read in this generation is
 * served; one generation older it is served while its row is read again in the background; older than that, the caller
 * waits for the row. So a change made by another agent is seen within two intervals of use, however long a key was idle,
 * and the hot path compares two integers. A keystore that does not answer changes nothing: silence is not a refusal.
 */
export class LiveKeys {
  readonly #parts: LiveKeyParts;
  readonly #sealing = new Flights<LoadedKey | undefined>();
  readonly #creating = new Flights<void>();
  readonly #opening = new Flights<LoadedKey | undefined>();
  readonly #turns: Turns;
  readonly #stale = new Set<KeyFamily>();
  #refreshing: Promise<void> | undefined;
  #generation = 0;
  #closed = false;

  constructor(parts: LiveKeyParts) {
    this.#parts = parts;
    // A load takes up to three slots. Were all loads to run at once, they would evict each other's keys before whoever
    // waits for them has used them.
    this.#turns = new Turns(Math.max(1, Math.min(MAX_LOADS, Math.floor(parts.engine.stats().capacity / 8))));
    parts.hierarchy.onDenied = (kek) => this.#stopBelow(kek);
    parts.hierarchy.onSealingEnd = (kek) => this.#stopSealingBelow(kek);
    parts.hierarchy.isUsed = (kek, ms) => this.#isUsedBelow(kek, ms);
  }

  // ── the hot path ────────────────────────────────────────────────────────────────────────────────────────────────

  sealing(purpose: DataPurpose, name: string, partition: string, root: ChosenRoot): LoadedKey | undefined {
    const { index } = this.#parts;
    const key =
      root !== ''
        ? this.#activeUnder(root, purpose, name, partition)
        : (purpose === 'seal' ? index.family(name, partition) : index.familyOf(purpose, name, partition, OWN_LINE))
            ?.active;
    return key?.sealable === true && this.#isCurrent(key) ? key : undefined;
  }

  /**
   * The known version that seals under a root: that of callers who name none, when it hangs there, so that one version seals
   * under each root; else that of the root's own line, unless it was moved away from it.
   */
  #activeUnder(root: string, purpose: DataPurpose, name: string, partition: string): LoadedKey | undefined {
    const { index } = this.#parts;
    const own = index.familyOf(purpose, name, partition, OWN_LINE)?.active;
    if (own?.rootName === root) {
      return own;
    }
    const chosen = index.familyOf(purpose, name, partition, root)?.active;
    return chosen?.rootName === root ? chosen : undefined;
  }

  opening(bytes: Uint8Array, offset: number): LoadedKey | undefined {
    const key = this.#parts.index.find(bytes, offset);
    return key !== undefined && this.#isCurrent(key) ? key : undefined;
  }

  /** Whether the key can be answered for now: its row is fresh enough, and its handle can be had synchronously. */
  #isCurrent(key: LoadedKey): boolean {
    const age = this.#generation - key.checked;
    if (age > 0) {
      if (age > 1) {
        return false;
      }
      this.#refreshSoon(key.family);
    }
    if (key.slot !== NO_SLOT) {
      return true;
    }
    // A version that must not be used needs no handle; one whose KEK was merely displaced has to be loaded.
    return key.usable ? key.parent!.slot !== NO_SLOT : !canOpen(key.state);
  }

  // ── loading ─────────────────────────────────────────────────────────────────────────────────────────────────────

  async prepareSealing(
    name: string,
    partition: string,
    share: Share,
    create: (() => void) | undefined,
    purpose: DataPurpose,
    root: ChosenRoot,
  ): Promise<DataKey> {
    checkKeyName(name);
    checkPartition(partition);
    this.#checkNotDirect(name, purpose);
    this.#parts.freezes.check(name, partition);
    const request: SealingRequest = { name, partition, purpose, root };
    const id = JSON.stringify([name, partition, purpose, root]);
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      this.#checkOpen();
      const ready = this.sealing(purpose, name, partition, root);
      if (ready !== undefined) {
        return ready;
      }
      const key = await this.#sealing.run(id, () => this.#turns.run(() => this.#readySealing(request, share)));
      if (key !== undefined) {
        return key;
      }
      if (create === undefined) {
        throw new DekdError('KEY_NOT_FOUND', `no key ${name}`);
      }
      create();
      await this.#creating.run(id, () => this.#makeFirst(request));
    }
    throw new DekdError('CONFLICT', `key ${name} is being changed by others`);
  }

  async prepareOpening(kid: Uint8Array, share: Share): Promise<DataKey | undefined> {
    this.#checkOpen();
    const ready = this.opening(kid, 0);
    if (ready !== undefined) {
      return ready;
    }
    return this.#opening.run(hex(kid), () => this.#turns.run(() => this.#readyOpening(kid.slice(), share)));
  }

  /**
   * Takes over what the rows of a name say, after they were written; nothing happens for a name that is not in use. The
   * write is done whatever comes of this: what fails here is logged, and met again when the key is next used.
   */
  async reread({ name, partition, purpose }: CreateRequest): Promise<void> {
    const families = isDataPurpose(purpose) ? this.#parts.index.families(purpose, name, partition) : [];
    for (const family of families) {
      await this.#refreshFamily(family);
    }
  }

  /**
   * Honours at once that versions were stopped by a write of this agent: it knows, whether or not it can read its own write again.
   * One that only seals no more may go on until the version that takes its place is loaded.
   */
  stopped(records: readonly KeyRecord[]): void {
    for (const { kid, state } of records) {
      const key = this.#parts.index.find(kid, 0);
      if (key !== undefined && state !== 'deactivated' && denies(state, key.state)) {
        this.#setState(key, state);
      }
    }
  }

  /** Stops every key that is frozen now. */
  stopFrozen(): void {
    const { index, freezes } = this.#parts;
    for (const key of index.keys()) {
      if (freezes.covers(key.name, key.partition)) {
        this.#halt(key);
      }
    }
  }

  /** Forgets what was read of keys while they were frozen: their rows were not checked then. */
  forgetFrozen(freeze: Freeze): void {
    const { index, cache, ledger } = this.#parts;
    for (const key of [...index.keys()]) {
      if (matches(freeze, key.name, key.partition)) {
        ledger.remember(key);
        cache.discard(key);
        index.remove(key);
      }
    }
  }

  /** Loads the version of a key that seals tokens, which then stays loaded. @throws what `prepareSealing` throws */
  async prewarm(name: string, partition: string): Promise<void> {
    const { family } = (await this.prepareSealing(name, partition, '', undefined, 'seal', '')) as LoadedKey;
    family.isPrewarmed = true;
  }

  /** Forgets keys whose rows were replaced; they are loaded again when they are next used. */
  forget(kid: Uint8Array): void {
    const key = this.#parts.index.find(kid, 0);
    if (key !== undefined) {
      this.#parts.cache.discard(key);
      this.#parts.index.remove(key);
    }
  }

  /** Begins the next generation. */
  nextGeneration(): void {
    this.#generation++;
    const { hierarchy, index, ledger } = this.#parts;
    hierarchy.generation = this.#generation;
    for (const key of index.keys()) {
      if (key.sealable && ledger.isDue(key)) {
        key.sealable = false;
      }
    }
  }

  /** Stops refreshing, waits for what is in progress, wipes every data key. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#stale.clear();
    await Promise.allSettled([
      this.#refreshing,
      this.#sealing.settle(),
      this.#creating.settle(),
      this.#opening.settle(),
    ]);
    for (const key of [...this.#parts.index.keys()]) {
      key.usable = false;
      key.sealable = false;
      this.#parts.cache.discard(key);
      this.#parts.index.remove(key);
    }
  }

  async #readySealing(wanted: SealingRequest, share: Share): Promise<LoadedKey | undefined> {
    const { index, ledger } = this.#parts;
    const { name, partition, purpose, root } = wanted;
    try {
      const found = await this.#activeToSeal(wanted, share);
      if (found === undefined) {
        return undefined;
      }
      const { request, rows } = found;
      let { key } = found;
      if (ledger.isDue(key) && (await this.#rotateDue(request, key.version))) {
        key = this.#activeOf(request, rows);
        await this.#attach(key);
      }
      await this.#parts.hierarchy.watch.ensureSealing(key.parent!.anchor);
      await ledger.cover(key);
      key.sealable = key.usable && key.state === 'active';
      return key;
    } catch (error) {
      const warm =
        root === ''
          ? index.familyOf(purpose, name, partition, OWN_LINE)?.active
          : this.#activeUnder(root, purpose, name, partition);
      if (isOutage(error) && warm?.usable === true && this.#isWarm(warm)) {
        this.#parts.log({ event: 'refresh-failed', level: 'warn', key: name, partition, error });
        warm.checked = this.#generation;
        warm.sealable = true;
        return warm;
      }
      throw this.#notUsable(error);
    }
  }

  /** The version that seals what is wanted, loaded; undefined when the key has no rows at all. */
  async #activeToSeal(wanted: SealingRequest, share: Share): Promise<Active | undefined> {
    const { versions, hierarchy } = this.#parts;
    const { name, root } = wanted;
    let ownLine = true;
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const found = await this.#rowsToSeal(wanted, ownLine);
      if (found === undefined) {
        return undefined;
      }
      const { request, rows } = found;
      await this.#absorb(rows, share);
      const key = this.#activeOf(request, rows);
      await this.#attach(key);
      if (root === '' || key.rootName === root) {
        return { ...found, key };
      }
      // Another agent may have moved the KEK under which it hangs: there, or away.
      await hierarchy.reread([key.parent!.anchor.record]);
      if (key.rootName === root) {
        return { ...found, key };
      }
      if (request.line === OWN_LINE) {
        ownLine = false;
      } else {
        await versions.rotate(request, { due: key.version, line: request.line });
      }
    }
    throw new DekdError('CONFLICT', `key ${name} is being moved away from root ${root}`);
  }

  /**
   * The rows, of one line, of which the newest active one seals what is wanted; undefined when the key has no rows at all. A
   * line that has no active version gets one, where that is no decision of the operator's.
   * @param ownLine whether that of callers who name no root may be it for one who names theirs
   */
  async #rowsToSeal(wanted: SealingRequest, ownLine: boolean): Promise<Omit<Active, 'key'> | undefined> {
    const { versions } = this.#parts;
    const { name, partition, purpose, root } = wanted;
    const all = await versions.rows(wanted);
    if (all.length === 0) {
      return undefined;
    }
    const line = ownLine ? await this.#lineFor(wanted, all) : root;
    const request: FamilyRequest = { name, partition, purpose, line };
    const rows = all.filter((row) => lineOf(row) === line);
    const hasActive = rows.some(({ state }) => state === 'active');
    // Of callers who name no root: a key that the operator stopped stays so until he rotates it.
    if (hasActive || (root === '' && rows.length > 0) || !mayBeMade(all, line)) {
      return { request, rows: rows.length > 0 ? rows : all };
    }
    const made = await versions.rotate(request, { line });
    return { request, rows: [...rows.filter(({ version }) => version !== made.version), made] };
  }

  /** The line whose version seals what is wanted. */
  async #lineFor(wanted: SealingRequest, rows: readonly KeyRecord[]): Promise<string> {
    const { versions } = this.#parts.hierarchy;
    const { name, partition, root } = wanted;
    if (root === '') {
      return OWN_LINE;
    }
    const own = rows.findLast((row) => row.state === 'active' && lineOf(row) === OWN_LINE);
    if (own !== undefined) {
      return (await versions.rootNameOf(own)) === root ? OWN_LINE : root;
    }
    return versions.rootOf(partition, name).name === root ? OWN_LINE : root;
  }

  /** Whether a key that cannot be read again may go on sealing: its handle can be had, and its root has not been silent for too long. */
  #isWarm({ slot, parent }: LoadedKey): boolean {
    return (
      parent !== undefined &&
      (slot !== NO_SLOT || parent.slot !== NO_SLOT) &&
      this.#parts.hierarchy.watch.maySeal(parent.anchor)
    );
  }

  async #makeFirst(request: SealingRequest): Promise<void> {
    const { root } = request;
    try {
      const line = root === '' ? OWN_LINE : await this.#lineFor(request, []);
      await this.#parts.versions.first(request, undefined, line);
    } catch (error) {
      throw this.#notUsable(error);
    }
  }

  /** Whether the key was rotated. A key that is due goes on sealing while rotation fails. */
  async #rotateDue(request: FamilyRequest, due: number): Promise<boolean> {
    try {
      await this.#parts.versions.rotate(request, { due, line: request.line });
      await this.reread(request);
      return true;
    } catch (error) {
      this.#parts.log({
        event: 'rotation-failed',
        level: 'warn',
        key: request.name,
        partition: request.partition,
        error,
      });
      return false;
    }
  }

  async #readyOpening(kid: Uint8Array, share: Share): Promise<LoadedKey | undefined> {
    const { index, keystore, misses } = this.#parts;
    try {
      let key = index.find(kid, 0);
      if (key === undefined) {
        const row = await misses.find(hex(kid), share, () => keystore.retrieve(kid));
        if (row === undefined || row.level !== 4 || !isDataPurpose(row.purpose)) {
          return undefined;
        }
        key = index.find(kid, 0) ?? (await this.#loadCurrent(row, share));
      } else if (this.#generation - key.checked > 1) {
        await this.#refreshFamily(key.family);
      }
      if (canOpen(key.state) && !this.#parts.freezes.covers(key.name, key.partition)) {
        await this.#attach(key);
      }
      return key;
    } catch (error) {
      if (error instanceof RecordRefused || DekdError.is(error, 'DECRYPTION_FAILED')) {
        return undefined;
      }
      if (DekdError.is(error, 'KEY_DISABLED')) {
        // A KEK above it is denied: the caller says so to those who may know, and to nobody else.
        return index.find(kid, 0);
      }
      throw error;
    }
  }

  /**
   * Takes over rows of one name: known versions are brought up to date, and the newest that is active and authentic is
   * loaded. A row that is refused keeps none beside it from being used, nor from being stopped.
   */
  async #absorb(rows: readonly KeyRecord[], share: Share): Promise<void> {
    const { index } = this.#parts;
    const failures: unknown[] = [];
    let seals = false;
    // Newest first: when the sealing version changes, the new one is known before the old one stops.
    for (const row of rows.toReversed()) {
      try {
        let known = index.find(row.kid, 0);
        if (known !== undefined && isMisnamed(known, row)) {
          this.forget(row.kid);
          known = undefined;
        }
        if (known !== undefined) {
          await this.#apply(known, row);
        } else if (row.state === 'active' && !seals) {
          await this.#loadCurrent(row, share);
        }
        seals ||= row.state === 'active';
      } catch (error) {
        failures.push(error);
      }
    }
    const failure = failures.find((error) => !seals || !isOfOneRow(error));
    if (failure !== undefined) {
      throw failure;
    }
  }

  #loadCurrent(row: KeyRecord, share: Share): Promise<LoadedKey> {
    return withCurrentRow(this.#parts.keystore, row, (current) => this.#load(current, share));
  }

  /** Checks a row that is not known, and loads its key when its state allows use. */
  async #load(row: KeyRecord, share: Share): Promise<LoadedKey> {
    const { engine, cache, index, hierarchy, highWater, ledger } = this.#parts;
    const { purpose } = row;
    if (!isDataPurpose(purpose)) {
      const refusal = new RecordRefused(`a key for ${purpose} neither seals nor opens`);
      this.#report(row, refusal);
      throw refusal;
    }
    const family = (): KeyFamily => index.ensureFamily(purpose, row.name, row.partition, lineOf(row));
    if (!canOpen(row.state) || row.parent.kind !== 'key' || this.#parts.freezes.covers(row.name, row.partition)) {
      // Towards denial a row is believed whatever its MAC.
      return this.#addDenied(row, family(), share);
    }
    try {
      await hierarchy.withKek(row.parent.kid, (_kek, secret) => checkRecord(engine, secret, row, highWater));
      await highWater.raise([row]);
      // Unwrapped and admitted in one stretch: a handle that waits would be a slot that nobody can take.
      return await hierarchy.withKek(row.parent.kid, (kek, secret) => {
        const other = index.find(row.kid, 0);
        if (other !== undefined) {
          return other;
        }
        if (this.#parts.freezes.covers(row.name, row.partition)) {
          return this.#addDenied(row, family(), share);
        }
        const handle = cache.room(() => unwrapRecord(engine, secret, row));
        const key = new LoadedKey(row, family(), kek, share, cache, ledger);
        ledger.resume(key);
        key.checked = this.#generation;
        index.add(key);
        cache.admit(key, handle);
        this.#setActive(key);
        return key;
      });
    } catch (error) {
      this.#report(row, error);
      throw error;
    }
  }

  /** Adds a version that must not be used, so that who asks for it hears so. */
  #addDenied(row: KeyRecord, family: KeyFamily, share: Share): LoadedKey {
    const { cache, index, ledger } = this.#parts;
    const denied = new LoadedKey(row, family, undefined, share, cache, ledger);
    denied.checked = this.#generation;
    index.add(denied);
    cache.drop(denied);
    return denied;
  }

  /** Brings a known key up to date with its row. Nothing that is not authentic is taken over but a denial. */
  async #apply(key: LoadedKey, row: KeyRecord): Promise<void> {
    const { engine, hierarchy, highWater, log } = this.#parts;
    // Wrapped under another KEK since: what became of the one before is of no matter to it.
    const { parent } = row;
    const isMoved = parent.kind === 'key' && hex(parent.kid) !== key.parent?.id && row.seq > key.record.seq;
    if (key.parent !== undefined && !isMoved) {
      await hierarchy.recheck(key.parent);
    }
    if (row.seq === key.record.seq && row.state === key.state) {
      key.checked = this.#generation;
      return;
    }
    const isDenial = denies(row.state, key.state);
    try {
      await hierarchy.withParentSecret(row, (secret) => checkRecord(engine, secret, row, highWater));
      if (row.seq < key.record.seq) {
        throw new RecordRefused(`the row is at seq ${row.seq}, and seq ${key.record.seq} is in use`, true);
      }
      if (isDenial) {
        this.#setState(key, row.state);
      }
      await highWater.raise([row]);
      if (row.parent.kind === 'key' && hex(row.parent.kid) !== key.parent?.id) {
        await hierarchy.withKek(row.parent.kid, (kek) => {
          if (row.seq >= key.record.seq) {
            // In one stretch with its parent: wrapped bytes open under that alone.
            key.record = row;
            this.#parts.cache.moveKey(key, kek);
          }
        });
      }
      if (row.seq >= key.record.seq) {
        key.record = row;
        this.#setState(key, row.state);
      }
    } catch (error) {
      const now = isRollback(error) ? await this.#parts.keystore.retrieve(row.kid) : undefined;
      if (now !== undefined && now.seq > row.seq) {
        // Written since it was read.
        return this.#apply(key, now);
      }
      if (isDenial) {
        if (!canOpen(row.state) || error instanceof RecordRefused) {
          this.#setState(key, row.state);
          log({
            event: 'unauthenticated-denial',
            level: 'warn',
            key: key.name,
            version: key.version,
            kid: hex(key.kid),
            reason: `the row says ${row.state}, and is not authentic`,
          });
        }
      } else {
        this.#report(row, error);
      }
      if (!(error instanceof RecordRefused)) {
        throw error;
      }
    }
    key.checked = this.#generation;
  }

  #setState(key: LoadedKey, state: KeyState): void {
    key.state = state;
    key.usable = key.parent !== undefined && this.#mayOpen(key);
    if (!key.usable) {
      this.#parts.cache.drop(key);
    }
    if (state === 'active') {
      this.#setActive(key);
    } else {
      key.sealable = false;
      if (key.family.active === key) {
        key.family.active = undefined;
      }
    }
  }

  /** By its state, and by what is frozen now: a row that changes during a freeze, or a load that it overtook, ends none. */
  #mayOpen({ state, name, partition }: LoadedKey): boolean {
    return canOpen(state) && !this.#parts.freezes.covers(name, partition);
  }

  /** The highest active version seals, should a keystore ever show two. */
  #setActive(key: LoadedKey): void {
    const { family } = key;
    if (key.state === 'active' && (family.active === undefined || family.active.version < key.version)) {
      family.active = key;
    }
  }

  /** Makes sure that the key's handle can be had synchronously: its KEK is in the table, and the key with it. */
  async #attach(key: LoadedKey): Promise<void> {
    let isAttached = false;
    while (!isAttached && canOpen(key.state) && !(key.usable && key.slot !== NO_SLOT)) {
      const { record } = key;
      if (record.parent.kind !== 'key') {
        throw new RecordRefused('a data key hangs under a key that wraps keys');
      }
      isAttached = await this.#parts.hierarchy.withKek(record.parent.kid, (kek) => {
        if (key.record !== record) {
          // Wrapped under another KEK meanwhile.
          return false;
        }
        if (key.slot === NO_SLOT) {
          key.parent = kek;
        }
        key.usable = this.#mayOpen(key);
        key.handle();
        return true;
      });
    }
  }

  #activeOf({ name, partition, purpose, line }: FamilyRequest, rows: readonly KeyRecord[]): LoadedKey {
    const active = this.#parts.index.familyOf(purpose, name, partition, line)?.active;
    if (active !== undefined) {
      return active;
    }
    const newest = rows.at(-1)!;
    throw new DekdError(
      'KEY_DISABLED',
      newest.state === 'suspended'
        ? `key ${name} is disabled`
        : `key ${name} has no active version (version ${newest.version} is ${newest.state}): ${
            purpose === 'index' ? 'make the index anew under another name' : 'rotate it to make one'
          }`,
    );
  }

  // ── keeping in step ─────────────────────────────────────────────────────────────────────────────────────────────

  #refreshSoon(family: KeyFamily): void {
    if (this.#closed || this.#stale.has(family)) {
      return;
    }
    this.#stale.add(family);
    this.#refreshing ??= this.#refresh();
  }

  async #refresh(): Promise<void> {
    let inSlice = 0;
    for (;;) {
      if (inSlice % REFRESH_SLICE === 0) {
        // Embedded keystores answer without leaving the thread; the callers come first.
        await new Promise<void>((resolve) => setImmediate(resolve));
      }
      inSlice++;
      const [family] = this.#stale;
      if (family === undefined) {
        this.#refreshing = undefined;
        return;
      }
      try {
        await this.#refreshFamily(family);
      } finally {
        this.#stale.delete(family);
      }
    }
  }

  /** Reads the rows of a family again. When the keystore does not answer, what is known goes on. */
  async #refreshFamily(family: KeyFamily): Promise<void> {
    const { keystore, log } = this.#parts;
    const keys = [...family.keys.values()];
    try {
      const all = await keystore.versions(family.name, family.partition, family.purpose);
      const rows = all.filter((row) => lineOf(row) === family.line);
      const seals = family.active !== undefined;
      const share = family.active?.share ?? keys[0]?.share ?? '';
      await this.#absorb(seals ? rows : rows.filter((row) => family.keys.has(row.version)), share);
      for (const key of keys) {
        if (key.checked !== this.#generation && !rows.some((row) => row.version === key.version)) {
          log({ event: 'record-missing', level: 'error', key: key.name, version: key.version, kid: hex(key.kid) });
        }
      }
    } catch (error) {
      if (!(error instanceof RecordRefused)) {
        log({ event: 'refresh-failed', level: 'warn', key: family.name, partition: family.partition, error });
      }
    } finally {
      for (const key of keys) {
        key.checked = this.#generation;
      }
    }
  }

  #stopBelow(kek: Kek): void {
    for (const key of this.#parts.index.keys()) {
      if (key.parent === kek) {
        this.#halt(key);
      }
    }
  }

  #stopSealingBelow(kek: Kek): void {
    for (const key of this.#parts.index.keys()) {
      if (key.parent?.anchor === kek) {
        key.sealable = false;
      }
    }
  }

  /** A key that is used has its row compared once a generation, so that says when it was used last. */
  #isUsedBelow(kek: Kek, ms: number): boolean {
    const since = this.#generation - Math.ceil(ms / this.#parts.refreshMs);
    for (const key of this.#parts.index.keys()) {
      if (key.parent?.anchor === kek && (key.family.isPrewarmed || key.checked >= since)) {
        return true;
      }
    }
    return false;
  }

  /** Out of use and out of the table, whatever its state; it is loaded again if it may be. */
  #halt(key: LoadedKey): void {
    key.usable = false;
    key.sealable = false;
    this.#parts.cache.drop(key);
  }

  /** @throws INVALID_ARGUMENT: where the provider encrypts values itself, there is no key that could do anything else */
  #checkNotDirect(name: string, purpose: DataPurpose): void {
    if (purpose !== 'seal' && this.#parts.definitions.rulesFor(name).direct) {
      const what = purpose === 'message' ? 'messages' : purpose === 'mac' ? 'MACs' : 'indexes';
      throw new DekdError(
        'INVALID_ARGUMENT',
        `key '${name}' is direct: its provider encrypts each value itself, and there is no key for ${what}`,
      );
    }
  }

  /** What a caller is told who names a key whose row is refused; the reason is the operator's. */
  #notUsable(error: unknown): unknown {
    return error instanceof RecordRefused
      ? new DekdError('KEYSTORE_UNAVAILABLE', 'the keystore holds a record that is refused', { reason: error.reason })
      : error;
  }

  #report(row: KeyRecord, error: unknown): void {
    if (error instanceof RecordRefused) {
      this.#parts.log(refusalEvent(row, error));
    }
  }

  #checkOpen(): void {
    if (this.#closed) {
      throw new DekdError('SHUTTING_DOWN', 'the keyring is closed');
    }
  }
}

/**
 * Whether all that is known of a key is a denial that nobody vouched for, and `row` says that it is another key than
 * that denial said. Were it taken over, it would go on under the name that the denial gave it.
 */
function isMisnamed({ parent, family, version }: LoadedKey, row: KeyRecord): boolean {
  const { name, partition, purpose, line } = family;
  const isSame =
    row.name === name &&
    row.partition === partition &&
    row.purpose === purpose &&
    row.version === version &&
    lineOf(row) === line;
  return parent === undefined && !isSame;
}

/** What may be wrong with one row and not with those beside it: also that it was put there under a key of somebody else. */
function isOfOneRow(error: unknown): boolean {
  return error instanceof RecordRefused || DekdError.is(error, 'KMS_DENIED');
}

function isOutage(error: unknown): boolean {
  return DekdError.is(error, 'KEYSTORE_UNAVAILABLE') || DekdError.is(error, 'KMS_UNAVAILABLE');
}
