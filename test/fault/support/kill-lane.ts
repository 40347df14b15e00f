/**
 * One agent that is killed again and again while keys are made and rotated, and the book of what it acknowledged.
 *
 * A cycle: start, check what the last kill left, burst of commands over the admin socket and of encryptions, SIGKILL at
 * a random moment of it. What was answered must be there after the restart; what was not may be.
 */

import { AdminClient } from '../../../src/cli/admin.ts';
import { connect as connectClient, type DekdClient } from '../../../src/client/index.ts';
import { DekdError } from '../../../src/errors.ts';
import { AgentProcess, type AgentProcessOptions } from './agent-process.ts';

/** Commands of one burst, more than fit before the kill. */
const BURST = 400;
const IN_FLIGHT = 8;
/** A name is rotated by later bursts with this chance; else a new one is made. */
const ROTATE = 0.6;
const TOKENS_KEPT = 400;
const TOKENS_CHECKED = 24;
/** The longest time from the start of a burst to its kill, unless given. */
const LONGEST_MS = 120;

interface Version {
  readonly version: number;
  readonly kid: string;
  readonly state: string;
  readonly name: string;
}

interface Sealed {
  readonly key: string;
  readonly plaintext: string;
  readonly token: Uint8Array;
}

export interface LaneFigures {
  kills: number;
  acknowledged: number;
  unacknowledged: number;
  /** Unacknowledged commands of which the restarted agent nevertheless has the version. */
  landed: number;
  tokensChecked: number;
  readonly readyMs: number[];
}

export interface Death {
  /** Ends the agent; SIGKILL unless given. */
  readonly by?: (agent: AgentProcess) => void;
  /** The longest time from the start of a burst. */
  readonly withinMs?: number;
}

export class KillLane {
  readonly figures: LaneFigures = {
    kills: 0,
    acknowledged: 0,
    unacknowledged: 0,
    landed: 0,
    tokensChecked: 0,
    readyMs: [],
  };
  /** What is wrong, in words; empty when all is well. */
  readonly problems: string[] = [];
  readonly #options: AgentProcessOptions;
  readonly #random: () => number;
  /** Acknowledged versions of each name, with the kid that was told. */
  readonly #acknowledged = new Map<string, Map<number, string>>();
  readonly #names: string[] = [];
  /** Names that the last burst touched, acknowledged or not. */
  #touched = new Set<string>();
  #sealed: Sealed[] = [];
  #serial = 0;
  readonly #die: (agent: AgentProcess) => void;
  readonly #withinMs: number;

  constructor(options: AgentProcessOptions, random: () => number, death: Death = {}) {
    this.#options = options;
    this.#random = random;
    this.#die = death.by ?? ((agent) => agent.child.kill('SIGKILL'));
    this.#withinMs = death.withinMs ?? LONGEST_MS;
  }

