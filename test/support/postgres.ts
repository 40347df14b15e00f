import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { describe, it } from 'vitest';
import type { PostgresSettings } from '../../src/config/config.ts';
import { freePort } from './free-port.ts';
import { childrenOf, isRunning } from './processes.ts';

/** Where Debian and others put the server's programs; the newest first. */
const FOLDERS = ['/usr/lib/postgresql', '/usr/pgsql', '/opt/homebrew/opt/postgresql'];
/** A live server: its URL may hold a password, and its user must be able to make schemas. */
const LIVE_URL = process.env.DEKD_TEST_POSTGRES_URL;

const NEEDS_POSTGRES = 'needs postgresql';

function postgresBinaries(): string | undefined {
  const versions = FOLDERS.flatMap((folder) =>
    existsSync(folder) ? readdirSync(folder).map((version) => join(folder, version, 'bin')) : [],
  );
  const found = versions.filter((folder) => existsSync(join(folder, 'initdb'))).sort();
  return found.at(-1) ?? (process.env.PATH ?? '').split(':').find((folder) => existsSync(join(folder, 'initdb')));
}

/** Tests that need any server; skipped, with the reason, where there is none. */
export function describeDatabase(name: string, tests: () => void): void {
  describeIf(LIVE_URL !== undefined || postgresBinaries() !== undefined, name, tests);
}

/** Tests that kill, configure or copy their server, which must be ours. */
export function describeOwnServer(name: string, tests: () => void): void {
  describeIf(postgresBinaries() !== undefined, name, tests);
}

function describeIf(possible: boolean, name: string, tests: () => void): void {
  describe(name, possible ? tests : () => it('runs against a server', ({ skip }) => skip(NEEDS_POSTGRES)));
}

/** What tests of the adapter need of a server, ours or a live one. */
export interface DatabaseAccess {
  readonly settings: PostgresSettings;
  /** A connection of the administrator. */
  admin(): Promise<pg.Client>;
  stop(): Promise<void>;
}

/** A private server, or the live one when there is one. */
export async function startDatabase(): Promise<DatabaseAccess> {
  return LIVE_URL === undefined ? PostgresServer.start() : liveDatabase(LIVE_URL);
}

let schemas = 0;

/** A schema that nobody has. */
export function freshSchema(): string {
  schemas += 1;
  return `dekd_test_${process.pid}_${Date.now()}_${schemas}`;
}

export async function dropSchema(database: DatabaseAccess, schema: string): Promise<void> {
  const admin = await database.admin();
  await admin.query(`DROP SCHEMA IF EXISTS "${schema}" CASCADE`);
  await admin.end();
}

/** Settings with what tests seldom change; `changes` over them. */
export function settingsWith(changes: Partial<PostgresSettings>): PostgresSettings {
  return {
    url: undefined,
    passwordFile: undefined,
    schema: 'dekd',
    caFile: undefined,
    tls: 'disable',
    connections: 4,
    timeout: 5000,
    migrate: true,
    ...changes,
  };
}

/**
 * A PostgreSQL server of its own: a fresh cluster in a temporary folder, fsync on, its Unix socket there too, and a port of
 * 127.0.0.1. Administrators come in over the socket without a password; over TCP everybody needs one.
 */
export class PostgresServer implements DatabaseAccess {
  readonly folder: string;
  readonly port: number;
  readonly #binaries: string;
  readonly #owner: { uid: number; gid: number } | undefined;
  #process: ChildProcess | undefined;

  private constructor(folder: string, port: number, binaries: string) {
    this.folder = folder;
    this.port = port;
    this.#binaries = binaries;
    this.#owner = serverUser();
  }

  /** @param options settings of postgresql.conf */
  static async start(options: Readonly<Record<string, string>> = {}): Promise<PostgresServer> {
    const binaries = postgresBinaries();
    if (binaries === undefined) {
      throw new Error(NEEDS_POSTGRES);
    }
    const folder = mkdtempSync(join(tmpdir(), 'dekd-pg-'));
    const server = new PostgresServer(folder, await freePort(), binaries);
    server.#initialise(options);
    await server.restart();
    return server;
  }

  get data(): string {
    return join(this.folder, 'data');
  }

  /** Over the Unix socket, as the owner of the cluster. */
  get settings(): PostgresSettings {
    return settingsWith({ url: `postgres://postgres@localhost:${this.port}/postgres?host=${this.folder}` });
  }

  async admin(): Promise<pg.Client> {
    const client = new pg.Client({ host: this.folder, port: this.port, user: 'postgres', database: 'postgres' });
    client.on('error', () => undefined);
    await client.connect();
    return client;
  }

  /** Runs statements as the administrator. */
  async sql<T extends pg.QueryResultRow>(text: string, values: unknown[] = []): Promise<T[]> {
    const client = await this.admin();
    try {
      return (await client.query<T>(text, values)).rows;
    } finally {
      await client.end();
    }
  }

