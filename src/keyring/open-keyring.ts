import { hex } from '../bytes.ts';
import type { Engine, KeyHandle, Purpose } from '../crypto/engine.ts';
import type { Custody } from '../custody/custody.ts';
import { DekdError } from '../errors.ts';
import type { Keystore } from '../keystores/keystore.ts';
import type { RootReference } from '../providers/provider.ts';
import { type Clock, SteadyClock, systemClock } from './clock.ts';
import { DekCache } from './dek-cache.ts';
import { type DirectKey, DirectKeys } from './direct-keys.ts';
import { type Freeze, Freezes, said } from './freezes.ts';
import { Hierarchy } from './hierarchy.ts';
import { HighWater } from './high-water.ts';
import { holderOf } from './holder.ts';
import { KekImport } from './kek-import.ts';
import { KekMove } from './kek-move.ts';
import { type KeyDefinition, KeyDefinitions } from './key-definition.ts';
import { KeyIndex } from './key-index.ts';
import { KeyLife } from './key-life.ts';
import { checkKeyName, type KekName, serviceKekName } from './key-name.ts';
import { KeyVersions } from './key-versions.ts';
import type {
  ChosenRoot,
  CreateRequest,
  DataKey,
  DataPurpose,
  ImportReport,
  KeyInfo,
  Keyring,
  KeyringStats,
  Share,
} from './keyring.ts';
import type { KeyringLog } from './keyring-event.ts';
import { allRecords } from './listing.ts';
import { LiveKeys } from './live-keys.ts';
import { MissLimit, type MissLimits } from './miss-limit.ts';
import { DEFAULT_PLACEMENT, type Placement } from './placement.ts';
import { MessageRecipients } from './recipients/message-recipients.ts';
import { MessageUse } from './recipients/message-use.ts';
import { openRecipients } from './recipients/open-recipients.ts';
import type { RecipientSpec } from './recipients/recipient.ts';
import type { KeyRecord } from './record.ts';
import { RecordRefused } from './record-check.ts';
import { RecordImport } from './record-import.ts';
import { Retirement } from './retirement.ts';
import { Rewrap, type RewrapPage, type RewrapRequest } from './rewrap.ts';
import { RootMove } from './root-move.ts';
import { DEFAULT_WATCH, type WatchLimits, watchTimes } from './root-watch.ts';
import { UsageLedger } from './rotation.ts';
import { type TenantDestruction, Tenants } from './tenants.ts';

const DEFAULT_REFRESH_MS = 30_000;
/** Rows kept of keys that are not in the table: about 1 KiB each. */
const DEFAULT_MAX_KNOWN = 16_384;
/** Leases of other agents are read again every so many generations. */
const LEASES_EVERY = 20;
/** Old versions are looked for every so many generations: once an hour. */
const RETIRE_EVERY = 120;

export interface KeyringOptions {
  readonly engine: Engine;
  /** Stays the caller's to close, after the keyring. */
  readonly custody: Custody;
  /** Names the service KEK under which new data keys are made. */
  readonly service: string;
  /** Recorded as the maker of new records; may be empty. */
  readonly node: string;
  /** Where the high-water mark lies; without it an older state of the keystore is not noticed. */
  readonly stateFolder?: string;
  /** The first whose pattern matches a name holds for it. */
  readonly definitions: readonly KeyDefinition[];
  /** Where new keys hang; below one service KEK under the default root unless given. */
  readonly placement?: Placement;
  /** A change by another agent is seen within twice this; 30 s. */
  readonly refreshMs?: number;
  /** Data keys whose rows are kept in memory; 16,384. */
  readonly maxKnownKeys?: number;
  readonly missLimits?: MissLimits;
  /** How long keys live without an answer of their root's provider. */
  readonly watch?: WatchLimits;
  /** Recipients of messages beside the keystore, which definitions name. */
  readonly recipients?: readonly RecipientSpec[];
  /** Keys that are loaded at start, and stay so. */
  readonly prewarm?: readonly { readonly key: string; readonly partition: string }[];
  readonly clock?: Clock;
  readonly log: KeyringLog;
}

