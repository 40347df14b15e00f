import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Config } from '../../src/config/config.ts';
import { devConfig } from '../../src/config/dev.ts';
import { keyringDefinitions } from '../../src/config/key-definitions.ts';
import { loadConfig, parseConfig } from '../../src/config/load.ts';
import { ConfigError } from '../../src/config/problems.ts';
import { DekdError } from '../../src/errors.ts';
import { KeyDefinitions } from '../../src/keyring/key-definition.ts';

const BASE = `
state: /var/lib/dekd
roots:
  main: { provider: local, keyFile: /etc/dekd/root.key, allowLocalRoot: true }
`;

function load(yamlText: string, options: Parameters<typeof parseConfig>[1] = {}): Config {
  return parseConfig(yamlText, options).config;
}

function problemsOf(action: () => unknown): string[] {
  try {
    action();
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    expect(DekdError.is(error, 'INVALID_ARGUMENT')).toBe(true);
    return (error as ConfigError).message
      .split('\n')
      .slice(1)
      .map((line) => line.trim());
  }
  throw new Error('the configuration was accepted');
}

describe('a configuration file', () => {
  it('needs no more than a root and a place for keys, and has defaults for the rest', () => {
    const config = load(BASE);
    expect(config.engine).toBe('native');
    expect(config.memory).toEqual({ level: 'locked', allowInsecureMemory: false, slots: 1024 });
    expect(config.limits).toMatchObject({ maxPayload: 1048576, headerTimeout: 10_000, drain: 5_000 });
    expect(config.socket).toEqual({ path: '/run/dekd/agent.sock', group: undefined, mode: 0o660, allowOwnUid: false });
    expect(config.admin.path).toBe('/run/dekd/admin.sock');
    expect(Object.fromEntries(config.keystores)).toEqual({
      default: { kind: 'sqlite', path: '/var/lib/dekd/keystore.sqlite', acceptLoss: false },
    });
    expect(config.custody).toBe('inline');
    expect(config.hierarchy.levels).toEqual(['tenant', 'service']);
    expect(config.coast).toEqual({ encrypt: 3_600_000, decrypt: 86_400_000 });
    expect(config.revocation).toEqual({ within: 300_000, strict: false });
    expect(config.defaultRoot).toBe('main');
    expect(config.policy.rules).toEqual([]);
    expect(config.dev).toBe(false);
  });

  it('reads workers as auto or a number, from the file and from a variable', () => {
    expect(load(BASE).workers).toBe('auto');
    expect(load(`${BASE}\nworkers: 0`).workers).toBe(0);
    expect(load(`${BASE}\nworkers: auto`, { env: { DEKD_WORKERS: '3' } }).workers).toBe(3);
    expect(load(`${BASE}\nworkers: 2`, { env: { DEKD_WORKERS: 'auto' } }).workers).toBe('auto');
    for (const written of ['-1', '65', '1.5', 'many']) {
      expect(problemsOf(() => load(`${BASE}\nworkers: ${written}`))[0]).toContain(
        'workers: expected a whole number from 0 to 64, or auto',
      );
    }
  });

  it('reads an empty section as all its defaults', () => {
    expect(load(`${BASE}\nlog:\nlimits:\n`).log).toEqual({ level: 'info', format: 'json' });
  });

  it.each([
    ['64KiB', 65_536],
    ['1MiB', 1_048_576],
    ['16 MiB', 16_777_216],
    ['8192', 8192],
    ['8192B', 8192],
  ])('reads the size %s', (written, bytes) => {
    expect(load(`${BASE}\nlimits: { maxPayload: ${written} }`).limits.maxPayload).toBe(bytes);
  });

  it.each(['17MiB', '1KiB', '1mib', '1.5MiB', '-1', '1MB', 'true', '[1MiB]', '99999999999999999999MiB'])(
    'refuses the size %s',
    (written) => {
      expect(problemsOf(() => load(`${BASE}\nlimits: { maxPayload: ${written} }`))[0]).toContain(
        'limits.maxPayload: expected a size from 4KiB to 16MiB',
      );
    },
  );

  it.each([
    ['500ms', 500],
    ['30s', 30_000],
    ['5m', 300_000],
  ])('reads the duration %s', (written, milliseconds) => {
    expect(load(`${BASE}\nlimits: { headerTimeout: ${written} }`).limits.headerTimeout).toBe(milliseconds);
  });

  it('refuses a duration without a unit', () => {
    expect(problemsOf(() => load(`${BASE}\nlimits: { headerTimeout: 30 }`))[0]).toContain('expected a duration');
  });

  it('reads the socket mode the same however YAML takes its digits', () => {
    for (const written of ['0660', '"0660"', '660', '0o660', "'660'"]) {
      expect(load(`${BASE}\nsocket: { mode: ${written} }`).socket.mode, written).toBe(0o660);
    }
    expect(load(`${BASE}\nsocket: { mode: 0600 }`).socket.mode).toBe(0o600);
    for (const written of ['0666', '0777', '0640', '432.5', '0o666']) {
      expect(problemsOf(() => load(`${BASE}\nsocket: { mode: ${written} }`))[0], written).toContain('0600 or 0660');
    }
  });

  it('reads a group by number and by name', () => {
    expect(load(`${BASE}\nsocket: { group: 2000 }`).socket.group).toBe(2000);
    expect(load(`${BASE}\nsocket: { group: root }`).socket.group).toBe(0);
    expect(problemsOf(() => load(`${BASE}\nsocket: { group: nobody-has-this }`))[0]).toContain(
      'no group "nobody-has-this"',
    );
  });

  it('names line, key and suggestion for an unknown key, at every depth', () => {
    const lines = problemsOf(() =>
      load(
        'lmits: {}\nlimits:\n  maxPayloud: 1MiB\nroots:\n  a:\n    keyfile: /x\nkeys:\n  - name: a\n    keycontext: {}\npolicy:\n  rules:\n    - name: r\n      oprations: [encrypt]\n      callers: { gids: 1 }\n',
        { name: 'c.yaml' },
      ),
    );
    expect(lines).toContain('c.yaml:1: lmits: unknown key; did you mean limits?');
    expect(lines).toContain('c.yaml:3: limits.maxPayloud: unknown key; did you mean maxPayload?');
    expect(lines).toContain('c.yaml:6: roots.a.keyfile: unknown key; did you mean keyFile?');
    expect(lines).toContain('c.yaml:9: keys[0].keycontext: unknown key; did you mean keyContext?');
    expect(lines).toContain('c.yaml:13: policy.rules[0].oprations: unknown key; did you mean operations?');
    expect(lines).toContain('c.yaml:14: policy.rules[0].callers.gids: unknown key; did you mean gid?');
    expect(lines).toContain('c.yaml:12: policy.rules[0].operations: is missing');
  });

  it('refuses names that mean something to JavaScript', () => {
    for (const name of ['__proto__', 'constructor', 'prototype']) {
      expect(problemsOf(() => load(`${BASE}\n${name}: { engine: noble }`))[0]).toContain(`${name}: unknown key`);
    }
    expect(problemsOf(() => load(`${BASE}\ntoString: 1`))[0]).toContain('toString');
    expect(
      problemsOf(() => load(`${BASE}  constructor: { provider: local, keyFile: /k, allowLocalRoot: true }`))[0],
    ).toContain('constructor: unknown key');
    expect(({} as { engine?: unknown }).engine).toBeUndefined();
  });

  it('names line, key, what is expected and what is there for a wrong type', () => {
    expect(problemsOf(() => load(`${BASE}\nengine: fast\nmemory: [1]\nkeys: {}\nnode: 5`, { name: 'c.yaml' }))).toEqual(
      [
        'c.yaml:6: engine: expected one of auto, native, node, noble, found "fast"',
        'c.yaml:7: memory: expected a mapping of keys, found a list',
        'c.yaml:8: keys: expected a list, found a mapping',
        'c.yaml:9: node: expected a name of 1 to 128 characters, found 5',
      ],
    );
  });

  it('says that an alias has no anchor, and that aliases are too many to be expanded', () => {
    expect(problemsOf(() => load('roots: *nowhere'))[0]).toMatch(/not valid YAML: .*nowhere/);
    const doubling = Array.from({ length: 12 }, (_, i) => `a${i + 1}: &a${i + 1} [*a${i}, *a${i}]`).join('\n');
    expect(problemsOf(() => load(`a0: &a0 [x, x]\n${doubling}`))[0]).toMatch(/not valid YAML: Excessive alias count/);
  });

  it('says where broken YAML breaks, and refuses a key said twice', () => {
    expect(problemsOf(() => load('a: [1\nb: 2', { name: 'c.yaml' }))[0]).toMatch(/^c\.yaml:2: not valid YAML/);
    expect(problemsOf(() => load('engine: node\nengine: native', { name: 'c.yaml' }))[0]).toMatch(
      /^c\.yaml:2: not valid YAML: .*unique/,
    );
    expect(problemsOf(() => load('just text'))[0]).toContain('expected a mapping of keys');
  });

  it('never shows a value that could be a key', () => {
    const key = Buffer.alloc(32, 7).toString('base64');
    const message = problemsOf(() =>
      load(`roots: { main: { provider: local, keyFile: ${key}, keyDescriptor: "${key}" } }\nengine: ${key}`),
    ).join('\n');
    expect(message).toContain('keyFile');
    expect(message).not.toContain(key.slice(0, 10));
  });

  it('refuses a key context whose values are not texts', () => {
    expect(problemsOf(() => load(`${BASE}\nkeys: [{ name: a, keyContext: { id: 5 } }]`))[0]).toContain('quoted texts');
  });

  it('takes any name in a key context', () => {
    const [definition] = load(`${BASE}\nkeys: [{ name: a, keyContext: { __proto__: x, constructor: y } }]`).keys;
    expect(Object.entries(definition!.keyContext)).toEqual([
      ['__proto__', 'x'],
      ['constructor', 'y'],
    ]);
  });

  it('refuses what does not go together', () => {
    const together = (yamlText: string): string => problemsOf(() => load(yamlText)).join('\n');
    expect(together('state: /s')).toContain('at least one root key is needed');
    expect(together('state: /s\nroots: { a: { provider: local, keyFile: /k } }')).toContain('set allowLocalRoot: true');
    expect(together('state: /s\nroots: { a: { provider: local, allowLocalRoot: true } }')).toContain(
      'either keyFile or keyDescriptor',
    );
    expect(
      together('state: /s\nroots: { a: { provider: local, allowLocalRoot: true, keyFile: /k, keyDescriptor: 3 } }'),
    ).toContain('either');
    expect(together('roots: { a: { provider: local, keyFile: /k, allowLocalRoot: true } }')).toContain(
      'keystore.path: kind sqlite needs a path',
    );
    expect(together(`${BASE}\ndefaultRoot: other`)).toContain('no such root; the roots are main');
    expect(together(`${BASE}  b: { provider: local, keyFile: /k, allowLocalRoot: true }`)).toContain(
      'name one of main, b',
    );
    expect(together(`${BASE}\nengine: node`)).toContain('memory.allowInsecureMemory');
    expect(together(`${BASE}\nmemory: { level: heap }`)).toContain('memory.allowInsecureMemory');
    expect(together(`${BASE}\nsocket: { path: /${'x'.repeat(107)} }`)).toContain(
      'is 108 bytes long; a socket path holds 107',
    );
    expect(together(`${BASE}\nadmin: { path: /run/dekd/agent.sock }`)).toContain('different paths');
    expect(together(`${BASE}\npolicy: { rules: [{ name: a, keys: a, operations: anyKey }] }`)).toContain(
      'anyKey adds to decrypt',
    );
    expect(
      together(`${BASE}\npolicy: { rules: [{ name: a, keys: a, operations: decrypt, create: { max: 1 } }] }`),
    ).toContain('creation happens on encrypt');
    expect(
      together(
        `${BASE}\npolicy: { rules: [{ name: a, keys: a, operations: decrypt }, { name: a, keys: b, operations: decrypt }] }`,
      ),
    ).toContain('used twice');
  });

  it('refuses a keystore in memory under Kubernetes, unless its loss is accepted', () => {
    const env = { KUBERNETES_SERVICE_HOST: '10.0.0.1' };
    expect(problemsOf(() => load(`${BASE}\nkeystore: { kind: memory }`, { env }))[0]).toContain('dies with the pod');
    expect(load(`${BASE}\nkeystore: { kind: memory, acceptLoss: true }`, { env }).keystores.get('default')!.kind).toBe(
      'memory',
    );
    expect(load(`${BASE}\nkeystore: { kind: memory }`).keystores.get('default')).toMatchObject({ path: undefined });
  });

  it('hands the keyring its entries in order, and the common rotation for every other key', () => {
    const config = load(`${BASE}
rotation: { age: 30d, messages: never }
keys:
  - { name: "a*", keyContext: { p: q }, requiredContext: [field], rotation: { bytes: 1GiB } }
  - { name: "*z", rotation: { age: never } }
`);
    const definitions = new KeyDefinitions(keyringDefinitions(config));
    expect(definitions.rulesFor('abcz')).toMatchObject({
      keyContext: { p: 'q' },
      requiredContext: ['field'],
      rotation: { maxAgeMs: 30 * 86_400_000, maxMessages: Number.POSITIVE_INFINITY, maxBytes: 2 ** 30 },
    });
    expect(definitions.rulesFor('z').rotation.maxAgeMs).toBe(Number.POSITIVE_INFINITY);
    expect(definitions.rulesFor('other').rotation).toMatchObject({
      maxAgeMs: 30 * 86_400_000,
      maxMessages: Number.POSITIVE_INFINITY,
      maxBytes: 2 ** 50,
    });
  });
});