  /** Starts it, after a kill as well; ready for work when this resolves. */
  async restart(): Promise<void> {
    // What a killed postmaster leaves; its processes are gone.
    rmSync(join(this.folder, `.s.PGSQL.${this.port}.lock`), { force: true });
    this.#process = spawn(join(this.#binaries, 'postgres'), ['-D', this.data], { stdio: 'ignore', ...this.#owner });
    for (let attempt = 0; ; attempt++) {
      try {
        const admin = await this.admin();
        await admin.end();
        return;
      } catch (error) {
        if (attempt > 400 || this.#process.exitCode !== null) {
          throw error;
        }
      }
      await sleep(25);
    }
  }

  /** SIGKILL to the postmaster and all its processes: nothing is written that was not yet. */
  async kill(): Promise<void> {
    const pid = this.#process!.pid!;
    const children = childrenOf(pid);
    const exited = once(this.#process!, 'exit');
    for (const each of [pid, ...children]) {
      try {
        process.kill(each, 'SIGKILL');
      } catch {
        // It went with its parent.
      }
    }
    await exited;
    while (children.some(isRunning)) {
      await sleep(5);
    }
  }

  async stop(): Promise<void> {
    if (this.#process?.exitCode === null && this.#process.signalCode === null) {
      const exited = once(this.#process, 'exit');
      // Immediate: nothing of it is needed any more.
      this.#process.kill('SIGQUIT');
      await exited;
    }
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** A copy of this server that follows it. */
  async startReplica(): Promise<PostgresServer> {
    const folder = mkdtempSync(join(tmpdir(), 'dekd-pg-'));
    const replica = new PostgresServer(folder, await freePort(), this.#binaries);
    replica.#own(folder);
    execFileSync(
      join(this.#binaries, 'pg_basebackup'),
      ['-D', replica.data, '-h', this.folder, '-p', String(this.port), '-U', 'postgres', '-R', '-c', 'fast'],
      { stdio: 'ignore', ...this.#owner },
    );
    const conf = join(replica.data, 'postgresql.conf');
    writeFileSync(
      conf,
      `${readFileSync(conf, 'utf8')}\nport = ${replica.port}\nunix_socket_directories = '${folder}'\n`,
    );
    await replica.restart();
    return replica;
  }

  #initialise(options: Readonly<Record<string, string>>): void {
    this.#own(this.folder);
    execFileSync(
      join(this.#binaries, 'initdb'),
      [
        '-D',
        this.data,
        '-U',
        'postgres',
        '-A',
        'trust',
        '-E',
        'UTF8',
        '--locale=C.UTF-8',
        '--no-sync',
        '--no-instructions',
      ],
      { stdio: 'ignore', ...this.#owner },
    );
    const settings = {
      port: String(this.port),
      listen_addresses: "'127.0.0.1'",
      unix_socket_directories: `'${this.folder}'`,
      shared_buffers: '16MB',
      max_connections: '60',
      logging_collector: 'off',
      log_min_messages: 'fatal',
      ...options,
    };
    const conf = join(this.data, 'postgresql.conf');
    const lines = Object.entries(settings).map(([name, value]) => `${name} = ${value}`);
    writeFileSync(conf, `${readFileSync(conf, 'utf8')}\n${lines.join('\n')}\n`);
    writeFileSync(
      join(this.data, 'pg_hba.conf'),
      'local all all trust\nlocal replication all trust\nhost all all 127.0.0.1/32 scram-sha-256\n',
    );
  }

  #own(folder: string): void {
    if (this.#owner !== undefined) {
      chownSync(folder, this.#owner.uid, this.#owner.gid);
    }
  }
}

/** The server refuses to run as root. */
function serverUser(): { uid: number; gid: number } | undefined {
  if (process.getuid?.() !== 0) {
    return undefined;
  }
  const line = readFileSync('/etc/passwd', 'utf8').match(/^postgres:[^:]*:(\d+):(\d+):/m);
  return line === null ? { uid: 65533, gid: 65533 } : { uid: Number(line[1]), gid: Number(line[2]) };
}

function liveDatabase(url: string): DatabaseAccess {
  const parsed = new URL(url);
  const folder = mkdtempSync(join(tmpdir(), 'dekd-pg-'));
  const passwordFile = join(folder, 'password');
  writeFileSync(passwordFile, decodeURIComponent(parsed.password), { mode: 0o600 });
  const hasPassword = parsed.password !== '';
  parsed.password = '';
  const tls = /^(localhost|127\.|\[::1\]|$)/.test(parsed.hostname) ? 'disable' : 'verify-full';
  return {
    settings: settingsWith({
      url: parsed.href,
      tls,
      passwordFile: hasPassword ? passwordFile : undefined,
      caFile: process.env.DEKD_TEST_POSTGRES_CA,
    }),
    admin: async () => {
      const client = new pg.Client({ connectionString: url, ssl: tls === 'verify-full' });
      await client.connect();
      return client;
    },
    stop: async () => rmSync(folder, { recursive: true, force: true }),
  };
}
