/** A table with tokens, an agent that made them, and `dekd reencrypt` over it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from '../../src/client/index.ts';
import type { DekdClient } from '../../src/client/types.ts';
import { encodeTokenText } from '../../src/envelope/token-text.ts';
import { type CommandResult, Workplace } from './command-line.ts';
import { PostgresServer } from './postgres.ts';

export const KEY = 'customers';

export interface TokenTableOptions {
  /** `bytea` or `text`. */
  readonly type?: string;
  readonly rows: number;
  /** SQL of the id of row `$1`, a whole number, and its type. */
  readonly id?: { readonly type: string; readonly sql: string };
}

/** A server and an agent for the tests of one file. */
export class TokenTables implements AsyncDisposable {
  readonly server: PostgresServer;
  readonly place: Workplace;
  readonly dekd: DekdClient;

  private constructor(server: PostgresServer, place: Workplace) {
    this.server = server;
    this.place = place;
    this.dekd = connect({ socket: place.socket });
  }

  static async start(): Promise<TokenTables> {
    const server = await PostgresServer.start();
    const place = new Workplace();
    await place.startAgent();
    place.env.DATABASE_URL = server.settings.url!;
    return new TokenTables(server, place);
  }

  /** Makes `table` (id, token) anew, row n holding `value n` bound to `row`, its id. */
  async fill(table: string, options: TokenTableOptions): Promise<void> {
    const { type = 'text', rows, id = { type: 'integer', sql: '$1::integer' } } = options;
    await this.server.sql(`DROP TABLE IF EXISTS "${table}"`);
    await this.server.sql(`CREATE TABLE "${table}" (id ${id.type} PRIMARY KEY, n integer, token ${type})`);
    await this.server.sql(
      `INSERT INTO "${table}" SELECT ${id.sql.replaceAll('$1', 'n')}, n FROM generate_series(1, ${rows}) AS n`,
    );
    const made = await this.server.sql<{ id: string; n: number }>(`SELECT id::text, n FROM "${table}"`);
    await this.write(table, made, type);
  }

  /** Gives rows tokens of the newest version. */
  async write(table: string, rows: readonly { id: string; n: number }[], type = 'text'): Promise<void> {
    const tokens = await this.tokens(rows.map(({ id, n }) => ({ id, value: `value ${n}` })));
    await this.server.sql(
      `UPDATE "${table}" SET token = given.token FROM unnest($1::integer[], $2::${type}[]) AS given (n, token)
       WHERE "${table}".n = given.n`,
      [rows.map(({ n }) => n), tokens.map((token) => (type === 'bytea' ? Buffer.from(token) : encodeTokenText(token)))],
    );
  }

  async tokens(rows: readonly { id: string; value: string }[]): Promise<Uint8Array[]> {
    const items = rows.map(({ id, value }) => ({ data: Buffer.from(value), context: { row: id } }));
    return (await this.dekd.encryptMany(items, { key: KEY })).map((result) => {
      if (!result.ok) {
        throw result.error;
      }
      return result.value;
    });
  }

  /** Every row: what it holds, by n; null where that does not open. */
  async values(table: string): Promise<Map<number, string | null>> {
    const rows = await this.server.sql<{ id: string; n: number; token: string | Buffer }>(
      `SELECT id::text, n, token FROM "${table}" WHERE token IS NOT NULL`,
    );
    const items = rows.map(({ id, token }) => ({ data: bytesOf(token), context: { row: id } }));
    const results = await this.dekd.decryptMany(items, { key: KEY });
    return new Map(rows.map(({ n }, index) => [n, textOf(results[index]!)]));
  }

  /** Kids of the tokens of a table, with how many rows each has. */
  async kids(table: string): Promise<Map<string, number>> {
    const rows = await this.server.sql<{ token: string | Buffer }>(
      `SELECT token FROM "${table}" WHERE token IS NOT NULL`,
    );
    const kids = new Map<string, number>();
    for (const { token } of rows) {
      const kid = bytesOf(token).subarray(2, 18).toString('hex');
      kids.set(kid, (kids.get(kid) ?? 0) + 1);
    }
    return kids;
  }

  async rotate(): Promise<void> {
    await this.dekd.encrypt(Buffer.from('x'), { key: KEY });
    const { code, stderr } = await this.place.shell(`dekd keys rotate ${KEY}`);
    if (code !== 0) {
      throw new Error(stderr);
    }
  }

  async newestKid(): Promise<string> {
    const { versions } = await this.dekd.keyInfo(KEY);
    return versions.find(({ purpose, state }) => purpose === 'seal' && state === 'active')!.kid;
  }

  command(table: string, options = ''): string {
    return `reencrypt --key ${KEY} --table '${table}' --column token --context-column row=id ${options}`;
  }

  /** `dekd reencrypt` with `--json`. */
  async run(table: string, options = ''): Promise<CommandResult & { readonly document: Record<string, unknown> }> {
    const result = await this.place.shell(`dekd ${this.command(table, options)} --json`);
    return { ...result, document: result.stdout === '' ? {} : JSON.parse(result.stdout) };
  }

  /** A process of its own, to be killed. */
  spawn(table: string, options = ''): RunningCommand {
    return new RunningCommand(
      spawn('sh', ['-c', `exec dekd ${this.command(table, options)} --json`], {
        cwd: this.place.folder,
        env: this.place.env,
        stdio: ['ignore', 'pipe', 'pipe'],
      }),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dekd.close();
    await this.place[Symbol.asyncDispose]();
    await this.server.stop();
  }
}

export class RunningCommand {
  readonly child: ChildProcess;
  stdout = '';
  stderr = '';
  /** Exit code, or the signal that ended it. */
  readonly ended: Promise<number | string>;

  constructor(child: ChildProcess) {
    this.child = child;
    child.stdout!.on('data', (text: Buffer) => {
      this.stdout += text;
    });
    child.stderr!.on('data', (text: Buffer) => {
      this.stderr += text;
    });
    this.ended = once(child, 'close').then(([code, signal]) => (code ?? signal) as number | string);
  }

  /** How far it said it was, last. */
  get examined(): number {
    const lines = this.stderr.split('\n').filter((line) => line.startsWith('{"progress"'));
    return lines.length === 0 ? 0 : JSON.parse(lines.at(-1)!).progress.examined;
  }
}

function bytesOf(token: string | Buffer): Buffer {
  return typeof token === 'string' ? Buffer.from(token.slice('dk1.'.length), 'base64url') : token;
}

function textOf(result: { ok: true; value: Uint8Array } | { ok: false }): string | null {
  return result.ok ? Buffer.from(result.value).toString() : null;
}
