import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Config, Route } from '../../src/config/config.ts';
import { parseConfig } from '../../src/config/load.ts';
import { ConfigError } from '../../src/config/problems.ts';
import { routeOf } from '../../src/config/routing.ts';

const STATE = 'state: /var/lib/dekd\n';

function load(yaml: string, env: Record<string, string> = {}): Config {
  return parseConfig(STATE + yaml, { env }).config;
}

/** What is wrong, in one text. */
function problems(yaml: string, env: Record<string, string> = {}): string {
  try {
    load(yaml, env);
    return '';
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return (error as ConfigError).message;
  }
}

const AWS = 'roots: { main: { provider: aws-kms, aws: { key: alias/dekd } } }\n';
const VAULT =
  "roots: { main: { provider: vault-transit, vault: { address: 'https://vault.example:8200' }, transit: { key: dekd } } }\n";

describe('roots', () => {
  it('are what their provider takes, with defaults', () => {
    expect(load(AWS).roots[0]).toEqual({
      name: 'main',
      provider: 'aws-kms',
      formerly: [],
      aws: {
        key: 'alias/dekd',
        region: undefined,
        endpoint: undefined,
        fips: false,
        timeout: 3_000,
        retries: 2,
        connections: 8,
        idleTimeout: 30_000,
      },
    });
    expect(load(VAULT).roots[0]).toMatchObject({
      vault: { address: 'https://vault.example:8200', auth: { method: 'token', tokenFile: undefined } },
      transit: { mount: 'transit', key: 'dekd' },
    });
  });

  it.each([
    ['provider: aws-kms', 'roots.main.aws.key: is missing'],
    [
      'provider: aws-kms, aws: { key: k, fips: true, endpoint: "https://kms.example" }',
      'cannot be had together with an endpoint',
    ],
    ['provider: vault-transit, vault: { address: "https://v" }', 'roots.main.transit.key: is missing'],
    ['provider: vault-transit, transit: { key: k }', 'roots.main.vault.address: is missing'],
    [
      'provider: vault-transit, vault: { address: "http://vault.example" }, transit: { key: k }',
      'http is for loopback',
    ],
    ['provider: vault-transit, vault: { address: "https://u:p@v" }, transit: { key: k }', 'without credentials'],
    [
      'provider: vault-transit, vault: { address: "https://v", auth: { method: approle } }, transit: { key: k }',
      'needs either roleId or roleIdFile',
    ],
    [
      'provider: vault-transit, vault: { address: "https://v", auth: { method: kubernetes } }, transit: { key: k }',
      'auth.role: is missing',
    ],
    [
      'provider: vault-transit, vault: { address: "https://v", auth: { role: dekd } }, transit: { key: k }',
      'roots.main.vault.auth.role: has no effect with method token; remove it',
    ],
    [
      'provider: vault-transit, vault: { address: "https://v", auth: { method: approle, roleId: r, secretIdFile: /s, secretIdAws: s } }, transit: { key: k }',
      'takes secretIdFile or secretIdAws, not both',
    ],
    [
      'provider: vault-transit, vault: { address: "https://v", auth: { method: approle, roleId: r, secretIdAws: s, secretIdWrapped: true } }, transit: { key: k }',
      'secretIdWrapped: is for secretIdFile and VAULT_SECRET_ID',
    ],
    ['provider: aws-kms, aws: { key: k, endpoint: "http://kms.example" }', 'aws.endpoint: must be an https URL'],
    ['provider: aws-kms, aws: { key: k, endpoint: "https://u:p@kms.example" }', 'without credentials'],
    ['provider: pkcs11', 'roots.main.pkcs11.module: is missing'],
    ['provider: pkcs11, pkcs11: { module: /m, pinFile: /p, slot: 0, token: t, key: k }', 'needs either slot or token'],
    ['provider: pkcs11, pkcs11: { module: /m, pinFile: /p, slot: 0 }', 'needs either key or keyId'],
    ['provider: local, keyFile: /k', 'set allowLocalRoot: true'],
    [
      'provider: local, keyFile: /k, allowLocalRoot: true, aws: { key: k }',
      'roots.main.aws: has no effect with provider local; remove it',
    ],
    [
      'provider: aws-kms, aws: { key: k }, keyFile: /k',
      'roots.main.keyFile: has no effect with provider aws-kms; remove it',
    ],
    ['provider: hsm', 'one of local, aws-kms, vault-transit, pkcs11'],
    ['provider: aws-kms, aws: { key: k, regoin: x }', 'did you mean region?'],
    ['provider: pkcs11, aws: { key: k }', 'roots.main.aws: has no effect with provider pkcs11; remove it'],
  ])('{ %s } is refused: %s', (root, problem) => {
    expect(problems(`roots: { main: { ${root} } }`)).toContain(problem);
  });

  it('may be at an address of this machine without TLS', () => {
    for (const host of ['localhost:4566', '127.0.0.1:5000', '[::1]:8200']) {
      const aws = `roots: { main: { provider: aws-kms, aws: { key: k, endpoint: "http://${host}" } } }`;
      expect(load(aws).roots[0]).toMatchObject({ aws: { endpoint: `http://${host}` } });
      const vault = `vault: { address: "http://${host}" }, transit: { key: k }`;
      expect(load(`roots: { main: { provider: vault-transit, ${vault} } }`).roots).toHaveLength(1);
    }
  });

  it.each([
    ['kms', { AWS_KMS_KEY_ID: 'alias/a' }, { name: 'aws-kms', provider: 'aws-kms', aws: { key: 'alias/a' } }, true],
    ['kms-encryption', { KMS_KEY_ID: 'k' }, { name: 'aws-kms', provider: 'aws-kms', aws: { key: 'k' } }, false],
    ['aws-kms', { AWS_KMS_KEY_ID: 'k' }, { name: 'aws-kms', provider: 'aws-kms' }, false],
    [
      'vault',
      { VAULT_ADDR: 'https://v:8200', VAULT_NAMESPACE: 'n', VAULT_TRANSIT_KEY: 'k', VAULT_ROLE_ID: 'r' },
      {
        name: 'vault-transit',
        vault: { address: 'https://v:8200', namespace: 'n', auth: { method: 'approle', roleId: 'r' } },
      },
      false,
    ],
    [
      'vault-transit',
      { VAULT_ADDR: 'https://v', VAULT_TRANSIT_KEY: 'k', VAULT_CACERT: '/ca.pem' },
      { transit: { key: 'k' }, vault: { caFile: '/ca.pem', auth: { method: 'token' } } },
      false,
    ],
    [
      'pkcs11',
      { PKCS11_MODULE: '/m.so', PKCS11_TOKEN_LABEL: 't', PKCS11_KEY_LABEL: 'k', PKCS11_PIN_FILE: '/pin' },
      { name: 'pkcs11', pkcs11: { module: '/m.so', token: 't', key: 'k', pinFile: '/pin' } },
      false,
    ],
    [
      'local',
      { DEKD_ROOTS_LOCAL_KEY_FILE: '/k', DEKD_ROOTS_LOCAL_ALLOW_LOCAL_ROOT: 'true' },
      { name: 'local', provider: 'local', keyFile: '/k' },
      false,
    ],
  ])('ENCRYPTION_PROVIDER=%s makes one from the variables that people have', (provider, env, root, direct) => {
    const config = load('', { ENCRYPTION_PROVIDER: provider, ...(env as Record<string, string>) });
    expect(config.roots).toHaveLength(1);
    expect(config.roots[0]).toMatchObject(root);
    expect(config.direct).toBe(direct);
  });
});

