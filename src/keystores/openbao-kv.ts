import { createHash } from 'node:crypto';
import { hex } from '../bytes.ts';
import type { KvSettings } from '../config/config.ts';
import { DekdError } from '../errors.ts';
import type { KeyRecord, UsageLease } from '../keyring/record.ts';
import type { SessionKeeper } from '../providers/session-keeper.ts';
import type { VaultClient } from '../vault/client.ts';
import type { VaultSettings } from '../vault/settings.ts';
import { VaultError } from '../vault/vault-error.ts';
import { checkVaultPath } from '../vault/vault-path.ts';
import type { Expectation, Keystore, KeystoreCapabilities, KeystoreHealth, ListFilter, ListPage } from './keystore.ts';
import { checkLimit, matches } from './list-filter.ts';
import { type Change, Entries, type Settled, type Value } from './openbao-kv/entries.ts';
import { KvMount, type KvNames } from './openbao-kv/kv-mount.ts';
import { foldLeases, type LeaseRow, leaseRowOf, leasesIn } from './openbao-kv/lease-row.ts';
import { decodeRecord, encodeRecord, type RecordJson } from './record-codec.ts';
import { type Family, isSameFamily, mutablePart } from './records.ts';

/** Raised by each change of paths or contents; a higher one is refused. */
const SCHEMA_VERSION = 1;
const SCHEMA_FORMAT = 'dekd-keystore';
/** Reads at once: several times the connections, so that none is idle, and few enough to stay inside one deadline. */
const PARALLEL_READS = 32;
const NAME_PAGE = 1000;
/** Readings of one key's versions while they keep changing together. */
const MAX_READINGS = 8;

const ROWS = 'rows';
const NAMES = 'names';
const LEASES = 'leases';

export interface OpenbaoKvOptions {
  readonly client: VaultClient;
  readonly kv: KvSettings;
  /** Milliseconds that a change of another writer is waited for; see `Entries`. */
  readonly graceMs?: number;
}

/** What says who has a version: kid by (name, partition, purpose, version), beside the path that has them hashed. */
interface Claim {
  readonly name: string;
  readonly partition: string;
  readonly purpose: string;
  readonly version: number;
  readonly kid: string;
}

type RecordChange = { readonly record: KeyRecord; readonly expect: Expectation };

/**
 * Opens the keystore in a Vault or OpenBao.
 * @param keeper keeps the login for the next process; without it, closing revokes a token that was logged in for
 * @throws as `OpenbaoKvKeystore.open`, and INVALID_ARGUMENT with the remedy for settings that cannot be
 */
export async function openOpenbaoKv(
  settings: VaultSettings,
  kv: KvSettings,
  keeper?: SessionKeeper,
): Promise<OpenbaoKvKeystore> {
  // The module behind it loads node-vault.
  const { openVaultClient } = await import('../vault/open-client.ts');
  let client: VaultClient;
  try {
    checkVaultPath(kv.mount, 'kv.mount');
    checkVaultPath(kv.prefix, 'kv.prefix');
    client = await openVaultClient(
      settings,
      keeper === undefined ? {} : { resume: keeper.load(), onSession: (session) => keeper.save(session) },
    );
  } catch (error) {
    throw VaultError.is(error)
      ? new DekdError('INVALID_ARGUMENT', `keystore openbao-kv: ${error.message}`, { cause: error })
      : error;
  }
  const close = () => (keeper === undefined ? client.close() : client.closeKeepingSession());
  try {
    return await OpenbaoKvKeystore.open({ client, kv }, close);
  } catch (error) {
    await close();
    throw error;
  }
}

/**
 * Wrapped keys in a key-value engine, version 2, of Vault or OpenBao. Below the prefix:
 *
 * - `schema`: format and version of all this.
 * - `rows/KID`: the record.
 * - `names/FAMILY/versions/VERSION`: the kid that has this version of a name, partition and purpose, which FAMILY is a hash
 *   of, because a partition may be any text and a path may not.
 * - `names/FAMILY/changed`: another value after each change of several versions together, so that a reader of all of
 *   them knows when it has read some before and some after.
 * - `leases/KID`: usage leases of all holders.
 * - `intents/ID`: changes under way, see `Entries`.
 *
 * The engine keeps the last ten versions of a path, by default, and deletes older ones for good. Here only the newest
 * version of any path is ever needed: key versions are paths of their own, and what a metadata write replaces is history.
 */
