import { describe, expect, it } from 'vitest';
import { wayOf } from '../../src/agent/key-way.ts';
import { parseConfig } from '../../src/config/load.ts';

const ROOTS = `
state: /s
service: shop
roots:
  eu: { provider: local, keyFile: /a, allowLocalRoot: true }
  us: { provider: aws-kms, aws: { key: alias/us } }
defaultRoot: eu
keystores: { far: { kind: postgres } }
`;

function way(yaml: string, key: string, partition = '') {
  return wayOf(parseConfig(ROOTS + yaml, { env: {} }).config, key, partition);
}

/** Records from the root down, and what each is under. */
function lineage(yaml: string, key: string, partition = ''): string[] {
  const { root, steps } = way(yaml, key, partition);
  return [root.name, ...steps.map(({ level, name, partition, under }) => `L${level} ${name}@${partition} < ${under}`)];
}

describe('the way of a key', () => {
  it('goes from the root through tenant and service to the data key', () => {
    expect(lineage('', 'cards', 'acme')).toEqual([
      'eu',
      'L2 .l2/acme@acme < eu',
      'L3 .l3/shop@acme < .l2/acme',
      'L4 cards@acme < .l3/shop',
    ]);
  });

  it('has no tenant for what has no partition, and only the levels that the hierarchy has', () => {
    expect(lineage('', 'cards')).toEqual(['eu', 'L3 .l3/shop@ < eu', 'L4 cards@ < .l3/shop']);
    expect(lineage('hierarchy: { levels: [service] }', 'cards', 'acme')).toEqual([
      'eu',
      'L3 .l3/shop@ < eu',
      'L4 cards@acme < .l3/shop',
    ]);
    expect(lineage('hierarchy: { levels: [tenant] }', 'cards', 'acme')).toEqual([
      'eu',
      'L2 .l2/acme@acme < eu',
      'L4 cards@acme < .l2/acme',
    ]);
  });

  it('takes the first entry of keys that matches, and what that leaves open from the common settings', () => {
    const yaml = `
rotation: { age: 30d, messages: 5 }
keys:
  - { name: "card*", keyContext: { p: q }, requiredContext: [field], rotation: { age: 1d } }
  - { name: "cards", direct: true }
`;
    expect(way(yaml, 'cards')).toMatchObject({
      entry: 0,
      definition: {
        keyContext: { p: 'q' },
        requiredContext: ['field'],
        rotation: { age: 86_400_000, messages: 5 },
        direct: false,
      },
    });
    expect(way(yaml, 'other')).toMatchObject({ entry: undefined, definition: { rotation: { age: 30 * 86_400_000 } } });
  });

  it('says for whom messages of the key are sealed, and were', () => {
    const yaml = `
recipients: { escrow: { root: us }, partner: { rawAes: { namespace: n, name: k, keyFile: /k } } }
message: { recipients: [keystore, escrow] }
keys:
  - { name: files, recipients: [partner], formerRecipients: [escrow] }
  - { name: others, keyContext: { p: q } }
`;
    expect(way(yaml, 'files')).toMatchObject({
      definition: { recipients: ['partner'], formerRecipients: ['escrow'] },
    });
    for (const key of ['others', 'anything']) {
      expect(way(yaml, key)).toMatchObject({
        definition: { recipients: ['keystore', 'escrow'], formerRecipients: [] },
      });
    }
    expect(way('', 'files')).toMatchObject({ definition: { recipients: ['keystore'] } });
  });

  it('tells for each level which route chose the keystore, what else is read, and which chose the root', () => {
    const yaml = `
routes:
  - { key: cards, root: us, keystore: far }
  - { level: [2, 3], tenant: acme, formerKeystores: [far] }
  - {}
`;
    const { root, steps } = way(yaml, 'cards', 'acme');
    expect(root).toEqual({ name: 'us', provider: 'aws-kms', route: { index: 0, match: { key: 'cards' } } });
    expect(
      steps.map(({ level, keystore, formerKeystores, route }) => [level, keystore, formerKeystores, route?.index]),
    ).toEqual([
      [2, 'default', ['far'], 1],
      [3, 'default', ['far'], 1],
      [4, 'far', [], 0],
    ]);
    expect(steps[1]!.route?.match).toEqual({ level: [2, 3], tenant: 'acme' });
    expect(way(yaml, 'other').root).toEqual({ name: 'eu', provider: 'local', route: { index: 2, match: {} } });
    expect(way('', 'cards').root).toEqual({ name: 'eu', provider: 'local', route: undefined });
  });

  it('of a direct key ends at the root', () => {
    expect(way('direct: true\nroutes: [{ tenant: us-*, root: us }, {}]', 'cards', 'us-1')).toMatchObject({
      root: { name: 'us', route: { index: 0 } },
      steps: [],
    });
  });

  it('is an error that names level, key and partition where no route matches', () => {
    expect(() => way('routes: [{ tenant: eu-* }]', 'cards', 'us-1')).toThrow(
      /no route is for level 2 of key 'cards' of partition 'us-1'/,
    );
    expect(() => way('routes: [{ level: [2, 3] }]', 'cards', 'acme')).toThrow(
      "no route is for level 4, cards of partition 'acme'",
    );
    expect(() => way('routes: [{ level: [2, 4] }]', 'cards', 'acme')).toThrow("level 3, .l3/shop of partition 'acme'");
  });

  it('is asked for keys and partitions that can be', () => {
    expect(() => way('', '.l3/shop')).toThrow('key name must be');
    expect(() => way('', 'cards', 'a\nb')).toThrow('partition must be');
  });
});
