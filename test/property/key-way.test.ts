import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { wayOf } from '../../src/agent/key-way.ts';
import { keystoreRoutes, placementOf } from '../../src/agent/placement.ts';
import type { Config } from '../../src/config/config.ts';
import { keyringDefinitions } from '../../src/config/key-definitions.ts';
import { parseConfig } from '../../src/config/load.ts';
import { directReference } from '../../src/envelope/direct-token.ts';
import type { KeyRecord } from '../../src/keyring/record.ts';
import { MemoryKeystore } from '../../src/keystores/memory.ts';
import { RoutedKeystore } from '../../src/keystores/routed.ts';
import { FakeProvider } from '../support/fake-provider.ts';
import { Sandbox } from '../unit/keyring-fixture.ts';

const RUNS = 150;
const ROOTS = ['eu', 'us'];
const KEYSTORES = ['default', 'far'];
const ROOT_SETTINGS = { provider: 'aws-kms', aws: { key: 'alias/dekd' } };

const names = fc.constantFrom('cards', 'users');
const partitions = fc.constantFrom('', 'acme', 'beta');
const pattern = fc.constantFrom('*', 'a*', 'acme', 'c*', 'users', 'beta');
const configurations = fc.record({
  hierarchy: fc.record({ levels: fc.constantFrom(['tenant', 'service'], ['service'], ['tenant']) }),
  direct: fc.oneof({ weight: 3, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
  routes: fc
    .array(
      fc.record(
        {
          level: fc.subarray([2, 3, 4], { minLength: 1 }),
          tenant: pattern,
          key: pattern,
          service: fc.constantFrom('shop', '*', 's*'),
          root: fc.constantFrom(...ROOTS),
          keystore: fc.constantFrom(...KEYSTORES),
        },
        { requiredKeys: [] },
      ),
      { maxLength: 4 },
    )
    // What matches everything may only be the last.
    .map((routes) => routes.filter(choosesSome)),
});

function choosesSome({ root: _root, keystore: _keystore, ...match }: object & Record<string, unknown>): boolean {
  return Object.values(match).some((wanted) => wanted !== '*');
}

describe('dekd config explain', () => {
  let sandbox: Sandbox;

  beforeEach(async () => {
    sandbox = await Sandbox.make();
  });

  afterEach(() => sandbox.cleanUp());

  it('tells of every key what an agent with that configuration then does', { timeout: 60_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(configurations, names, partitions, async (said, key, partition) => {
        const { config } = parseConfig(
          JSON.stringify({
            ...said,
            service: 'shop',
            roots: Object.fromEntries(ROOTS.map((name) => [name, ROOT_SETTINGS])),
            defaultRoot: 'eu',
            keystore: { kind: 'memory' },
            keystores: { far: { kind: 'memory' } },
          }),
          { env: {} },
        );
        expect(await done(config, key, partition)).toEqual(told(config, key, partition));
      }),
      { numRuns: RUNS },
    );
  });

  /** What an agent that uses the key for the first time makes, or which provider it has encrypt. */
  async function done(config: Config, key: string, partition: string): Promise<string[]> {
    const keystores = new Map(KEYSTORES.map((name) => [name, new MemoryKeystore()]));
    const world = await sandbox.world({
      keystore: new RoutedKeystore({ keystores, route: keystoreRoutes(config) }),
      providers: ROOTS.map((name) => new FakeProvider(name)),
      service: config.service,
      placement: placementOf(config),
      definitions: keyringDefinitions(config),
    });
    try {
      const direct = world.keyring.directSealing(key, partition);
      if (direct !== undefined) {
        const root = ROOTS.find(
          (name) => Buffer.compare(directReference(name, key, partition), direct.reference) === 0,
        );
        return [`direct under ${root}`];
      }
      await world.sealed(key, 'x', partition);
      return await lineage(keystores);
    } catch (error) {
      expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', message: expect.stringContaining('no route ') });
      return ['no route'];
    } finally {
      await world.close();
    }
  }

  /** Every row there is, outermost first. */
  async function lineage(keystores: ReadonlyMap<string, MemoryKeystore>): Promise<string[]> {
    const rows: { readonly record: KeyRecord; readonly keystore: string }[] = [];
    for (const [keystore, kept] of keystores) {
      rows.push(...(await kept.list({}, undefined, 100)).records.map((record) => ({ record, keystore })));
    }
    const nameOf = (kid: Uint8Array): string =>
      rows.find(({ record }) => Buffer.compare(record.kid, kid) === 0)!.record.name;
    return rows
      .sort((a, b) => a.record.level - b.record.level)
      .map(({ record: { level, name, partition: whose, parent }, keystore }) => {
        const under = parent.kind === 'root' ? parent.reference.root : nameOf(parent.kid);
        return `L${level} ${name}@${whose} under ${under} in ${keystore}`;
      });
  }

  function told(config: Config, key: string, partition: string): string[] {
    try {
      const { root, steps, definition } = wayOf(config, key, partition);
      return definition.direct
        ? [`direct under ${root.name}`]
        : steps.map(
            ({ level, name, partition: whose, under, keystore }) =>
              `L${level} ${name}@${whose} under ${under} in ${keystore}`,
          );
    } catch (error) {
      expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', message: expect.stringContaining('no route ') });
      return ['no route'];
    }
  }
});
