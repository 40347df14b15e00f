/**
 * Who may do what. Rules are compiled once; a caller is what the kernel says of a connection, and its answers are
 * remembered per (key, partition), so that the question costs two map look-ups on the way of a request.
 *
 * Default deny. A denial has one text, the same for a key that does not exist; its reason names the rule that would
 * allow the call.
 */
import type { LegacyOperation, Operation, PolicyRule, SocketName } from '../config/config.ts';
import { ConfigError, type ConfigProblem } from '../config/problems.ts';
import { DekdError } from '../errors.ts';
import { compileGlob } from '../glob.ts';

import { Quotas } from './quotas.ts';
import { explainDenial, quoted } from './remedy.ts';

/** What the kernel says of a connection, and the socket it came through. */
export interface Peer {
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups. */
  readonly groups: readonly number[];
  readonly socket: SocketName;
}

/** One kind of caller; every connection of the same uid, gid, groups and socket has the same. */
export interface Caller {
  /** On whose behalf keys are loaded, e.g. `uid:1000`. */
  readonly share: string;
  /** Whether some rule grants `operation`. No allocation when asked before. */
  allows(operation: Operation, key: string, partition: string): boolean;
  /** Whether some rule grants an operation on envelopes of the legacy key `kid` for this key. */
  allowsLegacy(operation: LegacyOperation, key: string, partition: string, kid: string): boolean;
  /** @throws PERMISSION_DENIED, the same for a key that does not exist; its reason holds the rule that would allow it */
  authorize(operation: Operation, key: string, partition: string): void;
  /** What rules grant on the key, whether or not there is one. */
  rights(key: string, partition: string): readonly Operation[];
  /** Whether a rule that grants `operation` lets this caller choose the root of this name for the key. */
  allowsRoot(operation: Operation, key: string, partition: string, root: string): boolean;
  /** @throws PERMISSION_DENIED, the same for a root that does not exist; its reason holds the rule that would allow it */
  authorizeRoot(operation: Operation, key: string, partition: string, root: string): void;
  /** Whether a rule that grants encrypting or re-encrypting lets this caller choose the root for some key. */
  maySomewhere(root: string): boolean;
  /** Whether some rule lets this caller make the key on first use, its cap aside. @param by `encrypt` unless given */
  mayCreate(key: string, partition: string, by?: CreatingOperation): boolean;
  /**
   * Charges the creation of a key on first use to a rule that grants it. Asking again for the same key is free, so a
   * creation that failed may be tried again.
   * @throws KEY_NOT_FOUND to a caller that may do `by` with the key but not create it; PERMISSION_DENIED to any other,
   * and when the cap of every rule that grants creation is reached
   */
  authorizeCreate(key: string, partition: string, by?: CreatingOperation): void;
  /**
   * Charges values for an index to the quota of a rule that grants `blindIndex` on the key.
   * @throws RESOURCE_EXHAUSTED, and when to come again; nothing is charged then
   */
  chargeIndex(key: string, partition: string, values: number): void;
}

/** What makes a key that is not there. */
export type CreatingOperation = Extract<Operation, 'encrypt' | 'hmac' | 'blindIndex'>;

export interface Policy {
  /** @throws UNAUTHENTICATED for the overflow uid */
  callerFor(peer: Peer): Caller;
  /** Whether callers under the agent's own uid can be admitted: such a caller can read the agent's files. */
  readonly sameUid: boolean;
}

export interface PolicyOptions {
  /** Whether the addon is loaded: without it the kernel is not asked, and every caller counts as the own uid. */
  readonly native: boolean;
  readonly ownUid: number;
  /** `dekd dev`, or an agent that a client spawned for itself. */
  readonly dev: boolean;
  /** `socket.allowOwnUid`. */
  readonly allowOwnUid: boolean;
  /** Milliseconds of a clock that never goes back, for quotas; `performance.now` unless given. */
  readonly now?: (() => number) | undefined;
  /** Names of the roots that are configured. */
  readonly roots: readonly string[];
}

/** What every denial says. */
export const NOT_ALLOWED_TEXT = 'no such key, or not allowed';
/** The same to a caller that may do it with the key, and not under that root. */
export const ROOT_NOT_ALLOWED_TEXT = 'no such root, or not allowed for this key';

/** The kernel's stand-in for a uid that has no number in this user namespace: it names nobody. */
export const OVERFLOW_UID = 65_534;

const BITS = {
  encrypt: 1,
  decrypt: 2,
  reencrypt: 4,
  anyKey: 8,
  keyInfo: 16,
  hmac: 64,
  verifyHmac: 128,
  blindIndex: 256,
  openLegacy: 1 << 20,
  migrateLegacy: 1 << 21,
} as const satisfies Record<Operation, number>;
const CREATE_BIT = 32;

