import { chmodSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NodeEngine } from '../../src/crypto/node.ts';
import { LocalProvider } from '../../src/providers/local.ts';
import { providerContract } from './provider.contract.ts';

function writeRoot(engine: NodeEngine, path: string): string {
  engine.writeRootKey(openSync(path, 'wx', 0o600));
  return path;
}

providerContract('local', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'dekd-local-'));
  const engine = new NodeEngine();
  const make = (name: string) =>
    new LocalProvider({ engine, root: 'local', keyFile: writeRoot(engine, join(folder, name)), allowLocalRoot: true });
  return {
    engine,
    provider: make('a'),
    other: make('b'),
    cleanUp: async () => {
      engine.close();
      rmSync(folder, { recursive: true });
    },
  };
});

describe('LocalProvider', () => {
  let folder: string;
  let engine: NodeEngine;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'dekd-local-'));
    engine = new NodeEngine();
  });

  afterEach(() => {
    engine.close();
    rmSync(folder, { recursive: true });
  });

  function open(keyFile: string, allowLocalRoot = true) {
    return new LocalProvider({ engine, root: 'local', keyFile, allowLocalRoot }).describe();
  }

  it('takes the hash of the key for its id, and warns at each start', async () => {
    const path = writeRoot(engine, join(folder, 'root.key'));
    const first = await open(path);
    const second = await open(path);
    expect(first.resolvedId).toMatch(/^local:[0-9a-f]{32}$/);
    expect(second.resolvedId).toBe(first.resolvedId);
    expect(second.warnings.length).toBe(1);
  });

  it('reads the key from an inherited descriptor', async () => {
    const path = writeRoot(engine, join(folder, 'root.key'));
    const keyFd = openSync(path, 'r');
    const fromFd = await new LocalProvider({ engine, root: 'local', keyFd, allowLocalRoot: true }).describe();
    expect(fromFd.resolvedId).toBe((await open(path)).resolvedId);
  });

  it('refuses without allowLocalRoot and says that it is missing', async () => {
    const path = writeRoot(engine, join(folder, 'root.key'));
    await expect(open(path, false)).rejects.toThrow(/needs allowLocalRoot: true/);
    expect(engine.stats().used).toBe(0);
  });

  it('refuses a file open to group or others and names the command', async () => {
    const path = writeRoot(engine, join(folder, "it's open"));
    chmodSync(path, 0o640);
    const remedy = `mode 0640): run chmod 600 '${folder}/it'\\''s open'`;
    await expect(open(path)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(remedy),
    });
  });

  it('refuses what is missing, no file, too short or too long, and says what', async () => {
    await expect(open(join(folder, 'none'))).rejects.toThrow(/does not exist; dekd keygen makes one/);
    mkdirSync(join(folder, 'folder'), { mode: 0o700 });
    await expect(open(join(folder, 'folder'))).rejects.toThrow(/is not a regular file/);
    for (const text of ['', `${'A'.repeat(22)}==\n`, `${'A'.repeat(44)}\n`, `${'A'.repeat(88)}\n`]) {
      const path = join(folder, `length-${text.length}`);
      writeFileSync(path, text, { mode: 0o600 });
      await expect(open(path)).rejects.toThrow(/does not hold a root key/);
    }
    expect(engine.stats().used).toBe(0);
  });

  it('never shows what a file holds that is no root key', async () => {
    const path = join(folder, 'password');
    writeFileSync(path, 'correct horse battery staple\n', { mode: 0o600 });
    await expect(open(path)).rejects.toSatisfy((error: Error) => !error.message.includes('horse'));
  });
});
