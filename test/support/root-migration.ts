import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { connect } from '../../src/client/index.ts';
import { type ChildAgent, childEnvironment, NODE, spawnTestAgent } from './agent.ts';
import { AgentLoad } from './agent-load.ts';
import { KmsServer } from './kms-server/kms-server.ts';
import { makeRootedKeystore } from './rooted-keystore.ts';
import { makeFolder, removeFolder } from './temporary-folder.ts';
import { tokenOf, transitPolicy } from './vault-server/fixture.ts';
import { StandInVault } from './vault-server/server.ts';
import { TransitEngine } from './vault-server/transit.ts';

const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));

export interface MigrationResult {
  readonly moved: { readonly moved: number; readonly done: number; readonly failed: readonly unknown[] };
  readonly verified: { readonly done: number; readonly left: number; readonly failed: readonly unknown[] };
  readonly removable: boolean;
}

type RootName = 'main' | 'aws' | 'vault';

/**
 * A keystore of many tenants under a local root, and an agent on it that is under load, beside stand-ins for AWS KMS and Vault:
 * the place where records go from one root to the next while everything serves.
 */
export class MigrationPlace implements AsyncDisposable {
  readonly folder: string;
  readonly socket: string;
  readonly kms: KmsServer;
  readonly vault: StandInVault;
  readonly tokens: ReadonlyMap<string, Uint8Array>;
  readonly #env: NodeJS.ProcessEnv;
  readonly #kmsKey: string;
  #agent: ChildAgent | undefined;
  #load: AgentLoad | undefined;

  private constructor(kms: KmsServer, vault: StandInVault, tokens: ReadonlyMap<string, Uint8Array>, folder: string) {
    this.kms = kms;
    this.vault = vault;
    this.tokens = tokens;
    this.folder = folder;
    this.socket = join(folder, 's/agent.sock');
    this.#kmsKey = kms.createKey().arn;
    const transit = new TransitEngine();
    vault.mount('transit', transit);
    transit.create('root');
    vault.policies.set('dekd', transitPolicy('root'));
    this.#env = { ...childEnvironment(), ...kms.environment(), VAULT_TOKEN: tokenOf(vault), DEKD_SOCKET: this.socket };
  }

  static async open(tenants: number): Promise<MigrationPlace> {
    const folder = makeFolder();
    const { tokens } = await makeRootedKeystore(join(folder, 'keys.sqlite'), join(folder, 'root.key'), tenants);
    return new MigrationPlace(await KmsServer.start(), await StandInVault.start(), tokens, folder);
  }

  /** Starts an agent with these roots, the last of which is the default; one that runs is stopped first. */
  async start(...roots: readonly RootName[]): Promise<void> {
    await this.stopAgent();
    const config = join(this.folder, 'config.yaml');
    writeFileSync(config, this.#yaml(roots));
    const before = { ...process.env };
    Object.assign(process.env, this.#env);
    try {
      this.#agent = await spawnTestAgent(this.socket, ['run', '--config', config]);
    } finally {
      for (const name of Object.keys(process.env)) {
        if (!(name in before)) {
          delete process.env[name];
        }
      }
      Object.assign(process.env, before);
    }
  }

  async stopAgent(signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<void> {
    this.#agent?.child.kill(signal);
    await this.#agent?.exited;
    this.#agent = undefined;
  }

  beginLoad(callers: number): AgentLoad {
    this.#load = new AgentLoad(this.socket, this.tokens, callers);
    return this.#load;
  }

  /** Runs a command to its end. @throws with what it said when it fails */
  async dekd(...args: readonly string[]): Promise<string> {
    const run = this.command(...args);
    const code = await run.exited;
    if (code !== 0) {
      throw new Error(`dekd ${args.join(' ')} ended with ${code}: ${run.said()}`);
    }
    return run.output();
  }

  async migrate(from: RootName, to: RootName): Promise<MigrationResult> {
    return JSON.parse(await this.dekd('roots', 'migrate', '--from', from, '--to', to, '--json')) as MigrationResult;
  }

  /** Begins a migration, and does `interrupt` once `records` records were moved by it. @returns how many were by then */
  async interrupted(
    from: RootName,
    to: RootName,
    records: number,
    interrupt: (command: ChildProcess) => unknown,
  ): Promise<number> {
    const run = this.command('roots', 'migrate', '--from', from, '--to', to, '--json');
    const moved = await run.moved(records);
    await interrupt(run.child);
    await run.exited;
    return moved;
  }

  command(...args: readonly string[]) {
    const child = spawn(NODE, ['--disable-sigusr1', MAIN, ...args], {
      env: this.#env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    let said = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    const exited = once(child, 'close').then(([code, signal]) => (code ?? signal) as number | string);
    return {
      child,
      exited,
      output: () => output,
      said: () => said,
      /** Resolves when its progress says that many were moved. */
      moved: (records: number) =>
        new Promise<number>((resolve, reject) => {
          child.stderr.on('data', () => {
            const counts = [...said.matchAll(/"pass":"move","examined":\d+,"moved":(\d+)/g)].map((match) =>
              Number(match[1]),
            );
            if ((counts.at(-1) ?? 0) >= records) {
              resolve(counts.at(-1)!);
            }
          });
          void exited.then((code) => reject(new Error(`it ended with ${code} before: ${said}`)));
        }),
    };
  }

  /** Opens every token there is through the agent as it is now. @returns those that did not open */
  async unopened(): Promise<string[]> {
    await using client = connect({ socket: this.socket });
    const unopened: string[] = [];
    const all = [...this.tokens, ...(this.#load?.made ?? [])];
    for (let at = 0; at < all.length; at += 64) {
      await Promise.all(
        all.slice(at, at + 64).map(async ([partition, token]) => {
          const plain = await client.decrypt(token, { key: 'k', partition }).catch((error: Error) => error);
          if (plain instanceof Error || Buffer.from(plain).toString() !== partition) {
            unopened.push(`${partition}: ${plain instanceof Error ? plain.message : 'another plaintext'}`);
          }
        }),
      );
    }
    return unopened;
  }

  removeRootKey(): void {
    rmSync(join(this.folder, 'root.key'));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#load?.stop();
    await this.stopAgent();
    await this.kms.stop();
    await this.vault.stop();
    removeFolder(this.folder);
  }

  #yaml(roots: readonly RootName[]): string {
    const settings: Record<RootName, string> = {
      main: `{ provider: local, keyFile: ${this.folder}/root.key, allowLocalRoot: true }`,
      aws: `{ provider: aws-kms, aws: { key: ${this.#kmsKey}, endpoint: ${this.kms.endpoint} } }`,
      vault: `{ provider: vault-transit, vault: { address: ${this.vault.address} }, transit: { key: root } }`,
    };
    return `
engine: auto
memory: { level: heap, allowInsecureMemory: true }
custody: inline
socket: { path: ${this.socket}, allowOwnUid: true }
state: ${this.folder}/state
hierarchy: { levels: [tenant] }
keystore: { kind: sqlite, path: ${this.folder}/keys.sqlite }
defaultRoot: ${roots.at(-1)}
roots:
${roots.map((root) => `  ${root}: ${settings[root]}`).join('\n')}
policy:
  rules:
    - { name: own, callers: { socket: data }, keys: '*', partitions: '*', operations: [encrypt, decrypt], create: { max: 1000000 } }
`;
  }
}