describe('ENCRYPTION_PROVIDER', () => {
  const root = (env: Record<string, string>) => load('', env).roots[0];

  it('lists the names when it says none of them', () => {
    expect(problems('', { ENCRYPTION_PROVIDER: 'cloud' })).toContain(
      'unknown provider "cloud"; it is one of kms, kms-encryption, aws-kms, vault, vault-transit, pkcs11, local',
    );
    expect(problems('', { ENCRYPTION_PROVIDER: 'constructor' })).toContain('unknown provider');
  });

  it('takes the first of two variables for one key, and what DEKD_ says over both', () => {
    const env = { ENCRYPTION_PROVIDER: 'aws-kms', AWS_KMS_KEY_ID: 'first', KMS_KEY_ID: 'second' };
    expect(root(env)).toMatchObject({ aws: { key: 'first' } });
    expect(root({ ...env, DEKD_ROOTS_AWS_KMS_AWS_KEY: 'third' })).toMatchObject({ aws: { key: 'third' } });
  });

  it('reads numbers and relative paths as other variables are read', () => {
    const pkcs11 = { PKCS11_MODULE: 'm.so', PKCS11_SLOT: '7', PKCS11_KEY_LABEL: 'k', PKCS11_PIN_FILE: 'pin' };
    expect(root({ ENCRYPTION_PROVIDER: 'pkcs11', ...pkcs11 })).toMatchObject({
      pkcs11: { module: `${process.cwd()}/m.so`, pinFile: `${process.cwd()}/pin`, slot: 7, token: undefined },
    });
  });

  it('leaves a role id aside where another method is chosen', () => {
    const vault = { ENCRYPTION_PROVIDER: 'vault', VAULT_ADDR: 'https://v', VAULT_TRANSIT_KEY: 'k', VAULT_ROLE_ID: 'r' };
    const kubernetes = {
      DEKD_ROOTS_VAULT_TRANSIT_VAULT_AUTH_METHOD: 'kubernetes',
      DEKD_ROOTS_VAULT_TRANSIT_VAULT_AUTH_ROLE: 'dekd',
    };
    expect(root({ ...vault, ...kubernetes })).toMatchObject({
      vault: { auth: { method: 'kubernetes', role: 'dekd' } },
    });
  });

  it('is ignored with a warning beside roots of the file', () => {
    const { config, warnings } = parseConfig(STATE + AWS, { env: { ENCRYPTION_PROVIDER: 'kms' } });
    expect([config.roots.map(({ name }) => name), config.direct]).toEqual([['main'], false]);
    expect(warnings).toEqual(['ENCRYPTION_PROVIDER: adds a root only where none is configured, ignored beside main']);
  });
});