/** Answers remembered for one caller; the map is dropped when it is full. */
const MAX_ANSWERS = 4096;
/**
 * Longest key and partition, together, that rules are asked about: no key has such names, and everything that is made for each item
 * of a batch holds them.
 */
const MAX_NAMES = 512;
/** Callers remembered; the map is dropped when it is full, connections keep theirs. */
const MAX_CALLERS = 1024;

interface CompiledRule {
  readonly rule: PolicyRule;
  readonly bits: number;
  matchesKey(key: string): boolean;
  matchesPartition(partition: string): boolean;
  matchesLegacyKid(kid: string): boolean;
  matchesRoot(root: string): boolean;
  /** What has been charged, as `key NUL partition`; never more than `create.max`. */
  readonly created: Set<string>;
  /** Of values for indexes. */
  readonly indexing: Quotas;
}

/** @throws ConfigError when the rules cannot be honoured as they are */
export function compilePolicy(rules: readonly PolicyRule[], options: PolicyOptions): Policy {
  const problems = rules.flatMap((rule, index) => ruleProblems(rule, index, options));
  if (options.ownUid === OVERFLOW_UID) {
    const message = `the agent runs as uid ${OVERFLOW_UID}, which stands for every unknown user; run it as another`;
    problems.push({ path: '', source: '', message });
  }
  if (problems.length > 0) {
    throw new ConfigError(problems);
  }
  const now = options.now ?? (() => performance.now());
  return new CompiledPolicy(
    rules.map((rule) => compileRule(rule, now)),
    options,
  );
}

function ruleProblems(rule: PolicyRule, index: number, options: PolicyOptions): ConfigProblem[] {
  const problems: ConfigProblem[] = [];
  const problem = (field: string, message: string): void => {
    const path = `policy.rules[${index}].callers${field}`;
    problems.push({ path, source: '', message: `rule ${JSON.stringify(rule.name)} ${message}` });
  };
  const named = (['uid', 'gid', 'groups'] as const).filter((field) => rule.callers[field] !== undefined);
  if (!options.native && named.length > 0) {
    problem(
      '',
      `names ${named.join(', ')}, which only the native engine can tell: build the addon, or remove them and let the permissions of the socket decide`,
    );
  }
  for (const field of named) {
    if (rule.callers[field]!.includes(OVERFLOW_UID)) {
      problem(`.${field}`, `names ${OVERFLOW_UID}, which stands for everyone without a number here; name another`);
    }
  }
  if (options.native && !options.dev && !options.allowOwnUid && admitsOwnUid(rule, options)) {
    problem(
      '.uid',
      `admits uid ${options.ownUid}, the agent's own, and such a caller can read the agent's files: run the agent under a uid of its own, or set socket.allowOwnUid: true`,
    );
  }
  return problems;
}

function admitsOwnUid({ callers }: PolicyRule, { ownUid }: PolicyOptions): boolean {
  return (callers.uid?.includes(ownUid) ?? false) && callers.socket.includes('data');
}

function compileRule(rule: PolicyRule, now: () => number): CompiledRule {
  const operations = rule.operations.reduce((bits, operation) => bits | BITS[operation], 0);
  return {
    rule,
    bits: rule.create === false ? operations : operations | CREATE_BIT,
    matchesKey: anyGlob(rule.keys),
    matchesPartition: anyGlob(rule.partitions),
    matchesLegacyKid: anyGlob(rule.legacyKids ?? ['*']),
    matchesRoot: anyGlob(rule.roots),
    created: new Set(),
    indexing: new Quotas(rule.blindIndexPerSecond, now),
  };
}

function anyGlob(patterns: readonly string[]): (name: string) => boolean {
  const globs = patterns.map(compileGlob);
  return (name) => globs.some((matches) => matches(name));
}

class CompiledPolicy implements Policy {
  readonly sameUid: boolean;
  readonly #rules: readonly CompiledRule[];
  readonly #options: PolicyOptions;
  readonly #callers = new Map<string, CompiledCaller>();

