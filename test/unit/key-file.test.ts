import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { loadEngine } from '../../src/crypto/load.ts';
import { readKeyFile } from '../../src/providers/key-file.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const { engine } = await loadEngine({ engine: 'node', minimumLockLevel: 'heap', snapshotSafe: false });

function keyFile(mode: number): string {
  const folder = join(temporaryFolder(), 'credentials');
  mkdirSync(folder, { mode: 0o500 });
  const path = join(folder, 'root.key');
  chmodSync(folder, 0o700);
  writeFileSync(path, `${Buffer.alloc(32, 7).toString('base64')}\n`);
  chmodSync(path, mode);
  return path;
}

describe('readKeyFile', () => {
  afterEach(() => {
    delete process.env.CREDENTIALS_DIRECTORY;
  });

  it.for([0o400, 0o600])('reads a file of mode %o', (mode) => {
    engine.destroyKey(readKeyFile(engine, keyFile(mode), 'root key file'));
  });

  it.for([0o440, 0o640, 0o604, 0o660])('refuses one that others may open (%o), with the remedy', (mode) => {
    expect(() => readKeyFile(engine, keyFile(mode), 'root key file')).toThrow(/open to group or others.*chmod 600/);
  });

  it('reads what systemd hands over, where the mask of an access list shows as the mode of the group', () => {
    const path = keyFile(0o440);
    process.env.CREDENTIALS_DIRECTORY = dirname(path);
    engine.destroyKey(readKeyFile(engine, path, 'root key file'));
  });

  it.for([0o444, 0o460, 0o450])('refuses even there what is open further (%o)', (mode) => {
    const path = keyFile(mode);
    process.env.CREDENTIALS_DIRECTORY = dirname(path);
    expect(() => readKeyFile(engine, path, 'root key file')).toThrow(/open to group or others/);
  });

  it('refuses a file that lies elsewhere than in that folder', () => {
    const path = keyFile(0o440);
    process.env.CREDENTIALS_DIRECTORY = dirname(dirname(path));
    expect(() => readKeyFile(engine, path, 'root key file')).toThrow(/open to group or others/);
  });
});