describe('custody', () => {
  it('is a process of its own where anything but local, memory, bundle and sqlite is configured', () => {
    const local = 'roots: { main: { provider: local, keyFile: /k, allowLocalRoot: true } }\n';
    expect(load(local).custody).toBe('inline');
    expect(load(AWS).custody).toBe('process');
    expect(load(`${local}keystore: { kind: postgres }`).custody).toBe('process');
    expect(load(`${local}keystores: { other: { kind: postgres } }`).custody).toBe('process');
  });

  it('inline with a service needs allowInsecureMemory, and process the native engine', () => {
    expect(problems(`${AWS}custody: inline`)).toContain('set memory.allowInsecureMemory: true');
    expect(load(`${AWS}custody: inline\nmemory: { allowInsecureMemory: true }`).custody).toBe('inline');
    const insecure = 'memory: { allowInsecureMemory: true }\n';
    expect(problems(`${AWS}${insecure}engine: node\ncustody: process`)).toContain('engine is node');
    expect(load(`${AWS}${insecure}engine: node`).custody).toBe('inline');
  });
});

describe('keystores', () => {
  it.each([
    ['{ kind: postgres, postgres: { url: "postgres://u:secret@db/x" } }', 'must not hold the password'],
    ['{ kind: postgres, postgres: { url: "postgres://u@db/x?password=p" } }', 'must not hold the password'],
    ['{ kind: postgres, postgres: { url: "postgres://u@db.example/x", tls: disable } }', 'disable is for Unix sockets'],
    ['{ kind: postgres, postgres: { url: "mysql://db" } }', 'must be a URL such as postgres://'],
    ['{ kind: openbao-kv }', 'keystore.vault.address: is missing'],
    ['{ kind: openbao-kv, vault: { address: "http://bao.example" } }', 'http is for loopback'],
    ['{ kind: postgres, path: /x }', 'keystore.path: has no effect with kind postgres; remove it'],
    ['{ kind: memory, path: /x }', 'keystore.path: has no effect with kind memory; remove it'],
    ['{ kind: bundle }', 'kind bundle needs a path'],
    ['{ kind: postgres, postgres: { url: "postgres://db/x?sslmode=disable" } }', 'takes no parameter but host'],
    [
      '{ kind: postgres, postgres: { url: "postgres://localhost/x?host=db.example", tls: disable } }',
      'tls: disable is for Unix sockets',
    ],
    [
      '{ kind: openbao-kv, vault: { address: "https://bao", auth: { jwtFile: /t } } }',
      'keystore.vault.auth.jwtFile: has no effect with method token',
    ],
  ])('%s is refused: %s', (keystore, problem) => {
    const found = problems(`${AWS}keystore: ${keystore}`);
    expect(found).toContain(problem);
    expect(found).not.toContain('secret@');
  });

  it.each([
    ['postgres:///dekd?host=/run/postgresql', {}],
    ['postgres://%2Frun%2Fpostgresql/dekd', {}],
    ['postgres://u@127.0.0.1/dekd', { PGHOST: 'db.example' }],
    [undefined, { PGHOST: '/run/postgresql' }],
    [undefined, {}],
  ])('may be without TLS on this machine: %s', (url, env) => {
    const postgres = JSON.stringify({ url, tls: 'disable' });
    const { keystores } = load(
      `${AWS}keystore: { kind: postgres, postgres: ${postgres} }`,
      env as Record<string, string>,
    );
    expect(keystores.get('default')).toMatchObject({ postgres: { url, tls: 'disable' } });
  });

  it('without TLS are refused where PGHOST is another machine', () => {
    const postgres = `${AWS}keystore: { kind: postgres, postgres: { tls: disable } }`;
    expect(problems(postgres, { PGHOST: 'db.example' })).toContain('keystore.postgres.tls: disable is for');
  });

  it('are reached by variables through their name', () => {
    const env = { DEKD_KEYSTORES_EU_WEST_PATH: '/other', DEKD_KEYSTORE_PATH: '/first' };
    const { keystores } = load(`${AWS}keystores: { eu-west: { kind: sqlite } }`, env);
    expect([...keystores.values()]).toMatchObject([{ path: '/first' }, { path: '/other' }]);
    const { warnings } = parseConfig(STATE + AWS, { env: { DEKD_KEYSTORES_MAIN_POSTGRES_URL: 'postgres://x' } });
    expect(warnings).toEqual(['DEKD_KEYSTORES_MAIN_POSTGRES_URL: no such key of the configuration, ignored']);
  });

  it('need a file each, and none may take the name of the first', () => {
    expect(problems(`${AWS}keystores: { eu: { kind: sqlite, path: /var/lib/dekd/keystore.sqlite } }`)).toContain(
      'keystores.eu.path: is that of keystore default too; each needs its own',
    );
    expect(problems(`${AWS}keystores: { default: { kind: sqlite, path: /x } }`)).toContain(
      'keystores.default: expected another name: default is the section keystore',
    );
  });

  it('are without the default where the file does not have it and no route leads to it', () => {
    const eu = 'keystores: { eu: { kind: postgres } }\n';
    const names = (yaml: string) => [...parseConfig(AWS + eu + yaml).config.keystores.keys()];
    expect(names('routes: [{ keystore: eu }]')).toEqual(['eu']);
    expect(names('keystore: { kind: postgres }\nroutes: [{ keystore: eu }]')).toEqual(['default', 'eu']);
    for (const routes of ['[{ level: 4, keystore: eu }, {}]', '[{ keystore: eu, formerKeystores: [default] }]']) {
      expect([...load(`${AWS}${eu}routes: ${routes}`).keystores.keys()]).toEqual(['default', 'eu']);
      expect(() => parseConfig(`${AWS}${eu}routes: ${routes}`)).toThrow('keystore.path: kind sqlite needs a path');
    }
  });

  it('each have a file of their own in the state folder', () => {
    expect(load(`${AWS}keystores: { eu: { kind: sqlite } }`).keystores).toEqual(
      new Map([
        ['default', { kind: 'sqlite', path: '/var/lib/dekd/keystore.sqlite', acceptLoss: false }],
        ['eu', { kind: 'sqlite', path: '/var/lib/dekd/keystore-eu.sqlite', acceptLoss: false }],
      ]),
    );
  });

  it('of a pod must each outlive it, unless their loss is accepted', () => {
    const pod = { KUBERNETES_SERVICE_HOST: '10.0.0.1' };
    const two = (accept: boolean) =>
      `${AWS}keystore: { kind: postgres }\nkeystores: { scratch: { kind: memory, acceptLoss: ${accept} } }`;
    expect(problems(two(false), pod)).toContain('keystores.scratch.kind: dies with the pod');
    expect(load(two(true), pod).keystores.size).toBe(2);
  });
});