/**
 * Opens the keyring over a custody.
 * @throws KMS_DENIED when the keystore was made under another root key; KEYSTORE_UNAVAILABLE; INVALID_ARGUMENT.
 */
export async function createKeyring(options: KeyringOptions): Promise<Keyring> {
  const { custody, log } = options;
  checkKeyName(options.service);
  const { durable } = custody.keystore.capabilities();
  // A keystore that forgets would always look as if it was put back.
  const highWater = await HighWater.open(durable ? options.stateFolder : undefined);
  if (durable && !highWater.detects) {
    log({ event: 'rollback-undetected', level: 'warn', reason: 'there is no state folder' });
  }
  const holder = await holderOf(durable ? options.stateFolder : undefined, hex(options.engine.random(16)));
  const freezes = await Freezes.open(options.stateFolder);
  const keyring = new OpenKeyring(options, highWater, holder, freezes);
  try {
    await keyring.start();
  } catch (error) {
    await keyring.close();
    throw error;
  }
  return keyring;
}

/** Until the limits are set, which the constructor does. */
const NO_VOUCH = { intervalMs: 0, withinMs: 0, coastMs: 0, deniedTwiceMs: 0 };

class OpenKeyring implements Keyring {
  readonly #engine: Engine;
  readonly #definitions: KeyDefinitions;
  readonly #custody: Custody;
  readonly #keystore: Keystore;
  readonly #log: KeyringLog;
  readonly #service: string;
  readonly #refreshMs: number;
  readonly #highWater: HighWater;
  readonly #cache: DekCache;
  readonly #index: KeyIndex;
  readonly #ledger: UsageLedger;
  readonly #hierarchy: Hierarchy;
  readonly #live: LiveKeys;
  readonly #life: KeyLife;
  readonly #import: RecordImport;
  readonly #rewrap: Rewrap;
  readonly #retirement: Retirement;
  #retiring: Promise<unknown> | undefined;
  readonly #freezes: Freezes;
  readonly #direct: DirectKeys;
  readonly recipients: MessageRecipients;
  readonly #tenants: Tenants;
  readonly #prewarm: readonly { readonly key: string; readonly partition: string }[];
  /** Read by every vouch there is. */
  readonly #vouchSealing = { ...NO_VOUCH };
  readonly #vouchOpening = { ...NO_VOUCH };
  #timer: NodeJS.Timeout | undefined;
  #generations = 0;
  #hits = 0;
  #misses = 0;

