import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NodeEngine } from '../../src/crypto/node.ts';
import { InlineCustody } from '../../src/custody/inline.ts';
import { MemoryKeystore } from '../../src/keystores/memory.ts';
import { Sandbox } from './keyring-fixture.ts';

const EMPTY = new Uint8Array(0);

describe('InlineCustody', () => {
  let sandbox: Sandbox;
  let engine: NodeEngine;

  beforeEach(async () => {
    sandbox = await Sandbox.make();
    engine = new NodeEngine();
  });

  afterEach(async () => {
    engine.close();
    await sandbox.cleanUp();
  });

  function open(formerly: readonly string[] = [], warn: (warning: string) => void = () => undefined) {
    return InlineCustody.open({
      engine,
      roots: [{ name: 'local', kind: 'local', keyFile: sandbox.path('root.key'), allowLocalRoot: true, formerly }],
      keystore: new MemoryKeystore(),
      warn,
    });
  }

  it('passes on the warnings of its roots', async () => {
    const warnings: string[] = [];
    await (await open([], (warning) => warnings.push(warning))).close();
    expect(warnings).toEqual([expect.stringContaining('root local: ')]);
  });

  it('refuses a reference to a key that configuration does not name, before the provider sees it', async () => {
    const { defaultRoot } = await open();
    const secret = engine.generateKey({ algorithm: 'hkdf-sha-256', purpose: 'wrap' });
    const { wrapped, reference } = await defaultRoot.wrap(secret, EMPTY);
    for (const wrong of [
      { ...reference, resolvedId: 'local:00' },
      { ...reference, root: 'other' },
    ]) {
      await expect(defaultRoot.unwrap(wrapped, wrong, EMPTY)).rejects.toMatchObject({ code: 'KMS_DENIED' });
    }
  });

  it('takes a reference that is listed under formerly to the provider', async () => {
    const { defaultRoot } = await open(['local:00']);
    const secret = engine.generateKey({ algorithm: 'hkdf-sha-256', purpose: 'wrap' });
    const { wrapped, reference } = await defaultRoot.wrap(secret, EMPTY);
    const again = await defaultRoot.unwrap(wrapped, { ...reference, resolvedId: 'local:00' }, EMPTY);
    expect(engine.kid(again)).toEqual(engine.kid(secret));
  });

  it('keeps no root key when one of its roots does not open', async () => {
    const roots = [
      { name: 'a', kind: 'local' as const, keyFile: sandbox.path('root.key'), allowLocalRoot: true },
      { name: 'b', kind: 'local' as const, keyFile: sandbox.path('missing.key'), allowLocalRoot: true },
    ];
    const keystore = new MemoryKeystore();
    const opening = InlineCustody.open({ engine, roots, keystore, warn: () => undefined });
    await expect(opening).rejects.toThrow(/missing.key does not exist/);
    expect(engine.stats().used).toBe(0);
  });

  it('refuses a default root that is not configured, and a root that is configured twice', async () => {
    const root = { name: 'a', kind: 'local' as const, keyFile: sandbox.path('root.key'), allowLocalRoot: true };
    const rest = { engine, keystore: new MemoryKeystore(), warn: () => undefined };
    await expect(InlineCustody.open({ ...rest, roots: [root], defaultRoot: 'b' })).rejects.toThrow(/"b" is not/);
    await expect(InlineCustody.open({ ...rest, roots: [root, root] })).rejects.toThrow(/configured twice/);
  });
});