  /** One restart, check, burst and kill. */
  async cycle(): Promise<void> {
    const agent = await AgentProcess.start(this.#options);
    this.figures.readyMs.push(agent.readyMs);
    const admin = await AdminClient.open({ json: true, socket: agent.socket, self: 'dekd' });
    const client = connectClient({ socket: agent.socket });
    try {
      await this.#check(admin, client, [...this.#touched]);
      await this.#burst(agent, admin, client);
    } finally {
      await agent.kill();
      admin[Symbol.dispose]();
      await client.close();
    }
    this.figures.kills++;
  }

  /** Starts the agent once more and checks every name and every token that is left. */
  async checkAll(options: AgentProcessOptions = this.#options): Promise<void> {
    await using agent = await AgentProcess.start(options);
    using admin = await AdminClient.open({ json: true, socket: agent.socket, self: 'dekd' });
    await using client = connectClient({ socket: agent.socket });
    await this.#check(admin, client, this.#names, this.#sealed.length);
  }

  async #check(
    admin: AdminClient,
    client: DekdClient,
    names: readonly string[],
    tokens = TOKENS_CHECKED,
  ): Promise<void> {
    let next = 0;
    const worker = async (): Promise<void> => {
      while (next < names.length) {
        await this.#checkName(admin, names[next++]!);
      }
    };
    await Promise.all(Array.from({ length: IN_FLIGHT }, worker));
    const chosen = Array.from({ length: Math.min(tokens, this.#sealed.length) }, (_, index) =>
      tokens >= this.#sealed.length ? this.#sealed[index]! : this.#any(this.#sealed),
    );
    await Promise.all(chosen.map((sealed) => this.#checkToken(client, sealed)));
  }

  async #checkName(admin: AdminClient, name: string): Promise<void> {
    const acknowledged = this.#acknowledged.get(name) ?? new Map<number, string>();
    let keys: readonly Version[] = [];
    try {
      keys = ((await admin.send({ show: { name } })) as { keys: Version[] }).keys;
    } catch (error) {
      if (acknowledged.size > 0 || !DekdError.is(error, 'KEY_NOT_FOUND')) {
        this.problems.push(`${name}: ${String(error)}`);
      }
      return;
    }
    const active = keys.filter(({ state }) => state === 'active');
    if (active.length !== 1) {
      this.problems.push(`${name}: ${active.length} active versions`);
    }
    const highest = Math.max(0, ...acknowledged.keys());
    for (const [version, kid] of acknowledged) {
      if (keys.find((key) => key.version === version)?.kid !== kid) {
        this.problems.push(`${name}: acknowledged version ${version} is lost`);
      }
    }
    if ((active[0]?.version ?? 0) < highest) {
      this.problems.push(`${name}: version ${active[0]?.version} is active, and ${highest} was acknowledged`);
    }
    // What is only pre-active is half a rotation, which the next one takes up.
    const seen = keys.filter(({ state }) => state !== 'pre-active');
    if (seen.some(({ version }) => version > highest)) {
      this.figures.landed++;
      // From here on it is as good as acknowledged: a version that was seen does not go away.
      for (const { version, kid } of seen) {
        acknowledged.set(version, kid);
      }
      this.#acknowledged.set(name, acknowledged);
      if (!this.#names.includes(name)) {
        this.#names.push(name);
      }
    }
  }

  async #checkToken(client: DekdClient, { key, token, plaintext }: Sealed): Promise<void> {
    try {
      const plain = await client.decrypt(token, { key });
      if (Buffer.from(plain).toString() !== plaintext) {
        this.problems.push(`${key}: a token opened to something else`);
      }
      this.figures.tokensChecked++;
    } catch (error) {
      this.problems.push(`${key}: a token does not open: ${String(error)}`);
    }
  }

  async #burst(agent: AgentProcess, admin: AdminClient, client: DekdClient): Promise<void> {
    this.#touched = new Set();
    const moment = this.#random() * this.#withinMs;
    let killed = false;
    const death = new AbortController();
    const timer = setTimeout(() => {
      killed = true;
      this.#die(agent);
      death.abort();
    }, moment);
    let next = 0;
    const worker = async (): Promise<void> => {
      while (!killed && next < BURST) {
        next++;
        await this.#command(admin, client, death.signal);
      }
    };
    await Promise.all(Array.from({ length: IN_FLIGHT }, worker));
    clearTimeout(timer);
    if (this.#sealed.length > TOKENS_KEPT) {
      // Old ones stay as likely as new ones.
      this.#sealed = Array.from({ length: TOKENS_KEPT }, () => this.#any(this.#sealed));
    }
  }

  async #command(admin: AdminClient, client: DekdClient, death: AbortSignal): Promise<void> {
    const rotates = this.#names.length > 0 && this.#random() < ROTATE;
    const name = rotates ? this.#any(this.#names) : `key-${this.#serial++}`;
    this.#touched.add(name);
    try {
      const reply = (await admin.send(rotates ? { rotate: { name } } : { create: { name } })) as { keys: Version[] };
      const versions = this.#acknowledged.get(name) ?? new Map<number, string>();
      for (const { version, kid } of reply.keys) {
        versions.set(version, kid);
      }
      this.#acknowledged.set(name, versions);
      if (!rotates) {
        this.#names.push(name);
      }
      this.figures.acknowledged++;
    } catch (error) {
      this.figures.unacknowledged++;
      if (!death.aborted && !DekdError.is(error, 'AGENT_UNAVAILABLE')) {
        this.problems.push(`${rotates ? 'rotate' : 'create'} ${name}: ${String(error)}`);
      }
      return;
    }
    const plaintext = `plaintext ${this.#serial}`;
    try {
      const token = await client.encrypt(Buffer.from(plaintext), { key: name, signal: death });
      this.#sealed.push({ key: name, plaintext, token });
    } catch (error) {
      if (!death.aborted) {
        this.problems.push(`encrypt under ${name}: ${String(error)}`);
      }
    }
  }

  #any<T>(list: readonly T[]): T {
    return list[Math.trunc(this.#random() * list.length)]!;
  }
}
