import { setTimeout as sleep } from 'node:timers/promises';
import type { ServiceRootConfig } from '../config/config.ts';
import type { Engine } from '../crypto/engine.ts';
import type { Targets } from './custodian-messages.ts';
import { type CustodianCall, CustodianLost, CustodianProcess, type Departure } from './custodian-process.ts';
import { CUSTODIAN_ENTRY } from './custodian-spawn.ts';
import type { CustodianStanding } from './custody.ts';
import { KeptSessions } from './kept-sessions.ts';
import { AgentKeyPipe } from './key-pipe.ts';
import { Reign } from './reign.ts';
import { nothingOf } from './untrusted.ts';

/** Milliseconds in the life of custodians. */
export interface CustodianTimes {
  /** Without a call for so long, it is told to end. */
  readonly idle: number;
  /** From its first plaintext to its end, busy or not: a process exit is the only wipe of what its library left behind. */
  readonly life: number;
  /** After `life`, until a custodian ends by itself, should the agent not have ended it. */
  readonly margin: number;
  /** From the start of a process until it must be ready. */
  readonly start: number;
  /** In which a call that was cancelled must be answered. */
  readonly grace: number;
  /** In which a custodian that was told to end must be gone. */
  readonly end: number;
}

const TIMES: CustodianTimes = {
  idle: 30_000,
  life: 60_000,
  margin: 5_000,
  start: 10_000,
  grace: 1_000,
  end: 2_000,
};

/** Calls that one custodian has at once: their frames must fit into the key pipe (64 KiB) beside a login (16 KiB). */
const MAX_IN_FLIGHT = 64;
const FIRST_BACK_OFF_MS = 100;
const MAX_BACK_OFF_MS = 10_000;
/** The longest back-off that is worth waiting for; a call that meets a longer one fails at once. */
const WORTH_WAITING_MS = 1_000;

export interface SuccessionOptions {
  readonly engine: Engine;
  readonly targets: Targets;
  /** Told of every custodian that did not end because it was told to. */
  readonly notice: (message: string) => void;
  readonly times?: Partial<CustodianTimes> | undefined;
  /** What custodians run instead of their own entry. */
  readonly entry?: string | undefined;
}

/** A call that has no custodian yet. */
interface Waiting {
  readonly revealing: boolean;
  go(process: CustodianProcess): void;
  fail(error: Error): void;
}

/**
 * The custodians of one role, one after the other. One is started when there is a call for it, and told to end when
 * there was none for a while. In the provider role none lives longer than a minute after its first plaintext: its
 * successor is started while it still serves, takes over new calls and the logins, and the old one ends when its own
 * calls are answered. After a fault, starts are spaced out.
 */
export class Succession {
  readonly #options: SuccessionOptions;
  readonly #times: CustodianTimes;
  #targets: Targets;
  readonly #sessions: KeptSessions | undefined;
  /** Who gets new calls. */
  #current: Reign | undefined;
  /** While there is one who will. */
  #starting: Promise<void> | undefined;
  /** Everyone whose process is not gone. */
  readonly #reigns = new Set<Reign>();
  /** In the order in which they came. */
  readonly #waiting = new Set<Waiting>();
  readonly #closing = new AbortController();
  #closed: Promise<void> | undefined;
  #started = 0;
  #crashes = 0;
  /** Faults since the last good answer. */
  #faults = 0;
  #notBefore = 0;

  /** @throws RESOURCE_EXHAUSTED when the key table is full */
  constructor(options: SuccessionOptions) {
    this.#options = options;
    this.#targets = options.targets;
    this.#times = { ...TIMES, ...options.times };
    this.#sessions = options.targets.role === 'provider' ? new KeptSessions(options.engine) : undefined;
  }

