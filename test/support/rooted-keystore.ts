import { closeSync, openSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { TOKEN_OVERHEAD } from '../../src/crypto/engine.ts';
import { NodeEngine } from '../../src/crypto/node.ts';
import { InlineCustody } from '../../src/custody/inline.ts';
import { createKeyring } from '../../src/keyring/open-keyring.ts';
import { MemoryKeystore } from '../../src/keystores/memory.ts';
import { SqliteKeystore } from '../../src/keystores/sqlite.ts';
import { valuesOf } from '../../src/keystores/sqlite-rows.ts';
import { SQL } from '../../src/keystores/sqlite-schema.ts';

export interface RootedKeystore {
  /** A token of key `k` for each tenant, by partition; its plaintext is the name of the partition. */
  readonly tokens: ReadonlyMap<string, Uint8Array>;
}

/**
 * Makes a root key at `keyFile`, and at `path` a keystore with one KEK under root `main` for each of `tenants` tenants, and a
 * data key below each. Made in memory and written in one transaction: thousands of durable writes are another test's matter.
 */
export async function makeRootedKeystore(path: string, keyFile: string, tenants: number): Promise<RootedKeystore> {
  const engine = new NodeEngine();
  const fd = openSync(keyFile, 'wx', 0o600);
  engine.writeRootKey(fd);
  closeSync(fd);
  const keystore = new MemoryKeystore();
  const custody = await InlineCustody.open({
    engine,
    roots: [
      {
        name: 'main',
        provider: 'local',
        formerly: [],
        keyFile,
        keyDescriptor: undefined,
        allowLocalRoot: true,
        createKeyFile: false,
        ephemeral: false,
      },
    ],
    keystore,
    warn: () => undefined,
  });
  const keyring = await createKeyring({
    engine,
    custody,
    service: 'default',
    node: '',
    definitions: [],
    placement: { levels: ['tenant'], rootOf: () => undefined },
    log: () => undefined,
  });
  const tokens = new Map<string, Uint8Array>();
  for (let i = 0; i < tenants; i++) {
    const partition = `tenant-${i}`;
    const key = await keyring.prepareSealing('k', partition, '', () => undefined);
    const text = new TextEncoder().encode(partition);
    const token = new Uint8Array(text.length + TOKEN_OVERHEAD);
    engine.seal(key.handle(), text, 0, 0, 0, text.length, token, 0);
    tokens.set(partition, token);
  }
  await copy(keystore, path);
  await keyring.close();
  await custody.close();
  engine.close();
  return { tokens };
}

async function copy(keystore: MemoryKeystore, path: string): Promise<void> {
  await (await SqliteKeystore.open({ path })).close();
  const db = new DatabaseSync(path);
  const insert = db.prepare(SQL.insert);
  db.exec('BEGIN');
  let cursor: string | undefined;
  do {
    const page = await keystore.list({}, cursor, 1_000);
    for (const record of page.records) {
      insert.run(valuesOf(record));
    }
    cursor = page.cursor;
  } while (cursor !== undefined);
  db.exec('COMMIT');
  db.close();
}
