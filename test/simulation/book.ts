/**
 * What is known of a world from outside of it, and what follows from that: which plaintext a token holds, which answers
 * are wrong, and which refusals have a reason.
 *
 * The rules are the promises of the design, with their bounds. A bound holds where the channel that it speaks of worked all
 * the while: a change in the keystore is seen in two refresh intervals by an agent that reaches the keystore.
 */
import { hex } from '../../src/bytes.ts';
import { DekdError, type ErrorCode } from '../../src/errors.ts';
import type { KeyRecord, KeyState } from '../../src/keyring/record.ts';
import { lineOf } from '../../src/keyring/root-line.ts';
import type { Settings, SimAgent } from './agent.ts';
import type { Machine } from './machine.ts';
import type { Link, RootMode, SharedStore, StoreMode } from './services.ts';

/** Two refresh intervals, the reading itself, and a loop that has other things to do. */
export const SEEN_WITHIN_MS = 2 * 30_000 + 10_000;
/** Longer than a call to a root may take, and the tick of its watch. */
const SLACK_MS = 8_000;
/** How long after its end a fault may still be felt. */
const AFTER_ROOT_MS = 70_000;
const AFTER_STORE_MS = 20_000;
/** Calls to one root by one agent in a minute: two a second, and what a few keys need at once. */
const CALLS_PER_MINUTE = 160;

const OPENS: ReadonlySet<KeyState> = new Set(['active', 'deactivated', 'compromised']);
const SILENT: readonly RootMode[] = ['silent', 'down', 'throttled', 'sealed', 'expired'];

export interface Sealed {
  readonly token: Uint8Array;
  readonly kid: string;
  readonly plaintext: string;
  readonly key: string;
  readonly partition: string;
  readonly context: Readonly<Record<string, string>>;
}

/** An operation under way. */
export interface Asked {
  readonly agent: SimAgent;
  readonly what: string;
  readonly key: string;
  readonly partition: string;
  /** Of the token, where there is one. */
  readonly kid: string | undefined;
  readonly at: number;
  readonly bootAt: number;
}

interface Acknowledged {
  readonly at: number;
  readonly state: KeyState;
}

export class Book {
  readonly sealed: Sealed[] = [];
  readonly problems: string[] = [];
  /** Outcomes by operation, for the report. */
  readonly outcomes = new Map<string, number>();
  /** When connections were cut. */
  readonly cuts: number[] = [];
  /** When the machines woke up, by CLOCK_MONOTONIC. */
  readonly wakes: number[] = [];
  readonly #machine: Machine;
  readonly #store: SharedStore;
  readonly #settings: Settings;
  /** What each agent acknowledged of a version, by agent and kid. */
  readonly #acknowledged = new Map<string, Acknowledged>();
  /** The newest version that each agent has said to seal with, by agent and key. */
  readonly #newest = new Map<string, { at: number; version: number }>();
  /** Freezes by agent: from the acknowledgement of one to the call of a thaw. */
  readonly #frozen = new Map<string, { name: string; partition: string; from: number; to: number }[]>();
  /** From the call of a freeze to the acknowledgement of its thaw: it may be frozen. */
  readonly #frozenAsked = new Map<string, { name: string; partition: string; to: number }[]>();
  /** By agent and root: rewraps, which may call as often as they like. */
  readonly #busy: { agent: SimAgent; from: number; to: number }[] = [];

  constructor(machine: Machine, store: SharedStore, settings: Settings) {
    this.#machine = machine;
    this.#store = store;
    this.#settings = settings;
    store.onWrite = (record) => this.#checkWrite(record);
  }

  problem(text: string): void {
    this.#machine.note(`PROBLEM ${text}`);
    this.problems.push(text);
  }

