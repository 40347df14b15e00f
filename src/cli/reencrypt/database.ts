/** One connection to the database whose column is re-encrypted. It is the command's: the agent makes none. */
import { type Client, type Driver, loadDriver } from '../../keystores/postgres/driver.ts';
import { endsConnection, isPassing, SessionError, sqlState } from '../../keystores/postgres/failure.ts';
import { CELL_TYPES, type Cell, type Row } from '../../keystores/postgres/rows.ts';
import { CommandError, EXIT } from '../exit.ts';
import type { DatabasePlace } from './database-place.ts';

const CONNECT_MS = 10_000;
const KEEP_ALIVE_AFTER_MS = 10_000;

/** What names without a schema mean to statements of ours: no function or operator of somebody else stands in for one that is meant. */
const OUR_PATH = 'search_path TO pg_catalog, pg_temp';
/** What they mean to triggers, as to an application: as role, database and server say. */
const THEIR_PATH = 'search_path TO DEFAULT';

/**
 * Ids, times and numbers are written as text: one text for one value, whatever role, database and machine say. No transaction of
 * ours waits for anything but the database, so one that is idle is of a machine that is gone, and holds its rows no longer.
 * Rows that a policy of the table hides would stay as they are without a word, so then it is an error.
 *
 * Of each transaction, not of the session: behind a pooler that is another one each time, and the next one to get it is an
 * application.
 */
const SETTINGS = `
SET LOCAL ${OUR_PATH}; SET LOCAL row_security TO off; SET LOCAL idle_in_transaction_session_timeout TO '30s';
SET LOCAL tcp_keepalives_idle TO 60; SET LOCAL tcp_keepalives_interval TO 10;
SET LOCAL DateStyle TO 'ISO, YMD'; SET LOCAL IntervalStyle TO 'postgres'; SET LOCAL TimeZone TO 'UTC';
SET LOCAL extra_float_digits TO 1; SET LOCAL bytea_output TO 'hex'`;

export type Value = Cell | number | readonly (string | Uint8Array | null)[];

export class Database implements AsyncDisposable {
  readonly place: DatabasePlace;
  readonly #client: Client;
  #isLost = false;
  #isInTransaction = false;

  private constructor(place: DatabasePlace, client: Client) {
    this.place = place;
    this.#client = client;
    // Without a listener a connection that ends while nothing is asked would end the process.
    client.on('error', () => {
      this.#isLost = true;
    });
  }

  /** @throws UNSUPPORTED without the driver; SessionError or the server's own error, for `databaseFailure` */
  static async open(place: DatabasePlace): Promise<Database> {
    const driver: Driver = await loadDriver(undefined, 'a column of PostgreSQL');
    const { host, port, user, password, database, tls, ca } = place;
    const client = new driver.Client({
      host,
      port,
      user,
      database,
      ...(password !== undefined && { password }),
      // Spelt out either way: else PGSSLMODE could switch verification off.
      ssl: tls && { rejectUnauthorized: true, minVersion: 'TLSv1.2', ...(ca !== undefined && { ca }) },
      application_name: 'dekd reencrypt',
      connectionTimeoutMillis: CONNECT_MS,
      keepAlive: true,
      keepAliveInitialDelayMillis: KEEP_ALIVE_AFTER_MS,
      types: CELL_TYPES as never,
    });
    const opened = new Database(place, client);
    try {
      await client.connect();
    } catch (error) {
      throw sqlState(error) === undefined ? new SessionError('unreachable', 'cannot be reached', error) : error;
    }
    return opened;
  }

  get isLost(): boolean {
    return this.#isLost;
  }