export class OpenbaoKvKeystore implements Keystore {
  readonly kind = 'openbao-kv';
  readonly #client: VaultClient;
  readonly #mount: KvMount;
  readonly #entries: Entries;
  readonly #close: () => Promise<void>;
  /** Kids whose rows are no records; health tells. */
  readonly #unreadable = new Set<string>();

  private constructor({ client, kv, graceMs }: OpenbaoKvOptions, close: () => Promise<void>) {
    this.#client = client;
    this.#mount = new KvMount(client, kv);
    this.#entries = new Entries(this.#mount, graceMs);
    this.#close = close;
  }

  /**
   * Makes the schema entry in an empty place, and ends what writers that died left in the middle. The client is closed
   * with the keystore, by `close`.
   * @throws KEYSTORE_UNAVAILABLE when it cannot be reached, is no engine of version 2 or deletes keys by itself;
   * UNSUPPORTED_VERSION for a newer schema; INVALID_ARGUMENT when the place holds something else. Each says the remedy.
   */
  static async open(
    options: OpenbaoKvOptions,
    close: () => Promise<void> = () => options.client.close(),
  ): Promise<OpenbaoKvKeystore> {
    const keystore = new OpenbaoKvKeystore(options, close);
    await keystore.#ensureSchema();
    await keystore.#entries.reconcile();
    return keystore;
  }

  async store(record: KeyRecord, expect: Expectation): Promise<void> {
    await this.#entries.change(() => ('absent' in expect ? this.#creation(record) : this.#replacement(record, expect)));
  }

  async retrieve(kid: Uint8Array): Promise<KeyRecord | undefined> {
    return this.#record(hex(kid));
  }

