import { execFileSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { writeExport } from '../../src/keystores/export-document.ts';
import { openKeystore } from '../../src/keystores/open-keystore.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';
import { settingsFor } from '../support/vault-server/fixture.ts';

describe('openKeystore', () => {
  it('opens the kinds that need no service', async () => {
    const path = join(temporaryFolder(), 'keys.db');
    for (const kind of ['memory', 'sqlite'] as const) {
      const keystore = await openKeystore({ kind, path, acceptLoss: false });
      expect(keystore.kind).toBe(kind);
      await keystore.close();
    }
    await expect(openKeystore({ kind: 'bundle', path: join(path, 'no'), acceptLoss: false })).rejects.toMatchObject({
      code: 'KEYSTORE_UNAVAILABLE',
    });
  });

  it('loads the library of a service only for the kind that needs it', () => {
    const script = `
      import { registerHooks } from 'node:module';
      const loaded = new Set();
      registerHooks({
        load: (url, context, next) => {
          const [, name] = /node_modules\\/((?:@[^/]+\\/)?[^/]+)/.exec(url) ?? [];
          loaded.add(name);
          return next(url, context);
        },
      });
      const { openKeystore } = await import(process.argv[1]);
      for (const config of JSON.parse(process.argv[2])) {
        await openKeystore(config).then((keystore) => keystore.close(), () => undefined);
      }
      console.log([...loaded].filter((name) => name !== undefined).join());
    `;
    const module = new URL('../../src/keystores/open-keystore.ts', import.meta.url).href;
    const cwd = temporaryFolder();
    const loadedFor = (...configs: unknown[]) =>
      execFileSync(process.execPath, ['--input-type=module', '-e', script, module, JSON.stringify(configs)], {
        cwd,
        encoding: 'utf8',
        env: {},
      }).trim();
    expect(loadedFor({ kind: 'memory' }, { kind: 'sqlite', path: './keys.db' }, { kind: 'bundle', path: './no' })).toBe(
      '',
    );
    const kv = { mount: 'secret', prefix: 'dekd' };
    expect(loadedFor({ kind: 'openbao-kv', vault: settingsFor('http://127.0.0.1:9'), kv })).toContain('node-vault');
  });

  it('reads an export as a bundle', async () => {
    const path = join(temporaryFolder(), 'bundle.json');
    let document = '';
    for await (const piece of writeExport([])) {
      document += piece;
    }
    await writeFile(path, document);
    const keystore = await openKeystore({ kind: 'bundle', path, acceptLoss: false });
    expect(keystore.capabilities().writable).toBe(false);
    await keystore.close();
  });
});