  asked(agent: SimAgent, what: string, key: string, partition: string, kid?: string): Asked {
    return { agent, what, key, partition, kid, at: this.#machine.now, bootAt: this.#machine.bootMs };
  }

  /** Counts what was asked for and how it ended. */
  count(what: string, outcome: string): void {
    const counted = `${what} ${outcome}`;
    this.outcomes.set(counted, (this.outcomes.get(counted) ?? 0) + 1);
  }

  // ── answers ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** A token was answered. @returns it, for later */
  sealedBy(asked: Asked, token: Uint8Array, plaintext: string, context: Readonly<Record<string, string>>): Sealed {
    const { agent, key, partition } = asked;
    const kid = hex(token.subarray(2, 18));
    const sealed = { token, kid, plaintext, key, partition, context };
    this.#answered(asked, `ok ${kid.slice(0, 8)}`);
    const record = this.#store.records.get(kid);
    if (record === undefined) {
      this.problem(`${agent.name} sealed ${plaintext} with a key that is not in the keystore`);
      return sealed;
    }
    this.sealed.push(sealed);
    if (record.name !== key || record.partition !== partition || record.purpose !== 'seal') {
      this.problem(`${agent.name} sealed ${plaintext} with the key of ${record.name}/${record.partition}`);
    }
    this.#checkSealed(asked, record, kid);
    return sealed;
  }

  /** A plaintext was answered, for a token in its context. */
  openedBy(asked: Asked, sealed: Sealed, plaintext: string): void {
    this.#answered(asked, 'ok');
    if (plaintext !== sealed.plaintext) {
      this.problem(`${asked.agent.name} opened ${sealed.plaintext} and answered ${plaintext}`);
    }
    this.checkMayOpen(asked, sealed.kid);
  }

  /** Whatever was answered was made with the version of this kid open. */
  checkMayOpen(asked: Asked, kid: string): void {
    const { agent } = asked;
    const name = this.#nameOf(kid);
    if (
      this.#isStoppedSince(kid, asked.at - SEEN_WITHIN_MS, (state) => OPENS.has(state)) &&
      this.#isSeen(agent, asked)
    ) {
      this.problem(`${agent.name} opened with ${name}, which was stopped ${SEEN_WITHIN_MS / 1_000} s before`);
    }
    const own = this.#acknowledged.get(`${agent.name} ${kid}`);
    if (own !== undefined && own.at <= asked.at && !OPENS.has(own.state)) {
      if (this.#isStoppedSince(kid, own.at, (state) => OPENS.has(state))) {
        this.problem(`${agent.name} opened with ${name} after it had acknowledged that it is ${own.state}`);
      }
    }
    this.#checkFrozen(asked);
    this.#checkRoot(asked, kid, this.#settings.coastDecryptMs, 'opened');
  }

  #checkSealed(asked: Asked, record: KeyRecord, kid: string): void {
    const { agent, key, partition } = asked;
    const name = this.#nameOf(kid);
    if (
      this.#isStoppedSince(kid, asked.at - SEEN_WITHIN_MS, (state) => state === 'active') &&
      this.#isSeen(agent, asked)
    ) {
      this.problem(`${agent.name} sealed with ${name}, which stopped sealing ${SEEN_WITHIN_MS / 1_000} s before`);
    }
    const own = this.#acknowledged.get(`${agent.name} ${kid}`);
    // A version that was replaced may seal until the one in its place can be read.
    const isRead = (since: number): boolean => agent.storeLink.wasOnly(['ok'], since - SLACK_MS);
    if (
      own !== undefined &&
      own.at <= asked.at &&
      own.state !== 'active' &&
      (own.state !== 'deactivated' || isRead(own.at))
    ) {
      if (this.#isStoppedSince(kid, own.at, (state) => state === 'active')) {
        this.problem(`${agent.name} sealed with ${name} after it had acknowledged that it is ${own.state}`);
      }
    }
    const newest = this.#newest.get(`${agent.name} ${key} ${partition}`);
    if (newest !== undefined && newest.at <= asked.at && record.version < newest.version && isRead(newest.at)) {
      this.problem(`${agent.name} sealed with ${name} after it had acknowledged version ${newest.version}`);
    }
    this.#checkFrozen(asked);
    this.#checkRoot(asked, kid, this.#settings.coastEncryptMs, 'sealed');
  }