  async versions(name: string, partition: string, purpose: string): Promise<readonly KeyRecord[]> {
    const family = { name, partition, purpose };
    const folder = familyPath(family);
    for (let reading = 0; reading < MAX_READINGS; reading++) {
      const before = await this.#entries.read(changedPath(family));
      const names = await this.#allNames(`${folder}/versions`);
      const claims = await inParallel(names, (version) => this.#entries.read(`${folder}/versions/${version}`));
      const kids = claims.map(claimOf).filter((claim) => claim !== undefined);
      const records = await inParallel(kids, ({ kid }) => this.#record(kid));
      if (records.length < 2 || (await this.#entries.read(changedPath(family))) === before) {
        return records.filter(
          (record, index): record is KeyRecord =>
            record !== undefined && isSameFamily(record, family) && record.version === kids[index]!.version,
        );
      }
    }
    throw new DekdError('KEYSTORE_UNAVAILABLE', `the versions of ${name} change faster than they can be read`);
  }

  async updateMetadata(changes: readonly RecordChange[]): Promise<void> {
    await this.#entries.change(() => this.#metadataChanges(changes));
  }

  async delete(tombstone: KeyRecord, expect: Expectation): Promise<void> {
    await this.#entries.change(async () => {
      const [change] = await this.#metadataChanges([{ record: tombstone, expect }]);
      return [{ ...change!, shred: true }];
    });
  }

  async list(filter: ListFilter, cursor: string | undefined, limit: number): Promise<ListPage> {
    checkLimit(limit);
    const records: KeyRecord[] = [];
    let after = cursor ?? '';
    for (;;) {
      const { names, next } = await this.#entries.list(ROWS, after, Math.max(limit + 1, PARALLEL_READS));
      for (let start = 0; start < names.length; start += PARALLEL_READS) {
        const rows = await Promise.all(names.slice(start, start + PARALLEL_READS).map((kid) => this.#record(kid)));
        for (const record of rows) {
          if (record === undefined || !matches(record, filter)) {
            continue;
          }
          if (records.length === limit) {
            return { records, cursor: hex(records.at(-1)!.kid) };
          }
          records.push(record);
        }
      }
      if (next === undefined) {
        return { records, cursor: undefined };
      }
      after = next;
    }
  }

  async leases(): Promise<readonly UsageLease[]> {
    const kids = await this.#allNames(LEASES);
    const rows = await inParallel(kids, (kid) => this.#entries.read(`${LEASES}/${kid}`));
    return rows.flatMap((row, index) => leasesIn(kids[index]!, leaseRowOf(row)));
  }

  async storeLease(lease: UsageLease): Promise<void> {
    await this.#entries.change(async () => {
      const row = await this.#entries.settled(`${LEASES}/${hex(lease.kid)}`);
      const stored = leaseRowOf(row.value);
      const next: LeaseRow = foldLeases(stored, lease);
      return next === stored ? [] : [{ ...row, next }];
    });
  }

  async health(): Promise<KeystoreHealth> {
    try {
      const { initialized, sealed, secondary } = await this.#client.health();
      if (!initialized || sealed || secondary) {
        const state = sealed ? 'is sealed' : secondary ? 'is a disaster-recovery secondary' : 'is not initialized';
        return { ok: false, detail: `the server of ${this.#mount.place} ${state}` };
      }
      await this.#mount.read('schema');
    } catch (error) {
      return { ok: false, detail: error instanceof VaultError ? error.message : DekdError.from(error).message };
    }
    const [unreadable] = this.#unreadable;
    if (unreadable !== undefined) {
      const detail = `${this.#unreadable.size} rows below ${this.#mount.place}/${ROWS} are no records, such as ${unreadable}`;
      return { ok: false, detail };
    }
    return { ok: this.#mount.expiry === undefined, detail: this.#mount.expiry ?? this.#mount.place };
  }

  capabilities(): KeystoreCapabilities {
    return { durable: true, writable: true, watch: false };
  }

  close(): Promise<void> {
    return this.#close();
  }

  async #ensureSchema(): Promise<void> {
    let marker = await this.#mount.read('schema');
    if (marker.data === undefined) {
      // Lost to somebody who opens an empty place at the same time, it is there.
      await this.#mount.write('schema', { format: SCHEMA_FORMAT, version: SCHEMA_VERSION }, marker.version);
      marker = await this.#mount.read('schema');
    }
    const { format, version } = marker.data ?? {};
    if (format !== SCHEMA_FORMAT || typeof version !== 'number') {
      throw new DekdError('INVALID_ARGUMENT', `${this.#mount.place} holds something else: choose another kv.prefix`);
    }
    if (version > SCHEMA_VERSION) {
      throw new DekdError(
        'UNSUPPORTED_VERSION',
        `keystore ${this.#mount.place} has schema ${version}, and this dekd knows up to ${SCHEMA_VERSION}: upgrade dekd, or ` +
          'run dekd keys export with the newer one and dekd keys import into an empty keystore here',
      );
    }
    if (this.#mount.expiry !== undefined) {
      throw new DekdError('KEYSTORE_UNAVAILABLE', this.#mount.expiry);
    }
  }

  async #creation(record: KeyRecord): Promise<Change[]> {
    const [claim, row] = await Promise.all([
      this.#entries.settled(claimPath(record)),
      this.#entries.settled(rowPath(hex(record.kid))),
    ]);
    if (row.value !== null || !(await this.#isFree(claim))) {
      throw new DekdError('CONFLICT', `${record.name} version ${record.version} exists already`);
    }
    return [
      { ...claim, next: claimFor(record) },
      { ...row, next: encodeRecord(record) },
    ];
  }

  async #replacement(record: KeyRecord, expect: Expectation): Promise<Change[]> {
    const row = await this.#entries.settled(rowPath(hex(record.kid)));
    const stored = this.#decode(hex(record.kid), row.value);
    this.#checkExpected(stored, expect);
    const change = { ...row, next: encodeRecord(record) };
    if (claimPath(stored!) === claimPath(record)) {
      return [change];
    }
    const [former, claim] = await Promise.all([
      this.#entries.settled(claimPath(stored!)),
      this.#entries.settled(claimPath(record)),
    ]);
    if (!(await this.#isFree(claim))) {
      throw new DekdError('CONFLICT', `${record.name} version ${record.version} exists already`);
    }
    return [change, { ...former, next: null }, { ...claim, next: claimFor(record) }];
  }

  async #metadataChanges(changes: readonly RecordChange[]): Promise<Change[]> {
    const rows = await Promise.all(changes.map(({ record }) => this.#entries.settled(rowPath(hex(record.kid)))));
    const planned: Change[] = [];
    const families = new Map<string, KeyRecord>();
    for (const [index, { record, expect }] of changes.entries()) {
      const row = rows[index]!;
      const stored = this.#decode(hex(record.kid), row.value);
      if (stored === undefined) {
        throw new DekdError('KEY_NOT_FOUND', 'no record with this kid');
      }
      if (planned.some(({ path }) => path === row.path)) {
        throw new DekdError('CONFLICT', 'the record exists already');
      }
      this.#checkExpected(stored, expect);
      const next = encodeRecord({ ...stored, ...mutablePart(record) });
      // Wrapped bytes that were replaced lie in older versions of the path, and have no use there.
      planned.push({ ...row, next, shred: isRewrapped(encodeRecord(stored), next) });
      families.set(familyPath(stored), stored);
    }
    if (planned.length > 1) {
      for (const record of families.values()) {
        const changed = await this.#entries.settled(changedPath(record));
        planned.push({ ...changed, next: typeof changed.value === 'number' ? changed.value + 1 : 1 });
      }
    }
    return planned;
  }

  /** Whether a version can be claimed: nobody has it, or its row is gone, which only somebody else can have done. */
  async #isFree({ path, value }: Settled): Promise<boolean> {
    const claim = claimOf(value);
    if (claim === undefined) {
      return true;
    }
    const row = await this.#entries.read(rowPath(claim.kid));
    const holder = this.#decode(claim.kid, row);
    return row === null || (holder !== undefined && claimPath(holder) !== path);
  }

  #checkExpected(stored: KeyRecord | undefined, expect: Expectation): void {
    if (stored === undefined || !('seq' in expect) || stored.seq !== expect.seq) {
      throw new DekdError('CONFLICT', 'the record was changed by another writer');
    }
  }

  async #record(kid: string): Promise<KeyRecord | undefined> {
    return this.#decode(kid, await this.#entries.read(rowPath(kid)));
  }

  /** The record in a row. One that is none is passed over, since a throw would hide the rows beside it; health tells. */
  #decode(kid: string, value: Value): KeyRecord | undefined {
    try {
      const record = value === null ? undefined : decodeRecord(value);
      if (record !== undefined && hex(record.kid) !== kid) {
        throw new DekdError('INVALID_ARGUMENT', 'the row is a copy of another');
      }
      this.#unreadable.delete(kid);
      return record;
    } catch (error) {
      if (!DekdError.is(error, 'INVALID_ARGUMENT')) {
        throw error;
      }
      this.#unreadable.add(kid);
      return undefined;
    }
  }