describe('variables', () => {
  it('override the file, and flags override variables', () => {
    const env = {
      DEKD_LIMITS_MAX_PAYLOAD: '2MiB',
      DEKD_LIMITS_CONNECTIONS: '100',
      DEKD_LOG_LEVEL: 'warn',
      DEKD_SOCKET_ALLOW_OWN_UID: 'true',
    };
    const config = load(`${BASE}\nlimits: { maxPayload: 4MiB, connections: 5 }\nlog: { level: debug }`, {
      env,
      flags: { 'log.level': 'error' },
    });
    expect(config.limits).toMatchObject({ maxPayload: 2_097_152, connections: 100 });
    expect(config.log.level).toBe('error');
    expect(config.socket.allowOwnUid).toBe(true);
  });

  it('reach the keys of a root by its name', () => {
    const env = { DEKD_ROOTS_MY_ROOT_KEY_FILE: '/other', DEKD_ROOTS_MY_ROOT_ALLOW_LOCAL_ROOT: 'true' };
    expect(load('state: /s\nroots: { my-root: { provider: local, keyFile: /k } }', { env }).roots[0]).toMatchObject({
      keyFile: '/other',
      allowLocalRoot: true,
    });
  });

  it('give the data socket its short name', () => {
    const config = load(BASE, { env: { DEKD_SOCKET: '/run/pod/agent.sock' } });
    expect([config.socket.path, config.admin.path]).toEqual(['/run/pod/agent.sock', '/run/pod/admin.sock']);
    expect(problemsOf(() => load(BASE, { env: { DEKD_SOCKET: '/a', DEKD_SOCKET_PATH: '/b' } }))[0]).toContain(
      'differs',
    );
  });

  it('make a path absolute', () => {
    expect(load(BASE, { env: { DEKD_STATE: 'here' } }).state).toBe(join(process.cwd(), 'here'));
    expect(problemsOf(() => load('state: here'))[0]).toContain('expected an absolute path');
  });

  it('add a local root by ENCRYPTION_PROVIDER, and refuse a provider that is not known', () => {
    const env = {
      ENCRYPTION_PROVIDER: 'local',
      DEKD_ROOTS_LOCAL_KEY_FILE: '/k',
      DEKD_ROOTS_LOCAL_ALLOW_LOCAL_ROOT: 'true',
      DEKD_STATE: '/s',
    };
    expect(load('', { env }).roots).toMatchObject([
      { name: 'local', provider: 'local', keyFile: '/k', allowLocalRoot: true },
    ]);
    expect(load(BASE, { env: { ENCRYPTION_PROVIDER: 'local' } }).roots.map(({ name }) => name)).toEqual(['main']);
    expect(problemsOf(() => load(BASE, { env: { ENCRYPTION_PROVIDER: 'hsm' } }))).toEqual([
      'ENCRYPTION_PROVIDER: roots: unknown provider "hsm"; it is one of kms, kms-encryption, aws-kms, vault, vault-transit, pkcs11, local',
    ]);
  });

  it('give a list or a mapping of names as JSON, which replaces that of the file', () => {
    const config = load(`${BASE}\nprewarm: [{ key: a }]\nhierarchy: { levels: [service] }`, {
      env: {
        DEKD_PREWARM: '[{"key":"b"},{"key":"c","partition":"acme"}]',
        DEKD_HIERARCHY_LEVELS: '["tenant"]',
        DEKD_POLICY_RULES: '[{"name":"all","keys":["*"],"operations":["decrypt"]}]',
        DEKD_KEYS: '[{"name":"x","keyContext":{"__proto__":"y"}}]',
      },
    });
    expect(config.prewarm).toEqual([
      { key: 'b', partition: '' },
      { key: 'c', partition: 'acme' },
    ]);
    expect(config.hierarchy.levels).toEqual(['tenant']);
    expect(config.policy.rules).toMatchObject([{ name: 'all', operations: ['decrypt'] }]);
    expect(Object.entries(config.keys[0]!.keyContext)).toEqual([['__proto__', 'y']]);
  });

  it('say of roots, keystores and routes all that a file can, and one key of an entry over the whole', () => {
    const env = {
      DEKD_STATE: '/s',
      DEKD_ROOTS_EU_AWS_KEY: 'alias/other',
      DEKD_ROOTS:
        '{"eu":{"provider":"aws-kms","aws":{"key":"alias/eu"}},"us":{"provider":"aws-kms","aws":{"key":"u"}}}',
      DEKD_KEYSTORES: '{"far":{"kind":"postgres"}}',
      DEKD_KEYSTORES_FAR_POSTGRES_SCHEMA: 'keys',
      DEKD_DEFAULT_ROOT: 'eu',
      DEKD_ROUTES: '[{"tenant":"us-*","root":"us","keystore":"far"},{}]',
    };
    for (const variables of [env, Object.fromEntries(Object.entries(env).reverse())]) {
      const config = load('', { env: variables });
      expect(config.roots).toMatchObject([
        { name: 'eu', aws: { key: 'alias/other' } },
        { name: 'us', aws: { key: 'u' } },
      ]);
      expect(config.keystores.get('far')).toMatchObject({ postgres: { schema: 'keys' } });
      expect(config.routes).toMatchObject([{ tenant: 'us-*', root: 'us', keystore: 'far' }, { keystore: 'default' }]);
    }
    expect(parseConfig('', { env: { ...env, ENCRYPTION_PROVIDER: 'kms' } }).warnings).toEqual([
      'ENCRYPTION_PROVIDER: adds a root only where none is configured, ignored beside eu, us',
    ]);
  });

  it('that hold a list are refused by their own name, whatever is wrong inside', () => {
    const wrong = (env: Record<string, string>): string[] => problemsOf(() => load(BASE, { env }));
    expect(wrong({ DEKD_ROUTES: '- keystore: eu' })).toEqual([
      'DEKD_ROUTES: routes: expected JSON, such as [{"tenant":"eu-*","keystore":"eu"}] for routes',
    ]);
    expect(wrong({ DEKD_ROUTES: '[{"keystore":"eu"}]' })[0]).toContain('DEKD_ROUTES: routes[0].keystore: no keystore');
    expect(wrong({ DEKD_ROUTES: '[{"tennant":"eu"}]' })[0]).toContain(
      'DEKD_ROUTES: routes[0].tennant: unknown key; did you mean tenant?',
    );
    expect(wrong({ DEKD_ROUTES: '{}' })[0]).toContain('DEKD_ROUTES: routes: expected a list');
    expect(wrong({ DEKD_KEYS: '[{"name":"a","__proto__":{"direct":true}}]' })).toEqual([
      'DEKD_KEYS: keys: has a key that no configuration has',
    ]);
    expect(wrong({ DEKD_ROUTE: '[]' })).toEqual(['DEKD_ROUTE: unknown variable; did you mean DEKD_ROUTES?']);
  });

  it('are named where they give a root what is for another provider', () => {
    expect(problemsOf(() => load(BASE, { env: { DEKD_ROOTS_MAIN_AWS_REGION: 'eu-central-1' } }))).toEqual([
      'DEKD_ROOTS_MAIN_AWS_REGION: roots.main.aws: has no effect with provider local; remove it',
    ]);
  });

  it('are refused with the name of the variable when their value does not fit', () => {
    expect(problemsOf(() => load(BASE, { env: { DEKD_LIMITS_CONNECTIONS: 'many' } }))).toEqual([
      'DEKD_LIMITS_CONNECTIONS: limits.connections: expected a whole number from 1 to 65536, found "many"',
    ]);
  });

  it('are refused when nearly a key, and reported when nothing like one', () => {
    expect(problemsOf(() => load(BASE, { env: { DEKD_MEMORY_LEVL: 'secret' } }))).toEqual([
      'DEKD_MEMORY_LEVL: unknown variable; did you mean DEKD_MEMORY_LEVEL?',
    ]);
    expect(parseConfig(BASE, { env: { DEKD_WHATEVER_THIS_IS: '1' } }).warnings).toEqual([
      'DEKD_WHATEVER_THIS_IS: no such key of the configuration, ignored',
    ]);
    expect(
      parseConfig(BASE, {
        env: {
          DEKD_SERVICE_HOST: '10.0.0.1',
          DEKD_PORT_80_TCP_ADDR: 'x',
          DEKD_SERVICE_PORT: '80',
          DEKD_PORT: 'tcp://x',
        },
      }).warnings,
    ).toEqual([]);
  });

  it('never carry key material', () => {
    const key = Buffer.alloc(32, 9).toString('base64');
    for (const env of [
      { DEKD_ROOT_KEY: 'x' },
      { DEKD_ROOTS_MAIN_KEY_FILE: key },
      { DEKD_ANYTHING: Buffer.alloc(32, 9).toString('hex') },
    ]) {
      const [line] = problemsOf(() => load(BASE, { env }));
      expect(line).toContain('key material in a variable is refused');
      expect(line).not.toContain(key.slice(0, 10));
    }
  });
});

