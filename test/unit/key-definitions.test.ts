import { describe, expect, it } from 'vitest';
import { keyringDefinitions } from '../../src/config/key-definitions.ts';
import { parseConfig } from '../../src/config/load.ts';

describe('keyringDefinitions', () => {
  it('carry every limit of rotation, with what an entry leaves out taken from the common ones', () => {
    const { config } = parseConfig(
      `
keystore: { kind: memory }
roots: { main: { provider: local, keyFile: /k, allowLocalRoot: true } }
rotation: { age: 30d, messages: 1000, bytes: 1GiB, schedule: "0 3 1 * *", keep: 5, grace: 14d }
keys:
  - { name: "cards*", rotation: { keep: never, schedule: "0 0 * * 0" } }
`,
      { env: {} },
    );
    const DAY = 86_400_000;
    const common = { maxAgeMs: 30 * DAY, maxMessages: 1000, maxBytes: 2 ** 30, keep: 5, graceMs: 14 * DAY };
    expect(keyringDefinitions(config).map(({ pattern, rotation }) => [pattern, rotation])).toEqual([
      ['cards*', { ...common, schedule: '0 0 * * 0', keep: Number.POSITIVE_INFINITY }],
      ['*', { ...common, schedule: '0 3 1 * *' }],
    ]);
  });
});