describe('routes', () => {
  it('name keystores and roots that there are', () => {
    expect(problems(`${AWS}routes: [{ keystore: eu }]`)).toContain('no keystore "eu"; there are none');
    expect(problems(`${AWS}keystore: { kind: sqlite }\nroutes: [{ keystore: eu }]`)).toContain('there are default');
    expect(problems(`${AWS}routes: [{ formerKeystores: [old] }]`)).toContain(
      'routes[0].formerKeystores: no keystore "old"; there are default',
    );
    expect(problems(`${AWS}routes: [{ formerKeystores: [default] }]`)).toContain(
      'default is the keystore of this entry',
    );
    expect(problems(`${AWS}routes: [{ root: other }]`)).toContain('no root "other"; the roots are main');
  });

  it('are refused behind one that matches everything', () => {
    expect(problems(`${AWS}routes: [{ level: 4 }, { tenant: "*" }, { tenant: eu }]`)).toContain(
      'routes[2]: never counts: routes[1] before it matches everything',
    );
    expect(problems(`${AWS}routes: [{ level: 4 }, { tenant: eu }, {}]`)).toBe('');
  });

  it('tell what has no partition from what has any', () => {
    const { routes } = load(`${AWS}routes: [{ tenant: "" }, { tenant: "*" }]`);
    const at = (tenant: string) =>
      routes.indexOf(routeOf(routes, { level: 4, tenant, service: 'default', key: 'k', region: undefined })!);
    expect([at(''), at('eu')]).toEqual([0, 1]);
  });

  it('match as looking at every field of every route does', () => {
    const name = fc.constantFrom('', 'a', 'ab', 'abc', 'b');
    const pattern = fc.option(fc.constantFrom('*', 'a*', '*b', 'a', 'ab', 'b*c', ''), { nil: undefined });
    const route = fc.record({
      level: fc.option(fc.subarray([2, 3, 4] as const, { minLength: 1 }), { nil: undefined }),
      tenant: pattern,
      service: pattern,
      key: pattern,
      region: pattern,
      root: fc.constant(undefined),
      keystore: fc.constant(undefined),
      formerKeystores: fc.constant([]),
    });
    const record = fc.record({
      level: fc.constantFrom(2 as const, 3 as const, 4 as const),
      tenant: name,
      service: name,
      key: name,
      region: fc.option(name, { nil: undefined }),
    });
    const fits = (wanted: string | undefined, text: string): boolean =>
      wanted === undefined || new RegExp(`^${wanted.replaceAll('*', '.*')}$`).test(text);
    fc.assert(
      fc.property(fc.array(route, { maxLength: 6 }), record, (routes, of) => {
        let expected: Route | undefined;
        for (const each of routes.toReversed()) {
          const levels: readonly number[] | undefined = each.level;
          if (
            (levels === undefined || levels.includes(of.level)) &&
            fits(each.tenant, of.tenant) &&
            fits(each.service, of.service) &&
            fits(each.key, of.key) &&
            fits(each.region, of.region ?? '')
          ) {
            expected = each;
          }
        }
        expect(routeOf(routes, of)).toBe(expected);
      }),
      { numRuns: 2_000 },
    );
  });
});