  constructor(options: KeyringOptions, highWater: HighWater, holder: string, freezes: Freezes) {
    const { engine, custody, service, node, log } = options;
    const { keystore } = custody;
    const clock = new SteadyClock(options.clock ?? systemClock);
    const definitions = new KeyDefinitions(options.definitions);
    this.#definitions = definitions;
    const index = new KeyIndex(definitions);
    const ledger = new UsageLedger(holder, keystore, clock, log);
    const cache = new DekCache(engine, options.maxKnownKeys ?? DEFAULT_MAX_KNOWN, (key) => {
      ledger.remember(key);
      index.remove(key);
    });
    const placement = options.placement ?? DEFAULT_PLACEMENT;
    const watch = options.watch ?? DEFAULT_WATCH;
    const refreshMs = options.refreshMs ?? DEFAULT_REFRESH_MS;
    const hierarchy = new Hierarchy({
      engine,
      custody,
      cache,
      highWater,
      clock,
      log,
      watch,
      service,
      node,
      placement,
    });
    const misses = new MissLimit(() => clock.elapsedMs(), options.missLimits);
    const versions = new KeyVersions({
      engine,
      keystore,
      cache,
      hierarchy,
      highWater,
      definitions,
      clock,
      log,
      service,
      node,
    });
    const live = new LiveKeys({
      engine,
      keystore,
      cache,
      index,
      hierarchy,
      highWater,
      definitions,
      ledger,
      versions,
      misses,
      freezes,
      refreshMs,
      log,
    });
    this.#freezes = freezes;
    this.#direct = new DirectKeys({
      custody,
      definitions,
      freezes,
      rootOf: (key, partition) => hierarchy.versions.rootOf(partition, key),
    });
    this.#limitVouches(watch);
    const elapsedMs = (): number => clock.elapsedMs();
    const table = {
      engine,
      room: <T>(make: () => T): T => cache.room(make),
      roomAsync: <T>(make: () => Promise<T>): Promise<T> => cache.roomAsync(make),
    };
    this.recipients = new MessageRecipients({
      table,
      elapsedMs,
      definitions,
      recipients: openRecipients(options.recipients ?? [], custody, table),
      use: new MessageUse({ keystore, freezes, elapsedMs, refreshMs }),
      sealing: this.#vouchSealing,
      opening: this.#vouchOpening,
      log,
    });
    this.#prewarm = options.prewarm ?? [];
    this.#engine = engine;
    this.#custody = custody;
    this.#keystore = keystore;
    this.#log = log;
    this.#service = service;
    this.#refreshMs = refreshMs;
    this.#highWater = highWater;
    this.#cache = cache;
    this.#index = index;
    this.#ledger = ledger;
    this.#hierarchy = hierarchy;
    this.#live = live;
    const kekImport = new KekImport({ engine, custody, versions });
    this.#life = new KeyLife({ keystore, versions, kekImport, hierarchy, live, index, ledger, highWater, clock });
    this.#tenants = new Tenants({ keystore, hierarchy, life: this.#life, placement, service });
    this.#rewrap = new Rewrap({
      custody,
      hierarchy,
      highWater,
      rootMove: new RootMove({ engine, cache, highWater, clock }),
      kekMove: new KekMove({ engine, cache, highWater, keystore, hierarchy }),
      capacity: engine.stats().capacity,
    });
    this.#retirement = new Retirement({ keystore, definitions, versions, live, highWater, clock, log });
    this.#import = new RecordImport({ engine, keystore, cache, hierarchy, highWater, live, misses });
  }

  async start(): Promise<void> {
    await this.#proveRoot();
    await this.#ledger.refresh();
    this.#timer = setInterval(() => this.#nextGeneration(), this.#refreshMs);
    this.#timer.unref();
    for (const { key, partition } of this.#prewarm) {
      // Nothing waits for it: an agent whose root is slow serves what it has.
      this.#live.prewarm(key, partition).catch((error: unknown) => {
        this.#log({ event: 'prewarm-failed', level: 'warn', key, partition, error });
      });
    }
  }

  reconfigure({ definitions, watch }: { definitions: KeyDefinitions; watch: WatchLimits }): void {
    this.#definitions.become(definitions);
    this.#index.redefine((key) => this.#ledger.relimit(key));
    this.#hierarchy.watch.limit(watch);
    this.#hierarchy.followRoots();
    this.#limitVouches(watch);
  }

  #limitVouches(watch: WatchLimits): void {
    const { coastEncryptMs, coastDecryptMs, ...times } = watchTimes(watch);
    Object.assign(this.#vouchSealing, times, { coastMs: coastEncryptMs });
    Object.assign(this.#vouchOpening, times, { coastMs: coastDecryptMs });
  }

  prepareTenant(tenant: string): Promise<readonly KeyInfo[]> {
    return this.#tenants.prepare(tenant);
  }

  destroyTenant(tenant: string): Promise<TenantDestruction> {
    return this.#tenants.destroy(tenant);
  }

  async freeze(freeze: Freeze): Promise<readonly Freeze[]> {
    const kept = this.#freezes.add(freeze);
    this.#live.stopFrozen();
    this.recipients.drop((name, partition) => this.#freezes.covers(name, partition));
    if (freeze.name === '' && freeze.partition === '') {
      this.#hierarchy.dropAll();
    }
    this.#log({ event: 'frozen', level: 'warn', key: freeze.name, partition: freeze.partition, reason: said(freeze) });
    await kept;
    return this.#freezes.all;
  }

  async thaw(freeze: Freeze): Promise<readonly Freeze[]> {
    await this.#freezes.remove(freeze);
    this.#live.forgetFrozen(freeze);
    this.#log({ event: 'thawed', level: 'warn', key: freeze.name, partition: freeze.partition, reason: said(freeze) });
    return this.#freezes.all;
  }

  freezes(): readonly Freeze[] {
    return this.#freezes.all;
  }

  sealing(name: string, partition: string, root: ChosenRoot = ''): DataKey | undefined {
    return this.#counted(this.#live.sealing('seal', name, partition, root));
  }

  sealingFor(purpose: DataPurpose, name: string, partition: string, root: ChosenRoot = ''): DataKey | undefined {
    return this.#counted(this.#live.sealing(purpose, name, partition, root));
  }

  prepareSealing(
    name: string,
    partition: string,
    share: Share,
    create: (() => void) | undefined,
    purpose: DataPurpose = 'seal',
    root: ChosenRoot = '',
  ): Promise<DataKey> {
    this.#misses++;
    return this.#live.prepareSealing(name, partition, share, create, purpose, root);
  }

  opening(bytes: Uint8Array, offset: number): DataKey | undefined {
    return this.#counted(this.#live.opening(bytes, offset));
  }

  prepareOpening(kid: Uint8Array, share: Share): Promise<DataKey | undefined> {
    this.#misses++;
    return this.#live.prepareOpening(kid, share);
  }

  room<T>(make: () => T): T {
    return this.#cache.room(make);
  }

  directSealing(name: string, partition: string, root: ChosenRoot = ''): DirectKey | undefined {
    return this.#direct.sealing(name, partition, root);
  }

  directOpening(reference: Uint8Array, name: string, partition: string): DirectKey | undefined {
    return this.#direct.opening(reference, name, partition);
  }

  describe(name: string, partition: string): Promise<readonly KeyInfo[]> {
    return this.#life.describe(name, partition);
  }

  create(request: CreateRequest): Promise<KeyInfo> {
    return this.#life.create(request);
  }

  rotate(request: CreateRequest): Promise<KeyInfo> {
    return this.#life.rotate(request);
  }

  rotateCompromised(request: CreateRequest): Promise<KeyInfo> {
    return this.#life.rotateCompromised(request);
  }

  importKek(kek: KekName, key: KeyHandle, expectKid: string | undefined): Promise<KeyInfo> {
    return this.#life.importKek(kek, key, expectKid);
  }

  rewrap(request: RewrapRequest): Promise<RewrapPage> {
    return this.#rewrap.page(request);
  }

  wipe(root: string | undefined): void {
    this.#hierarchy.dropAll(root);
    this.recipients.wipe(root);
  }

  retire(): Promise<number> {
    return this.#retirement.run();
  }

  disable(
    name: string,
    partition: string,
    version: number | undefined,
    purpose?: Purpose,
  ): Promise<readonly KeyInfo[]> {
    return this.#changed(name, partition, this.#life.disable({ name, partition, version, purpose }));
  }

  enable(name: string, partition: string, version: number | undefined, purpose?: Purpose): Promise<readonly KeyInfo[]> {
    return this.#changed(name, partition, this.#life.enable({ name, partition, version, purpose }));
  }

  markCompromised(name: string, partition: string, version: number, purpose?: Purpose): Promise<readonly KeyInfo[]> {
    return this.#changed(name, partition, this.#life.markCompromised({ name, partition, version, purpose }));
  }

  destroy(
    name: string,
    partition: string,
    version: number | undefined,
    purpose?: Purpose,
  ): Promise<readonly KeyInfo[]> {
    return this.#changed(name, partition, this.#life.destroy({ name, partition, version, purpose }));
  }

  list(
    filter: { name?: string; partition?: string },
    cursor: string | undefined,
    limit: number,
  ): Promise<{ keys: readonly KeyInfo[]; cursor: string | undefined }> {
    return this.#life.list(filter, cursor, limit);
  }

  exportRecords(): AsyncGenerator<KeyRecord> {
    return allRecords(this.#keystore, {});
  }

  importRecords(records: Iterable<KeyRecord>, options: { acceptRollback: boolean }): Promise<ImportReport> {
    return this.#import.run(records, options.acceptRollback);
  }

  rootOf(name: string, partition: string): string {
    return this.#hierarchy.versions.rootOf(partition, name).name;
  }

  isDirect(name: string): boolean {
    return this.#definitions.rulesFor(name).direct;
  }

  requiredContext(name: string): readonly string[] {
    return this.#definitions.rulesFor(name).requiredContext;
  }

  stats(): KeyringStats {
    return {
      table: this.#engine.stats(),
      known: this.#index.size,
      loaded: this.#cache.loaded,
      evictions: this.#cache.evictions,
      reloads: this.#cache.reloads,
      loads: this.#cache.admissions - this.#cache.reloads,
      hits: this.#hits,
      misses: this.#misses,
      rollback: this.#highWater.detects ? 'detected' : 'undetected',
      watched: this.#hierarchy.watch.size,
      oldestProofMs: this.#hierarchy.watch.oldestProofMs,
    };
  }

  sealingAges(): ReadonlyMap<string, number> {
    return this.#index.sealingAges(Date.now());
  }

  proofAges(): ReadonlyMap<string, number> {
    return this.#hierarchy.watch.proofAges();
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#retiring;
    this.#ledger.close();
    await this.recipients.close();
    await this.#live.close();
    await this.#hierarchy.close();
    await this.#highWater.close();
  }

  #counted(key: DataKey | undefined): DataKey | undefined {
    if (key !== undefined) {
      this.#hits++;
    }
    return key;
  }

  /** Messages of the key that the keystore has no part in follow its rows too. */
  #changed<T>(name: string, partition: string, work: Promise<T>): Promise<T> {
    return work.finally(() => this.recipients.changed(name, partition));
  }

  #nextGeneration(): void {
    this.#live.nextGeneration();
    this.recipients.sweep();
    if (++this.#generations % LEASES_EVERY === 0) {
      this.#ledger.refresh().catch((error: unknown) => {
        this.#log({ event: 'refresh-failed', level: 'warn', reason: 'usage leases', error });
      });
    }
    if (this.#definitions.anyRetires && this.#generations % RETIRE_EVERY === 0) {
      this.#retiring ??= this.#retirement
        .run()
        .catch((error: unknown) => this.#log({ event: 'retirement-failed', level: 'warn', error }))
        .finally(() => {
          this.#retiring = undefined;
        });
    }
  }

  /** The KEK of this service that has no tenant. There is none where routes are for partitions alone. */
  async #serviceKeks(): Promise<readonly KeyRecord[]> {
    try {
      return await this.#keystore.versions(serviceKekName(this.#service), '', 'wrap');
    } catch (error) {
      if (DekdError.is(error, 'INVALID_ARGUMENT')) {
        return [];
      }
      throw error;
    }
  }

  /**
   * Opens a KEK of this service, the newest that opens, so that a wrong root is said at start and not at the first request.
   * One row that was put in beside the others keeps no agent from starting.
   */
  async #proveRoot(): Promise<void> {
    const rows = await this.#serviceKeks();
    let refusal: DekdError | undefined;
    for (const row of rows.toReversed()) {
      if (row.state === 'destroyed' || row.parent.kind !== 'root') {
        continue;
      }
      try {
        await this.#hierarchy.withKek(row.kid, () => undefined);
        return;
      } catch (error) {
        if (DekdError.is(error, 'KMS_UNAVAILABLE')) {
          this.#log({ event: 'root-unavailable', level: 'warn', reason: error.reason ?? error.message });
          return;
        }
        if (DekdError.is(error, 'KMS_DENIED') || DekdError.is(error, 'DECRYPTION_FAILED')) {
          refusal ??= otherRoot(row.parent.reference, this.#custody, error);
        } else if (!(error instanceof RecordRefused) && !DekdError.is(error, 'KEY_DISABLED')) {
          throw error;
        }
        // A row that is refused was logged; what does not hang under it is still served.
      }
    }
    if (refusal !== undefined) {
      throw refusal;
    }
  }
}

function otherRoot({ root, resolvedId }: RootReference, custody: Custody, cause: DekdError): DekdError {
  const used = custody.roots.get(root)?.description.resolvedId ?? 'not configured';
  return new DekdError(
    'KMS_DENIED',
    used === resolvedId
      ? `no key-encryption key of this keystore opens under root ${root}: ${cause.reason ?? cause.message}`
      : `the keystore was made under another root key (${resolvedId}; root ${root} is ${used}): ` +
          `use that root, or an empty keystore; an earlier key of the same root goes under roots.${root}.formerly`,
    { cause },
  );
}
