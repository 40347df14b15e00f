import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { followPage } from '../support/followed-page.ts';

followPage(
  'docs/incidents.md',
  {
    'the KMS stops answering': ({ kms }) => kms.down(),
    'the KMS answers again, for some seconds': async ({ kms }) => {
      await kms.up();
      await setTimeout(4_000);
    },
    'the keystore and the state folder are lost': async ({ folder, kill, start }) => {
      await kill();
      for (const name of ['keys.sqlite', 'keys.sqlite-wal', 'keys.sqlite-shm', 'state']) {
        rmSync(join(folder, name), { recursive: true, force: true });
      }
      await start();
    },
  },
  'custody: process',
);
