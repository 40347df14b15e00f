import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Keystore } from '../../src/keystores/keystore.ts';
import { type Placement, RoutedKeystore, type RouteKey } from '../../src/keystores/routed.ts';
import { SqliteKeystore } from '../../src/keystores/sqlite.ts';
import { keystoreContract } from './keystore.contract.ts';

const ROUTES: Readonly<Record<string, (key: RouteKey) => Placement>> = {
  'by level': ({ level }) => ({ keystore: level === 4 ? 'data' : 'keks', former: [] }),
  'while all moves': () => ({ keystore: 'data', former: ['keks'] }),
};

for (const [name, route] of Object.entries(ROUTES)) {
  keystoreContract(`routed ${name}`, async () => {
    const folder = await mkdtemp(join(tmpdir(), 'dekd-routed-'));
    const open = async () => {
      const keystores = new Map<string, Keystore>();
      for (const part of ['keks', 'data']) {
        keystores.set(part, await SqliteKeystore.open({ path: join(folder, part) }));
      }
      return new RoutedKeystore({ keystores, route });
    };
    return {
      keystore: await open(),
      reopen: open,
      dump: async () => {
        const files = await readdir(folder);
        return Buffer.concat(await Promise.all(files.map((file) => readFile(join(folder, file)))));
      },
      cleanUp: () => rm(folder, { recursive: true, force: true }),
    };
  });
}