  async #allNames(folder: string): Promise<string[]> {
    const all: string[] = [];
    for (let after: string | undefined = ''; after !== undefined; ) {
      const { names, next }: KvNames = await this.#entries.list(folder, after, NAME_PAGE);
      all.push(...names);
      after = next;
    }
    return all;
  }
}

function rowPath(kid: string): string {
  return `${ROWS}/${kid}`;
}

/** In hex, since some storage back ends take upper and lower case for the same. */
function familyPath({ name, partition, purpose }: Family): string {
  const hash = createHash('sha256')
    .update(JSON.stringify([name, partition, purpose]))
    .digest('hex');
  return `${NAMES}/${hash}`;
}

/** As many digits as a version can have, so that names are in its order. */
function claimPath(record: Family & Pick<KeyRecord, 'version'>): string {
  return `${familyPath(record)}/versions/${String(record.version).padStart(16, '0')}`;
}

function changedPath(family: Family): string {
  return `${familyPath(family)}/changed`;
}

function claimFor({ name, partition, purpose, version, kid }: KeyRecord): Claim {
  return { name, partition, purpose, version, kid: hex(kid) };
}

function claimOf(value: Value): Pick<Claim, 'kid' | 'version'> | undefined {
  const { kid, version } = (value ?? {}) as Partial<Claim>;
  // Anything else would be a path of somebody's choice.
  return typeof kid === 'string' && /^[0-9a-f]+$/.test(kid) && typeof version === 'number'
    ? { kid, version }
    : undefined;
}

function isRewrapped(stored: RecordJson, next: RecordJson): boolean {
  const secretOf = ({ parent }: RecordJson) => ('wrappedSecret' in parent ? parent.wrappedSecret : undefined);
  return stored.wrapped !== next.wrapped || secretOf(stored) !== secretOf(next);
}

async function inParallel<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (let start = 0; start < items.length; start += PARALLEL_READS) {
    results.push(...(await Promise.all(items.slice(start, start + PARALLEL_READS).map(work))));
  }
  return results;
}
