import type { Engine } from '../crypto/engine.ts';
import type { Custody } from '../custody/custody.ts';
import { DekdError } from '../errors.ts';
import type { Keystore } from '../keystores/keystore.ts';
import { type Clock, SteadyClock, systemClock } from './clock.ts';
import { DekCache } from './dek-cache.ts';
import { Hierarchy } from './hierarchy.ts';
import { HighWater } from './high-water.ts';
import { holderOf } from './holder.ts';
import { type KeyDefinition, KeyDefinitions } from './key-definition.ts';
import { KeyIndex } from './key-index.ts';
import { KeyLife } from './key-life.ts';
import { checkKeyName, serviceKekName } from './key-name.ts';
import { KeyVersions } from './key-versions.ts';
import type { CreateRequest, DataKey, ImportReport, KeyInfo, Keyring, KeyringStats, Share } from './keyring.ts';
import type { KeyringLog } from './keyring-event.ts';
import { LiveKeys } from './live-keys.ts';
import { MissLimit, type MissLimits } from './miss-limit.ts';
import type { KeyRecord } from './record.ts';
import { toHex } from './record-binding.ts';
import { RecordRefused } from './record-check.ts';
import { RecordImport } from './record-import.ts';
import { UsageLedger } from './rotation.ts';

const DEFAULT_REFRESH_MS = 30_000;
/** Rows kept of keys that are not in the table: about 1 KiB each. */
const DEFAULT_MAX_KNOWN = 16_384;
/** Leases of other agents are read again every so many generations. */
const LEASES_EVERY = 20;
const LIST_PAGE = 500;

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
  /** Root of a partition that has a tenant KEK of its own; undefined, or no function, for none. */
  readonly partitionRoot?: (partition: string) => string | undefined;
  /** A change by another agent is seen within twice this; 30 s. */
  readonly refreshMs?: number;
  /** Data keys whose rows are kept in memory; 16,384. */
  readonly maxKnownKeys?: number;
  readonly missLimits?: MissLimits;
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
  const holder = await holderOf(durable ? options.stateFolder : undefined, toHex(options.engine.random(16)));
  const keyring = new OpenKeyring(options, highWater, holder);
  try {
    await keyring.start();
  } catch (error) {
    await keyring.close();
    throw error;
  }
  return keyring;
}

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
  #timer: NodeJS.Timeout | undefined;
  #generations = 0;

  constructor(options: KeyringOptions, highWater: HighWater, holder: string) {
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
    const partitionRoot = options.partitionRoot ?? (() => undefined);
    const hierarchy = new Hierarchy({ engine, custody, cache, highWater, clock, log, service, node, partitionRoot });
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
      ledger,
      versions,
      misses,
      log,
    });
    this.#engine = engine;
    this.#custody = custody;
    this.#keystore = keystore;
    this.#log = log;
    this.#service = service;
    this.#refreshMs = options.refreshMs ?? DEFAULT_REFRESH_MS;
    this.#highWater = highWater;
    this.#cache = cache;
    this.#index = index;
    this.#ledger = ledger;
    this.#hierarchy = hierarchy;
    this.#live = live;
    this.#life = new KeyLife({ keystore, versions, live, index, ledger, highWater, clock });
    this.#import = new RecordImport({ engine, keystore, cache, hierarchy, highWater, live, misses });
  }

  async start(): Promise<void> {
    await this.#proveRoot();
    await this.#ledger.refresh();
    this.#timer = setInterval(() => this.#nextGeneration(), this.#refreshMs);
    this.#timer.unref();
  }

  sealing(name: string, partition: string): DataKey | undefined {
    return this.#live.sealing(name, partition);
  }

  prepareSealing(name: string, partition: string, share: Share, create: (() => void) | undefined): Promise<DataKey> {
    return this.#live.prepareSealing(name, partition, share, create);
  }

  opening(bytes: Uint8Array, offset: number): DataKey | undefined {
    return this.#live.opening(bytes, offset);
  }

  prepareOpening(kid: Uint8Array, share: Share): Promise<DataKey | undefined> {
    return this.#live.prepareOpening(kid, share);
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

  disable(name: string, partition: string, version: number | undefined): Promise<readonly KeyInfo[]> {
    return this.#life.disable(name, partition, version);
  }

  enable(name: string, partition: string, version: number | undefined): Promise<readonly KeyInfo[]> {
    return this.#life.enable(name, partition, version);
  }

  markCompromised(name: string, partition: string, version: number): Promise<readonly KeyInfo[]> {
    return this.#life.markCompromised(name, partition, version);
  }

  destroy(name: string, partition: string, version: number | undefined): Promise<readonly KeyInfo[]> {
    return this.#life.destroy(name, partition, version);
  }

  list(
    filter: { name?: string; partition?: string },
    cursor: string | undefined,
    limit: number,
  ): Promise<{ keys: readonly KeyInfo[]; cursor: string | undefined }> {
    return this.#life.list(filter, cursor, limit);
  }

  async *exportRecords(): AsyncGenerator<KeyRecord> {
    let cursor: string | undefined;
    do {
      const page = await this.#keystore.list({}, cursor, LIST_PAGE);
      yield* page.records;
      cursor = page.cursor;
    } while (cursor !== undefined);
  }

  importRecords(records: Iterable<KeyRecord>, options: { acceptRollback: boolean }): Promise<ImportReport> {
    return this.#import.run(records, options.acceptRollback);
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
      rollback: this.#highWater.detects ? 'detected' : 'undetected',
    };
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#ledger.close();
    await this.#live.close();
    await this.#hierarchy.close();
    await this.#highWater.close();
  }

  #nextGeneration(): void {
    this.#live.nextGeneration();
    if (++this.#generations % LEASES_EVERY === 0) {
      this.#ledger.refresh().catch((error: unknown) => {
        this.#log({ event: 'refresh-failed', level: 'warn', reason: 'usage leases', error });
      });
    }
  }

  /** Opens the newest KEK of this service, so that a wrong root is said at start and not at the first request. */
  async #proveRoot(): Promise<void> {
    const rows = await this.#keystore.versions(serviceKekName(this.#service), '', 'wrap');
    const newest = rows.findLast((row) => row.state !== 'destroyed');
    if (newest === undefined || newest.parent.kind !== 'root') {
      return;
    }
    const { reference } = newest.parent;
    try {
      await this.#hierarchy.withKek(newest.kid, () => undefined);
    } catch (error) {
      if (error instanceof RecordRefused || DekdError.is(error, 'KEY_DISABLED')) {
        // The row was logged; what does not hang under it is still served.
        return;
      }
      if (DekdError.is(error, 'KMS_DENIED') || DekdError.is(error, 'DECRYPTION_FAILED')) {
        const used = this.#custody.roots.get(reference.root)?.description.resolvedId ?? 'not configured';
        throw new DekdError(
          'KMS_DENIED',
          `the keystore was made under another root key (${reference.resolvedId}; root ${reference.root} is ${used}): ` +
            'use that root, or an empty keystore',
          { cause: error },
        );
      }
      if (DekdError.is(error, 'KMS_UNAVAILABLE')) {
        this.#log({ event: 'root-unavailable', level: 'warn', reason: error.message });
        return;
      }
      throw error;
    }
  }
}
