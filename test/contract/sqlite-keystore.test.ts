import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SqliteKeystore } from '../../src/keystores/sqlite.ts';
import { keystoreContract } from './keystore.contract.ts';

keystoreContract('sqlite', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'dekd-sqlite-'));
  const path = join(folder, 'keys.db');
  return {
    keystore: await SqliteKeystore.open({ path }),
    reopen: () => SqliteKeystore.open({ path }),
    dump: async () => {
      const names = await readdir(folder);
      return Buffer.concat(await Promise.all(names.map((name) => readFile(join(folder, name)))));
    },
    cleanUp: () => rm(folder, { recursive: true, force: true }),
  };
});
