import { closeSync, constants, createReadStream, fsyncSync, mkdirSync, openSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { hex } from '../bytes.ts';
import { DekdError } from '../errors.ts';
import type { KeyRecord, UsageLease } from '../keyring/record.ts';
import type { Expectation, Keystore, KeystoreCapabilities, KeystoreHealth, ListFilter, ListPage } from './keystore.ts';
import { checkLimit } from './list-filter.ts';
import { leaseOf, recordOf, valuesOf } from './sqlite-rows.ts';
import { APPLICATION_ID, CREATE_SCHEMA, SCHEMA_VERSION, SQL } from './sqlite-schema.ts';

/** How long a write waits for another process that writes. */
const DEFAULT_BUSY_MS = 5000;
const FIRST_RETRY_MS = 1;
const LONGEST_RETRY_MS = 50;
/** Files up to this size are checked whole when they are opened: some tens of milliseconds. */
const CHECK_BYTES = 16 * 1024 * 1024;

/** Primary result codes (sqlite.org/rescode.html); the extended ones carry them in their low byte. */
const SQLITE = {
  busy: 5,
  locked: 6,
  readOnly: 8,
  ioError: 10,
  corrupt: 11,
  full: 13,
  cantOpen: 14,
  constraint: 19,
  notADb: 26,
};
/** SQLITE_CONSTRAINT_PRIMARYKEY and SQLITE_CONSTRAINT_UNIQUE. */
const UNIQUENESS: readonly number[] = [1555, 2067];

export interface SqliteOptions {
  readonly path: string;
  /** Milliseconds that an operation waits for other writers; 5,000. */
  readonly busyMs?: number;
}

/**
 * Wrapped keys in one SQLite file, shared by any number of processes of one node.
 *
 * The driver is synchronous, so nothing here ever waits inside it: a busy database is asked again later. A transaction
 * begins and ends in one turn of the event loop, so that two operations never meet inside one. An operation that returned
 * is on disk: WAL with synchronous FULL syncs the log at each commit.
 */
export class SqliteKeystore implements Keystore {
  readonly kind = 'sqlite';
  readonly #path: string;
  readonly #busyMs: number;
  readonly #db: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  /** Why nothing is written any more. After a failed fsync nobody knows what the disk holds until a restart. */
  #writeFailure: string | undefined;
  /** Shredded bytes that are not proved to be gone from the files yet. */
  #unproved: Uint8Array[] = [];
  #closed = false;

  private constructor(options: SqliteOptions, db: DatabaseSync) {
    this.#path = options.path;
    this.#busyMs = options.busyMs ?? DEFAULT_BUSY_MS;
    this.#db = db;
  }

  /**
   * Opens or makes the file, 0600.
   * @throws KEYSTORE_UNAVAILABLE when it cannot be opened or is damaged; UNSUPPORTED_VERSION for a newer schema;
   * INVALID_ARGUMENT when it is another program's database. Each says the remedy.
   */
  static async open(options: SqliteOptions): Promise<SqliteKeystore> {
    const { path } = options;
    createFile(path);
    let db: DatabaseSync | undefined;
    try {
      db = new DatabaseSync(path, { timeout: 0 });
      const keystore = new SqliteKeystore(options, db);
      await keystore.#prepare();
      return keystore;
    } catch (error) {
      db?.close();
      throw openFailure(path, error);
    }
  }

  async store(record: KeyRecord, expect: Expectation): Promise<void> {
    const values = valuesOf(record);
    await this.#write(() => {
      if ('absent' in expect) {
        this.#run(SQL.insert, values);
      } else {
        this.#expectOne(this.#run(SQL.replace, { ...values, expected: signed(expect.seq) }));
      }
    });
  }

  async retrieve(kid: Uint8Array): Promise<KeyRecord | undefined> {
    return this.#read(() => {
      const row = this.#statement(SQL.retrieve).get({ kid });
      return row === undefined ? undefined : recordOf(row);
    });
  }

  async versions(name: string, partition: string, purpose: string): Promise<readonly KeyRecord[]> {
    return this.#read(() => this.#statement(SQL.versions).all({ name, partition, purpose }).map(recordOf));
  }

  async updateMetadata(
    changes: readonly { readonly record: KeyRecord; readonly expect: Expectation }[],
  ): Promise<void> {
    const prepared = changes.map(({ record, expect }) => ({ values: valuesOf(record), expect }));
    await this.#write(() => {
      for (const { values, expect } of prepared) {
        this.#update(values, expect);
      }
    });
  }

  async delete(tombstone: KeyRecord, expect: Expectation): Promise<void> {
    const values = valuesOf(tombstone);
    const shredded = await this.#write(() => {
      const row = this.#statement(SQL.retrieve).get({ kid: tombstone.kid });
      this.#update(values, expect);
      return row === undefined ? new Uint8Array(0) : recordOf(row).wrapped;
    });
    if (shredded.length > 0) {
      this.#unproved.push(shredded);
    }
    await this.#proveShredded();
  }

  async list(filter: ListFilter, cursor: string | undefined, limit: number): Promise<ListPage> {
    checkLimit(limit);
    const { name = null, partition = null, level = null, purpose = null, state = null } = filter;
    const after = cursor === undefined ? new Uint8Array(0) : Buffer.from(cursor, 'hex');
    const rows = await this.#read(() =>
      this.#statement(SQL.list)
        .all({ after, name, partition, level, purpose, state, limit: limit + 1 })
        .map(recordOf),
    );
    if (rows.length <= limit) {
      return { records: rows, cursor: undefined };
    }
    const records = rows.slice(0, limit);
    return { records, cursor: hex(records.at(-1)!.kid) };
  }

  async leases(): Promise<readonly UsageLease[]> {
    return this.#read(() => this.#statement(SQL.leases).all().map(leaseOf));
  }

  async storeLease(lease: UsageLease): Promise<void> {
    const { kid, holder } = lease;
    const values = { kid, holder, messages: signed(lease.messages), bytes: signed(lease.bytes) };
    await this.#write(() => this.#run(SQL.storeLease, values));
  }

  async health(): Promise<KeystoreHealth> {
    if (this.#writeFailure !== undefined) {
      return { ok: false, detail: this.#writeFailure };
    }
    if (this.#unproved.length > 0) {
      return { ok: false, detail: `${this.#unproved.length} destroyed keys still have wrapped bytes in ${this.#path}` };
    }
    try {
      await this.#read(() => this.#statement(SQL.probe).get());
      return { ok: true, detail: this.#path };
    } catch (error) {
      return { ok: false, detail: DekdError.from(error).message };
    }
  }

  capabilities(): KeystoreCapabilities {
    return { durable: true, writable: true, watch: false };
  }

  async close(): Promise<void> {
    if (this.#closed) {
      return;
    }
    if (this.#unproved.length > 0) {
      await this.#proveShredded().catch(() => undefined);
    }
    this.#closed = true;
    this.#statements.clear();
    this.#db.close();
  }

  async #prepare(): Promise<void> {
    await this.#patiently(() => {
      this.#db.exec(
        'PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY; ' +
          'PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;',
      );
      const mode = this.#db.prepare('PRAGMA journal_mode = WAL').get()?.journal_mode;
      if (mode !== 'wal') {
        throw new DekdError(
          'KEYSTORE_UNAVAILABLE',
          `keystore ${this.#path} is on a file system without shared memory for SQLite's log: choose a local disk`,
        );
      }
    });
    await this.#patiently(() => this.#transaction(() => this.#ensureSchema()));
    await this.#patiently(() => this.#checkPages());
  }

  #ensureSchema(): void {
    const version = this.#pragma('user_version');
    const application = this.#pragma('application_id');
    const tables = Number(this.#db.prepare('SELECT count(*) AS n FROM sqlite_schema').get()?.n ?? 0);
    if (version === 0 && application === 0 && tables === 0) {
      this.#db.exec(CREATE_SCHEMA);
      return;
    }
    if (application !== APPLICATION_ID) {
      throw new DekdError('INVALID_ARGUMENT', `${this.#path} is the database of another program: choose another path`);
    }
    if (version > SCHEMA_VERSION) {
      throw new DekdError(
        'UNSUPPORTED_VERSION',
        `keystore ${this.#path} has schema ${version}, and this dekd knows up to ${SCHEMA_VERSION}: upgrade dekd, or run ` +
          'dekd keys export with the newer one and dekd keys import into an empty keystore here',
      );
    }
  }

  #checkPages(): void {
    if (statSync(this.#path).size > CHECK_BYTES) {
      return;
    }
    // One row that breaks a constraint is no damage: it fails its own check, and the keys beside it are served.
    this.#db.exec('PRAGMA ignore_check_constraints = ON');
    const result = this.#db.prepare('PRAGMA quick_check(1)').get();
    this.#db.exec('PRAGMA ignore_check_constraints = OFF');
    const found = Object.values(result ?? {})[0];
    if (found !== 'ok') {
      throw damaged(this.#path, String(found).split('\n')[0] ?? '');
    }
  }

  #pragma(name: 'user_version' | 'application_id'): number {
    return Number(this.#db.prepare(`PRAGMA ${name}`).get()?.[name] ?? 0);
  }

  #update(values: ReturnType<typeof valuesOf>, expect: Expectation): void {
    if (this.#statement(SQL.retrieve).get({ kid: values.kid }) === undefined) {
      throw new DekdError('KEY_NOT_FOUND', 'no record with this kid');
    }
    if ('absent' in expect) {
      throw new DekdError('CONFLICT', 'the record exists already');
    }
    const { kid, state, created, activated, deactivated, destroyed, seq, mac, revision } = values;
    const { parent_kid, root, resolved_id, material_version, wrapped_secret, wrapped } = values;
    this.#expectOne(
      this.#run(SQL.update, {
        kid,
        state,
        created,
        activated,
        deactivated,
        destroyed,
        seq,
        mac,
        revision,
        parent_kid,
        root,
        resolved_id,
        material_version,
        wrapped_secret,
        wrapped,
        expected: signed(expect.seq),
      }),
    );
    if (state === 'deactivated' || state === 'compromised' || state === 'destroyed') {
      // Every start of an agent leaves a row: what seals no more needs only their sum.
      this.#run(SQL.sumLeases, { kid });
      this.#run(SQL.dropLeases, { kid });
    }
  }

  #expectOne(changes: number): void {
    if (changes !== 1) {
      throw new DekdError('CONFLICT', 'the record was changed by another writer');
    }
  }

  #run(sql: string, values: Record<string, string | number | bigint | Uint8Array | null>): number {
    return Number(this.#statement(sql).run(values).changes);
  }

  #statement(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.#db.prepare(sql);
      // A row may hold any 64-bit integer, whoever wrote it: as numbers, large ones would throw.
      statement.setReadBigInts(true);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  async #read<T>(work: () => T): Promise<T> {
    this.#checkOpen();
    try {
      return await this.#patiently(work);
    } catch (error) {
      throw this.#translate(error, 'read');
    }
  }

  /** Runs `work` in a transaction of its own; when this returns, its rows are on disk. */
  async #write<T>(work: () => T): Promise<T> {
    this.#checkOpen();
    if (this.#writeFailure !== undefined) {
      throw new DekdError('KEYSTORE_UNAVAILABLE', this.#writeFailure);
    }
    try {
      return await this.#patiently(() => this.#transaction(work));
    } catch (error) {
      throw this.#translate(error, 'write');
    }
  }

  #transaction<T>(work: () => T): T {
    this.#db.exec('BEGIN IMMEDIATE');
    try {
      const result = work();
      this.#db.exec('COMMIT');
      return result;
    } catch (error) {
      if (this.#db.isTransaction) {
        this.#db.exec('ROLLBACK');
      }
      throw error;
    }
  }

  /** Tries again while another process holds the database, without blocking this one. */
  async #patiently<T>(work: () => T): Promise<T> {
    const deadline = performance.now() + this.#busyMs;
    for (let pause = FIRST_RETRY_MS; ; pause = Math.min(pause * 2, LONGEST_RETRY_MS)) {
      try {
        return work();
      } catch (error) {
        const code = resultCode(error);
        if ((code !== SQLITE.busy && code !== SQLITE.locked) || performance.now() >= deadline) {
          throw error;
        }
      }
      await sleep(pause * (0.5 + Math.random() / 2));
      this.#checkOpen();
    }
  }

  #translate(error: unknown, during: 'read' | 'write'): unknown {
    const code = resultCode(error);
    if (code === undefined) {
      return error;
    }
    const cause = { cause: error };
    switch (code) {
      case SQLITE.constraint:
        return UNIQUENESS.includes((error as { errcode: number }).errcode)
          ? new DekdError('CONFLICT', 'the record exists already', cause)
          : new DekdError('INTERNAL', 'a record breaks a constraint of the schema', cause);
      case SQLITE.busy:
      case SQLITE.locked:
        return new DekdError(
          'KEYSTORE_UNAVAILABLE',
          `keystore ${this.#path} was locked by another process for ${this.#busyMs} ms`,
          cause,
        );
      case SQLITE.full:
        return new DekdError('KEYSTORE_UNAVAILABLE', `no space left for keystore ${this.#path}`, cause);
      case SQLITE.readOnly:
        return new DekdError('KEYSTORE_UNAVAILABLE', `keystore ${this.#path} cannot be written: check its mode`, cause);
      case SQLITE.corrupt:
      case SQLITE.notADb:
        return damaged(this.#path, messageOf(error));
      case SQLITE.ioError:
        if (during === 'write') {
          this.#writeFailure =
            `keystore ${this.#path} is read-only after an I/O error (${messageOf(error)}): ` +
            'what the disk holds is not known; check it and restart the agent';
          return new DekdError('KEYSTORE_UNAVAILABLE', this.#writeFailure, cause);
        }
        return new DekdError('KEYSTORE_UNAVAILABLE', `keystore ${this.#path}: ${messageOf(error)}`, cause);
      default:
        return new DekdError('KEYSTORE_UNAVAILABLE', `keystore ${this.#path}: ${messageOf(error)}`, cause);
    }
  }

  /**
   * Makes sure that shredded bytes are in no file of the keystore. secure_delete zeroes freed cells, and truncating the
   * log drops the pages from before; but when pages were split, SQLite leaves copies of moved cells in the free space of
   * the old page. So the file is searched, and rewritten when something is found.
   */
  async #proveShredded(): Promise<void> {
    for (let attempt = 0; attempt < 2 && this.#unproved.length > 0; attempt++) {
      try {
        await this.#patiently(() => {
          if (attempt > 0) {
            this.#db.exec('VACUUM');
          }
          this.#truncateLog();
        });
      } catch (error) {
        if (resultCode(error) === undefined) {
          throw error;
        }
        // The tombstone is durable; health says what is left until a later destroy or the close gets through.
        return;
      }
      const wanted = this.#unproved;
      const left = await findIn([this.#path, `${this.#path}-wal`], wanted);
      this.#unproved = this.#unproved.filter((bytes) => left.includes(bytes) || !wanted.includes(bytes));
    }
  }

  #truncateLog(): void {
    const result = this.#db.prepare('PRAGMA wal_checkpoint(TRUNCATE)').get();
    if (Number(result?.busy ?? 0) !== 0) {
      throw Object.assign(new Error('a reader holds the log'), { errcode: SQLITE.busy });
    }
  }

  #checkOpen(): void {
    if (this.#closed) {
      throw new DekdError('KEYSTORE_UNAVAILABLE', 'the keystore is closed');
    }
  }
}