  constructor(rules: readonly CompiledRule[], options: PolicyOptions) {
    this.#rules = rules;
    this.#options = options;
    this.sameUid =
      !options.native ||
      rules.some(({ rule }) => rule.callers.socket.includes('data') && this.#admitsUid(rule, options.ownUid));
  }

  callerFor(peer: Peer): Caller {
    if (peer.uid === OVERFLOW_UID) {
      throw new DekdError('UNAUTHENTICATED', 'the caller is not known', {
        reason: `the caller has the overflow uid ${OVERFLOW_UID}: its uid has no number in the agent's user namespace, so it could be anybody; run both in one user namespace, or map the uid`,
      });
    }
    const identity = `${peer.socket}/${peer.uid}/${peer.gid}/${peer.groups.join(',')}`;
    let caller = this.#callers.get(identity);
    if (!caller) {
      caller = new CompiledCaller(
        this.#rules.filter(({ rule }) => this.#admits(rule, peer)),
        peer,
        this.#options,
      );
      if (this.#callers.size >= MAX_CALLERS) {
        this.#callers.clear();
      }
      this.#callers.set(identity, caller);
    }
    return caller;
  }

  #admits({ callers }: PolicyRule, peer: Peer): boolean {
    return (
      callers.socket.includes(peer.socket) &&
      this.#admitsUid({ callers }, peer.uid) &&
      (callers.gid === undefined || callers.gid.includes(peer.gid)) &&
      (callers.groups === undefined || callers.groups.some((group) => peer.groups.includes(group)))
    );
  }

  /**
   * A rule that names no uid means any but the agent's own: pods often give every container one group, and the agent's
   * own uid must not come in by that.
   */
  #admitsUid({ callers }: Pick<PolicyRule, 'callers'>, uid: number): boolean {
    if (callers.uid !== undefined) {
      return callers.uid.includes(uid);
    }
    const { native, dev, allowOwnUid, ownUid } = this.#options;
    return uid !== ownUid || !native || dev || allowOwnUid;
  }
}

class CompiledCaller implements Caller {
  readonly share: string;
  readonly #rules: readonly CompiledRule[];
  readonly #peer: Peer;
  readonly #options: PolicyOptions;
  /** Key → partition → bits granted. */
  readonly #answers = new Map<string, Map<string, number>>();
  #answerCount = 0;
  /** By root: what the rules grant that let it be chosen. */
  readonly #underRoots = new Map<string, CompiledCaller>();

  constructor(rules: readonly CompiledRule[], peer: Peer, options: PolicyOptions) {
    this.share = `uid:${peer.uid}`;
    this.#rules = rules;
    this.#peer = peer;
    this.#options = options;
  }

  allows(operation: Operation, key: string, partition: string): boolean {
    return (this.#granted(key, partition) & BITS[operation]) !== 0;
  }

  allowsLegacy(operation: LegacyOperation, key: string, partition: string, kid: string): boolean {
    return (
      this.allows(operation, key, partition) &&
      this.#rules.some(
        (rule) =>
          (rule.bits & BITS[operation]) !== 0 &&
          rule.matchesKey(key) &&
          rule.matchesPartition(partition) &&
          rule.matchesLegacyKid(kid),
      )
    );
  }

