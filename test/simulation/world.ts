/** One world from its seed: what happens in it, and what is found to be wrong with it. */
import { hex } from '../../src/bytes.ts';
import { AdminClient } from '../../src/cli/admin.ts';
import { connect, type DekdClient } from '../../src/client/index.ts';
import type { KeyState } from '../../src/keyring/record.ts';
import type { AdminFields } from '../../src/protocol/messages.ts';
import { FakeProvider } from '../support/fake-provider.ts';
import { type Settings, SimAgent } from './agent.ts';
import { Book, type Sealed } from './book.ts';
import { inWorld } from './builtins.ts';
import { Machine } from './machine.ts';
import { SimNetwork } from './network.ts';
import { SeededRandom } from './random.ts';
import { type RootMode, SharedStore, type StoreMode } from './services.ts';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;

const KEYS = ['k0', 'k1'];
const PARTITIONS = ['', 't1'];
const ROOTS = ['aws', 'vault'];
/** Tokens that are looked at in the end; the oldest and the newest are always among them. */
const CHECKED_AT_END = 60;

export interface WorldOptions {
  readonly seed: number;
  /** How long things go wrong, in milliseconds of the world. */
  readonly lengthMs: number;
  /** Keep all of the trace, and not its end. */
  readonly trace: boolean;
}

export interface WorldReport {
  readonly seed: number;
  readonly problems: readonly string[];
  /** SHA-256 over everything that happened. */
  readonly digest: string;
  readonly trace: readonly string[];
  readonly events: number;
  readonly outcomes: ReadonlyMap<string, number>;
  readonly tokens: number;
  readonly starts: number;
}

/** Makes the world of a seed, lets it run, heals it, and looks. Throws nothing: what breaks it is a problem of it. */
export async function runWorld(options: WorldOptions): Promise<WorldReport> {
  const world = new World(options);
  return world.run();
}

class World {
  readonly #options: WorldOptions;
  readonly #machine: Machine;
  readonly #random: SeededRandom;
  readonly #network: SimNetwork;
  readonly #store: SharedStore;
  readonly #settings: Settings;
  readonly #services: FakeProvider[] = [];
  readonly #agents: SimAgent[] = [];
  readonly #clients: DekdClient[] = [];
  readonly #book: Book;
  #over = false;
  #count = 0;

