import { renameSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { KeyRecord } from '../../src/keyring/record.ts';
import { SqliteKeystore } from '../../src/keystores/sqlite.ts';
import { storedKeys } from '../fault/support/stored-keys.ts';
import { KeystoreSpy } from '../support/spy-keystore.ts';
import { Sandbox } from './keyring-fixture.ts';

describe('a keystore', () => {
  let sandbox: Sandbox;

  beforeEach(async () => {
    sandbox = await Sandbox.make();
  });

  afterEach(() => sandbox.cleanUp());

  it('is given wrapped bytes only, over the whole life of keys: no key, no secret, no plaintext in any form', async () => {
    const spy = new KeystoreSpy();
    const path = sandbox.path('keystore.sqlite');
    const stateFolder = sandbox.path('state');
    const keystore = spy.watch(await SqliteKeystore.open({ path }));
    const world = await sandbox.world({
      keystore,
      stateFolder,
      placement: { levels: ['tenant', 'service'], rootOf: () => undefined },
    });
    const plaintext = 'a plaintext that nobody keeps';
    for (const partition of ['', 'acme', 'other']) {
      const token = await world.sealed('a', plaintext, partition);
      await world.keyring.rotate({ name: 'a', partition, purpose: 'seal' });
      await world.sealed('a', plaintext, partition);
      expect(await world.open(token)).toBe(plaintext);
      await world.keyring.create({ name: 'a', partition, purpose: 'mac' });
    }
    await world.keyring.disable('a', '', undefined);
    await world.keyring.enable('a', '', undefined);
    const records: KeyRecord[] = [];
    for await (const record of world.keyring.exportRecords()) {
      records.push(record);
    }
    await world.keyring.importRecords(records, { acceptRollback: false });
    await world.keyring.freeze({ name: 'a', partition: 'other' });
    await world.keyring.close();

    // Every key of the file, unwrapped from what is on disk by other code than the one under test.
    await keystore.close();
    renameSync(sandbox.path('root.key'), `${stateFolder}/root.key`);
    renameSync(path, `${stateFolder}/keystore.sqlite`);
    const keys = storedKeys(stateFolder);
    expect(keys.filter(({ level }) => level === 4).length).toBe(9);
    expect(keys.filter(({ bytes }) => spy.saw(bytes)).map(({ label }) => label)).toEqual([]);
    expect(spy.saw(Buffer.from(plaintext))).toBe(false);
    // It has seen what it should have: the wrapped bytes of every record.
    expect(records.every(({ wrapped }) => spy.saw(wrapped))).toBe(true);
  });
});
