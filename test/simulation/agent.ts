/** One host with one agent: it starts, is killed, loses its power, drains, and starts again on the same disk. */
import { CallerTokens } from '../../src/agent/caller-tokens.ts';
import { FrontEnd } from '../../src/agent/front-end.ts';
import type { Config } from '../../src/config/config.ts';
import { parseConfig } from '../../src/config/load.ts';
import { NodeEngine } from '../../src/crypto/node.ts';
import type { Custody } from '../../src/custody/custody.ts';
import { DekdError } from '../../src/errors.ts';
import { Denials } from '../../src/policy/denials.ts';
import { LivePolicy } from '../../src/policy/live-policy.ts';
import { compilePolicy } from '../../src/policy/policy.ts';
import type { Log, LogFields } from '../../src/telemetry/log.ts';
import { fakeCustody } from '../support/fake-custody.ts';
import type { FakeProvider } from '../support/fake-provider.ts';
import { SIM_ROOT } from './builtins.ts';
import { SimDisk } from './disk.ts';
import type { Machine, SimProcess } from './machine.ts';
import type { SimNetwork } from './network.ts';
import { Link, LinkedKeystore, LinkedProvider, type RootMode, type SharedStore, type StoreMode } from './services.ts';

/** What a seed decides for a whole world. */
export interface Settings {
  readonly agents: number;
  readonly roots: readonly string[];
  readonly coastEncryptMs: number;
  readonly coastDecryptMs: number;
  readonly withinMs: number;
  readonly strict: boolean;
  /** Slots of the key table. */
  readonly capacity: number;
  readonly rotationAgeMs: number;
}

export interface AgentParts {
  readonly index: number;
  readonly machine: Machine;
  readonly network: SimNetwork;
  readonly store: SharedStore;
  readonly services: readonly FakeProvider[];
  readonly settings: Settings;
}

/** From the call of a start to the end of the process. */
export interface Run {
  readonly startedAt: number;
  readyAt: number | undefined;
  endedAt: number | undefined;
}

type State = 'down' | 'starting' | 'up' | 'draining';

export class SimAgent {
  readonly name: string;
  readonly socket: string;
  readonly adminSocket: string;
  readonly disk: SimDisk;
  readonly storeLink: Link<StoreMode>;
  readonly rootLinks: ReadonlyMap<string, Link<RootMode>>;
  /** Calls to each root that have to do with keys, by CLOCK_MONOTONIC. */
  readonly calledAt: ReadonlyMap<string, number[]>;
  readonly runs: Run[] = [];
  /** The root that its configuration names. */
  defaultRoot: string;
  state: State = 'down';
  /** When its disk was last in trouble; Infinity while it is. */
  diskTroubleUntil = Number.NEGATIVE_INFINITY;
  /** Lines of its log at the level of an error. */
  readonly errors: string[] = [];
  readonly #parts: AgentParts;
  #process: SimProcess | undefined;
  #frontEnd: FrontEnd | undefined;
  #custody: Custody | undefined;
  #engine: NodeEngine | undefined;

  constructor(parts: AgentParts) {
    const { index, machine, settings } = parts;
    this.name = `a${index}`;
    const folder = `${SIM_ROOT}${this.name}`;
    this.socket = `${folder}/s/agent.sock`;
    this.adminSocket = `${folder}/s/admin.sock`;
    this.disk = new SimDisk(`${folder}/state`, machine);
    this.storeLink = new Link(`${this.name}-store`, machine, 'ok');
    this.rootLinks = new Map(settings.roots.map((root) => [root, new Link(`${this.name}-${root}`, machine, 'ok')]));
    this.calledAt = new Map(settings.roots.map((root) => [root, []]));
    this.defaultRoot = settings.roots[0]!;
    this.#parts = parts;
  }