  authorize(operation: Operation, key: string, partition: string): void {
    if ((this.#granted(key, partition) & BITS[operation]) === 0) {
      throw this.#denial([operation], key, partition);
    }
  }

  rights(key: string, partition: string): readonly Operation[] {
    const granted = this.#granted(key, partition);
    return (Object.keys(BITS) as Operation[]).filter((operation) => (granted & BITS[operation]) !== 0);
  }

  allowsRoot(operation: Operation, key: string, partition: string, root: string): boolean {
    return this.#underRoot(root)?.allows(operation, key, partition) ?? false;
  }

  authorizeRoot(operation: Operation, key: string, partition: string, root: string): void {
    if (!this.allowsRoot(operation, key, partition, root)) {
      this.authorize(operation, key, partition);
      const { roots } = this.#options;
      const reason = roots.includes(root)
        ? this.#reason([operation], key, partition, root)
        : `no root ${quoted(root)} is configured; the roots are ${roots.join(', ')}`;
      throw new DekdError('PERMISSION_DENIED', ROOT_NOT_ALLOWED_TEXT, { reason });
    }
  }

  maySomewhere(root: string): boolean {
    return this.#options.roots.includes(root) && this.#rules.some((rule) => choosing(rule) && rule.matchesRoot(root));
  }

  /** This caller, with nothing but the rules that let it choose the root; undefined when there is no such root. */
  #underRoot(root: string): CompiledCaller | undefined {
    let caller = this.#underRoots.get(root);
    if (caller === undefined && this.#options.roots.includes(root)) {
      const rules = this.#rules.filter(({ matchesRoot }) => matchesRoot(root));
      caller = new CompiledCaller(rules, this.#peer, this.#options);
      this.#underRoots.set(root, caller);
    }
    return caller;
  }

  mayCreate(key: string, partition: string, by: CreatingOperation = 'encrypt'): boolean {
    const needed = CREATE_BIT | BITS[by];
    return (this.#granted(key, partition) & needed) === needed && this.#granting(needed, key, partition).length > 0;
  }

  authorizeCreate(key: string, partition: string, by: CreatingOperation = 'encrypt'): void {
    const granted = this.#granted(key, partition);
    if ((granted & BITS[by]) === 0) {
      throw this.#denial([by], key, partition);
    }
    const creating = this.#granting(CREATE_BIT | BITS[by], key, partition);
    if (creating.length === 0) {
      const { reason } = this.#denial([by, 'create'], key, partition);
      throw new DekdError('KEY_NOT_FOUND', 'no such key', reason === undefined ? {} : { reason });
    }
    const entry = `${key}\u0000${partition}`;
    if (!creating.some((rule) => charge(rule, entry))) {
      const caps = creating.map(
        ({ rule }) => `rule ${JSON.stringify(rule.name)} has made ${rule.create === false ? 0 : rule.create.max}`,
      );
      throw new DekdError('PERMISSION_DENIED', 'the limit of keys made on first use is reached', {
        reason: `${caps.join(', ')}; raise create.max there, or make the key with \`dekd keys create\``,
      });
    }
  }

  chargeIndex(key: string, partition: string, values: number): void {
    let retryAfterMs = Number.POSITIVE_INFINITY;
    const granting = this.#granting(BITS.blindIndex, key, partition);
    for (const { indexing } of granting) {
      const waitMs = indexing.take(this.#peer.uid, values);
      if (waitMs === 0) {
        return;
      }
      retryAfterMs = Math.min(retryAfterMs, waitMs);
    }
    const quotas = granting.map(({ rule }) => `rule ${JSON.stringify(rule.name)} allows ${rule.blindIndexPerSecond}`);
    throw new DekdError('RESOURCE_EXHAUSTED', 'the quota of values for indexes is used up for now', {
      retryAfterMs,
      reason: `${quotas.join(', ')} a second to ${this.share}, and ${values} were asked for at once; raise blindIndexPerSecond there if this is no guessing`,
    });
  }

  /** Rules that grant all of `bits` on a key. */
  #granting(bits: number, key: string, partition: string): CompiledRule[] {
    return this.#rules.filter(
      (rule) => (rule.bits & bits) === bits && rule.matchesKey(key) && rule.matchesPartition(partition),
    );
  }

  #granted(key: string, partition: string): number {
    return this.#answers.get(key)?.get(partition) ?? this.#decide(key, partition);
  }

  #decide(key: string, partition: string): number {
    if (key.length + partition.length > MAX_NAMES) {
      return 0;
    }
    let bits = 0;
    // Names that begin with a dot are those of key-encryption keys; no rule reaches them.
    if (!key.startsWith('.')) {
      for (const rule of this.#rules) {
        if (rule.matchesKey(key) && rule.matchesPartition(partition)) {
          bits |= rule.bits;
        }
      }
    }
    this.#remember(key, partition, bits);
    return bits;
  }

  #remember(key: string, partition: string, bits: number): void {
    if (this.#answerCount >= MAX_ANSWERS) {
      this.#answers.clear();
      this.#answerCount = 0;
    }
    let partitions = this.#answers.get(key);
    if (!partitions) {
      partitions = new Map();
      this.#answers.set(key, partitions);
    }
    partitions.set(partition, bits);
    this.#answerCount++;
  }

  #denial(wanted: readonly (Operation | 'create')[], key: string, partition: string): DekdError {
    return new DekdError('PERMISSION_DENIED', NOT_ALLOWED_TEXT, { reason: this.#reason(wanted, key, partition) });
  }

  #reason(wanted: readonly (Operation | 'create')[], key: string, partition: string, root?: string): string {
    return explainDenial({
      peer: this.#peer,
      native: this.#options.native,
      ownUid: this.#options.ownUid,
      allowOwnUid: this.#options.allowOwnUid || this.#options.dev,
      wanted,
      key,
      partition,
      ...(root === undefined ? {} : { root }),
    });
  }
}

/** Whether the rule is for calls in which a root can be chosen. */
function choosing({ bits }: CompiledRule): boolean {
  return (bits & (BITS.encrypt | BITS.reencrypt)) !== 0;
}

function charge({ rule, created }: CompiledRule, entry: string): boolean {
  const max = rule.create === false ? 0 : rule.create.max;
  if (max === Number.POSITIVE_INFINITY || created.has(entry)) {
    return true;
  }
  if (created.size >= max) {
    return false;
  }
  created.add(entry);
  return true;
}