/** Makes the file with its mode in one step, so that no moment has it readable by others; SQLite's own files follow it. */
function createFile(path: string): void {
  const folder = dirname(path);
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw notMade(path, error);
  }
  try {
    closeSync(openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600));
    const descriptor = openSync(folder, constants.O_RDONLY);
    try {
      fsyncSync(descriptor);
    } finally {
      closeSync(descriptor);
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') {
      throw notMade(path, error);
    }
  }
}

function notMade(path: string, error: unknown): DekdError {
  const code = (error as NodeJS.ErrnoException).code ?? 'unknown error';
  return new DekdError(
    'KEYSTORE_UNAVAILABLE',
    `keystore ${path} cannot be made (${code}): its folder must be one that uid ${process.geteuid?.() ?? 0} may write`,
    { cause: error },
  );
}

function openFailure(path: string, error: unknown): unknown {
  switch (resultCode(error)) {
    case undefined:
      return error;
    case SQLITE.corrupt:
    case SQLITE.notADb:
      return damaged(path, messageOf(error));
    case SQLITE.cantOpen:
    case SQLITE.readOnly:
      return new DekdError(
        'KEYSTORE_UNAVAILABLE',
        `keystore ${path} cannot be opened: file and folder must be writable for uid ${process.geteuid?.() ?? 0}`,
        { cause: error },
      );
    default:
      return new DekdError('KEYSTORE_UNAVAILABLE', `keystore ${path} cannot be opened: ${messageOf(error)}`, {
        cause: error,
      });
  }
}

