import { setTimeout as sleep } from 'node:timers/promises';
import { hex } from '../bytes.ts';
import type { PostgresSettings } from '../config/config.ts';
import { DekdError } from '../errors.ts';
import type { KeyRecord, UsageLease } from '../keyring/record.ts';
import type { Expectation, Keystore, KeystoreCapabilities, KeystoreHealth, ListFilter, ListPage } from './keystore.ts';
import { checkLimit } from './list-filter.ts';
import { Deadline } from './postgres/deadline.ts';
import { loadDriver } from './postgres/driver.ts';
import { failureOf, isPassing, sqlState } from './postgres/failure.ts';
import { checkNotNewer, ensureSchema, MIGRATION_TIMEOUT_MS } from './postgres/migration.ts';
import { type Place, placeOf } from './postgres/place.ts';
import { type Cell, leaseOf, recordOf, storable, valuesOf } from './postgres/rows.ts';
import { type Statements, statementsFor } from './postgres/schema.ts';
import { Scrubber, type ScrubOutcome } from './postgres/scrubber.ts';
import { prepareSession } from './postgres/server-check.ts';
import { Session, type SessionOptions } from './postgres/session.ts';
import { closed, SessionPool } from './postgres/session-pool.ts';
import { COLUMNS, MUTABLE } from './record-columns.ts';

const FIRST_RETRY_MS = 5;
const LONGEST_RETRY_MS = 200;
/** The server gives up a little earlier than we do: then it is known that nothing was written. */
const SERVER_SHARE = 0.8;
/** A table up to this size (some 100,000 keys) is rewritten in about a second; larger ones wait for a quiet hour. */
const SCRUB_BYTES = 64 * 1024 * 1024;
const SCRUB_TIMEOUT_MS = 30_000;

const CURSOR = /^(?:[0-9a-f]{2})*$/;
const INSUFFICIENT_PRIVILEGE = '42501';
const LOCK_NOT_AVAILABLE = '55P03';
const UNDEFINED_TABLE = '42P01';
const UNDEFINED_SCHEMA = '3F000';

export interface PostgresOptions {
  /** Identity of the keystore that has to be found; undefined takes whichever is there. */
  readonly identity?: string | undefined;
}

/**
 * Wrapped keys in a schema of a PostgreSQL database, shared by any number of agents.
 *
 * An operation that returned is durable: every session has synchronous_commit on, whatever the server's default. Each
 * operation has one deadline, which waiting for a connection, retries and locks all count towards. Writes are transactions:
 * a connection lost before the commit means that nothing was written, and the write is done again; one lost at the commit
 * is reported, because nobody knows.
 *
 * The keystore has an identity, made with its tables. A connection that finds another one, or none, is refused: after a
 * failover to an empty server "no such key" would be a lie.
 */
export class PostgresKeystore implements Keystore {
  readonly kind = 'postgres';
  readonly #place: Place;
  readonly #timeoutMs: number;
  readonly #statements: Statements;
  readonly #connection: SessionOptions;
  readonly #sessions: SessionPool;
  readonly #scrubber: Scrubber;
  #identity: string | undefined;
  #warnings: readonly string[] = [];
  #closing: Promise<void> | undefined;

  private constructor(settings: PostgresSettings, connection: SessionOptions, identity: string | undefined) {
    this.#place = connection.place;
    this.#timeoutMs = settings.timeout;
    this.#statements = statementsFor(connection.place.schema);
    this.#connection = connection;
    this.#identity = identity;
    this.#sessions = new SessionPool(settings.connections, (deadline) => this.#connect(deadline));
    this.#scrubber = new Scrubber(() => this.#scrub());
  }

  /**
   * Connects, and makes or upgrades the tables when `settings.migrate` says so.
   * @throws KEYSTORE_UNAVAILABLE when the server cannot be used; UNSUPPORTED_VERSION for tables that are newer, or older
   * without `migrate`; INVALID_ARGUMENT for settings that cannot be; UNSUPPORTED without the driver. Each says the remedy.
   */
  static async open(settings: PostgresSettings, options: PostgresOptions = {}): Promise<PostgresKeystore> {
    const place = placeOf(settings);
    const driver = await loadDriver();
    const keystore = new PostgresKeystore(settings, { driver, place, settings }, options.identity);
    try {
      await keystore.#prepare(settings.migrate, options.identity);
      return keystore;
    } catch (error) {
      await keystore.close();
      throw failureOf(error, place.shown);
    }
  }

  /** Made with the tables; the same for every agent and after every restart. */
  get identity(): string {
    return this.#identity!;
  }