describe('loading', () => {
  it('reads the file named by flag, else by DEKD_CONFIG', () => {
    const folder = mkdtempSync(join(tmpdir(), 'dekd-config-'));
    try {
      const [one, two] = [join(folder, 'one.yaml'), join(folder, 'two.yaml')];
      writeFileSync(one, `${BASE}\nservice: one`);
      writeFileSync(two, `${BASE}\nservice: two`);
      expect(loadConfig({ env: { DEKD_CONFIG: one } })).toMatchObject({ file: one, config: { service: 'one' } });
      expect(loadConfig({ file: two, env: { DEKD_CONFIG: one } })).toMatchObject({
        file: two,
        config: { service: 'two' },
      });
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('says that a file cannot be read', () => {
    expect(problemsOf(() => loadConfig({ file: '/nonexistent/x.yaml', env: {} }))).toEqual([
      '/nonexistent/x.yaml: cannot be read (ENOENT); check the path and its permissions',
    ]);
  });
});

describe('the development configuration', () => {
  const env = { HOME: '/home/me', XDG_RUNTIME_DIR: '/run/user/7' };

  it('keeps root key and keystore in the state folder, and lets everything be done', () => {
    const { config } = devConfig({ env });
    const state = '/home/me/.local/state/dekd/dev';
    expect(config).toMatchObject({
      dev: true,
      engine: 'auto',
      state,
      socket: { path: '/run/user/7/dekd/agent.sock', mode: 0o600, allowOwnUid: true },
      admin: { path: '/run/user/7/dekd/admin.sock' },
      keystores: new Map([['default', { kind: 'sqlite', path: `${state}/keystore.sqlite`, acceptLoss: false }]]),
      roots: [{ name: 'dev', keyFile: `${state}/root.key`, createKeyFile: true, ephemeral: false }],
    });
    expect(config.policy.rules).toMatchObject([
      { keys: ['*'], partitions: ['*'], create: { max: Number.POSITIVE_INFINITY } },
    ]);
  });

  it('takes socket, state and root key file over variables, and never makes a root key that was named', () => {
    const { config } = devConfig({
      socket: '/a/s.sock',
      state: '/b',
      rootKeyFile: '/c/k',
      env: { ...env, DEKD_SOCKET: '/x', DEKD_STATE: '/y' },
    });
    expect(config).toMatchObject({
      socket: { path: '/a/s.sock' },
      admin: { path: '/a/admin.sock' },
      state: '/b',
      roots: [{ keyFile: '/c/k', createKeyFile: false }],
    });
    expect(devConfig({ env: { ...env, DEKD_STATE: '/y' } }).config).toMatchObject({
      state: '/y',
      keystores: new Map([['default', { kind: 'sqlite', path: '/y/keystore.sqlite', acceptLoss: false }]]),
      roots: [{ keyFile: '/y/root.key' }],
    });
  });

  it('keeps nothing when it is ephemeral', () => {
    const { config } = devConfig({ ephemeral: true, env: { ...env, DEKD_STATE: '/y' } });
    expect(config).toMatchObject({
      state: undefined,
      keystores: new Map([['default', { kind: 'memory', path: undefined, acceptLoss: false }]]),
      roots: [{ keyFile: undefined, createKeyFile: false, ephemeral: true }],
    });
  });

  it('takes variables', () => {
    expect(devConfig({ env: { ...env, DEKD_ENGINE: 'node', DEKD_LOG_LEVEL: 'debug' } }).config).toMatchObject({
      engine: 'node',
      log: { level: 'debug' },
    });
    expect(devConfig({ env: { HOME: '/home/me', XDG_STATE_HOME: '/state' } }).config.state).toBe('/state/dekd/dev');
  });
});