  /** Starts it, and again until it stands: what cannot be reached at start keeps it from starting. */
  start(): void {
    const { machine } = this.#parts;
    const run: Run = { startedAt: machine.now, readyAt: undefined, endedAt: undefined };
    this.runs.push(run);
    const owner: SimProcess = { name: `${this.name}.${this.runs.length}`, alive: true };
    this.#process = owner;
    this.state = 'starting';
    machine.note(`${owner.name} starts`);
    machine.as(owner, () => {
      this.#assemble().then(
        () => {
          run.readyAt = machine.now;
          this.state = 'up';
          machine.note(`${owner.name} is ready`);
        },
        (error: unknown) => {
          const { code, message, reason } = DekdError.from(error);
          machine.note(`${owner.name} does not start: ${code} ${reason ?? message}`);
          if (code === 'INTERNAL') {
            this.errors.push(String((error as Error).stack));
          }
          this.#end();
          machine.after(5_000, () => this.state === 'down' && this.start(), null);
        },
      );
    });
  }

  /** SIGKILL; with `power`, what was not on the platter is lost too. */
  kill(power: boolean): void {
    if (this.state !== 'down') {
      this.#parts.machine.note(`${this.#process!.name} is ${power ? 'without power' : 'killed'}`);
      this.#end();
      if (power) {
        this.disk.powerCut();
      }
    }
  }

  /** SIGTERM. */
  async stop(): Promise<void> {
    const { machine } = this.#parts;
    const owner = this.#process!;
    if (this.state !== 'up') {
      return;
    }
    this.state = 'draining';
    machine.note(`${owner.name} drains`);
    await machine.as(owner, async () => {
      await this.#frontEnd!.close();
      await this.#custody!.close();
      this.#engine!.close();
    });
    if (owner.alive) {
      machine.note(`${owner.name} has ended`);
      this.#end();
    }
  }

  #end(): void {
    const { machine, network } = this.#parts;
    this.#process!.alive = false;
    network.closeOf(this.#process!);
    this.runs.at(-1)!.endedAt = machine.now;
    this.state = 'down';
    this.#frontEnd = undefined;
  }

  async #assemble(): Promise<void> {
    const { services, settings, store, machine } = this.#parts;
    const config = this.#config();
    const engine = new NodeEngine({ capacity: settings.capacity });
    const custody = await fakeCustody({
      engine,
      keystore: new LinkedKeystore(store, this.storeLink, machine),
      providers: services.map(
        (service) =>
          new LinkedProvider(service, this.rootLinks.get(service.root)!, machine, this.calledAt.get(service.root)!),
      ),
      stateFolder: this.disk.root,
    });
    custody.setDefaultRoot(this.defaultRoot);
    this.#frontEnd = await FrontEnd.open({
      config,
      log: this.#log(),
      engine,
      fallback: undefined,
      host: undefined,
      hardening: [],
      policy: new LivePolicy(
        compilePolicy(config.policy.rules, {
          native: false,
          ownUid: process.getuid!(),
          dev: false,
          allowOwnUid: true,
          roots: settings.roots,
        }),
      ),
      denials: new Denials(),
      tokens: new CallerTokens([]),
      custody,
      warnings: [],
      replace: false,
      measured: undefined,
      observers: [],
      audit: undefined,
      source: undefined,
    });
    this.#custody = custody;
    this.#engine = engine;
  }

  #config(): Config {
    const { settings } = this.#parts;
    const seconds = (ms: number): string => `${ms / 1_000}s`;
    return parseConfig(
      `
engine: node
workers: 0
memory: { level: heap, allowInsecureMemory: true, slots: ${settings.capacity} }
socket: { path: ${this.socket}, allowOwnUid: true }
lane: { enabled: false }
state: ${this.disk.root}
node: ${this.name}
hierarchy: { levels: [tenant, service] }
keystore: { kind: memory, acceptLoss: true }
coast: { encrypt: ${seconds(settings.coastEncryptMs)}, decrypt: ${seconds(settings.coastDecryptMs)} }
revocation: { within: ${seconds(settings.withinMs)}, strict: ${settings.strict} }
rotation: { age: ${seconds(settings.rotationAgeMs)} }
defaultRoot: ${this.defaultRoot}
roots:
${settings.roots.map((root) => `  ${root}: { provider: local, keyFile: /never/read, allowLocalRoot: true }`).join('\n')}
policy:
  rules:
    - { name: all, callers: { socket: data }, keys: '*', partitions: '*', operations: [encrypt, decrypt, reencrypt, keyInfo, hmac, verifyHmac], create: { max: 1000000 }, roots: ['*'] }
`,
      { env: {} },
    ).config;
  }

  #log(): Log {
    const { machine } = this.#parts;
    const line = (level: string, message: string, fields: LogFields = {}): void => {
      const said = [fields.code, fields.key, fields.version, fields.reason].filter((value) => value !== undefined);
      machine.note(`${this.name} ${level}: ${message} ${said.join(' ')}`);
      if (level === 'error') {
        this.errors.push(`${message} ${said.join(' ')}`);
      }
    };
    return {
      debug: (message, fields) => line('debug', message, fields),
      info: (message, fields) => line('info', message, fields),
      warn: (message, fields) => line('warn', message, fields),
      error: (message, fields) => line('error', message, fields),
      flush: () => undefined,
    };
  }
}