  async store(record: KeyRecord, expect: Expectation): Promise<void> {
    const values = valuesOf(record);
    await this.#write(async (session) => {
      if ('absent' in expect) {
        await session.change(
          this.#statements.insert,
          COLUMNS.map((column) => values[column]),
        );
        return;
      }
      const given = [values.kid, expect.seq.toString(), ...COLUMNS.slice(1).map((column) => values[column])];
      expectOne(await session.change(this.#statements.replace, given));
    });
  }

  async retrieve(kid: Uint8Array): Promise<KeyRecord | undefined> {
    const [row] = await this.#read((session) => session.query(this.#statements.retrieve, [kid.slice()]));
    return row === undefined ? undefined : recordOf(row);
  }

  async versions(name: string, partition: string, purpose: string): Promise<readonly KeyRecord[]> {
    const values = [storable(name), storable(partition), storable(purpose)];
    return (await this.#read((session) => session.query(this.#statements.versions, values))).map(recordOf);
  }

  async updateMetadata(
    changes: readonly { readonly record: KeyRecord; readonly expect: Expectation }[],
  ): Promise<void> {
    const prepared = changes.map(({ record, expect }) => ({ values: valuesOf(record), expect }));
    await this.#write((session) => this.#update(session, prepared));
  }

  async delete(tombstone: KeyRecord, expect: Expectation): Promise<void> {
    const values = valuesOf(tombstone);
    await this.#write(async (session) => {
      await this.#update(session, [{ values, expect }]);
      await session.change(this.#statements.countShredded, []);
    });
    this.#scrubber.owe();
  }

  async list(filter: ListFilter, cursor: string | undefined, limit: number): Promise<ListPage> {
    checkLimit(limit);
    if (cursor !== undefined && !CURSOR.test(cursor)) {
      throw new DekdError('INVALID_ARGUMENT', 'the cursor is not one of this keystore');
    }
    const { name, partition, level, purpose, state } = filter;
    const wanted = [name, partition, level?.toString(), purpose, state].map((value) =>
      value === undefined ? null : storable(value),
    );
    const values = [new Uint8Array(Buffer.from(cursor ?? '', 'hex')), ...wanted, String(limit + 1)];
    const rows = await this.#read((session) => session.query(this.#statements.list, values));
    const records = rows.slice(0, limit).map(recordOf);
    const last = rows.length > limit ? records.at(-1) : undefined;
    return { records, cursor: last === undefined ? undefined : hex(last.kid) };
  }

