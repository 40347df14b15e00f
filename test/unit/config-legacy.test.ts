import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { VariableKey } from '../../src/config/config.ts';
import { devConfig } from '../../src/config/dev.ts';
import type { Environment } from '../../src/config/environment.ts';
import { parseConfig } from '../../src/config/load.ts';
import { OWN_LEGACY_KID } from '../../src/config/schema/names.ts';
import { OWN_KID } from '../../src/envelope/legacy.ts';

const BASE = `
state: /var/lib/dekd
roots:
  main: { provider: local, keyFile: /etc/dekd/root.key, allowLocalRoot: true }
`;
const KEY = Buffer.alloc(32, 0xa7);
const OTHER = Buffer.alloc(32, 0xb8);
const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');

function run(yaml: string, env: Environment = {}) {
  return parseConfig(`${BASE}${yaml}`, { env }).config.legacy.keys;
}

function dev(env: Environment) {
  return devConfig({ socket: '/tmp/never/agent.sock', ephemeral: true, env }).config.legacy.keys;
}

function refusalOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    const { message } = error as Error;
    // Whatever is wrong with a key, its bytes are in no message.
    for (const bytes of [KEY, OTHER]) {
      for (const form of [base64(bytes), bytes.toString('hex'), base64(bytes).slice(0, 12)]) {
        expect(message).not.toContain(form);
      }
    }
    return message;
  }
  throw new Error('the configuration was accepted');
}

describe('legacy keys of a file', () => {
  it('have a kid and a key file each, and are none unless said', () => {
    expect(run('')).toEqual([]);
    expect(
      run('legacy: { keys: [{ kid: v1, keyFile: /etc/dekd/v1 }, { kid: "2024-b", keyFile: /etc/dekd/b }] }'),
    ).toEqual([
      { kid: 'v1', source: '/etc/dekd/v1' },
      { kid: '2024-b', source: '/etc/dekd/b' },
    ]);
  });

  it('are refused twice of one kid, naming it and its line', () => {
    const message = refusalOf(() =>
      run(
        'legacy:\n  keys:\n    - { kid: v1, keyFile: /a }\n    - { kid: v2, keyFile: /b }\n    - { kid: v1, keyFile: /c }\n',
      ),
    );
    expect(message).toMatch(/config\.yaml:9: legacy\.keys\[2\]\.kid: the kid "v1" is used twice/);
  });

  it('are refused without a kid, with the kid of what is stored since, and with a key in the place of the kid', () => {
    expect(refusalOf(() => run('legacy: { keys: [{ keyFile: /a }] }'))).toContain('legacy.keys[0].kid: is missing');
    expect(refusalOf(() => run('legacy: { keys: [{ kid: dekd, keyFile: /a }] }'))).toContain('other than dekd');
    expect(refusalOf(() => run(`legacy: { keys: [{ kid: "${base64(KEY)}", keyFile: /a }] }`))).toContain(
      'found a text of 44 characters',
    );
    expect(refusalOf(() => run(`legacy: { keys: [{ kid: v1, keyFile: "${base64(KEY)}" }] }`))).toContain(
      'expected an absolute path',
    );
  });

  it.each(['CONNECTOR_CRED_KEY', 'CONNECTOR_CRED_KEYS'])('are taken from no variable: %s is refused', (variable) => {
    const value = variable.endsWith('S') ? JSON.stringify({ v1: base64(KEY) }) : base64(KEY);
    expect(refusalOf(() => run('', { [variable]: value }))).toMatch(
      new RegExp(`${variable}: legacy.keys: key material in a variable is refused outside of dekd dev`),
    );
    expect(run('', { [variable]: '' })).toEqual([]);
  });
});

