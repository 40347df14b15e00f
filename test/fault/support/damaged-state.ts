/** A state folder with keys and tokens, and copies of it to damage. */
import { cpSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { AdminClient } from '../../../src/cli/admin.ts';
import { connect, type DekdClient } from '../../../src/client/index.ts';
import { DekdError } from '../../../src/errors.ts';
import { AgentProcess } from './agent-process.ts';
import type { PrivatePackage } from './private-package.ts';

/** What became of one token: `opened`, or the code of the refusal and what the operator can read about it. */
export interface Verdict {
  readonly opened: boolean;
  readonly code: string;
  readonly reason: string;
}

/** A running agent on a copy, with what to ask it. */
export class Bench implements AsyncDisposable {
  readonly agent: AgentProcess;
  readonly client: DekdClient;
  readonly admin: AdminClient;

  private constructor(agent: AgentProcess, client: DekdClient, admin: AdminClient) {
    this.agent = agent;
    this.client = client;
    this.admin = admin;
  }

  static async start(built: PrivatePackage, folder: string): Promise<Bench> {
    const agent = await AgentProcess.start({ package: built, folder, env: { DEKD_ENGINE: 'auto' } });
    const admin = await AdminClient.open({ json: true, socket: agent.socket, self: 'dekd' });
    return new Bench(agent, connect({ socket: agent.socket }), admin);
  }

  /** Opens a token of `key` whose plaintext is the key's name. @throws Error when it opens to anything else */
  async open(key: string, token: Uint8Array): Promise<Verdict> {
    return this.#verdict(async () => {
      const plain = Buffer.from(await this.client.decrypt(token, { key })).toString();
      if (plain !== key) {
        throw new Error(`a token of ${key} opened to ${JSON.stringify(plain)}`);
      }
    });
  }

  async encrypt(key: string): Promise<Verdict> {
    return this.#verdict(async () => {
      await this.client.encrypt(Buffer.from(key), { key });
    });
  }

  async #verdict(work: () => Promise<void>): Promise<Verdict> {
    try {
      await work();
      return { opened: true, code: '', reason: '' };
    } catch (error) {
      if (!DekdError.is(error)) {
        throw error;
      }
      const why =
        error.incident === undefined
          ? {}
          : ((await this.admin.send({ why: { incident: error.incident } })) as { reason?: string });
      return { opened: false, code: error.code, reason: why.reason ?? error.message };
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.client.close();
    this.admin[Symbol.dispose]();
    await this.agent.stop();
  }
}

/** Makes a state whose keys have the names given, and a token under each whose plaintext is the name. */
export async function makeState(
  built: PrivatePackage,
  folder: string,
  names: readonly string[],
): Promise<Map<string, Uint8Array>> {
  mkdirSync(folder, { mode: 0o700 });
  await using bench = await Bench.start(built, folder);
  const tokens = new Map<string, Uint8Array>();
  for (const name of names) {
    tokens.set(name, await bench.client.encrypt(Buffer.from(name), { key: name }));
  }
  return tokens;
}

/** A copy of the state in `from` under `to`. */
export function copyState(from: string, to: string): string {
  mkdirSync(to, { mode: 0o700 });
  cpSync(join(from, 'state'), join(to, 'state'), { recursive: true });
  return to;
}

/** Runs `edit` on the database of the state in `folder`, as somebody with the file and SQL would. */
export function editDatabase(folder: string, edit: (db: DatabaseSync) => void): void {
  const db = new DatabaseSync(join(folder, 'state/keystore.sqlite'));
  try {
    db.exec('PRAGMA ignore_check_constraints = ON; PRAGMA journal_mode = DELETE;');
    edit(db);
  } finally {
    db.close();
  }
}
