import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import type { Operation, PolicyRule } from '../../src/config/config.ts';
import { parseConfig } from '../../src/config/load.ts';
import { ConfigError } from '../../src/config/problems.ts';
import { DekdError } from '../../src/errors.ts';
import { compileGlob } from '../../src/glob.ts';
import {
  compilePolicy,
  NOT_ALLOWED_TEXT,
  type Peer,
  type PolicyOptions,
  ROOT_NOT_ALLOWED_TEXT,
} from '../../src/policy/policy.ts';

const NATIVE: PolicyOptions = { native: true, ownUid: 500, dev: false, allowOwnUid: false, roots: ['a'] };
const OPERATIONS: readonly Operation[] = [
  'encrypt',
  'decrypt',
  'reencrypt',
  'anyKey',
  'keyInfo',
  'hmac',
  'verifyHmac',
  'blindIndex',
];

function rulesOf(yamlRules: string): readonly PolicyRule[] {
  return parseConfig(
    `state: /s\nroots: { a: { provider: local, keyFile: /k, allowLocalRoot: true } }\npolicy:\n  rules:\n${yamlRules}`,
  ).config.policy.rules;
}

function peer(given: Partial<Peer> = {}): Peer {
  return { uid: 1000, gid: 1000, groups: [], socket: 'data', ...given };
}

