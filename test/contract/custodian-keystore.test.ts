/** A keystore behind a custodian is a keystore like any other: here the SQLite one, whose rows the test can look at. */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadBinding } from '../../src/addon/binding.ts';
import type { ServiceKeystoreConfig } from '../../src/config/config.ts';
import { NodeEngine } from '../../src/crypto/node.ts';
import { CustodianKeystore } from '../../src/custody/custodian-keystore.ts';
import { Succession } from '../../src/custody/succession.ts';
import { keystoreContract } from './keystore.contract.ts';

// Without the addon a custodian cannot keep others out of its memory, and does not run.
if (loadBinding().binding !== undefined) {
  keystoreContract('sqlite in a custodian', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'dekd-custodian-'));
    const path = join(folder, 'keys.db');
    const engine = new NodeEngine();
    const opened: Succession[] = [];
    // In configuration it stays in the agent; a custodian opens whatever kind it is told.
    const config = { kind: 'sqlite', path, acceptLoss: false } as unknown as ServiceKeystoreConfig;
    const open = () => {
      const targets = { role: 'keystore', keystores: { default: config } } as const;
      const custodians = new Succession({ engine, targets, notice: () => undefined });
      opened.push(custodians);
      return CustodianKeystore.open('default', custodians);
    };
    return {
      keystore: await open(),
      reopen: open,
      dump: async () => {
        const names = await readdir(folder);
        return Buffer.concat(await Promise.all(names.map((name) => readFile(join(folder, name)))));
      },
      cleanUp: async () => {
        await Promise.all(opened.map((custodians) => custodians.close()));
        engine.close();
        await rm(folder, { recursive: true, force: true });
      },
    };
  });
}
