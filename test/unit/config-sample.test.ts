import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { parseConfig } from '../../src/config/load.ts';
import { renderReference, renderSample } from '../../src/config/sample.ts';
import { type SchemaNode, schemaTree } from '../../src/config/schema-walk.ts';

/** Takes every key out of its comment: `#key:` and `#- key:`, never `# prose`. */
function switchedOn(sample: string): string {
  return sample.replace(/^( *)#(?=[^ #\n])/gm, '$1');
}

function leaves(keys: ReadonlyMap<string, SchemaNode>): [string, SchemaNode][] {
  return [...keys].flatMap(([name, node]): [string, SchemaNode][] =>
    node.shape === 'leaf' ? [[name, node]] : leaves(node.children),
  );
}

describe('the sample', () => {
  const sample = renderSample();
  const enough = {
    flags: { state: '/s' },
    env: { ENCRYPTION_PROVIDER: 'local', DEKD_ROOTS_LOCAL_KEY_FILE: '/k', DEKD_ROOTS_LOCAL_ALLOW_LOCAL_ROOT: 'true' },
  };

  it('says nothing but defaults as it stands', () => {
    expect(parseConfig(sample, enough)).toEqual(parseConfig('', enough));
  });

  it.each([
    ['local', ['keyFile', 'allowLocalRoot']],
    ['aws-kms', ['aws']],
    ['vault-transit', ['vault', 'transit']],
    ['pkcs11', ['pkcs11']],
  ] as const)('is a whole configuration when everything is switched on, for a root at %s', (provider, own) => {
    const raw = parse(
      switchedOn(sample).replace('allowLocalRoot: false', 'allowLocalRoot: true').replace('group: dekd', 'group: 0'),
    );
    // Providers, and keys of which one excludes another, are the reader's choice.
    const { main } = raw.roots;
    raw.roots.main = { provider, formerly: main.formerly, ...Object.fromEntries(own.map((key) => [key, main[key]])) };
    delete raw.recipients.escrow.root;
    delete main.pkcs11.token;
    delete main.pkcs11.keyId;
    delete raw.keystore.postgres;
    delete raw.keystore.kv;
    delete raw.keystore.vault;
    main.vault.auth = { method: 'token', tokenFile: main.vault.auth.tokenFile };
    const { config } = parseConfig(stringify(raw));
    expect(config.roots).toHaveLength(1);
    expect(config.roots[0]).toMatchObject({ provider });
    expect([...config.keystores]).toMatchObject([
      ['default', { kind: 'sqlite' }],
      ['eu', { kind: 'postgres', postgres: { url: 'postgres://dekd@db.eu.example/dekd' } }],
    ]);
    expect(config.routes[0]).toMatchObject({ level: [2, 3], keystore: 'eu' });
    expect(config.policy.rules[0]).toMatchObject({
      name: 'shop',
      callers: { uid: [1000], groups: [2000, 2001] },
      keys: ['customers', 'orders-*'],
    });
    expect(config.keys[0]).toMatchObject({
      name: 'customers*',
      rotation: { age: 30 * 86_400_000, schedule: '0 3 1 * *' },
    });
  });

  it('shows for a section that is like another an example that such a section takes', () => {
    const raw = parse(switchedOn(sample));
    const { vault } = raw.keystore;
    const { config } = parseConfig(
      stringify({
        state: '/s',
        roots: { main: { provider: 'vault-transit', vault, transit: { key: 'dekd' } } },
        keystore: { kind: 'openbao-kv', vault },
        keys: [{ name: '*', rotation: raw.keys[0].rotation }],
      }),
    );
    expect(config.keystores.get('default')).toMatchObject({
      vault: {
        address: 'https://vault.example:8200',
        auth: { method: 'kubernetes', role: 'dekd', mount: 'kubernetes' },
      },
    });
    expect(config.keys[0]).toMatchObject({ rotation: { keep: 5, messages: 2 ** 32 } });
  });

  it('has every key of the schema, each with its meaning and danger', () => {
    const lines = sample.split('\n').map((line) => line.trim());
    const text = lines
      .filter((line) => line.startsWith('# '))
      .map((line) => line.slice(2))
      .join(' ');
    for (const [name, { doc }] of leaves(schemaTree)) {
      expect(
        lines.some((line) => line.replace(/^#?(- )?/, '').startsWith(`${name}:`)),
        name,
      ).toBe(true);
      expect(text).toContain(doc.meaning);
      expect(text).toContain(doc.danger ?? '');
    }
  });

  it('keeps to 110 columns', () => {
    expect(sample.split('\n').filter((line) => line.length > 110)).toEqual([]);
  });

  it('is YAML in which no example is on', () => {
    const raw = parse(sample) as Record<string, unknown>;
    expect(Object.keys(raw)).not.toContain('roots');
    expect(Object.keys(raw)).not.toContain('policy');
  });
});

describe('docs/configuration.md', () => {
  it('says what each section is for, and of one that is like another only that', () => {
    const page = renderReference();
    expect(page).toContain('| **`coast`** |  |  | What loaded keys do');
    expect(page).toContain('| `keystores.NAME.*`<br>`DEKD_KEYSTORES` |  | as `keystore.*` |');
    expect(page).toContain('| `keystore.vault.*` |  | as `roots.NAME.vault.*` |');
    expect(page).toContain('| `keys[].rotation.*` |  | as `rotation.*` |');
    expect(page.match(/vault\.auth\.method`/g)).toHaveLength(1);
  });

  it('gives a list its variable, and none to what is inside of one', () => {
    const page = renderReference();
    expect(page).toContain('| **`routes[]`**<br>`DEKD_ROUTES` |');
    expect(page).toContain('| `hierarchy.levels`<br>`DEKD_HIERARCHY_LEVELS` |');
    expect(page).toContain('| `routes[].tenant` | any |');
    expect(page).not.toContain('DEKD_ROUTES_');
  });

  it('goes from roots by way of routes to keystores, and from what holds for all to what holds for some', () => {
    const order = [...schemaTree.keys()];
    expect(order.slice(order.indexOf('roots'))).toEqual([
      'roots',
      'defaultRoot',
      'routes',
      'keystore',
      'keystores',
      'custody',
      'hierarchy',
      'region',
      'coast',
      'revocation',
      'prewarm',
      'direct',
      'rotation',
      'recipients',
      'message',
      'keys',
      'legacy',
      'policy',
      'audit',
      'reload',
      'log',
    ]);
  });

  it('is what the schema makes', () => {
    expect(readFileSync(new URL('../../docs/configuration.md', import.meta.url), 'utf8')).toBe(renderReference());
  });
});
