/** Rules as they are compiled, cached and asked, against a plain reading of them. DEKD_POLICY_RUNS sets how many. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Operation, PolicyRule } from '../../src/config/config.ts';
import { OPERATIONS } from '../../src/config/schema/entries.ts';
import { compilePolicy, type Peer, type PolicyOptions } from '../../src/policy/policy.ts';

const RUNS = Number(process.env.DEKD_POLICY_RUNS ?? 2_000);
const OPTIONS: PolicyOptions = { native: true, ownUid: 500, dev: false, allowOwnUid: true, roots: ['eu', 'us'] };

const some = (from: readonly number[]) => fc.option(fc.subarray([...from], { minLength: 1 }), { nil: undefined });
const globs = fc.subarray(['*', 'a', 'a*', '*b', 'c*d', ''], { minLength: 1 });
const rules = fc.array(
  fc.record({
    name: fc.constant('r'),
    callers: fc.record({
      uid: some([1, 2]),
      gid: some([1, 2]),
      groups: some([1, 2, 3]),
      socket: fc.subarray(['data', 'admin', 'web'], { minLength: 1 }),
      token: fc.option(fc.subarray(['t', 'u'], { minLength: 1 }), { nil: undefined }),
    }),
    keys: globs,
    partitions: globs,
    operations: fc.subarray([...OPERATIONS], { minLength: 1 }),
    create: fc.constant(false as const),
    blindIndexPerSecond: fc.constant(1),
    requireContext: fc.subarray(['x', 'y']),
    quota: fc.constant({ requestsPerSecond: undefined, bytesPerSecond: undefined, inFlight: undefined }),
    roots: fc.subarray(['eu', 'u*']),
  }),
  { maxLength: 4 },
);
const callers = fc.record({
  uid: fc.constantFrom(1, 2, 3),
  gid: fc.constantFrom(1, 2, 3),
  groups: fc.subarray([1, 2, 3]),
  socket: fc.constantFrom('data', 'admin', 'web'),
  token: fc.constantFrom(undefined, 't', 'u'),
});
const name = fc.constantFrom('', 'a', 'ab', 'b', 'cd', 'cxd', 'e', '.a');
const questions = fc.array(fc.tuple(name, name, fc.constantFrom(...OPERATIONS), fc.subarray(['x', 'y'])), {
  minLength: 1,
  maxLength: 10,
});

/** The rules that are for the caller and the operation, whatever the key. */
function mine(all: readonly PolicyRule[], peer: Peer, operation: Operation): readonly PolicyRule[] {
  return all.filter((rule) => {
    const { uid, gid, groups, socket, token } = rule.callers;
    return (
      (uid === undefined || uid.includes(peer.uid)) &&
      (gid === undefined || gid.includes(peer.gid)) &&
      (groups === undefined || groups.some((group) => peer.groups.includes(group))) &&
      (token === undefined || (peer.token !== undefined && token.includes(peer.token))) &&
      socket.includes(peer.socket) &&
      rule.operations.includes(operation)
    );
  });
}

/** Those of them that allow it, read one after the other. */
function allowing(all: readonly PolicyRule[], peer: Peer, operation: Operation, key: string, partition: string) {
  const glob = (patterns: readonly string[], value: string): boolean =>
    patterns.some((pattern) => new RegExp(`^${pattern.replaceAll('*', '.*')}$`).test(value));
  return mine(all, peer, operation).filter(
    (rule) => !key.startsWith('.') && glob(rule.keys, key) && glob(rule.partitions, partition),
  );
}

describe('U10: the policy', () => {
  it('answers as a plain reading of its rules does, asked again too', { timeout: 600_000 }, () => {
    fc.assert(
      fc.property(rules, callers, questions, (all, peer, asked) => {
        const caller = compilePolicy(all, OPTIONS).callerFor(peer);
        for (const [key, partition, operation, context] of [...asked, ...asked]) {
          const granting = allowing(all, peer, operation, key, partition);
          expect(caller.allows(operation, key, partition)).toBe(granting.length > 0);
          expect(caller.rights(key, partition).includes(operation)).toBe(granting.length > 0);
          expect(caller.allowsRoot(operation, key, partition, 'us')).toBe(
            granting.some((rule) => rule.roots.includes('u*')),
          );
          const has = (rule: PolicyRule): boolean => rule.requireContext.every((each) => context.includes(each));
          // A call that names no key could be of each of them, so it has what every rule wants. What is denied anyway is not asked.
          if (key === '' || granting.length > 0) {
            const suffices = key === '' ? mine(all, peer, operation).every(has) : granting.some(has);
            expect(refuses(() => caller.checkContext(operation, key, partition, () => context))).toBe(!suffices);
          }
        }
      }),
      { numRuns: RUNS },
    );
  });
});

function refuses(action: () => void): boolean {
  try {
    action();
    return false;
  } catch {
    return true;
  }
}