function errorOf(action: () => unknown): DekdError {
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

describe('a glob', () => {
  it.each([
    ['a', 'a', true],
    ['a', 'ab', false],
    ['a', '', false],
    ['*', '', true],
    ['*', 'anything', true],
    ['a*', 'a', true],
    ['a*', 'ba', false],
    ['*a', 'ba', true],
    ['a*a', 'a', false],
    ['a*a', 'aa', true],
    ['a*b*c', 'axxbyyc', true],
    ['a*b*c', 'acb', false],
    ['a*bc*c', 'abc', false],
    ['a**b', 'ab', true],
    ['a.c', 'abc', false],
    ['a?c', 'abc', false],
    ['[a]', 'a', false],
    ['a*', 'a\nb', true],
  ])('%s on %j is %s', (pattern, name, expected) => {
    expect(compileGlob(pattern)(name)).toBe(expected);
  });

  it('agrees with a regular expression', () => {
    const characters = fc.string({ unit: fc.constantFrom('a', 'b', '*'), maxLength: 8 });
    fc.assert(
      fc.property(characters, fc.string({ unit: fc.constantFrom('a', 'b'), maxLength: 10 }), (pattern, name) => {
        expect(compileGlob(pattern)(name)).toBe(new RegExp(`^${pattern.replaceAll('*', '.*')}$`).test(name));
      }),
      { numRuns: 2000 },
    );
  });
});

describe('a policy', () => {
  it('without rules denies everything', () => {
    const caller = compilePolicy([], NATIVE).callerFor(peer());
    for (const operation of OPERATIONS) {
      expect(caller.allows(operation, 'k', '')).toBe(false);
      expect(errorOf(() => caller.authorize(operation, 'k', '')).code).toBe('PERMISSION_DENIED');
    }
  });

  it('grants the operations, keys and partitions of a rule and nothing beside them', () => {
    const rules = rulesOf(`
    - { name: r, callers: { uid: 1000 }, keys: [customers, "orders-*"], partitions: [acme, ""], operations: [encrypt, keyInfo] }`);
    const caller = compilePolicy(rules, NATIVE).callerFor(peer());
    expect(caller.allows('encrypt', 'customers', 'acme')).toBe(true);
    expect(caller.allows('keyInfo', 'orders-7', '')).toBe(true);
    expect(caller.allows('decrypt', 'customers', 'acme')).toBe(false);
    expect(caller.allows('encrypt', 'customers', 'other')).toBe(false);
    expect(caller.allows('encrypt', 'customer', 'acme')).toBe(false);
    expect(
      compilePolicy(rules, NATIVE)
        .callerFor(peer({ uid: 1001 }))
        .allows('encrypt', 'customers', 'acme'),
    ).toBe(false);
  });

  it('matches every field of a caller that a rule gives, by any of its values', () => {
    const rules = rulesOf(`
    - { name: r, callers: { uid: [1000, 1001], gid: 10, groups: [20, 21] }, keys: "*", operations: encrypt }`);
    const allows = (given: Partial<Peer>): boolean =>
      compilePolicy(rules, NATIVE).callerFor(peer(given)).allows('encrypt', 'k', '');
    expect(allows({ uid: 1001, gid: 10, groups: [5, 21] })).toBe(true);
    expect(allows({ uid: 1002, gid: 10, groups: [21] })).toBe(false);
    expect(allows({ uid: 1001, gid: 11, groups: [21] })).toBe(false);
    expect(allows({ uid: 1001, gid: 10, groups: [] })).toBe(false);
    expect(allows({ uid: 1001, gid: 20, groups: [10] })).toBe(false);
    expect(allows({ uid: 1001, gid: 10, groups: [21], socket: 'admin' })).toBe(false);
  });

  it('keeps callers apart that differ only in groups or socket', () => {
    const rules = rulesOf(`
    - { name: r, callers: { groups: 21 }, keys: "*", operations: encrypt }`);
    const policy = compilePolicy(rules, NATIVE);
    expect(policy.callerFor(peer({ groups: [21] })).allows('encrypt', 'k', '')).toBe(true);
    expect(policy.callerFor(peer({ groups: [2, 1] })).allows('encrypt', 'k', '')).toBe(false);
    expect(policy.callerFor(peer({ groups: [21], socket: 'admin' })).allows('encrypt', 'k', '')).toBe(false);
  });

  it('never reaches the names that begin with a dot', () => {
    const caller = compilePolicy(
      rulesOf('\n    - { name: r, keys: ["*", ".l3/*"], operations: [encrypt, decrypt] }'),
      NATIVE,
    ).callerFor(peer());
    expect(caller.allows('encrypt', '.l3/default', '')).toBe(false);
    expect(errorOf(() => caller.authorize('decrypt', '.l3/default', '')).reason).toContain('reserved');
  });

  it('gives callers a share by their uid', () => {
    expect(compilePolicy([], NATIVE).callerFor(peer({ uid: 7 })).share).toBe('uid:7');
  });

  it('answers alike when its memory is full', () => {
    const many = compilePolicy(rulesOf('\n    - { name: r, keys: "a*", operations: encrypt }'), NATIVE).callerFor(
      peer(),
    );
    for (let round = 0; round < 2; round++) {
      for (let index = 0; index < 10_000; index++) {
        expect(many.allows('encrypt', `${index % 2 === 0 ? 'a' : 'b'}${index}`, `${index % 3}`)).toBe(index % 2 === 0);
      }
    }
  });
});

describe('the agent’s own uid and the overflow uid', () => {
  const own = rulesOf('\n    - { name: mine, callers: { uid: [1000, 500] }, keys: "*", operations: encrypt }');
  const anybody = rulesOf('\n    - { name: all, callers: { groups: 20 }, keys: "*", operations: encrypt }');

  it('refuses a rule that names the own uid, unless that is allowed', () => {
    const error = errorOf(() => compilePolicy(own, NATIVE));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toContain('policy.rules[0].callers.uid: rule "mine" admits uid 500');
    expect(error.message).toContain('socket.allowOwnUid');
    for (const options of [
      { ...NATIVE, allowOwnUid: true },
      { ...NATIVE, dev: true },
    ]) {
      const policy = compilePolicy(own, options);
      expect(policy.sameUid).toBe(true);
      expect(policy.callerFor(peer({ uid: 500 })).allows('encrypt', 'k', '')).toBe(true);
    }
  });

  it('does not let the own uid in by a rule that names no uid, unless that is allowed', () => {
    const policy = compilePolicy(anybody, NATIVE);
    expect(policy.sameUid).toBe(false);
    expect(policy.callerFor(peer({ groups: [20] })).allows('encrypt', 'k', '')).toBe(true);
    const caller = policy.callerFor(peer({ uid: 500, groups: [20] }));
    expect(errorOf(() => caller.authorize('encrypt', 'k', '')).reason).toContain('socket.allowOwnUid');
    expect(compilePolicy(anybody, { ...NATIVE, allowOwnUid: true }).sameUid).toBe(true);
  });

  it('lets a rule name the own uid on the admin socket', () => {
    const rules = rulesOf(
      '\n    - { name: mine, callers: { uid: 500, socket: admin }, keys: "*", operations: encrypt }',
    );
    expect(
      compilePolicy(rules, NATIVE)
        .callerFor(peer({ uid: 500, socket: 'admin' }))
        .allows('encrypt', 'k', ''),
    ).toBe(true);
  });

  it('refuses the overflow uid as a caller, in a rule, and as the agent', () => {
    const error = errorOf(() => compilePolicy(anybody, NATIVE).callerFor(peer({ uid: 65_534 })));
    expect(error.code).toBe('UNAUTHENTICATED');
    expect(error.reason).toContain('overflow uid 65534');
    for (const field of ['uid', 'gid', 'groups']) {
      const rules = rulesOf(`\n    - { name: r, callers: { ${field}: [1, 65534] }, keys: "*", operations: encrypt }`);
      expect(errorOf(() => compilePolicy(rules, NATIVE)).message).toContain(`callers.${field}: rule "r" names 65534`);
    }
    expect(errorOf(() => compilePolicy([], { ...NATIVE, ownUid: 65_534 })).message).toContain('runs as uid 65534');
  });
});

describe('without the native engine', () => {
  const options = { ...NATIVE, native: false };

  it('refuses rules that name uid, gid or groups, all of them at once', () => {
    const rules = rulesOf(`
    - { name: a, callers: { uid: 1 }, keys: "*", operations: encrypt }
    - { name: b, callers: { gid: 1, groups: 2 }, keys: "*", operations: encrypt }`);
    const error = errorOf(() => compilePolicy(rules, options)) as ConfigError;
    expect(error.problems.map(({ message }) => message.split(',').slice(0, 2).join())).toEqual([
      'rule "a" names uid, which only the native engine can tell: build the addon',
      'rule "b" names gid, groups',
    ]);
  });

  it('counts everybody as the own uid and lets them in by a rule for all', () => {
    const policy = compilePolicy(rulesOf('\n    - { name: all, keys: "*", operations: encrypt }'), options);
    expect(policy.sameUid).toBe(true);
    const caller = policy.callerFor(peer({ uid: 500 }));
    expect(caller.allows('encrypt', 'k', '')).toBe(true);
    expect(errorOf(() => caller.authorize('decrypt', 'k', '')).reason).not.toContain('uid');
  });
});

describe('names that no key has', () => {
  it('are denied whatever the rules, so that nothing is made of them for each item of a batch', () => {
    const rules = rulesOf('\n    - { name: all, keys: "*", operations: [encrypt, verifyHmac], create: { max: 9 } }');
    const caller = compilePolicy(rules, NATIVE).callerFor(peer());
    expect(caller.allows('encrypt', 'k'.repeat(128), 'p'.repeat(128))).toBe(true);
    const partition = 'p'.repeat(60_000);
    for (const operation of ['encrypt', 'verifyHmac'] as const) {
      const error = errorOf(() => caller.authorize(operation, 'k', partition));
      expect([error.code, error.message]).toEqual(['PERMISSION_DENIED', NOT_ALLOWED_TEXT]);
      expect(error.reason!.length).toBeLessThan(1_000);
    }
    expect(caller.mayCreate('k', partition)).toBe(false);
    expect(caller.rights('k'.repeat(60_000), '')).toEqual([]);
  });
});

describe('creation on first use', () => {
  const rules = rulesOf(`
    - { name: r, callers: { uid: 1000 }, keys: "new-*", operations: encrypt, create: { max: 2 } }
    - { name: s, callers: { uid: 1000 }, keys: "old-*", operations: encrypt }`);

  it('is charged to its rule until the cap, once for each key and partition', () => {
    const policy = compilePolicy(rules, NATIVE);
    const caller = policy.callerFor(peer());
    expect(caller.mayCreate('new-1', '')).toBe(true);
    for (const [key, partition] of [
      ['new-1', ''],
      ['new-1', 'p'],
      ['new-1', ''],
      ['new-1', 'p'],
    ] as const) {
      caller.authorizeCreate(key, partition);
    }
    const error = errorOf(() => policy.callerFor(peer({ gid: 5 })).authorizeCreate('new-2', ''));
    expect(error.code).toBe('PERMISSION_DENIED');
    expect(error.reason).toContain('rule "r" has made 2');
    caller.authorizeCreate('new-1', '');
  });

  it('takes a key and its partition for two names', () => {
    const caller = compilePolicy(
      rulesOf('\n    - { name: r, keys: "*", operations: encrypt, create: { max: 1 } }'),
      NATIVE,
    ).callerFor(peer());
    caller.authorizeCreate('ab', 'c');
    expect(errorOf(() => caller.authorizeCreate('a', 'bc')).code).toBe('PERMISSION_DENIED');
  });

  it('goes on with the next rule when the cap of one is reached', () => {
    const two = rulesOf(`
    - { name: a, keys: "*", operations: encrypt, create: { max: 1 } }
    - { name: b, keys: "*", operations: encrypt, create: { max: 1 } }`);
    const caller = compilePolicy(two, NATIVE).callerFor(peer());
    caller.authorizeCreate('k1', '');
    caller.authorizeCreate('k2', '');
    expect(errorOf(() => caller.authorizeCreate('k3', '')).reason).toContain(
      'rule "a" has made 1, rule "b" has made 1',
    );
  });

  it('is for what its own rule grants, whatever another rule grants beside it', () => {
    const two = rulesOf(`
    - { name: a, keys: "*", operations: encrypt, create: { max: 1 } }
    - { name: b, keys: "*", operations: [hmac, blindIndex] }`);
    const caller = compilePolicy(two, NATIVE).callerFor(peer());
    for (const by of ['hmac', 'blindIndex'] as const) {
      expect(caller.mayCreate('k', '', by)).toBe(false);
      const error = errorOf(() => caller.authorizeCreate('k', '', by));
      expect([error.code, error.message]).toEqual(['KEY_NOT_FOUND', 'no such key']);
    }
    expect(caller.mayCreate('k', '')).toBe(true);
    caller.authorizeCreate('k', '');
  });

  it('is KEY_NOT_FOUND to a caller that may only encrypt, and a denial like any other to the rest', () => {
    const policy = compilePolicy(rules, NATIVE);
    const admitted = policy.callerFor(peer());
    expect(admitted.mayCreate('old-1', '')).toBe(false);
    const error = errorOf(() => admitted.authorizeCreate('old-1', ''));
    expect([error.code, error.message]).toEqual(['KEY_NOT_FOUND', 'no such key']);
    expect(error.reason).toContain('create: { max: 1 }');
    const other = errorOf(() => policy.callerFor(peer({ uid: 1 })).authorizeCreate('old-1', ''));
    expect([other.code, other.message]).toEqual(['PERMISSION_DENIED', NOT_ALLOWED_TEXT]);
  });
});

describe('the choice of a root', () => {
  const options = { ...NATIVE, roots: ['a', 'b-1', 'b-2'] };

  it('is granted with operation, key and partition of one rule, and not put together from several', () => {
    const rules = rulesOf(`
    - { name: one, keys: "k*", partitions: [acme], operations: encrypt, roots: ["b-*"] }
    - { name: two, keys: "*", operations: [encrypt, decrypt, reencrypt] }`);
    const caller = compilePolicy(rules, options).callerFor(peer());
    expect(caller.allowsRoot('encrypt', 'k1', 'acme', 'b-2')).toBe(true);
    expect(caller.allowsRoot('encrypt', 'k1', 'acme', 'a')).toBe(false);
    expect(caller.allowsRoot('encrypt', 'k1', 'other', 'b-2')).toBe(false);
    expect(caller.allowsRoot('encrypt', 'other', 'acme', 'b-2')).toBe(false);
    expect(caller.allowsRoot('reencrypt', 'k1', 'acme', 'b-2')).toBe(false);
    expect(caller.allowsRoot('encrypt', 'k1', 'acme', 'b-3')).toBe(false);
    expect(caller.allowsRoot('encrypt', '.l3/default', 'acme', 'b-2')).toBe(false);
    expect(['a', 'b-1', 'b-2', 'b-3'].filter((root) => caller.maySomewhere(root))).toEqual(['b-1', 'b-2']);
    expect(caller.allows('encrypt', 'other', 'acme')).toBe(true);
  });

  it('is denied alike for a root that is not there, and its remedy grants exactly what was asked', () => {
    const rules = rulesOf(`
    - { name: two, keys: "*", operations: [encrypt] }`);
    const caller = compilePolicy(rules, options).callerFor(peer());
    const denied = errorOf(() => caller.authorizeRoot('encrypt', 'k', 't', 'b-1'));
    const unknown = errorOf(() => caller.authorizeRoot('encrypt', 'k', 't', 'b-9'));
    expect([denied.code, denied.message]).toEqual(['PERMISSION_DENIED', ROOT_NOT_ALLOWED_TEXT]);
    expect([unknown.code, unknown.message]).toEqual(['PERMISSION_DENIED', ROOT_NOT_ALLOWED_TEXT]);
    expect(unknown.reason).toBe('no root "b-9" is configured; the roots are a, b-1, b-2');
    const rule = (parse(denied.reason!.slice(denied.reason!.indexOf('\n'))) as PolicyRule[])[0]!;
    const remedied = compilePolicy(rulesOf(`    - ${JSON.stringify({ ...rule, roots: ['a'] })}`), options);
    expect(rule.roots).toEqual(['b-1']);
    expect(remedied.callerFor(peer()).allowsRoot('encrypt', 'k', 't', 'a')).toBe(true);
    // A caller that may not even use the key hears of no root.
    expect(errorOf(() => caller.authorizeRoot('decrypt', 'k', 't', 'b-1')).message).toBe(NOT_ALLOWED_TEXT);
  });

  it('is refused at start for a root that is not there, and in a rule that encrypts nothing', () => {
    expect(errorOf(() => rulesOf('    - { name: r, keys: "*", operations: encrypt, roots: [aa] }')).message).toContain(
      'policy.rules[0].roots: no root "aa"; the roots are a',
    );
    expect(errorOf(() => rulesOf('    - { name: r, keys: "*", operations: decrypt, roots: [a] }')).message).toContain(
      'roots are chosen on encrypt and reencrypt',
    );
  });
});

describe('the remedy of a denial', () => {
  function ruleIn(reason: string): string {
    return reason
      .slice(reason.indexOf('\n') + 1)
      .split('\n')
      .map((line) => `  ${line}`)
      .join('\n');
  }

  it('is a rule that allows exactly what was denied', () => {
    const names = fc.string({
      unit: fc.constantFrom('a', 'Z', '0', '-', '/', '.', '"', "'", ':', '#', '{', ' ', '\n', 'é', '\u202e', '💥'),
      minLength: 1,
      maxLength: 12,
    });
    const question = fc.record({
      uid: fc.integer({ min: 0, max: 70_000 }),
      operation: fc.constantFrom(...OPERATIONS),
      key: names,
      partition: fc.oneof(fc.constant(''), names),
    });
    fc.assert(
      fc.property(question, ({ uid, operation, key, partition }) => {
        fc.pre(uid !== 500 && uid !== 65_534 && !key.startsWith('.'));
        const { reason } = errorOf(() =>
          compilePolicy([], NATIVE).callerFor(peer({ uid })).authorize(operation, key, partition),
        );
        const [raw] = parse(ruleIn(reason!)) as { keys: string[]; partitions: string[] }[];
        expect(raw).toMatchObject({ callers: { uid, gid: 1000 }, keys: [key], partitions: [partition] });
        if (!/\p{Cc}/u.test(key + partition)) {
          const policy = compilePolicy(rulesOf(ruleIn(reason!)), NATIVE);
          expect(policy.callerFor(peer({ uid })).allows(operation, key, partition)).toBe(true);
          expect(policy.callerFor(peer({ uid })).allows(operation, `${key}x`, partition)).toBe(false);
          expect(policy.callerFor(peer({ uid: uid + 1 })).allows(operation, key, partition)).toBe(false);
        }
      }),
      { numRuns: 500 },
    );
  });

  it('allows creation too where that was what lacked', () => {
    const caller = compilePolicy(rulesOf('\n    - { name: s, keys: k, operations: encrypt }'), NATIVE).callerFor(
      peer(),
    );
    const { reason } = errorOf(() => caller.authorizeCreate('k', ''));
    compilePolicy(rulesOf(ruleIn(reason!)), NATIVE)
      .callerFor(peer())
      .authorizeCreate('k', '');
  });

  it('is not offered from a name with a star, which would allow more', () => {
    for (const [key, partition] of [
      ['*', ''],
      ['a*', ''],
      ['k', '*'],
    ] as const) {
      const { reason } = errorOf(() =>
        compilePolicy([], NATIVE).callerFor(peer()).authorize('decrypt', key, partition),
      );
      expect(reason).not.toContain('keys:');
      expect(reason).toContain('no rule can name this alone');
    }
  });

  it('has only printable ASCII and stays short, whatever the name', () => {
    const { reason } = errorOf(() =>
      compilePolicy([], NATIVE)
        .callerFor(peer())
        .authorize('decrypt', `\u001b[2J\u202e${'x'.repeat(100_000)}`, ''),
    );
    expect(reason).toMatch(/^[\x20-\x7e]+$/);
    expect(reason!.length).toBeLessThan(1000);
  });

  it('is not told to the caller', () => {
    const one = errorOf(() => compilePolicy([], NATIVE).callerFor(peer()).authorize('decrypt', 'a', ''));
    const two = errorOf(() =>
      compilePolicy(rulesOf('\n    - { name: r, callers: { uid: 1 }, keys: b, operations: decrypt }'), NATIVE)
        .callerFor(peer())
        .authorize('encrypt', 'b', 'p'),
    );
    expect([one.code, one.message]).toEqual([two.code, two.message]);
    expect(one.message).toBe(NOT_ALLOWED_TEXT);
  });
});