  constructor(options: WorldOptions) {
    const { seed, trace } = options;
    this.#options = options;
    this.#machine = new Machine(seed, trace);
    this.#random = new SeededRandom(seed, 3);
    this.#network = new SimNetwork(this.#machine);
    this.#store = new SharedStore(this.#machine);
    const random = this.#random;
    const coastEncryptMs = random.between(40, 180) * SECOND;
    this.#settings = {
      agents: random.weighted([
        [1, 1],
        [4, 2],
        [2, 3],
      ]),
      roots: ROOTS,
      coastEncryptMs,
      coastDecryptMs: coastEncryptMs + random.between(0, 4) * MINUTE,
      withinMs: random.pick([60, 90, 120]) * SECOND,
      strict: random.chance(0.2),
      capacity: random.pick([24, 32, 64, 1_024]),
      rotationAgeMs: random.pick([2, 5, 24 * 60]) * MINUTE,
    };
    this.#book = new Book(this.#machine, this.#store, this.#settings);
  }

  async run(): Promise<WorldReport> {
    const machine = this.#machine;
    const diskOf = (path: string) => this.#agents.find(({ disk }) => path.startsWith(disk.root))!.disk;
    try {
      await inWorld({ machine, network: this.#network, diskOf }, () => this.#live());
    } catch (error) {
      this.#book.problem(`the world broke: ${(error as Error).stack}`);
    }
    return {
      seed: this.#options.seed,
      problems: this.#book.problems,
      digest: machine.digest(),
      trace: machine.trace,
      events: machine.events,
      outcomes: this.#book.outcomes,
      tokens: this.#book.sealed.length,
      starts: this.#agents.reduce((sum, { runs }) => sum + runs.length, 0),
    };
  }

  async #live(): Promise<void> {
    const machine = this.#machine;
    machine.note(`seed ${this.#options.seed} ${JSON.stringify(this.#settings)}`);
    this.#services.push(...ROOTS.map((root) => new FakeProvider(root)));
    for (let index = 0; index < this.#settings.agents; index++) {
      const agent = new SimAgent({
        index,
        machine,
        network: this.#network,
        store: this.#store,
        services: this.#services,
        settings: this.#settings,
      });
      this.#agents.push(agent);
      agent.start();
      this.#clients.push(connect({ socket: agent.socket, lane: false }));
    }
    await machine.sleep(2 * SECOND);
    machine.after(this.#options.lengthMs, () => {
      this.#over = true;
    });
    await Promise.all([
      ...this.#agents.map((agent, index) => this.#traffic(agent, this.#clients[index]!)),
      this.#operator(),
      this.#weather(),
      this.#reaper(),
    ]);
    await this.#heal();
    await this.#checkAll();
    this.#book.checkRest(this.#agents);
    await Promise.all(this.#clients.map((client) => client.close()));
    await Promise.all(this.#agents.map((agent) => agent.stop()));
  }

  async #pause(low: number, high: number): Promise<void> {
    await this.#machine.sleep(this.#random.between(low, high));
  }

  // ── callers ───────────────────────────────────────────────────────────────────────────────────────────────────

  async #traffic(agent: SimAgent, client: DekdClient): Promise<void> {
    const random = this.#random;
    while (!this.#over) {
      await this.#pause(100, 6 * SECOND);
      if (random.chance(0.02)) {
        await this.#storm(agent, client);
        continue;
      }
      const work = random.weighted<() => Promise<unknown>>([
        [5, () => this.#encrypt(agent, client)],
        [8, () => this.#decrypt(agent, client)],
        [1, () => this.#misuse(agent, client)],
        [2, () => this.#reencrypt(agent, client)],
        [1, () => this.#batch(agent, client)],
        [1, () => this.#hmac(agent, client)],
      ])();
      // Most callers do not wait for each other.
      if (random.chance(0.2)) {
        await work;
      }
    }
  }

  /** Many calls at once, and again, whatever comes of them. */
  async #storm(agent: SimAgent, client: DekdClient): Promise<void> {
    for (let round = 0; round < 12; round++) {
      for (let call = 0; call < 8; call++) {
        void (this.#random.chance(0.3) ? this.#encrypt(agent, client) : this.#decrypt(agent, client));
      }
      await this.#machine.sleep(500);
    }
  }

  #binding() {
    const context: Record<string, string> = { row: String(this.#random.between(0, 5)) };
    return { key: this.#random.pick(KEYS), partition: this.#random.pick(PARTITIONS), context };
  }

  async #encrypt(agent: SimAgent, client: DekdClient, binding = this.#binding()): Promise<void> {
    const { key, partition, context } = binding;
    const plaintext = `${key}/${partition} ${this.#count++}`;
    const asked = this.#book.asked(agent, 'encrypt', key, partition);
    try {
      const token = await client.encrypt(Buffer.from(plaintext), { key, partition, context });
      this.#book.sealedBy(asked, Uint8Array.from(token), plaintext, context);
    } catch (error) {
      this.#book.failedBy(asked, error);
    }
  }

  #known(): Sealed | undefined {
    const { sealed } = this.#book;
    return sealed.length === 0 ? undefined : this.#random.pick(sealed);
  }

  async #decrypt(agent: SimAgent, client: DekdClient, sealed = this.#known()): Promise<void> {
    if (sealed === undefined) {
      return;
    }
    const { token, key, partition, context, kid } = sealed;
    const asked = this.#book.asked(agent, 'decrypt', key, partition, kid);
    try {
      const plaintext = await client.decrypt(token, { key, partition, context });
      this.#book.openedBy(asked, sealed, Buffer.from(plaintext).toString());
    } catch (error) {
      this.#book.failedBy(asked, error);
    }
  }

  /** A token in a context, a partition or under a key that is not its own. */
  async #misuse(agent: SimAgent, client: DekdClient): Promise<void> {
    const sealed = this.#known();
    if (sealed === undefined) {
      return;
    }
    const { token, kid } = sealed;
    const { key, partition, context } = this.#random.pick([
      { ...sealed, context: { row: 'another' } },
      { ...sealed, context: {} },
      { ...sealed, key: KEYS.find((name) => name !== sealed.key)! },
      { ...sealed, partition: PARTITIONS.find((name) => name !== sealed.partition)! },
    ]);
    const asked = this.#book.asked(agent, 'misuse', key, partition, kid);
    try {
      await client.decrypt(token, { key, partition, context });
      this.#book.problem(`${agent.name} opened ${sealed.plaintext} as ${key}/${partition} ${JSON.stringify(context)}`);
    } catch (error) {
      this.#book.failedBy(asked, error, true);
    }
  }

  async #reencrypt(agent: SimAgent, client: DekdClient): Promise<void> {
    const sealed = this.#known();
    if (sealed === undefined) {
      return;
    }
    const { token, key, partition, context, plaintext, kid } = sealed;
    const asked = this.#book.asked(agent, 'reencrypt', key, partition, kid);
    try {
      const moved = await client.reencrypt(token, { key, partition, context });
      this.#book.checkMayOpen(asked, kid);
      this.#book.sealedBy(asked, Uint8Array.from(moved), plaintext, context);
    } catch (error) {
      // It is about the version of the token and about the one that seals.
      this.#book.failedBy({ ...asked, kid: undefined }, error);
    }
  }

  async #batch(agent: SimAgent, client: DekdClient): Promise<void> {
    const some = Array.from({ length: this.#random.between(1, 12) }, () => this.#known()).filter(
      (sealed) => sealed !== undefined,
    );
    const asked = some.map((sealed) =>
      this.#book.asked(agent, 'decryptMany', sealed.key, sealed.partition, sealed.kid),
    );
    try {
      const opened = await client.decryptMany(
        some.map(({ token, key, partition, context }) => ({ data: token, key, partition, context })),
      );
      for (const [index, result] of opened.entries()) {
        if (result.ok) {
          this.#book.openedBy(asked[index]!, some[index]!, Buffer.from(result.value).toString());
        } else {
          this.#book.failedBy(asked[index]!, result.error);
        }
      }
    } catch (error) {
      for (const each of asked) {
        this.#book.failedBy(each, error);
      }
    }
  }

  async #hmac(agent: SimAgent, client: DekdClient): Promise<void> {
    const { key, partition, context } = this.#binding();
    const asked = this.#book.asked(agent, 'hmac', key, partition);
    try {
      const mac = await client.hmac('value', { key, partition, context });
      const [isRight, isOther] = await Promise.all([
        client.verifyHmac('value', mac, { key, partition, context }),
        client.verifyHmac('another', mac, { key, partition, context }),
      ]);
      if (!isRight || isOther) {
        this.#book.problem(`${agent.name} says of a MAC that it is ${isRight}, and of another that it is ${isOther}`);
      }
    } catch (error) {
      this.#book.failedBy(asked, error);
    }
  }

  // ── the operator ──────────────────────────────────────────────────────────────────────────────────────────────

  async #operator(): Promise<void> {
    while (!this.#over) {
      await this.#pause(SECOND, 25 * SECOND);
      const { key, partition } = this.#binding();
      const command = this.#pickCommand();
      // Two operators, or one and a job, at different agents and at the same moment.
      const at = this.#random.chance(0.3) ? this.#agents : [this.#random.pick(this.#agents)];
      const work = Promise.all(at.map((agent) => command(agent, key, partition)));
      if (this.#random.chance(0.3)) {
        await work;
      }
    }
  }

  #pickCommand(): Command {
    const random = this.#random;
    return random.weighted<Command>([
      [5, (agent, name, partition) => this.#rotate(agent, name, partition, false)],
      [1, (agent, name, partition) => this.#rotate(agent, name, partition, true)],
      [2, (agent, name, partition) => this.#change(agent, 'disable', name, partition)],
      [4, (agent, name, partition) => this.#change(agent, 'enable', name, partition)],
      [2, (agent, name, partition) => this.#change(agent, 'destroy', name, partition)],
      [1, (agent, name, partition) => this.#change(agent, 'compromise', name, partition)],
      [
        1,
        (agent, name, partition) =>
          this.#freeze(agent, random.chance(0.3) ? '' : name, random.chance(0.5) ? '' : partition),
      ],
      [1, (agent) => this.#migrate(agent)],
      [1, (agent) => this.#pages(agent, {})],
      [
        1,
        async (agent, _name, partition) =>
          void (await this.#tell(agent, { rotate: { name: '.l3/default', partition } })),
      ],
      [1, async (agent) => void (await this.#tell(agent, { roots: { action: 'clear', name: random.pick(ROOTS) } }))],
      [
        1,
        async () => {
          for (const service of this.#services) {
            service.rotate();
          }
        },
      ],
    ]);
  }

  /** Those who have tokens of a key use them, here and there, at once and for the next minutes. */
  #probe(name: string, partition: string): void {
    const random = this.#random;
    for (const [index, agent] of this.#agents.entries()) {
      for (const low of [0, SECOND, 55 * SECOND, 75 * SECOND]) {
        this.#machine.after(random.between(low, low + 30 * SECOND), () => {
          const tokens = this.#book.sealed.filter((sealed) => sealed.key === name && sealed.partition === partition);
          if (!this.#over && tokens.length > 0) {
            for (let i = 0; i < 4; i++) {
              void this.#decrypt(agent, this.#clients[index]!, random.pick(tokens));
            }
            void this.#encrypt(agent, this.#clients[index]!, { key: name, partition, context: { row: '0' } });
          }
        });
      }
    }
  }

  /** Sends one command. @returns what it is answered with; undefined when it fails */
  async #tell<T>(agent: SimAgent, command: AdminFields): Promise<T | undefined> {
    const what = JSON.stringify(command);
    this.#machine.note(`${agent.name} is told ${what}`);
    try {
      using admin = await AdminClient.open({ socket: agent.socket } as never);
      const answer = (await admin.send(command)) as T;
      this.#machine.note(`${agent.name} has done ${what}`);
      this.#book.count(Object.keys(command)[0]!, 'ok');
      return answer;
    } catch (error) {
      const { code, message } = error as { code?: string; message: string };
      this.#machine.note(`${agent.name} has not done ${what}: ${code} ${message}`);
      this.#book.count(Object.keys(command)[0]!, String(code));
      if (code === undefined || code === 'INTERNAL' || code === 'UNSUPPORTED') {
        this.#book.problem(`${agent.name} answered ${what} with ${code} ${message}`);
      }
      return undefined;
    }
  }

  async #rotate(agent: SimAgent, name: string, partition: string, emergency: boolean): Promise<void> {
    const askedAt = this.#machine.now;
    const answer = await this.#tell<Changed>(agent, { rotate: { name, partition, purpose: 'seal', emergency } });
    const made = answer?.keys[0];
    if (made !== undefined) {
      this.#book.changedBy(agent, askedAt, answer!.keys);
      this.#book.rotatedBy(agent, name, partition, made.version);
    }
  }

  async #change(
    agent: SimAgent,
    verb: 'disable' | 'enable' | 'destroy' | 'compromise',
    name: string,
    partition: string,
  ): Promise<void> {
    const versions = [...this.#store.records.values()].filter(
      (record) => record.name === name && record.partition === partition && record.purpose === 'seal',
    );
    if (versions.length === 0) {
      return;
    }
    const one = verb === 'destroy' || verb === 'compromise' || this.#random.chance(0.4);
    const version = one ? this.#random.pick(versions).version : undefined;
    const askedAt = this.#machine.now;
    const answer = await this.#tell<Changed>(agent, { [verb]: { name, partition, version, purpose: 'seal' } });
    if (answer !== undefined) {
      this.#book.changedBy(agent, askedAt, answer.keys);
    }
    this.#probe(name, partition);
  }

  async #freeze(agent: SimAgent, name: string, partition: string): Promise<void> {
    this.#book.freezeAsked(agent, name, partition);
    const done = await this.#tell(agent, { freeze: { name, partition } });
    if (done !== undefined) {
      this.#book.frozenBy(agent, name, partition);
    }
    for (const key of name === '' ? KEYS : [name]) {
      this.#probe(key, partition);
    }
    await this.#pause(SECOND, 3 * MINUTE);
    await this.#thaw(agent, name, partition);
  }

  async #thaw(agent: SimAgent, name: string, partition: string): Promise<void> {
    this.#book.thawAsked(agent);
    if ((await this.#tell(agent, { freeze: { name, partition, thaw: true } })) !== undefined) {
      this.#book.thawedBy(agent, name, partition);
    }
  }

  /** Makes another root the default of every agent, and moves what hangs under the old one. */
  async #migrate(agent: SimAgent): Promise<void> {
    const [from, to] = this.#random.chance(0.5) ? (['aws', 'vault'] as const) : (['vault', 'aws'] as const);
    for (const each of this.#agents) {
      each.defaultRoot = to;
      await this.#tell(each, { roots: { action: 'default', name: to } });
    }
    await this.#pages(agent, { from, to });
  }

  async #pages(agent: SimAgent, course: { from?: string; to?: string }): Promise<void> {
    const done = this.#book.busy(agent);
    let cursor: string | undefined;
    do {
      const page = await this.#tell<{ cursor?: string; failed: unknown[] }>(agent, {
        rewrap: { ...course, cursor: cursor ?? '', limit: 10 },
      });
      cursor = page?.cursor;
    } while (cursor !== undefined);
    done();
  }

  // ── what goes wrong ───────────────────────────────────────────────────────────────────────────────────────────

  async #weather(): Promise<void> {
    const random = this.#random;
    const machine = this.#machine;
    while (!this.#over) {
      await this.#pause(5 * SECOND, 2 * MINUTE);
      const length = random.chance(0.4) ? random.between(2, 8) * MINUTE : random.between(1, 90) * SECOND;
      random.weighted<() => void>([
        [4, () => this.#troubleRoot(length)],
        [3, () => this.#troubleStore(length)],
        [2, () => this.#troubleDisk(Math.min(length, 2 * MINUTE))],
        [
          2,
          () => {
            this.#book.cuts.push(machine.now);
            machine.note('a connection is cut');
            this.#network.cutOne();
          },
        ],
        [
          1,
          () => {
            const ms = random.between(1, 40) * MINUTE;
            machine.note(`the machines sleep ${ms} ms`);
            machine.slept += ms;
            this.#book.wakes.push(machine.now);
          },
        ],
        [
          1,
          () => {
            machine.wallOffset = random.between(-40, 400) * 24 * 60 * MINUTE;
            machine.note(`the clock is set to ${machine.wallMs}`);
          },
        ],
      ])();
    }
  }

  #troubleRoot(length: number): void {
    const random = this.#random;
    const root = random.pick(ROOTS);
    // What a service says it says to all; silence may be one agent's.
    const mode = random.weighted<RootMode>([
      [3, 'silent'],
      [2, 'down'],
      [2, 'slow'],
      [2, 'lossy'],
      [1, 'throttled'],
      [1, 'sealed'],
      [1, 'expired'],
      [2, 'refuse'],
      [2, 'deny'],
      [1, 'lying'],
    ]);
    const all = mode === 'refuse' || mode === 'deny' || random.chance(0.5);
    const concerned = all ? this.#agents : [random.pick(this.#agents)];
    const links = concerned.map(({ rootLinks }) => rootLinks.get(root)!);
    this.#during(length, links, mode);
  }

  #troubleStore(length: number): void {
    const random = this.#random;
    const mode = random.weighted<StoreMode>([
      [2, 'down'],
      [2, 'silent'],
      [3, 'lossy'],
      [2, 'slow'],
    ]);
    const concerned = random.chance(0.4) ? this.#agents : [random.pick(this.#agents)];
    this.#during(
      length,
      concerned.map(({ storeLink }) => storeLink),
      mode,
    );
  }

  #during<M extends string>(
    length: number,
    links: readonly { mode: NoInfer<M>; set(mode: NoInfer<M> | 'ok'): void }[],
    mode: M,
  ): void {
    for (const link of links) {
      link.set(mode);
    }
    this.#machine.after(length, () => {
      for (const link of links) {
        if (link.mode === mode) {
          link.set('ok');
        }
      }
    });
  }

  #troubleDisk(length: number): void {
    const agent = this.#random.pick(this.#agents);
    const mode = this.#random.pick(['full', 'broken'] as const);
    agent.disk.mode = mode;
    agent.diskTroubleUntil = Number.POSITIVE_INFINITY;
    this.#machine.note(`${agent.name} disk: ${mode}`);
    this.#machine.after(length, () => {
      agent.disk.mode = 'ok';
      agent.diskTroubleUntil = this.#machine.now;
      this.#machine.note(`${agent.name} disk: ok`);
    });
  }

  async #reaper(): Promise<void> {
    const random = this.#random;
    while (!this.#over) {
      await this.#pause(30 * SECOND, 6 * MINUTE);
      const agent = random.pick(this.#agents);
      const end = random.weighted<'kill' | 'power' | 'stop'>([
        [3, 'kill'],
        [2, 'power'],
        [2, 'stop'],
      ]);
      if (end === 'stop') {
        void agent.stop();
        await this.#pause(5 * SECOND, 20 * SECOND);
      }
      agent.kill(end === 'power');
      await this.#pause(10, 30 * SECOND);
      if (agent.state === 'down') {
        agent.start();
      }
    }
  }

  // ── the end ───────────────────────────────────────────────────────────────────────────────────────────────────

  async #heal(): Promise<void> {
    const machine = this.#machine;
    machine.note('all heals');
    for (const agent of this.#agents) {
      agent.storeLink.set('ok');
      agent.disk.mode = 'ok';
      agent.diskTroubleUntil = machine.now;
      for (const link of agent.rootLinks.values()) {
        link.set('ok');
      }
      if (agent.state === 'down') {
        agent.start();
      }
    }
    await machine.sleep(3 * MINUTE);
    for (const agent of this.#agents) {
      if (agent.state !== 'up') {
        this.#book.problem(`${agent.name} is ${agent.state} three minutes after all was well`);
        continue;
      }
      const frozen = await this.#tell<{ frozen: { name: string; partition: string }[] }>(agent, {
        freeze: { list: true },
      });
      for (const { name, partition } of frozen?.frozen ?? []) {
        await this.#thaw(agent, name, partition);
      }
    }
    const [agent] = this.#agents;
    const names = new Set(
      [...this.#store.records.values()].map(({ name, partition }) => JSON.stringify([name, partition])),
    );
    for (const each of names) {
      const [name, partition] = JSON.parse(each) as [string, string];
      if (!name.startsWith('.')) {
        await this.#tell(agent!, { enable: { name, partition } });
      }
    }
    await machine.sleep(2 * MINUTE);
  }

  /** Everything that was not destroyed opens, at every agent, and every key that is not stopped seals. */
  async #checkAll(): Promise<void> {
    const { sealed } = this.#book;
    const step = Math.max(1, Math.ceil(sealed.length / CHECKED_AT_END));
    const chosen = sealed.filter((_, index) => index % step === 0 || index === sealed.length - 1);
    for (const [index, agent] of this.#agents.entries()) {
      const client = this.#clients[index]!;
      for (const each of chosen) {
        const record = this.#store.records.get(each.kid)!;
        if (record.state !== 'destroyed') {
          await this.#decrypt(agent, client, each);
        }
      }
      for (const [kid, record] of this.#store.records) {
        if (record.level === 4 && record.purpose === 'seal' && record.state === 'active') {
          const { name: key, partition } = record;
          const asked = this.#book.asked(agent, 'encrypt', key, partition);
          try {
            const token = await client.encrypt(Buffer.from('last'), { key, partition, context: {} });
            this.#book.sealedBy(asked, Uint8Array.from(token), 'last', {});
          } catch (error) {
            this.#book.failedBy(asked, error);
            this.#book.problem(`${agent.name} does not seal with ${key}/${partition} (${kid.slice(0, 8)}) in the end`);
          }
        }
      }
    }
    for (const { kid, plaintext } of sealed) {
      if ((await this.#store.rows.retrieve(Buffer.from(kid, 'hex'))) === undefined) {
        this.#book.problem(`the key of ${plaintext} (${hex(Buffer.from(kid, 'hex'))}) is gone from the keystore`);
      }
    }
  }
}

type Command = (agent: SimAgent, name: string, partition: string) => Promise<void>;

interface Changed {
  readonly keys: readonly { readonly kid: string; readonly version: number; readonly state: KeyState }[];
}
