import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Operation, PolicyRule } from '../../src/config/config.ts';
import { parseConfig } from '../../src/config/load.ts';
import { OPERATIONS } from '../../src/config/schema/entries.ts';
import { Denials } from '../../src/policy/denials.ts';
import { compilePolicy, type Peer, type Policy, type PolicyOptions } from '../../src/policy/policy.ts';
import { ruleText } from '../../src/policy/remedy.ts';
import { suggestRules } from '../../src/policy/suggestion.ts';

const OPTIONS: PolicyOptions = { native: true, ownUid: 500, dev: false, allowOwnUid: false, roots: ['eu', 'us'] };

function rulesOf(yamlRules: string): readonly PolicyRule[] {
  const roots = ['eu', 'us'].map((name) => `  ${name}: { provider: local, keyFile: /k, allowLocalRoot: true }`);
  const rules = yamlRules === '' ? ' []' : `\n${yamlRules.replace(/^/gm, '  ')}`;
  return parseConfig(
    `state: /s\nroots:\n${roots.join('\n')}\ndefaultRoot: eu\nsockets: { web: { path: /s/web/agent.sock } }\ntokens: { t: { file: /t } }\npolicy:\n  rules:${rules}`,
  ).config.policy.rules;
}

function peer(given: Partial<Peer> = {}): Peer {
  return { uid: 1000, gid: 1000, groups: [], socket: 'data', ...given };
}

interface Asked {
  readonly peer: Peer;
  readonly operation: Operation;
  readonly key: string;
  readonly partition: string;
}

function ask(policy: Policy, { peer: who, operation, key, partition }: Asked): boolean {
  try {
    policy.callerFor(who).authorize(operation, key, partition);
    return true;
  } catch {
    return false;
  }
}

/** What is suggested after these were asked, and the policy that has it pasted. */
function suggestedAfter(asked: readonly Asked[], rules = '') {
  const denials = new Denials();
  const policy = compilePolicy(rulesOf(rules), { ...OPTIONS, denials });
  for (const one of asked) {
    ask(policy, one);
  }
  const suggestion = suggestRules(denials, policy);
  const text = suggestion.rules.map(ruleText).join('\n');
  const pasted = compilePolicy(rulesOf([rules, text].filter((part) => part !== '').join('\n')), OPTIONS);
  return { suggestion, pasted };
}

const name = fc.constantFrom('a', 'b', 'c', 'it\'s "x"');
const questions = fc.array(
  fc.record({
    peer: fc.record({
      uid: fc.constantFrom(1000, 1001),
      gid: fc.constant(7),
      groups: fc.constantFrom([], [3]),
      socket: fc.constantFrom('data', 'web'),
      token: fc.constantFrom(undefined, 't'),
    }),
    operation: fc.constantFrom(...OPERATIONS),
    key: name,
    partition: fc.oneof(fc.constant(''), name),
  }),
  { minLength: 1, maxLength: 12 },
);

