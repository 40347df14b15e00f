import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../src/config/load.ts';
import { compilePolicy, type Peer } from '../../src/policy/policy.ts';
import { judge, type Question } from '../../src/policy/verdict.ts';

const { rules } = parseConfig(`
state: /s
roots: { eu: { provider: local, keyFile: /k, allowLocalRoot: true } }
policy:
  rules:
    - { name: all, callers: { uid: 1000 }, keys: '*', operations: [encrypt, decrypt], requireContext: [field, user] }
    - { name: acme, callers: { uid: [1000, 1001] }, keys: k, partitions: acme, operations: encrypt, roots: [eu], requireContext: [tenant] }
    - { name: any, callers: { uid: 1000 }, keys: k, operations: [anyKey, decrypt] }
`).config.policy;
const policy = compilePolicy(rules, { native: true, ownUid: 0, dev: false, allowOwnUid: false, roots: ['eu'] });

function peer(given: Partial<Peer> = {}): Peer {
  return { uid: 1000, gid: 1000, groups: [], socket: 'data', ...given };
}

function verdict(given: Partial<Question> = {}) {
  const question = { peer: peer(), operation: 'encrypt', key: 'k', partition: 'acme', ...given } as const;
  const { isAllowed, rules: granting, reason } = judge(policy, question);
  return { isAllowed, by: granting.map(({ name }) => name), reason };
}

describe('the verdict on a call', () => {
  it('names every rule that grants it, and no other', () => {
    expect(verdict()).toEqual({ isAllowed: true, by: ['all', 'acme'], reason: undefined });
    expect(verdict({ key: 'j' }).by).toEqual(['all']);
    expect(verdict({ peer: peer({ uid: 1001 }) }).by).toEqual(['acme']);
    expect(verdict({ root: 'eu' }).by).toEqual(['acme']);
    expect(verdict({ operation: 'anyKey' }).by).toEqual(['any']);
  });

  it('names those whose context the call has, when that is asked too', () => {
    expect(verdict({ context: ['tenant'] }).by).toEqual(['acme']);
    expect(verdict({ context: ['user', 'field', 'x'] }).by).toEqual(['all']);
    const { isAllowed, by, reason } = verdict({ context: [] });
    expect([isAllowed, by]).toEqual([false, []]);
    expect(reason).toContain('the context lacks "field", "user", which rule "all" wants');
  });

  it('says why it is denied, and which rule would allow it', () => {
    const { isAllowed, by, reason } = verdict({ peer: peer({ uid: 1001, token: 'web' }), operation: 'decrypt' });
    expect([isAllowed, by]).toEqual([false, []]);
    expect(reason).toContain('callers: { uid: 1001, gid: 1000, token: web }');
    expect(verdict({ key: '.l2/a' }).reason).toContain('reserved');
    expect(verdict({ peer: peer({ uid: 65_534 }) }).reason).toContain('overflow uid');
    expect(verdict({ root: 'us' }).reason).toContain('no root "us" is configured');
    expect(verdict({ key: 'k'.repeat(600) }).by).toEqual([]);
  });
});