  get standing(): CustodianStanding {
    const pid = this.#current?.process.pid ?? 0;
    return { role: this.#options.targets.role, pid, started: this.#started, crashes: this.#crashes };
  }

  /** Starts the first custodian ahead of the first call, which hears of it if that fails. */
  begin(): void {
    if (this.#current === undefined) {
      this.#succeed();
    }
  }

  /**
   * Makes a call of the current custodian, which is started if there is none; waits for a place among its calls.
   * @throws as `CustodianProcess.call`
   */
  call<T>(call: CustodianCall<T>, signal: AbortSignal): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (this.#closing.signal.aborted) {
        reject(new CustodianLost('it is closed'));
        return;
      }
      if (signal.aborted) {
        reject(signal.reason);
        return;
      }
      const abort = () => {
        this.#waiting.delete(waiting);
        reject(signal.reason);
      };
      const leave = () => {
        this.#waiting.delete(waiting);
        signal.removeEventListener('abort', abort);
      };
      const waiting: Waiting = {
        revealing: call.revealing === true,
        go: (process) => {
          leave();
          process.call(call, signal).then(resolve, reject);
        },
        fail: (error) => {
          leave();
          reject(error);
        },
      };
      signal.addEventListener('abort', abort, { once: true });
      this.#waiting.add(waiting);
      this.#dispatch();
    });
  }

  /** The roots that custodians are for; none in the keystore role. */
  get roots(): readonly ServiceRootConfig[] {
    return this.#targets.role === 'provider' ? this.#targets.roots : [];
  }

  /**
   * From now on custodians are for these roots. The current one finishes the calls that it has; the next call gets a new one.
   * Logins of roots that are gone are forgotten. Resolves when no older one takes new calls.
   */
  async serve(roots: readonly ServiceRootConfig[]): Promise<void> {
    const gone = this.roots.filter((old) => !roots.some(({ name }) => name === old.name));
    this.#targets = { role: 'provider', roots };
    // One that is being started was told of the former ones.
    await this.#starting;
    for (const { name } of gone) {
      this.#sessions?.forget(name);
      this.#current?.forget.add(name);
    }
    if (this.#current !== undefined) {
      this.#retire(this.#current);
    }
  }

  /**
   * Ends the logins of some targets and everything else that the current custodian has: the next call gets a new one.
   * Resolves when the old one is gone, its calls finished.
   */
  async renew(targets: readonly string[]): Promise<void> {
    await this.#starting;
    for (const target of targets) {
      this.#sessions?.forget(target);
      this.#current?.forget.add(target);
    }
    const old = this.#current;
    if (old !== undefined) {
      this.#retire(old);
      await old.process.gone;
    }
  }

  /** Ends every custodian and every login. Calls in flight fail. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.#closing.abort();
    this.#failWaiting(new CustodianLost('it is closed'));
    for (const reign of this.#reigns) {
      if (reign !== this.#current) {
        this.#retire(reign, true);
      }
    }
    await this.#starting;
    const kept = this.#sessions?.roots ?? [];
    if (this.#current === undefined && kept.length > 0) {
      // A login outlives its custodian, but not the agent; to end it takes one that has it.
      await Promise.race([this.#start(0).catch(() => {}), sleep(this.#times.end)]);
    }
    for (const root of kept) {
      this.#current?.forget.add(root);
    }
    const all = [...this.#reigns];
    for (const reign of all) {
      this.#retire(reign, true);
    }
    await Promise.all(all.map(({ process }) => process.gone));
    this.#sessions?.close();
  }

  /** Gives calls that wait to the current custodian, as far as it has places for them. */
  #dispatch(): void {
    for (const waiting of this.#waiting) {
      const reign = this.#current;
      if (reign === undefined) {
        this.#succeed();
        return;
      }
      if (reign.process.inFlight >= MAX_IN_FLIGHT) {
        return;
      }
      reign.called(waiting.revealing);
      waiting.go(reign.process);
    }
  }

  /** Starts a custodian, unless that is being done: it takes over, or those who wait for it hear why not. */
  #succeed(): void {
    if (this.#starting !== undefined || this.#closing.signal.aborted) {
      return;
    }
    const wait = this.#notBefore - performance.now();
    if (wait > WORTH_WAITING_MS) {
      this.#failWaiting(new CustodianLost(`it failed ${this.#faults} times in a row`, Math.ceil(wait)));
      return;
    }
    this.#starting = this.#start(wait).then(
      () => this.#settled(),
      (error: unknown) => {
        if (this.#current === undefined) {
          this.#failWaiting(error as Error);
        }
        this.#settled();
      },
    );
  }

  #settled(): void {
    this.#starting = undefined;
    this.#dispatch();
  }

  /** @throws CustodianLost, or what opening the key pipe does */
  async #start(wait: number): Promise<void> {
    if (wait > 0) {
      await sleep(wait, undefined, { signal: this.#closing.signal }).catch(() => {
        throw new CustodianLost('it is closed');
      });
    }
    const reign = this.#spawn();
    await reign.process.ready;
    await this.#restore(reign.process);
    const old = this.#current;
    this.#current = reign;
    reign.answered();
    if (old !== undefined) {
      this.#retire(old);
    }
  }

  #spawn(): Reign {
    const { engine, entry = CUSTODIAN_ENTRY } = this.#options;
    const targets = this.#targets;
    const { role } = targets;
    const { start, grace, life, margin, end, idle } = this.#times;
    const number = ++this.#started;
    const pipe = role === 'provider' ? AgentKeyPipe.open(engine) : undefined;
    let process: CustodianProcess;
    try {
      process = new CustodianProcess({
        role,
        entry,
        pipe,
        targets,
        startMs: start,
        graceMs: grace,
        limitMs: life + margin,
        onSession: (from, id, root) => this.#sessions!.take(from, id, root, number, !reign.forget.has(root)),
        onAnswer: () => this.#answered(reign),
        onLost: (departure) => this.#lost(reign, departure),
      });
    } catch (error) {
      pipe?.close();
      this.#fault(error instanceof Error ? error.message : String(error));
      throw error;
    }
    const reign = new Reign({
      process,
      idleMs: idle,
      lifeMs: life,
      endMs: end,
      onIdle: () => this.#retire(reign),
      onDue: () => this.#handOver(reign),
    });
    this.#reigns.add(reign);
    void process.gone.then(() => {
      this.#reigns.delete(reign);
      reign.finished();
    });
    return reign;
  }

  /** Hands the logins of earlier custodians over. One after the other: the pipe has no room for many. */
  async #restore(process: CustodianProcess): Promise<void> {
    const sessions = this.#sessions;
    for (const root of sessions?.roots ?? []) {
      const call: CustodianCall<void> = {
        target: root,
        operation: 'restore',
        args: {},
        ahead: (pipe, id) => sessions!.give(pipe, id, root),
        read: ({ value, body }) => nothingOf(value, body, 'the reply to restore'),
        failed: ({ code }) => new CustodianLost(`it does not take a login (${code})`),
      };
      await process.call(call, AbortSignal.timeout(this.#times.start));
    }
  }

  #answered(reign: Reign): void {
    if (reign === this.#current) {
      // Not for the answers of one that only starts: then the back-off would never grow.
      this.#faults = 0;
      this.#notBefore = 0;
      this.#dispatch();
    }
    reign.answered();
  }

  /** Its life is nearly over. */
  #handOver(reign: Reign): void {
    if (reign !== this.#current) {
      return;
    }
    if (!reign.isBusy) {
      this.#retire(reign);
      return;
    }
    this.#succeed();
    // Where that fails it is tried again: the old one serves as long as it may.
    void (this.#starting ?? sleep(WORTH_WAITING_MS, undefined, { ref: false })).then(() => {
      if (reign === this.#current) {
        setTimeout(() => this.#handOver(reign), FIRST_BACK_OFF_MS).unref();
      }
    });
  }

  #retire(reign: Reign, now = false): void {
    if (reign === this.#current) {
      this.#current = undefined;
    }
    reign.retire(now);
  }

  #lost(reign: Reign, { reason, fault }: Departure): void {
    if (reign === this.#current) {
      this.#current = undefined;
    }
    if (fault) {
      this.#fault(reason);
    }
    // Not at once: calls in flight fail first.
    setImmediate(() => this.#dispatch());
  }

  #fault(reason: string): void {
    this.#crashes++;
    const backOff = Math.min(FIRST_BACK_OFF_MS * 2 ** this.#faults, MAX_BACK_OFF_MS);
    this.#faults++;
    // Half of it at least: many agents that lost the same thing come back apart.
    this.#notBefore = performance.now() + backOff * (0.5 + Math.random() / 2);
    this.#options.notice(`the ${this.#options.targets.role} custodian is lost: ${reason}`);
  }

  #failWaiting(error: Error): void {
    for (const waiting of this.#waiting) {
      waiting.fail(error);
    }
  }
}