  async leases(): Promise<readonly UsageLease[]> {
    return (await this.#read((session) => session.query(this.#statements.leases, []))).map(leaseOf);
  }

  async storeLease({ kid, holder, messages, bytes }: UsageLease): Promise<void> {
    const values = [kid.slice(), storable(holder), messages.toString(), bytes.toString()];
    await this.#write((session) => session.change(this.#statements.storeLease, values));
  }

  async health(): Promise<KeystoreHealth> {
    try {
      const [store] = await this.#read((session) => session.query(this.#statements.store, []));
      const owed = Number(store?.owed ?? 0);
      const notes = [...this.#warnings, ...(owed > 0 ? [this.#unscrubbed(owed)] : [])];
      return { ok: true, detail: [`${this.#place.shown} schema ${this.#place.schema}`, ...notes].join('; ') };
    } catch (error) {
      return { ok: false, detail: DekdError.from(error).message };
    }
  }

  capabilities(): KeystoreCapabilities {
    return { durable: true, writable: true, watch: false };
  }

  close(): Promise<void> {
    this.#closing ??= this.#scrubber.stop().then(() => this.#sessions.close());
    return this.#closing;
  }

  async #prepare(migrate: boolean, expected: string | undefined): Promise<void> {
    const deadline = new Deadline(migrate ? Math.max(this.#timeoutMs, MIGRATION_TIMEOUT_MS) : this.#timeoutMs);
    // Not from the pool, whose sessions all know the identity. Its tables may not be there yet, and the server gets less
    // time to accept the connection than a migration may take.
    const session = await Session.connect(this.#connection, new Deadline(this.#timeoutMs));
    const disarm = deadline.alarm(() => session.destroy());
    try {
      await prepareSession(session, this.#place.shown, this.#serverTimeoutMs);
      // A keystore that is known to exist is never made anew.
      if (expected === undefined) {
        await ensureSchema(session, this.#place.schema, migrate);
      }
      await this.#recognise(session);
      if (expected !== undefined) {
        await ensureSchema(session, this.#place.schema, migrate);
      }
    } finally {
      disarm();
      await session.close();
    }
    const [store] = await this.#read((pooled) => pooled.query(this.#statements.store, []));
    if (Number(store?.owed ?? 0) > 0) {
      this.#scrubber.owe();
    }
  }

  async #connect(deadline: Deadline): Promise<Session> {
    const session = await Session.connect(this.#connection, deadline);
    const disarm = deadline.alarm(() => session.destroy());
    try {
      this.#warnings = await prepareSession(session, this.#place.shown, this.#serverTimeoutMs);
      await this.#recognise(session);
      return session;
    } catch (error) {
      session.destroy();
      throw error;
    } finally {
      disarm();
    }
  }

  /** @throws KEYSTORE_UNAVAILABLE unless the tables are those that this keystore knows */
  async #recognise(session: Session): Promise<void> {
    const { shown, schema } = this.#place;
    let id: Cell | undefined;
    try {
      const [store] = await session.query(this.#statements.store, []);
      checkNotNewer(Number(store?.version), schema);
      id = store?.id;
    } catch (error) {
      const state = sqlState(error);
      if (state !== UNDEFINED_TABLE && state !== UNDEFINED_SCHEMA) {
        throw error;
      }
    }
    if (typeof id !== 'string' || (this.#identity !== undefined && this.#identity !== id)) {
      throw new DekdError(
        'KEYSTORE_UNAVAILABLE',
        `keystore postgres: ${shown} schema ${schema} is ${id === undefined ? 'empty' : 'another keystore'} and not the ` +
          'one that was opened: has the server failed over to one without its data? restore it, or start dekd anew on it',
      );
    }
    this.#identity = id;
  }

  async #update(session: Session, changes: readonly { values: ReturnType<typeof valuesOf>; expect: Expectation }[]) {
    const locked = await session.query(this.#statements.lock, [changes.map(({ values }) => values.kid)]);
    const there = new Set(locked.map(({ kid }) => hexOf(kid)));
    for (const { values, expect } of changes) {
      if (!there.has(hexOf(values.kid))) {
        throw new DekdError('KEY_NOT_FOUND', 'no record with this kid');
      }
      if ('absent' in expect) {
        throw new DekdError('CONFLICT', 'the record exists already');
      }
      const given = [values.kid, expect.seq.toString(), ...MUTABLE.map((column) => values[column])];
      expectOne(await session.change(this.#statements.update, given));
      const { state } = values;
      if (state === 'deactivated' || state === 'compromised' || state === 'destroyed') {
        // Every start of an agent leaves a row: what seals no more needs only their sum.
        await session.change(this.#statements.sumLeases, [values.kid]);
      }
    }
  }

  async #scrub(): Promise<ScrubOutcome> {
    try {
      const [row] = await this.#sessions.use(new Deadline(SCRUB_TIMEOUT_MS), (session) =>
        session.transaction(async () => {
          await session.run(`SET LOCAL statement_timeout = ${SCRUB_TIMEOUT_MS}`);
          return session.query(this.#statements.scrub, [String(SCRUB_BYTES)]);
        }),
      );
      return row?.done === 't' ? 'done' : row?.done === 'f' ? 'held' : 'too-large';
    } catch (error) {
      const state = sqlState(error);
      return state === INSUFFICIENT_PRIVILEGE ? 'not-allowed' : state === LOCK_NOT_AVAILABLE ? 'held' : 'failed';
    }
  }

  #unscrubbed(owed: number): string {
    const why = this.#scrubber.obstacle;
    return (
      `wrapped bytes of ${owed} destroyed keys are still in dead rows${why === undefined ? '' : ` (${why})`} until ` +
      `SELECT ${this.#place.schema}.scrub() returns true`
    );
  }

  #read<T>(work: (session: Session) => Promise<T>): Promise<T> {
    return this.#patiently(work);
  }

  /** Runs `work` in a transaction of its own. */
  #write<T>(work: (session: Session) => Promise<T>): Promise<T> {
    return this.#patiently((session) => session.transaction(() => work(session)));
  }

  /** Does again, until the deadline, what had no effect and is worth another try. */
  async #patiently<T>(work: (session: Session) => Promise<T>): Promise<T> {
    if (this.#closing !== undefined) {
      throw closed();
    }
    const deadline = new Deadline(this.#timeoutMs);
    for (let pause = FIRST_RETRY_MS; ; pause = Math.min(pause * 2, LONGEST_RETRY_MS)) {
      try {
        return await this.#sessions.use(deadline, work);
      } catch (error) {
        if (!isPassing(error) || deadline.remainingMs <= pause) {
          throw failureOf(error, this.#place.shown);
        }
      }
      await sleep(pause * (0.5 + Math.random() / 2));
    }
  }

  get #serverTimeoutMs(): number {
    return Math.ceil(this.#timeoutMs * SERVER_SHARE);
  }
}

function expectOne(changed: number): void {
  if (changed !== 1) {
    throw new DekdError('CONFLICT', 'the record was changed by another writer');
  }
}

function hexOf(kid: Cell | undefined): string {
  return kid instanceof Uint8Array ? hex(kid) : '';
}
