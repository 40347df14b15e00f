/** One kind of caller: the rules that are for it, and what they answered so far. */
import type { LegacyOperation, Operation, PolicyRule } from '../config/config.ts';
import { DekdError } from '../errors.ts';
import { type CompiledRule, chargeCreation, choosing } from './compiled-rule.ts';
import type { Caller, Load, Peer, PolicyOptions } from './policy.ts';
import { type Denial, explainDenial, quoted } from './remedy.ts';
import { BITS, CONTEXT_BIT, CREATE_BIT, type CreatingOperation, METERED_BIT } from './rights.ts';

/** What every denial says. */
export const NOT_ALLOWED_TEXT = 'no such key, or not allowed';
/** The same to a caller that may do it with the key, and not under that root. */
export const ROOT_NOT_ALLOWED_TEXT = 'no such root, or not allowed for this key';

/** Answers remembered for one caller; the map is dropped when it is full. */
const MAX_ANSWERS = 4096;
/**
 * Longest key and partition, together, that rules are asked about: no key has such names, and everything that is made for each item
 * of a batch holds them.
 */
const MAX_NAMES = 512;
/** How soon a caller with too much in work may come again. */
const IN_WORK_RETRY_MS = 20;

/** Rules that grant something, and those of them that are charged for it. */
interface Answering {
  readonly granting: readonly CompiledRule[];
  readonly paying: readonly CompiledRule[];
}

export class CompiledCaller implements Caller {
  readonly share: string;
  readonly gid: number;
  readonly socket: string;
  readonly isGated: boolean;
  readonly #rules: readonly CompiledRule[];
  readonly #peer: Peer;
  readonly #options: PolicyOptions;
  /** Key → partition → bits granted. */
  readonly #answers = new Map<string, Map<string, number>>();
  #answerCount = 0;
  /** Operation, key and partition → rules. */
  readonly #rulesBehind = new Map<string, Answering>();
  /** By root: what the rules grant that let it be chosen. */
  readonly #underRoots = new Map<string, CompiledCaller>();

  constructor(rules: readonly CompiledRule[], peer: Peer, options: PolicyOptions) {
    this.share = shareOf(peer);
    this.gid = peer.gid;
    this.socket = peer.socket;
    this.isGated = rules.some(({ bits }) => (bits & (METERED_BIT | CONTEXT_BIT)) !== 0);
    this.#rules = rules;
    this.#peer = peer;
    this.#options = options;
  }