  /**
   * The rows of a statement, in a transaction of its own where there is none.
   * @throws SessionError when the connection is lost; the server's own error
   */
  async query(text: string, values: readonly Value[] = []): Promise<readonly Row[]> {
    return (await this.#one(text, values)).rows as readonly Row[];
  }

  /** Rows that a statement changed, likewise. @throws as `query` */
  async change(text: string, values: readonly Value[] = []): Promise<number> {
    return (await this.#one(text, values)).rowCount ?? 0;
  }

  /** Statements without values, as they are. @throws as `query` */
  async run(text: string): Promise<void> {
    await this.#ask({ text });
  }

  /**
   * In a transaction, `work` with the search path that others have, for what runs triggers or is to find a name of theirs; its own
   * statements say the schema of whatever they use. @throws as `query`, and what `work` throws
   */
  async inTheirPath<T>(work: () => Promise<T>): Promise<T> {
    await this.run(`SET LOCAL ${THEIR_PATH}`);
    const result = await work();
    await this.run(`SET LOCAL ${OUR_PATH}`);
    return result;
  }

  /** Runs `work` in a transaction; what it resolves with is committed. @throws as `query`, and what `work` throws */
  async transaction<T>(work: () => Promise<T>): Promise<T> {
    this.#isInTransaction = true;
    try {
      await this.run(`BEGIN ISOLATION LEVEL READ COMMITTED; ${SETTINGS}`);
      const result = await work();
      // Triggers may be deferred until now.
      await this.run(`SET LOCAL ${THEIR_PATH}; COMMIT`);
      return result;
    } catch (error) {
      if (!this.#isLost) {
        await this.run('ROLLBACK').catch(() => {
          this.#isLost = true;
        });
      }
      throw error;
    } finally {
      this.#isInTransaction = false;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client.end().catch(() => undefined);
  }

  #one(text: string, values: readonly Value[]) {
    const ask = () => this.#ask({ text, values: [...values] });
    return this.#isInTransaction ? ask() : this.transaction(ask);
  }

  async #ask(query: { text: string; values?: unknown[] }) {
    try {
      return await this.#client.query(query);
    } catch (error) {
      if (!endsConnection(error)) {
        throw error;
      }
      this.#isLost = true;
      throw new SessionError('lost', 'ended the connection', error);
    }
  }
}

/** Whether the database may answer the same question later: it restarts, is full of connections, or undid what was asked. */
export function isDatabaseAway(error: unknown): boolean {
  const state = sqlState(error);
  return (
    error instanceof SessionError ||
    isPassing(error) ||
    state === '53300' ||
    (state !== undefined && endsConnection(error))
  );
}

/** Meaning by SQLSTATE (appendix A of PostgreSQL's manual), then by its class. */
const MEANING: Readonly<Record<string, string>> = {
  '08': 'broke the connection',
  '22': 'refuses the new value for a row',
  '23': 'has a constraint that a re-encrypted row breaks',
  '25006': 'is read-only: name the primary',
  '28': 'refused the login: check user, password and pg_hba.conf',
  '3D000': 'has no such database',
  '3F000': 'has no such schema: make it, or name another with --job-schema',
  '40': 'undid the transaction again and again because of other writers',
  '42501':
    'does not let the role do this: it needs SELECT and UPDATE on the table, BYPASSRLS where policies hide rows of it, ' +
    'and the tables of the job or the right to make them',
  '53': 'is short of a resource',
  '53300': 'has too many connections',
  '55P03': 'holds a lock that others wait for',
  '57014': 'cancelled a statement: statement_timeout, or an administrator',
  '57P': 'is shutting down or starting',
  P0001: 'has a trigger that refuses a re-encrypted row',
};

/** Why no connection was made, by the code of Node's error. */
const UNREACHABLE: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nothing listens there',
  ENOENT: 'no socket is there',
  ENOTFOUND: 'the name is not known',
  EAI_AGAIN: 'the name cannot be looked up now',
  ETIMEDOUT: 'no answer',
  ECONNRESET: 'the connection was closed',
};

/**
 * What a failure of the database means to whoever runs the command; PostgreSQL's own words may quote a row, and stay away.
 * Errors of ours are returned as they are.
 */
export function databaseFailure(error: unknown, shown: string, remedy?: string): unknown {
  const answer = error instanceof SessionError ? (error.cause ?? error) : error;
  const state = sqlState(answer);
  if (state !== undefined) {
    const meaning = MEANING[state] ?? MEANING[state.slice(0, 3)] ?? MEANING[state.slice(0, 2)] ?? 'refused a statement';
    return failed(`the database ${shown} ${meaning} (SQLSTATE ${state})`, remedy);
  }
  if (error instanceof SessionError) {
    const { code, message = '' } = answer as { code?: unknown; message?: string };
    const known = typeof code === 'string' ? (UNREACHABLE[code] ?? code) : wordsOf(message);
    return failed(`the database ${shown} ${error.message}${known === '' ? '' : `: ${known}`}`, remedy);
  }
  return error;
}

/** The driver has no codes for what it finds itself, so its texts are all there is to go by. */
function wordsOf(message: string): string {
  if (message.startsWith('SASL')) {
    return 'the login needs a password, or the server does not know it';
  }
  return message.includes('does not support SSL') ? 'it has no TLS' : '';
}

function failed(message: string, remedy: string | undefined): CommandError {
  return new CommandError(EXIT.failed, 'INTERNAL', message, remedy);
}
