import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NodeEngine } from '../../src/crypto/node.ts';
import { InlineCustody } from '../../src/custody/inline.ts';
import { MemoryKeystore } from '../../src/keystores/memory.ts';
import { localRoot, Sandbox } from './keyring-fixture.ts';

const EMPTY = {};

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
      roots: [localRoot('local', sandbox.path('root.key'), formerly)],
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
    const roots = [localRoot('a', sandbox.path('root.key')), localRoot('b', sandbox.path('missing.key'))];
    const keystore = new MemoryKeystore();
    const opening = InlineCustody.open({ engine, roots, keystore, warn: () => undefined });
    await expect(opening).rejects.toThrow(/missing.key does not exist/);
    expect(engine.stats().used).toBe(0);
  });

  it('refuses a default root that is not configured, and a root that is configured twice', async () => {
    const root = localRoot('a', sandbox.path('root.key'));
    const rest = { engine, keystore: new MemoryKeystore(), warn: () => undefined };
    await expect(InlineCustody.open({ ...rest, roots: [root], defaultRoot: 'b' })).rejects.toThrow(
      /no root "b"; the roots are a/,
    );
    await expect(InlineCustody.open({ ...rest, roots: [root, root] })).rejects.toThrow(/configured twice/);
  });
});
