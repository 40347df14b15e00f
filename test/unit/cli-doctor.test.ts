import { describe, expect, it } from 'vitest';
import { backEndFindings } from '../../src/cli/doctor/back-ends.ts';
import type { Finding } from '../../src/cli/doctor/finding.ts';
import { legacyFindings } from '../../src/cli/doctor/legacy.ts';
import { recipientFindings } from '../../src/cli/doctor/recipients.ts';
import { parseConfig } from '../../src/config/load.ts';

const LOCAL = 'roots: { main: { provider: local, keyFile: /k, allowLocalRoot: true } }\n';
const AWS = 'roots: { main: { provider: aws-kms, aws: { key: alias/dekd } } }\n';

/** By the name of what was looked at. */
function findings(yaml: string): ReadonlyMap<string, Finding> {
  const { config } = parseConfig(yaml, { env: {} });
  return new Map(backEndFindings(config).map((finding) => [finding.check, finding]));
}

describe('doctor on a configuration', () => {
  it('says for each keystore by name whether it outlives the agent, with the key that would change it', () => {
    const found = findings(`${LOCAL}keystore: { kind: memory }
keystores:
  db: { kind: postgres }
  bao: { kind: openbao-kv, vault: { address: "https://bao.example" } }
  scratch: { kind: memory, acceptLoss: true }
  shared: { kind: sqlite, path: /dev/shm/keystore.sqlite }
`);
    expect(found.get('keystore')).toMatchObject({ level: 'fail', remedy: expect.stringContaining('keystore.kind') });
    expect(found.get('keystore db')).toMatchObject({ level: 'ok', found: expect.stringContaining('backed up') });
    expect(found.get('keystore bao')?.found).toContain('openbao-kv at https://bao.example');
    expect(found.get('keystore scratch')).toMatchObject({
      level: 'warn',
      remedy: expect.stringContaining('keystores.scratch.kind'),
    });
    expect(found.get('keystore shared')).toMatchObject({
      level: 'fail',
      found: expect.stringContaining('gone after a restart'),
      remedy: 'move keystores.shared.path to a disk',
    });
  });

  it('says by which rules envelopes from before are opened, and warns of a key that nobody may use', () => {
    const { config } = parseConfig(
      `
state: /s
roots: { main: { provider: local, keyFile: /k, allowLocalRoot: true } }
legacy: { keys: [{ kid: v1, keyFile: /v1 }, { kid: v2, keyFile: /v2 }, { kid: old, keyFile: /old }] }
policy:
  rules:
    - { name: all, callers: { gid: 1 }, keys: '*', operations: migrateLegacy, legacyKids: 'v*' }
    - { name: one, callers: { gid: 2 }, keys: '*', operations: [decrypt, openLegacy], legacyKids: [v1] }
    - { name: none, callers: { gid: 3 }, keys: '*', operations: [decrypt] }`,
    );
    expect(legacyFindings(config).map(({ check, level, found }) => [check, level, found])).toEqual([
      ['legacy kid v1', 'ok', 'its envelopes are opened or migrated by all, one'],
      ['legacy kid v2', 'ok', 'its envelopes are opened or migrated by all'],
      ['legacy kid old', 'warn', 'no rule lets anybody open or migrate its envelopes'],
    ]);
  });

  it('says who else can open messages, of which keys, and warns of a recipient that no key names', () => {
    const { config } = parseConfig(
      `${AWS}state: /s
recipients:
  escrow: { root: main }
  partner: { rawAes: { namespace: acme, name: k1, keyFile: /k } }
  nobody: { root: main }
message: { recipients: [keystore, escrow] }
keys: [{ name: 'exchange-*', recipients: [partner] }, { name: own, formerRecipients: [partner] }]`,
      { env: {} },
    );
    expect(recipientFindings(config).map(({ check, level, found }) => [check, level, found])).toEqual([
      [
        'recipient escrow',
        'ok',
        'whoever may use the key of root main opens messages of own, every other key, and can make some',
      ],
      ['recipient partner', 'ok', 'whoever has /k opens messages of exchange-*, own, and can make some'],
      ['recipient nobody', 'warn', 'no key names it'],
    ]);
  });

  it('says where foreign libraries run, and warns of the agent', () => {
    const keystore = 'keystore: { kind: postgres }\n';
    expect(findings(`${LOCAL}state: /s`).get('custody')).toMatchObject({
      level: 'ok',
      found: expect.stringContaining('opens no connection'),
    });
    expect(findings(AWS + keystore).get('custody')).toMatchObject({
      level: 'ok',
      found: 'aws-kms, postgres in processes of their own: the agent opens no connection',
    });
    const inline = `${AWS}${keystore}custody: inline\nmemory: { allowInsecureMemory: true }`;
    expect(findings(inline).get('custody')).toMatchObject({
      level: 'warn',
      remedy: expect.stringContaining('process'),
    });
  });

  it('warns of a port for probes that others reach, and says what they learn', () => {
    const probes = (admin: string) => findings(`${LOCAL}state: /s\nadmin: ${admin}`).get('probes');
    expect(probes('{}')).toBeUndefined();
    expect(probes('{ host: 0.0.0.0 }')).toBeUndefined();
    expect(probes('{ port: 9465 }')).toMatchObject({ level: 'ok' });
    expect(probes('{ port: 9465, host: "::1" }')).toMatchObject({ level: 'ok' });
    for (const host of ['0.0.0.0', '::', '10.1.2.3']) {
      expect(probes(`{ port: 9465, host: "${host}" }`)).toMatchObject({
        level: 'warn',
        found: expect.stringMatching(/\/readyz .* whether the agent can serve .* nothing of keys/),
        remedy: expect.stringContaining('network policy'),
      });
    }
  });
});