  #checkFrozen({ agent, key, partition, at, what }: Asked): void {
    for (const { name, partition: tenant, from, to } of this.#frozen.get(agent.name) ?? []) {
      const covers = (name === '' || name === key) && (tenant === '' || tenant === partition);
      if (covers && from <= at && to >= this.#machine.now) {
        this.problem(`${agent.name} did ${what} with ${key}/${partition}, which was frozen`);
      }
    }
  }

  /** Silence and refusal of the root that the version hangs under. */
  #checkRoot(asked: Asked, kid: string, coastMs: number, verb: string): void {
    const { agent, at, bootAt } = asked;
    const { withinMs, strict } = this.#settings;
    // After a sleep the watch has its first look within a second.
    const isAwake = !this.wakes.some((wake) => wake > at - SLACK_MS);
    const roots = this.#rootsSince(kid, at - 2 * withinMs - coastMs);
    if (roots.size !== 1 || !isAwake) {
      return;
    }
    const link = agent.rootLinks.get([...roots][0]!)!;
    const since = sinceWhen(link, SILENT);
    const coast = strict ? Math.min(coastMs, withinMs) : coastMs;
    if (since !== undefined && bootAt - since.bootAt > coast + SLACK_MS) {
      this.problem(`${agent.name} ${verb} with ${this.#nameOf(kid)}, whose root was silent for longer than its coast`);
    }
    const refusedSince = sinceWhen(link, ['refuse', 'deny']);
    const isReached = agent.storeLink.wasOnly(['ok'], at - withinMs - SLACK_MS);
    if (refusedSince !== undefined && isReached && at - refusedSince.at > withinMs + SLACK_MS) {
      this.problem(
        `${agent.name} ${verb} with ${this.#nameOf(kid)}, whose root refused for longer than revocation.within`,
      );
    }
  }

  // ── refusals ──────────────────────────────────────────────────────────────────────────────────────────────────

  /** An operation failed. @param wrongContext whether it had to */
  failedBy(asked: Asked, error: unknown, wrongContext = false): void {
    const code: ErrorCode = DekdError.is(error) ? error.code : 'INTERNAL';
    this.#answered(asked, code);
    if (wrongContext && code === 'DECRYPTION_FAILED') {
      return;
    }
    if (!this.#hasReason(asked, code)) {
      const { agent, what, key, partition, kid } = asked;
      const of = kid === undefined ? `${key}/${partition}` : this.#nameOf(kid);
      this.problem(`${agent.name} refused ${what} of ${of} without a reason: ${code} ${(error as Error).message}`);
    }
  }

  #hasReason(asked: Asked, code: ErrorCode): boolean {
    const { agent, at, key, partition, kid } = asked;
    const isRootWell = [...agent.rootLinks.values()].every((link) => link.wasOnly(['ok'], at - AFTER_ROOT_MS));
    const isStoreWell = agent.storeLink.wasOnly(['ok'], at - AFTER_STORE_MS) && this.#isDiskWell(agent, at);
    const isLying = [...agent.rootLinks.values()].some((link) => !link.wasOnly(without('lying'), at - AFTER_ROOT_MS));
    const isGone = !this.#wasUp(agent, at) || this.cuts.some((cut) => cut >= at);
    switch (code) {
      case 'KMS_UNAVAILABLE':
      case 'KMS_DENIED':
        return !isRootWell;
      case 'KEYSTORE_UNAVAILABLE':
        return !isStoreWell || isLying;
      case 'DEADLINE_EXCEEDED':
        return !isRootWell || !isStoreWell || isGone;
      case 'AGENT_UNAVAILABLE':
      case 'SHUTTING_DOWN':
      case 'CANCELLED':
        return isGone;
      case 'KEY_DISABLED':
        return !isRootWell || this.#wasFrozen(agent, at) || this.#wasDenied(asked, kid, key, partition);
      case 'DECRYPTION_FAILED':
        return isLying;
      default:
        return false;
    }
  }

  #isDiskWell(agent: SimAgent, at: number): boolean {
    return !(agent.diskTroubleUntil >= at - AFTER_STORE_MS);
  }

  #wasUp(agent: SimAgent, at: number): boolean {
    const run = agent.runs.at(-1)!;
    return run.readyAt !== undefined && run.readyAt < at && run.endedAt === undefined && agent.state === 'up';
  }

  #wasFrozen(agent: SimAgent, at: number): boolean {
    return (this.#frozenAsked.get(agent.name) ?? []).some(({ to }) => to >= at - SLACK_MS);
  }

  /** Whether a version that the call may have been about was stopped, or had been until a moment ago. */
  #wasDenied({ agent, at }: Asked, kid: string | undefined, key: string, partition: string): boolean {
    const from = readUntil(agent.storeLink, at) - 2 * SEEN_WITHIN_MS;
    for (const [id, record] of this.#store.records) {
      const concerns = kid === undefined ? record.name === key && record.partition === partition : id === kid;
      if (
        concerns &&
        this.#statesSince(id, from).some((state) => state !== 'active' && (kid === undefined || !OPENS.has(state)))
      ) {
        return true;
      }
    }
    return false;
  }

  // ── commands ──────────────────────────────────────────────────────────────────────────────────────────────────

  /** A command of the life of keys was acknowledged, with the versions that it was about. */
  changedBy(agent: SimAgent, askedAt: number, keys: readonly { kid: string; state: KeyState }[]): void {
    for (const { kid, state } of keys) {
      // Only when nobody wrote the row since it was read.
      if (this.#statesSince(kid, askedAt).at(-1) === state) {
        this.#acknowledged.set(`${agent.name} ${kid}`, { at: this.#machine.now, state });
      }
    }
  }

  rotatedBy(agent: SimAgent, key: string, partition: string, version: number): void {
    this.#newest.set(`${agent.name} ${key} ${partition}`, { at: this.#machine.now, version });
  }

  freezeAsked(agent: SimAgent, name: string, partition: string): void {
    const asked = this.#frozenAsked.get(agent.name) ?? [];
    asked.push({ name, partition, to: Number.POSITIVE_INFINITY });
    this.#frozenAsked.set(agent.name, asked);
  }

  frozenBy(agent: SimAgent, name: string, partition: string): void {
    const freezes = this.#frozen.get(agent.name) ?? [];
    freezes.push({ name, partition, from: this.#machine.now, to: Number.POSITIVE_INFINITY });
    this.#frozen.set(agent.name, freezes);
  }

  /** A thaw is called: from now on it may be thawed. */
  thawAsked(agent: SimAgent): void {
    for (const freeze of this.#frozen.get(agent.name) ?? []) {
      freeze.to = Math.min(freeze.to, this.#machine.now);
    }
  }

  thawedBy(agent: SimAgent, name: string, partition: string): void {
    for (const freeze of this.#frozenAsked.get(agent.name) ?? []) {
      if (freeze.name === name && freeze.partition === partition) {
        freeze.to = Math.min(freeze.to, this.#machine.now);
      }
    }
  }

  /** An agent rewraps, and asks its roots for each record. */
  busy(agent: SimAgent): () => void {
    const entry = { agent, from: this.#machine.now, to: Number.POSITIVE_INFINITY };
    this.#busy.push(entry);
    return () => {
      entry.to = this.#machine.now;
    };
  }

  // ── the keystore ──────────────────────────────────────────────────────────────────────────────────────────────

  #checkWrite(record: KeyRecord): void {
    const id = hex(record.kid);
    const states = this.#store.history.get(id)!;
    const before = states.at(-2)?.state;
    if (before === 'destroyed' && record.state !== 'destroyed') {
      this.problem(`${this.#nameOf(id)} was destroyed and is ${record.state}`);
    }
    if (record.state === 'destroyed' && record.wrapped.length > 0) {
      this.problem(`${this.#nameOf(id)} is destroyed and has its wrapped bytes`);
    }
    const active = [...this.#store.records.values()].filter(
      (other) =>
        other.state === 'active' &&
        other.name === record.name &&
        other.partition === record.partition &&
        other.purpose === record.purpose &&
        lineOf(other) === lineOf(record),
    );
    // A KEK that is made under a root and one that comes there may meet: the newest wraps, and the next rotation stops both.
    if (active.length > 1 && record.purpose !== 'wrap') {
      this.problem(`${record.name}/${record.partition} has ${active.length} active versions for ${record.purpose}`);
    }
  }

  // ── the end ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** What is wrong with the rows and the calls when all is over. */
  checkRest(agents: readonly SimAgent[]): void {
    const versions = new Set<string>();
    for (const { name, partition, purpose, version } of this.#store.records.values()) {
      const id = `${name}/${partition} ${purpose} v${version}`;
      if (versions.has(id)) {
        this.problem(`there are two of ${id}`);
      }
      versions.add(id);
    }
    for (const agent of agents) {
      // A root that answers with another key makes rows look as if somebody had changed them, and that is said.
      const wasLiedTo = [...agent.rootLinks.values()].some(({ history }) =>
        history.some(({ mode }) => mode === 'lying'),
      );
      for (const error of agent.errors) {
        if (wasLiedTo && error.startsWith('record-refused')) {
          continue;
        }
        this.problem(`${agent.name} logged an error: ${error}`);
      }
      for (const [root, calledAt] of agent.calledAt) {
        this.#checkCalls(agent, root, calledAt);
      }
    }
  }

  #checkCalls(agent: SimAgent, root: string, calledAt: readonly number[]): void {
    const counted = calledAt.filter(
      (at) => !this.#busy.some((busy) => busy.agent === agent && busy.from <= at && at <= busy.to + SLACK_MS),
    );
    for (let first = 0, last = 0; last < counted.length; last++) {
      while (counted[last]! - counted[first]! > 60_000) {
        first++;
      }
      if (last - first >= CALLS_PER_MINUTE) {
        this.problem(`${agent.name} called root ${root} ${last - first + 1} times in a minute`);
        return;
      }
    }
  }

  // ── the past ──────────────────────────────────────────────────────────────────────────────────────────────────

  /** States that a row has had since then, the one that it had at that time first. */
  #statesSince(kid: string, at: number): KeyState[] {
    const states = this.#store.history.get(kid) ?? [];
    return states
      .filter((_, index) => (states[index + 1]?.at ?? Number.POSITIVE_INFINITY) > at)
      .map(({ state }) => state);
  }

  /** Whether it was there then, and has not been in a state that `allows` since. */
  #isStoppedSince(kid: string, at: number, allows: (state: KeyState) => boolean): boolean {
    const first = this.#store.history.get(kid)?.[0];
    return first !== undefined && first.at <= at && !this.#statesSince(kid, at).some(allows);
  }

  /** Whether the agent has reached the keystore all the while. */
  #isSeen(agent: SimAgent, { at }: Asked): boolean {
    return agent.storeLink.wasOnly(['ok'], at - SEEN_WITHIN_MS);
  }

  /** Names of the roots that a version has hung under since then. */
  #rootsSince(kid: string, at: number): Set<string> {
    const roots = new Set<string>();
    const rows = this.#store.history.get(kid) ?? [];
    for (const [index, { parent }] of rows.entries()) {
      if ((rows[index + 1]?.at ?? Number.POSITIVE_INFINITY) > at) {
        if (this.#store.history.has(parent)) {
          for (const root of this.#rootsSince(parent, at)) {
            roots.add(root);
          }
        } else {
          roots.add(parent);
        }
      }
    }
    return roots;
  }

  #nameOf(kid: string): string {
    const record = this.#store.records.get(kid);
    return record === undefined ? kid : `${record.name}/${record.partition} v${record.version}`;
  }

  #answered({ agent, what, key, partition }: Asked, outcome: string): void {
    this.count(what, outcome.split(' ')[0]!);
    this.#machine.note(`${agent.name} answered ${what} ${key}/${partition}: ${outcome}`);
  }
}

/** Until when an agent has read all that was written: later than that it may know less. */
function readUntil({ history }: Link<StoreMode>, at: number): number {
  let until = at;
  for (let index = history.length - 1; index >= 0; index--) {
    const ended = history[index + 1]?.at ?? Number.POSITIVE_INFINITY;
    const { mode, at: began } = history[index]!;
    if (mode === 'ok' && Math.min(ended, at) - began >= SEEN_WITHIN_MS) {
      break;
    }
    until = Math.min(until, began);
  }
  return until;
}

/** Since when a link has been in these modes, without a break; undefined when it is not. */
function sinceWhen(link: Link<RootMode>, modes: readonly RootMode[]): { at: number; bootAt: number } | undefined {
  let since: { at: number; bootAt: number } | undefined;
  for (const entry of link.history) {
    since = modes.includes(entry.mode) ? (since ?? entry) : undefined;
  }
  return since;
}

const ALL_MODES: readonly RootMode[] = [
  'ok',
  'slow',
  'silent',
  'down',
  'throttled',
  'sealed',
  'lossy',
  'expired',
  'refuse',
  'deny',
  'lying',
];

function without(mode: RootMode): readonly RootMode[] {
  return ALL_MODES.filter((other) => other !== mode);
}