function damaged(path: string, detail: string): DekdError {
  return new DekdError(
    'KEYSTORE_UNAVAILABLE',
    `keystore ${path} is damaged (${detail}): restore it from a backup, or move it away and run dekd keys import with an ` +
      'export of it',
  );
}

/** The primary result code of an error of SQLite; undefined for any other error. */
function resultCode(error: unknown): number | undefined {
  if (error instanceof DekdError) {
    return undefined;
  }
  const code = (error as { errcode?: unknown }).errcode;
  return typeof code === 'number' ? code & 0xff : undefined;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** SQLite's integers are signed: the upper half of u64 is stored as negative numbers, and only compared for equality. */
function signed(value: bigint): bigint {
  return BigInt.asIntN(64, value);
}

/** Those of `wanted` that occur in one of `paths`; a file that is not there holds nothing. */
async function findIn(paths: readonly string[], wanted: readonly Uint8Array[]): Promise<Uint8Array[]> {
  const longest = Math.max(...wanted.map((bytes) => bytes.length));
  const found = new Set<Uint8Array>();
  for (const path of paths) {
    let tail: Buffer = Buffer.alloc(0);
    try {
      for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
        const window = Buffer.concat([tail, chunk]);
        for (const bytes of wanted) {
          if (window.includes(Buffer.from(bytes))) {
            found.add(bytes);
          }
        }
        tail = window.subarray(Math.max(0, window.length - longest));
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') {
        return [...wanted];
      }
    }
  }
  return [...found];
}
