import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { PolicyRule } from '../../src/config/config.ts';
import { DekdError } from '../../src/errors.ts';
import { compilePolicy, type Peer } from '../../src/policy/policy.ts';
import { Quotas } from '../../src/policy/quotas.ts';

describe('Quotas', () => {
  it('gives a second of the rate at once, then as much as time has passed', () => {
    let now = 5_000;
    const quotas = new Quotas(1000, () => now);
    expect(quotas.take('1', 999)).toBe(0);
    expect(quotas.take('1', 1)).toBe(0);
    expect(quotas.take('1', 1)).toBe(1);
    now += 1;
    expect(quotas.take('1', 1)).toBe(0);
    now += 100;
    expect(quotas.take('1', 101)).toBe(1);
    expect(quotas.take('1', 100)).toBe(0);
  });

  it('says when to come again, and then gives it', () => {
    let now = 0;
    const quotas = new Quotas(7, () => now);
    expect(quotas.take('1', 7)).toBe(0);
    const waitMs = quotas.take('1', 3);
    expect(waitMs).toBe(429);
    now += waitMs - 1;
    expect(quotas.take('1', 3)).toBeGreaterThan(0);
    now += 1;
    expect(quotas.take('1', 3)).toBe(0);
  });

  it('saves up no more than a second of the rate, however long nobody asked', () => {
    let now = 0;
    const quotas = new Quotas(10, () => now);
    quotas.take('1', 1);
    now += 1e9;
    expect(quotas.take('1', 10)).toBe(0);
    expect(quotas.take('1', 1)).toBe(100);
  });

  it('gives more than it holds when it is full, and is paid back by the time after', () => {
    let now = 0;
    const quotas = new Quotas(100, () => now);
    expect(quotas.take('1', 450)).toBe(0);
    // From 350 below zero to 1.
    expect(quotas.take('1', 1)).toBe(3_510);
    now += 3_509;
    expect(quotas.take('1', 1)).toBe(1);
    now += 1;
    expect(quotas.take('1', 1)).toBe(0);
    expect(quotas.take('1', 450)).toBe(1_000);
  });

  it('counts each uid by itself, also when there are more of them than it remembers', () => {
    let now = 0;
    const quotas = new Quotas(10, () => now);
    for (let uid = 0; uid < 3_000; uid++) {
      expect(quotas.take(String(uid), 10)).toBe(0);
    }
    for (let uid = 0; uid < 3_000; uid++) {
      expect(quotas.take(String(uid), 1)).toBeGreaterThan(0);
    }
    now += 100;
    expect(quotas.take(String(2_999), 1)).toBe(0);
  });

  it('never gives more over time than the rate and what the bucket held, whatever is asked for', () => {
    const asks = fc.array(fc.tuple(fc.nat(300), fc.integer({ min: 1, max: 250 })), { maxLength: 60 });
    fc.assert(
      fc.property(asks, (all) => {
        let now = 0;
        let given = 0;
        let largest = 0;
        const quotas = new Quotas(100, () => now);
        for (const [passed, count] of all) {
          now += passed;
          if (quotas.take('1', count) === 0) {
            given += count;
            largest = Math.max(largest, count);
          }
        }
        expect(given).toBeLessThanOrEqual(100 + Math.max(0, largest - 100) + now / 10 + 1e-6);
      }),
    );
  });
});

describe('the quota of a rule', () => {
  const rule = (name: string, given: Partial<PolicyRule> = {}): PolicyRule => ({
    name,
    callers: { uid: undefined, gid: undefined, groups: undefined, socket: ['data'], token: undefined },
    keys: ['*'],
    partitions: ['*'],
    operations: ['blindIndex'],
    create: false,
    blindIndexPerSecond: 10,
    requireContext: [],
    quota: { requestsPerSecond: undefined, bytesPerSecond: undefined, inFlight: undefined },
    roots: [],
    ...given,
  });
  const peer = (given: Partial<Peer> = {}): Peer => ({ uid: 1000, gid: 1000, groups: [], socket: 'data', ...given });
  const NATIVE = { native: true, ownUid: 500, dev: false, allowOwnUid: false, roots: [] };

  function refusal(action: () => void): DekdError {
    try {
      action();
    } catch (error) {
      if (error instanceof DekdError) {
        return error;
      }
      throw error;
    }
    throw new Error('it was allowed');
  }

  it('is of the uid: another group, another connection and another key do not give a second one', () => {
    const policy = compilePolicy([rule('r')], { ...NATIVE, now: () => 0 });
    policy.callerFor(peer()).chargeIndex('k', '', 9);
    policy.callerFor(peer({ gid: 7, groups: [8] })).chargeIndex('other', 'p', 1);
    const error = refusal(() => policy.callerFor(peer()).chargeIndex('k', '', 1));
    expect(error).toMatchObject({ code: 'RESOURCE_EXHAUSTED', retryable: true, retryAfterMs: 100 });
    expect(error.message).not.toContain('10');
    expect(error.reason).toContain('rule "r" allows 10 a second to uid:1000');
    policy.callerFor(peer({ uid: 1001 })).chargeIndex('k', '', 10);
  });

  it('is that of a rule that grants the key, and of the next one when it is used up', () => {
    const policy = compilePolicy(
      [
        rule('decrypts', { operations: ['decrypt'], blindIndexPerSecond: 1_000 }),
        rule('elsewhere', { keys: ['x'], blindIndexPerSecond: 1_000 }),
        rule('a', { blindIndexPerSecond: 2 }),
        rule('b', { blindIndexPerSecond: 3 }),
      ],
      { ...NATIVE, now: () => 0 },
    );
    const caller = policy.callerFor(peer());
    for (let i = 0; i < 5; i++) {
      caller.chargeIndex('k', '', 1);
    }
    expect(refusal(() => caller.chargeIndex('k', '', 1)).retryAfterMs).toBe(334);
  });
});
