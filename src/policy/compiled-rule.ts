/** A rule as calls ask it: globs compiled, rights as bits, and what it has given out so far. */
import type { PolicyRule } from '../config/config.ts';
import { compileGlob } from '../glob.ts';
import { Quotas } from './quotas.ts';
import { BITS, CONTEXT_BIT, CREATE_BIT, METERED_BIT } from './rights.ts';

export interface CompiledRule {
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
  /** Of requests and of bytes; undefined where the rule bounds none. */
  readonly requests: Quotas | undefined;
  readonly bytes: Quotas | undefined;
  /** Requests in work, by caller; only where the rule bounds them. */
  readonly inWork: Map<string, number>;
}

/** @param before the rule of that name that this one takes the place of: what it gave out counts on, at the same rate */
export function compileRule(rule: PolicyRule, now: () => number, before?: CompiledRule): CompiledRule {
  const { requestsPerSecond, bytesPerSecond, inFlight } = rule.quota;
  const metered = requestsPerSecond !== undefined || bytesPerSecond !== undefined || inFlight !== undefined;
  return {
    rule,
    bits:
      rule.operations.reduce((bits, operation) => bits | BITS[operation], 0) |
      (rule.create === false ? 0 : CREATE_BIT) |
      (metered ? METERED_BIT : 0) |
      (rule.requireContext.length > 0 ? CONTEXT_BIT : 0),
    matchesKey: anyGlob(rule.keys),
    matchesPartition: anyGlob(rule.partitions),
    matchesLegacyKid: anyGlob(rule.legacyKids ?? ['*']),
    matchesRoot: anyGlob(rule.roots),
    created: before?.created ?? new Set(),
    indexing: quotasOf(rule.blindIndexPerSecond, now, before?.indexing)!,
    requests: quotasOf(requestsPerSecond, now, before?.requests),
    bytes: quotasOf(bytesPerSecond, now, before?.bytes),
    inWork: before?.inWork ?? new Map(),
  };
}

function quotasOf(perSecond: number | undefined, now: () => number, before: Quotas | undefined): Quotas | undefined {
  if (perSecond === undefined) {
    return undefined;
  }
  return before?.perSecond === perSecond ? before : new Quotas(perSecond, now);
}

function anyGlob(patterns: readonly string[]): (name: string) => boolean {
  const globs = patterns.map(compileGlob);
  return (name) => globs.some((matches) => matches(name));
}

/** Whether the rule is for calls in which a root can be chosen. */
export function choosing({ bits }: CompiledRule): boolean {
  return (bits & (BITS.encrypt | BITS.reencrypt)) !== 0;
}

/** Whether the rule pays for the making of a key. @param entry as in `created` */
export function chargeCreation({ rule, created }: CompiledRule, entry: string): boolean {
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