describe('what is suggested after denials', () => {
  it('allows all of them when it is pasted, and nothing that the same callers did not ask for', () => {
    fc.assert(
      fc.property(questions, (asked) => {
        const { pasted } = suggestedAfter(asked);
        // A caller that shows a token may do what it may without.
        const couldBe = (one: Asked, other: Asked): boolean =>
          one.peer.uid === other.peer.uid &&
          one.peer.socket === other.peer.socket &&
          (other.peer.token === undefined || one.peer.token === other.peer.token) &&
          one.key === other.key &&
          one.partition === other.partition &&
          (one.operation === other.operation || (one.operation === 'decrypt' && other.operation === 'anyKey'));
        for (const who of asked) {
          for (const what of asked) {
            for (const operation of OPERATIONS) {
              const one = { ...what, peer: who.peer, operation };
              expect(ask(pasted, one)).toBe(asked.some((other) => couldBe(one, other)));
            }
          }
        }
      }),
      { numRuns: 100 },
    );
  });

  it('is one rule for a caller that was denied the same everywhere', () => {
    const { suggestion } = suggestedAfter(
      ['k', 'j'].flatMap((key) =>
        ['acme', 'bolt'].flatMap((partition) =>
          (['decrypt', 'encrypt'] as const).map((operation) => ({ peer: peer(), operation, key, partition })),
        ),
      ),
    );
    expect(suggestion).toEqual({
      rules: [
        {
          name: 'suggested-uid-1000',
          callers: { uid: 1000, gid: 1000 },
          keys: ['j', 'k'],
          partitions: ['acme', 'bolt'],
          operations: ['encrypt', 'decrypt'],
        },
      ],
      missed: 0,
    });
  });

  it('lets a key be made that could not be, and as many as were asked for', () => {
    const denials = new Denials();
    const rule = '  - { name: shop, callers: { uid: 1000 }, keys: "*", operations: encrypt }';
    const policy = compilePolicy(rulesOf(rule), { ...OPTIONS, denials });
    const caller = policy.callerFor(peer());
    for (const key of ['a', 'b']) {
      expect(() => caller.authorizeCreate(key, '')).toThrow('no such key');
      expect(() => caller.authorize('decrypt', key, '')).toThrow();
    }
    const { rules } = suggestRules(denials, policy);
    expect(rules).toMatchObject([{ keys: ['a', 'b'], operations: ['encrypt', 'decrypt'], create: { max: 2 } }]);
    const pasted = compilePolicy(rulesOf(`${rule}\n${rules.map(ruleText).join('\n')}`), OPTIONS).callerFor(peer());
    pasted.authorizeCreate('a', '');
    pasted.authorizeCreate('b', '');
  });

  it('lets a root be chosen that could not be', () => {
    const denials = new Denials();
    const rule = '  - { name: shop, callers: { uid: 1000 }, keys: "*", operations: encrypt }';
    const policy = compilePolicy(rulesOf(rule), { ...OPTIONS, denials });
    expect(() => policy.callerFor(peer()).authorizeRoot('encrypt', 'a', '', 'us')).toThrow();
    expect(suggestRules(denials, policy).rules).toMatchObject([{ operations: ['encrypt'], roots: ['us'] }]);
  });

  it('is nothing once rules allow it, and takes no name that there is', () => {
    const asked = { peer: peer(), operation: 'decrypt', key: 'k', partition: '' } as const;
    const denials = new Denials();
    const policy = compilePolicy([], { ...OPTIONS, denials });
    ask(policy, asked);
    const [rule] = suggestRules(denials, policy).rules;
    const next = compilePolicy(rulesOf(ruleText(rule!)), { ...OPTIONS, previous: policy });
    expect(suggestRules(denials, next).rules).toEqual([]);
    ask(next, { ...asked, key: 'j' });
    expect(suggestRules(denials, next).rules).toMatchObject([{ name: 'suggested-uid-1000-2', keys: ['j'] }]);
  });

  it.each([
    ['a star in the key', { key: 'a*' }],
    ['a star in the partition', { partition: '*' }],
    ['a reserved name', { key: '.l2/a' }],
    ['a name that no key has', { key: 'a\nb' }],
    ['a name too long for a key', { key: 'k'.repeat(300) }],
    ['the own uid', { peer: peer({ uid: 500 }) }],
    ['the overflow uid', { peer: peer({ uid: 65_534 }) }],
  ] as const)('is never made from %s', (_, given) => {
    const { suggestion } = suggestedAfter([{ peer: peer(), operation: 'decrypt', key: 'k', partition: '', ...given }]);
    expect(suggestion.rules).toEqual([]);
  });

  it('takes bounded memory, and leaves room for the others when one caller tries names out', () => {
    const asked = (uid: number, count: number) =>
      Array.from({ length: count }, (_, index) => ({
        ...{ peer: peer({ uid }), operation: 'decrypt', partition: '', key: `k${index}` },
      })) as Asked[];
    const { suggestion } = suggestedAfter([...asked(1, 5_000), ...asked(2, 3), ...asked(2, 3)]);
    expect(suggestion.rules.map(({ keys }) => keys.length)).toEqual([250, 3]);
    expect(suggestion.missed).toBe(4_750);
    const many = suggestedAfter([1, 2, 3, 4, 5].flatMap((uid) => asked(uid, 300)));
    expect(many.suggestion.rules.map(({ keys }) => keys.length)).toEqual([250, 250, 250, 250]);
  });
});
