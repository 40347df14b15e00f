import { readFile } from 'node:fs/promises';
import { Socket } from 'node:net';
import type { Client, ClientConfig, CustomTypesConfig } from 'pg';
import type { PostgresSettings } from '../../config/config.ts';
import { DekdError } from '../../errors.ts';
import type { Deadline } from './deadline.ts';
import type { Driver } from './driver.ts';
import { connectFailure, endsConnection, SessionError, sqlState } from './failure.ts';
import type { Place } from './place.ts';
import { CELL_TYPES, type Cell, type Row } from './rows.ts';
import type { Statement } from './schema.ts';

const KEEP_ALIVE_AFTER_MS = 10_000;
/** A Terminate message that nobody takes must not keep a process alive. */
const GOODBYE_MS = 500;
/** SQLSTATE of a warning without one of its own. */
const WARNING = '01000';

export interface SessionOptions {
  readonly driver: Driver;
  readonly place: Place;
  readonly settings: Pick<PostgresSettings, 'passwordFile' | 'caFile'>;
}

/** One connection. One operation at a time uses it; its owner closes it or hands it back. */
export class Session {
  readonly #client: Client;
  /** Ours, because the driver offers no way to drop a connection that hangs. */
  readonly #socket: Socket;
  #dead = false;
  #warned = false;

  private constructor(client: Client, socket: Socket) {
    this.#client = client;
    this.#socket = socket;
    // Without a listener an idle connection that ends would end the process.
    client.on('error', () => this.#die());
    client.on('end', () => this.#die());
    client.on('notice', ({ code }) => {
      this.#warned ||= code === WARNING;
    });
  }

  /**
   * Password and certificates are read now, so that what was rotated on disk is in use from the next connection on.
   * @throws SessionError unreachable or late; DekdError for a file that cannot be read; the server's own error
   */
  static async connect({ driver, place, settings }: SessionOptions, deadline: Deadline): Promise<Session> {
    const { passwordFile, caFile } = settings;
    const ca = place.tls && caFile !== undefined ? await contentsOf('caFile', caFile) : undefined;
    const socket = new Socket();
    const disarm = deadline.alarm(() => socket.destroy());
    try {
      const config: ClientConfig = {
        host: place.host,
        port: place.port,
        user: place.user,
        database: place.database,
        // Spelt out either way: else PGSSLMODE could switch verification off.
        ssl: place.tls && { rejectUnauthorized: true, minVersion: 'TLSv1.2', ...(ca !== undefined && { ca }) },
        application_name: 'dekd',
        keepAlive: true,
        keepAliveInitialDelayMillis: KEEP_ALIVE_AFTER_MS,
        stream: () => socket,
        types: CELL_TYPES as CustomTypesConfig,
        ...(passwordFile !== undefined && { password: () => passwordIn(passwordFile) }),
      };
      const client = new driver.Client(config);
      const session = new Session(client, socket);
      await client.connect();
      return session;
    } catch (error) {
      socket.destroy();
      throw deadline.passed ? new SessionError('late', lateText(deadline)) : connectFailure(error);
    } finally {
      disarm();
    }
  }

  /** Whether nothing can be asked any more. */
  get dead(): boolean {
    return this.#dead;
  }

  /** @throws SessionError lost; the server's own error */
  async query(statement: Statement, values: readonly (Cell | readonly Cell[])[]): Promise<readonly Row[]> {
    return (await this.#ask({ ...statement, values: [...values] })).rows;
  }

  /** Rows that a statement changed. */
  async change(statement: Statement, values: readonly (Cell | readonly Cell[])[]): Promise<number> {
    return (await this.#ask({ ...statement, values: [...values] })).rowCount ?? 0;
  }

  /** One or more statements without values, in the simple protocol. @returns the rows of the last one */
  async run(text: string): Promise<readonly Row[]> {
    return (await this.#ask({ text })).rows;
  }

  /**
   * Runs `work` in a transaction. When this returns, what it wrote is durable where the server promises it.
   * @throws SessionError lost when nothing was written; KEYSTORE_UNAVAILABLE when nobody knows
   */
  async transaction<T>(work: () => Promise<T>): Promise<T> {
    await this.run('BEGIN ISOLATION LEVEL READ COMMITTED');
    let result: T;
    try {
      result = await work();
    } catch (error) {
      if (!this.#dead) {
        await this.run('ROLLBACK').catch(() => this.destroy());
      }
      throw error;
    }
    await this.#commit();
    return result;
  }

  /** Drops the connection at once: whatever waits on it fails. */
  destroy(): void {
    this.#die();
    this.#socket.destroy();
  }

  /** Says goodbye. */
  async close(): Promise<void> {
    this.#dead = true;
    const timer = setTimeout(() => this.#socket.destroy(), GOODBYE_MS);
    await this.#client.end();
    clearTimeout(timer);
  }

  async #commit(): Promise<void> {
    this.#warned = false;
    let command: string;
    try {
      command = (await this.#ask({ text: 'COMMIT' })).command;
    } catch (error) {
      if (endsConnection(error)) {
        throw new DekdError(
          'KEYSTORE_UNAVAILABLE',
          'keystore postgres: the connection was lost at the commit, and what was written is not known: read again',
          { reason: sqlState(error) ?? 'connection lost' },
        );
      }
      throw error;
    }
    if (command !== 'COMMIT') {
      // The answer to a commit of a transaction that had failed.
      throw new DekdError('KEYSTORE_UNAVAILABLE', 'keystore postgres: the server undid the change');
    }
    if (this.#warned) {
      // The wait for a synchronous standby was cancelled: the server reports that as a success with a warning.
      throw new DekdError(
        'KEYSTORE_UNAVAILABLE',
        'keystore postgres: written, but no synchronous standby has confirmed it: a failover may lose it, read again',
      );
    }
  }

  async #ask(query: { text: string; name?: string; values?: unknown[] }) {
    try {
      const answer = await this.#client.query<Record<string, Cell>>(query);
      // The simple protocol answers several statements with several results.
      return Array.isArray(answer) ? (answer.at(-1) as typeof answer) : answer;
    } catch (error) {
      if (!endsConnection(error)) {
        throw error;
      }
      this.destroy();
      throw new SessionError('lost', 'ended the connection', error);
    }
  }

  #die(): void {
    this.#dead = true;
  }
}

/** The words for an operation whose time is over. */
export function lateText({ totalMs }: Deadline): string {
  return `did not answer in ${totalMs} ms`;
}

async function passwordIn(path: string): Promise<string> {
  const password = (await contentsOf('passwordFile', path)).replace(/\r?\n$/, '');
  if (password === '') {
    throw new DekdError('KEYSTORE_UNAVAILABLE', `keystore.postgres.passwordFile ${path} is empty`);
  }
  return password;
}

async function contentsOf(setting: string, path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown error';
    throw new DekdError('KEYSTORE_UNAVAILABLE', `keystore.postgres.${setting} ${path} cannot be read (${code})`);
  }
}
