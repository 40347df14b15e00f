/**
 * Who may do what. Rules are compiled once; a caller is what the kernel says of a connection, the socket it came through and the
 * token it showed, and its answers are remembered per (key, partition), so that the question costs two map look-ups on the way
 * of a request.
 *
 * Default deny. A denial has one text, the same for a key that does not exist; its reason names the rule that would
 * allow the call.
 */
import type { LegacyOperation, Operation, PolicyRule, SocketName } from '../config/config.ts';
import { ConfigError } from '../config/problems.ts';
import { DekdError } from '../errors.ts';
import { CompiledCaller } from './compiled-caller.ts';
import { type CompiledRule, compileRule } from './compiled-rule.ts';
import type { Denials } from './denials.ts';
import type { CreatingOperation } from './rights.ts';
import { OVERFLOW_UID, ruleProblems } from './rule-problems.ts';

export { NOT_ALLOWED_TEXT, ROOT_NOT_ALLOWED_TEXT } from './compiled-caller.ts';
export type { CreatingOperation } from './rights.ts';
export { OVERFLOW_UID } from './rule-problems.ts';

/** What the kernel says of a connection, the socket it came through, and the token that it showed. */
export interface Peer {
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups. */
  readonly groups: readonly number[];
  readonly socket: SocketName;
  /** What the configuration calls the token; absent for none. */
  readonly token?: string | undefined;
}

/** What a call is of, for quotas: so many values under one key, and their plaintext or ciphertext bytes. */
export interface Load {
  readonly operation: Operation;
  /** Empty where the call names none, which counts with every key of its rules. */
  readonly key: string;
  readonly partition: string;
  readonly items: number;
  readonly bytes: number;
}

/** One kind of caller; every connection of the same uid, gid, groups, socket and token has the same. */
export interface Caller {
  /** On whose behalf keys are loaded, e.g. `uid:1000`, `uid:1000 token:web`. */
  readonly share: string;
  /** Whether a rule of this caller has a quota or wants context names: nobody else's calls are asked about those. */
  readonly isGated: boolean;
  /**
   * Charges a call to the quotas of a rule that grants it; one without quotas lets it pass.
   * @throws RESOURCE_EXHAUSTED, and when to come again; nothing is charged then
   */
  charge(load: Load): void;
  /**
   * Counts a request as in work with a rule that grants it.
   * @returns what ends that; undefined when no rule bounds it @throws RESOURCE_EXHAUSTED
   */
  begin(operation: Operation, key: string, partition: string): (() => void) | undefined;
  /** Takes bytes that were had already from a quota. @returns 0, or in how many milliseconds more may be had */
  owe(operation: Operation, key: string, partition: string, bytes: number): number;
  /**
   * @param names of the context of a call, asked for when a rule wants some
   * @throws PERMISSION_DENIED when every rule that grants it wants others, and what `names` throws
   */
  checkContext(operation: Operation, key: string, partition: string, names: () => readonly string[]): void;
  /** Whether some rule grants `operation`. No allocation when asked before. */
  allows(operation: Operation, key: string, partition: string): boolean;
  /**
   * Which rules grant `operation`, in the order of the configuration; for who asks about the rules, not for requests.
   * @param root with it, only those that let it be chosen
   */
  granting(operation: Operation, key: string, partition: string, root?: string): readonly PolicyRule[];
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

export interface Policy {
  /** @throws UNAUTHENTICATED for the overflow uid */
  callerFor(peer: Peer): Caller;
  /** Whether callers under the agent's own uid can be admitted: such a caller can read the agent's files. */
  readonly sameUid: boolean;
  /**
   * The policy that takes the place of this one. What was charged to a rule counts on under the rule of the same name: reading
   * the configuration again gives nobody a new quota.
   * @throws ConfigError when the rules cannot be honoured as they are
   */
  successor(rules: readonly PolicyRule[], roots: readonly string[]): Policy;
  readonly ruleNames: ReadonlySet<string>;
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
  /** Where denials are kept for suggestions; those of `previous` unless given. */
  readonly denials?: Denials | undefined;
  /** What these rules take the place of: a rule that stays as it was goes on with what it has given out. */
  readonly previous?: Policy | undefined;
}

/** Callers remembered; the map is dropped when it is full, connections keep theirs. */
const MAX_CALLERS = 1024;

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
  const previous = options.previous instanceof CompiledPolicy ? options.previous : undefined;
  const before = previous?.rules ?? [];
  return new CompiledPolicy(
    rules.map((rule) =>
      compileRule(
        rule,
        now,
        before.find((old) => old.rule.name === rule.name),
      ),
    ),
    { ...options, denials: options.denials ?? previous?.denials },
  );
}

class CompiledPolicy implements Policy {
  readonly sameUid: boolean;
  readonly rules: readonly CompiledRule[];
  readonly ruleNames: ReadonlySet<string>;
  readonly denials: Denials | undefined;
  readonly #options: PolicyOptions;
  readonly #callers = new Map<string, CompiledCaller>();

  constructor(rules: readonly CompiledRule[], options: PolicyOptions) {
    this.rules = rules;
    this.ruleNames = new Set(rules.map(({ rule }) => rule.name));
    this.denials = options.denials;
    this.#options = { ...options, previous: undefined };
    this.sameUid =
      !options.native || rules.some(({ rule }) => isForApplications(rule) && this.#admitsUid(rule, options.ownUid));
  }

  successor(rules: readonly PolicyRule[], roots: readonly string[]): Policy {
    return compilePolicy(rules, { ...this.#options, roots, previous: this });
  }

  callerFor(peer: Peer): Caller {
    if (peer.uid === OVERFLOW_UID) {
      throw new DekdError('UNAUTHENTICATED', 'the caller is not known', {
        reason: `the caller has the overflow uid ${OVERFLOW_UID}: its uid has no number in the agent's user namespace, so it could be anybody; run both in one user namespace, or map the uid`,
      });
    }
    const identity = `${peer.socket}/${peer.uid}/${peer.gid}/${peer.groups.join(',')}/${peer.token ?? ''}`;
    let caller = this.#callers.get(identity);
    if (!caller) {
      caller = new CompiledCaller(
        this.rules.filter(({ rule }) => this.#admits(rule, peer)),
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
      (callers.groups === undefined || callers.groups.some((group) => peer.groups.includes(group))) &&
      (callers.token === undefined || (peer.token !== undefined && callers.token.includes(peer.token)))
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

/** Whether the rule is for a data socket. */
function isForApplications({ callers }: PolicyRule): boolean {
  return callers.socket.some((name) => name !== 'admin');
}