describe('legacy keys of `dekd dev`', () => {
  it('come from CONNECTOR_CRED_KEY, which is called v1', () => {
    const [key, ...rest] = dev({ CONNECTOR_CRED_KEY: base64(KEY) });
    expect(rest).toEqual([]);
    expect(key!.kid).toBe('v1');
    expect(Buffer.from((key!.source as VariableKey).copy())).toEqual(KEY);
    expect(dev({ CONNECTOR_CRED_KEY: base64(KEY), CONNECTOR_CRED_ACTIVE_KID: 'v7' })[0]!.kid).toBe('v7');
    expect(dev({})).toEqual([]);
  });

  it('come from CONNECTOR_CRED_KEYS, of which one is active', () => {
    const many = JSON.stringify({ v1: base64(KEY), v2: base64(OTHER) });
    const keys = dev({ CONNECTOR_CRED_KEYS: many, CONNECTOR_CRED_ACTIVE_KID: 'v2' });
    expect(keys.map(({ kid }) => kid)).toEqual(['v1', 'v2']);
    expect(Buffer.from((keys[1]!.source as VariableKey).copy())).toEqual(OTHER);
    expect(
      dev({ CONNECTOR_CRED_KEYS: JSON.stringify({ v2: base64(OTHER) }), CONNECTOR_CRED_KEY: base64(KEY) }),
    ).toHaveLength(2);
  });

  it.each<[string, Environment, RegExp]>([
    [
      'an active kid that there is no key of',
      { CONNECTOR_CRED_KEYS: JSON.stringify({ v1: base64(KEY) }), CONNECTOR_CRED_ACTIVE_KID: 'v2' },
      /CONNECTOR_CRED_ACTIVE_KID: .*no key of kid "v2"; there are "v1"/,
    ],
    ['an active kid without any key', { CONNECTOR_CRED_ACTIVE_KID: 'v2' }, /no key of kid "v2"; there are none/],
    ['a short key', { CONNECTOR_CRED_KEY: base64(KEY.subarray(1)) }, /the key of kid "v1" has 31 bytes, not 32/],
    [
      'a long key among others',
      { CONNECTOR_CRED_KEYS: JSON.stringify({ v1: base64(KEY), v2: base64(Buffer.alloc(33)) }) },
      /the key of kid "v2" has 33 bytes, not 32/,
    ],
    ['a key in hex', { CONNECTOR_CRED_KEY: KEY.toString('hex') }, /the key of kid "v1" has 48 bytes, not 32/],
    [
      'a key in base64url',
      { CONNECTOR_CRED_KEY: Buffer.alloc(32, 0xfb).toString('base64url') },
      /the key of kid "v1" is not canonical base64/,
    ],
    ['a key with a line feed', { CONNECTOR_CRED_KEY: `${base64(KEY)}\n` }, /not canonical base64/],
    ['a key without padding', { CONNECTOR_CRED_KEY: base64(KEY).slice(0, 43) }, /not canonical base64/],
    [
      'a kid twice in the text',
      { CONNECTOR_CRED_KEYS: `{"v1":"${base64(KEY)}","v1":"${base64(OTHER)}"}` },
      /the kid "v1" is used twice/,
    ],
    [
      'a kid twice, once as an escape',
      { CONNECTOR_CRED_KEYS: `{"v1":"${base64(KEY)}","\\u00761":"${base64(OTHER)}"}` },
      /the kid "v1" is used twice/,
    ],
    [
      'a kid in both variables',
      { CONNECTOR_CRED_KEYS: JSON.stringify({ v1: base64(KEY) }), CONNECTOR_CRED_KEY: base64(OTHER) },
      /the kid "v1" is used twice/,
    ],
    [
      'kid and key the wrong way round',
      { CONNECTOR_CRED_KEYS: JSON.stringify({ [base64(KEY)]: 'v1' }) },
      /expected a kid of 1 to 64 characters/,
    ],
    ['a list', { CONNECTOR_CRED_KEYS: JSON.stringify([base64(KEY)]) }, /expected a JSON object of kids to base64 keys/],
    ['the bare key', { CONNECTOR_CRED_KEYS: base64(KEY) }, /expected a JSON object of kids to base64 keys/],
    [
      'keys that are objects',
      { CONNECTOR_CRED_KEYS: JSON.stringify({ v1: { key: base64(KEY) } }) },
      /expected a JSON object/,
    ],
    ['no keys', { CONNECTOR_CRED_KEYS: '{}' }, /expected a JSON object/],
    [
      'the kid of what is stored since',
      { CONNECTOR_CRED_KEYS: JSON.stringify({ dekd: base64(KEY) }) },
      /other than dekd/,
    ],
  ])('are refused with %s', (_, env, expected) => {
    expect(refusalOf(() => dev(env))).toMatch(expected);
  });

  it('show nothing but the name of their variable', () => {
    const [key] = dev({ CONNECTOR_CRED_KEY: base64(KEY) });
    for (const shown of [JSON.stringify(key), inspect(key, { depth: 9, showHidden: true }), String(key!.source)]) {
      expect(shown).not.toContain(base64(KEY));
      expect(shown).not.toMatch(/a7 a7|167, ?167/);
    }
    expect(JSON.parse(JSON.stringify(key))).toEqual({ kid: 'v1', source: { variable: 'CONNECTOR_CRED_KEY' } });
    expect(new VariableKey('X', KEY).copy()).not.toBe(KEY);
  });
});

it('keeps the kid under which tokens are stored from every legacy key', () => {
  expect(OWN_LEGACY_KID).toBe(OWN_KID);
});