describe('coasts', () => {
  it('for encrypting end no later than those for decrypting, with which keys are wiped', () => {
    expect(problems(`${AWS}coast: { encrypt: 2h, decrypt: 1h }`)).toContain('coast.encrypt: is longer than');
    expect(load(`${AWS}coast: { encrypt: 2h, decrypt: 2h }`).coast).toEqual({ encrypt: 7_200_000, decrypt: 7_200_000 });
  });
});

describe('the port for probes', () => {
  it('is none unless it is configured, and listens on an address', () => {
    expect(load(AWS).admin).toMatchObject({ port: undefined, host: '127.0.0.1' });
    expect(load(`${AWS}admin: { port: 9465, host: 0.0.0.0 }`).admin).toMatchObject({ port: 9465, host: '0.0.0.0' });
    expect(problems(`${AWS}admin: { port: 9465, host: everywhere }`)).toContain('must be an IP address');
  });
});

describe('recipients of messages', () => {
  const raw = (namespace = 'acme', name = 'k1'): string =>
    `{ rawAes: { namespace: ${namespace}, name: ${name}, keyFile: /k } }`;

  it('are the keystore unless the configuration names others, for all keys or for some', () => {
    expect(load(AWS)).toMatchObject({
      recipients: [],
      message: { recipients: ['keystore'], formerRecipients: [], exposeRecordContext: false },
    });
    const config = load(`${AWS}recipients: { escrow: { root: main }, partner: ${raw()} }
message: { recipients: [keystore, escrow] }
keys: [{ name: a, recipients: [partner], formerRecipients: [escrow] }, { name: b }]`);
    expect(config.recipients).toEqual([
      { name: 'escrow', root: 'main', rawAes: undefined },
      { name: 'partner', root: undefined, rawAes: { namespace: 'acme', name: 'k1', keyFile: '/k' } },
    ]);
    expect(config.keys.map(({ recipients, formerRecipients }) => [recipients, formerRecipients])).toEqual([
      [['partner'], ['escrow']],
      [['keystore', 'escrow'], []],
    ]);
  });

  it('have variables as roots do', () => {
    const env = { DEKD_RECIPIENTS_ESCROW_ROOT: 'main', DEKD_MESSAGE_RECIPIENTS: '["keystore","escrow"]' };
    const config = load(`${AWS}recipients: { escrow: {} }`, env);
    expect(config.recipients).toMatchObject([{ name: 'escrow', root: 'main' }]);
    expect(config.message.recipients).toEqual(['keystore', 'escrow']);
    expect(load(AWS, { DEKD_RECIPIENTS: '{"partner":{"root":"main"}}' }).recipients).toHaveLength(1);
  });

  it.each([
    ['recipients: { escrow: {} }', 'recipients.escrow: needs either root or rawAes'],
    [`recipients: { escrow: { root: main, rawAes: { name: k } } }`, 'recipients.escrow: needs either root or rawAes'],
    ['recipients: { escrow: { root: none } }', 'recipients.escrow.root: no root "none"; the roots are main'],
    ['recipients: { keystore: { root: main } }', 'keystore is the keystore itself'],
    ['recipients: { partner: { rawAes: { name: k } } }', 'recipients.partner.rawAes.namespace: is missing'],
    ['recipients: { partner: { rawAes: { name: k } } }', 'recipients.partner.rawAes.keyFile: is missing'],
    ...['aws-kms', 'aws-kms-hierarchy', 'dekd', 'vault-transit', 'raw-ecdh'].map((namespace) => [
      `recipients: { partner: ${raw(namespace)} }`,
      `${namespace} stands for another kind of recipient`,
    ]),
    [`recipients: { a: ${raw()}, b: ${raw()} }`, 'recipients.b.rawAes.name: is that of another recipient'],
    ['message: { recipients: [] }', 'message.recipients: needs 1 to 8 recipients'],
    ['message: { recipients: [escrow] }', 'message.recipients: no recipient "escrow"; there are keystore'],
    ['message: { recipients: [keystore, keystore] }', 'message.recipients: names a recipient twice'],
    ['keys: [{ name: a, recipients: [none] }]', 'keys[0].recipients: no recipient "none"'],
    ['keys: [{ name: a, formerRecipients: [none] }]', 'keys[0].formerRecipients: no recipient "none"'],
    ['keys: [{ name: a, keyContext: { dekd-key: x } }]', "keys[0].keyContext: dekd-key is a name of dekd's own"],
    ['keys: [{ name: a, keyContext: { dekd-use: x } }]', "keys[0].keyContext: dekd-use is a name of dekd's own"],
    [
      'keys: [{ name: a, keyContext: { dekd-compression: zstd } }]',
      "keys[0].keyContext: dekd-compression is a name of dekd's own",
    ],
    [
      'recipients: { escrow: { root: main } }\nkeys: [{ name: a, recipients: [escrow], requiredContext: [row] }]',
      'keys[0].requiredContext: cannot be given together with recipient escrow',
    ],
  ])('with %s are refused', (yaml, says) => {
    expect(problems(AWS + yaml)).toContain(says);
  });

  it('are of no local root, and take required context where it may be shown', () => {
    const local = 'roots: { main: { provider: local, keyFile: /k, allowLocalRoot: true } }\n';
    expect(problems(`${local}recipients: { escrow: { root: main } }`)).toContain(
      'is a root of local; a recipient is one of',
    );
    const exposed = `${AWS}recipients: { escrow: { root: main } }
message: { exposeRecordContext: true }
keys: [{ name: a, recipients: [escrow], requiredContext: [row] }]`;
    expect(load(exposed).keys[0]).toMatchObject({ requiredContext: ['row'] });
  });
});