  allows(operation: Operation, key: string, partition: string): boolean {
    return (this.#granted(key, partition) & BITS[operation]) !== 0;
  }

  granting(operation: Operation, key: string, partition: string, root?: string): readonly PolicyRule[] {
    if (root !== undefined) {
      return this.#underRoot(root)?.granting(operation, key, partition) ?? [];
    }
    const isGranted = this.allows(operation, key, partition);
    return isGranted ? this.#granting(BITS[operation], key, partition).map(({ rule }) => rule) : [];
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
    if (!creating.some((rule) => chargeCreation(rule, entry))) {
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
      const waitMs = indexing.take(this.share, values);
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

  charge({ operation, key, partition, items, bytes }: Load): void {
    const paying = this.#metering(operation, key, partition);
    if (paying.length === 0) {
      return;
    }
    const [only] = paying;
    if (paying.length === 1 && only!.bytes === undefined) {
      const waitMs = only!.requests?.take(this.share, items) ?? 0;
      if (waitMs > 0) {
        throw this.#exhausted(paying, waitMs, `${items} requests were asked for at once`);
      }
      return;
    }
    const waits = paying.map(({ requests, bytes: perSecond }) =>
      Math.max(requests?.wait(this.share, items) ?? 0, perSecond?.wait(this.share, bytes) ?? 0),
    );
    const chosen = key === '' ? paying : paying.slice(waits.indexOf(0)).slice(0, waits.includes(0) ? 1 : 0);
    if (key === '' ? waits.some((wait) => wait > 0) : paying.length > 0 && chosen.length === 0) {
      const retryAfterMs = key === '' ? Math.max(...waits) : Math.min(...waits);
      throw this.#exhausted(paying, retryAfterMs, `${items} requests of ${bytes} bytes were asked for at once`);
    }
    for (const { requests, bytes: perSecond } of chosen) {
      requests?.take(this.share, items);
      perSecond?.take(this.share, bytes);
    }
  }

  begin(operation: Operation, key: string, partition: string): (() => void) | undefined {
    const { share } = this;
    const counting = this.#metering(operation, key, partition);
    const bounded = counting.filter(({ rule }) => rule.quota.inFlight !== undefined);
    if (bounded.length === 0 || (key !== '' && bounded.length < counting.length)) {
      return undefined;
    }
    const free = bounded.filter(({ rule, inWork }) => (inWork.get(share) ?? 0) < rule.quota.inFlight!);
    const chosen = key === '' ? bounded : free.slice(0, 1);
    if (key === '' ? free.length < bounded.length : free.length === 0) {
      throw this.#exhausted(bounded, IN_WORK_RETRY_MS, 'that many are in work');
    }
    for (const { inWork } of chosen) {
      inWork.set(share, (inWork.get(share) ?? 0) + 1);
    }
    return () => {
      for (const { inWork } of chosen) {
        const left = inWork.get(share)! - 1;
        if (left === 0) {
          inWork.delete(share);
        } else {
          inWork.set(share, left);
        }
      }
    };
  }

  owe(operation: Operation, key: string, partition: string, bytes: number): number {
    const paying = this.#metering(operation, key, partition);
    const bounded = paying.flatMap(({ bytes: perSecond }) => (perSecond === undefined ? [] : [perSecond]));
    if (key === '') {
      return Math.max(0, ...bounded.map((quotas) => quotas.owe(this.share, bytes)));
    }
    if (bounded.length === 0 || bounded.length < paying.length) {
      return 0;
    }
    // To the one that will have some first.
    const [first] = bounded.toSorted((one, other) => one.wait(this.share, 1) - other.wait(this.share, 1));
    return first!.owe(this.share, bytes);
  }

  checkContext(operation: Operation, key: string, partition: string, names: () => readonly string[]): void {
    const { granting } = this.#answering(operation, key, partition);
    const wanting = granting.filter(({ rule }) => rule.requireContext.length > 0);
    if (wanting.length === 0 || (key !== '' && wanting.length < granting.length)) {
      return;
    }
    const given = new Set(names());
    const lacking = wanting.map(({ rule }) => rule.requireContext.filter((name) => !given.has(name)));
    const isShort = (list: readonly string[]): boolean => list.length > 0;
    if (key === '' ? lacking.some(isShort) : lacking.every(isShort)) {
      const at = lacking.findIndex(isShort);
      throw new DekdError('PERMISSION_DENIED', NOT_ALLOWED_TEXT, {
        reason: `the context lacks ${lacking[at]!.map(quoted).join(', ')}, which rule ${JSON.stringify(wanting[at]!.rule.name)} wants in every call that it allows`,
      });
    }
  }

  /**
   * Rules whose quotas a call counts with. A call that names its key: those that grant it, when each has a quota, since one without
   * lets everything pass, and any of them may pay. One that names none: every rule with a quota that it could come under, and each
   * of them is charged: which one it is would be known too late.
   */
  #metering(operation: Operation, key: string, partition: string): readonly CompiledRule[] {
    if (!this.isGated) {
      return [];
    }
    return this.#answering(operation, key, partition).paying;
  }

  /** The rules behind an answer, remembered like the answers. Without a key, all that could be. */
  #answering(operation: Operation, key: string, partition: string): Answering {
    const id = `${operation}\0${key}\0${partition}`;
    let answering = this.#rulesBehind.get(id);
    if (answering === undefined) {
      const granting =
        key === ''
          ? this.#rules.filter(({ bits }) => (bits & BITS[operation]) !== 0)
          : this.#granting(BITS[operation], key, partition);
      const metered = granting.filter(({ bits }) => (bits & METERED_BIT) !== 0);
      answering = { granting, paying: key === '' || metered.length === granting.length ? metered : [] };
      if (this.#rulesBehind.size >= MAX_ANSWERS) {
        this.#rulesBehind.clear();
      }
      // No key has longer names, and they are held.
      if (key.length + partition.length <= MAX_NAMES) {
        this.#rulesBehind.set(id, answering);
      }
    }
    return answering;
  }

  #exhausted(rules: readonly CompiledRule[], retryAfterMs: number, asked: string): DekdError {
    const allowed = rules.map(({ rule: { name, quota } }) => {
      const bounds = [
        quota.requestsPerSecond === undefined ? [] : `${quota.requestsPerSecond} requests a second`,
        quota.bytesPerSecond === undefined ? [] : `${quota.bytesPerSecond} bytes a second`,
        quota.inFlight === undefined ? [] : `${quota.inFlight} in flight`,
      ].flat();
      return `rule ${JSON.stringify(name)} allows ${bounds.join(', ')}`;
    });
    return new DekdError('RESOURCE_EXHAUSTED', 'the quota of the caller is used up for now', {
      retryAfterMs,
      reason: `${allowed.join('; ')} to ${this.share}, and ${asked}; raise quota there if this is no mistake`,
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
    const denial: Denial = {
      peer: this.#peer,
      native: this.#options.native,
      ownUid: this.#options.ownUid,
      allowOwnUid: this.#options.allowOwnUid || this.#options.dev,
      wanted,
      key,
      partition,
      ...(root === undefined ? {} : { root }),
    };
    this.#options.denials?.record(this.share, denial);
    return explainDenial(denial);
  }
}

/** E.g. `uid:1000`, `uid:1000 token:web`, `uid:1000 socket:reports`. */
function shareOf({ uid, socket, token }: Peer): string {
  const place = socket === 'data' || socket === 'admin' ? '' : ` socket:${socket}`;
  return `uid:${uid}${place}${token === undefined ? '' : ` token:${token}`}`;
}
