import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { loadEngine } from '../../src/crypto/load.ts';
import { NOBLE_VERSION } from '../../src/crypto/noble.ts';
import { DekdError } from '../../src/errors.ts';

const OPTIONS = { minimumLockLevel: 'heap', snapshotSafe: false } as const;

/** What a module prints that gets the address of load.ts as its first argument, in a process of its own. */
function runScript(script: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): string {
  const load = new URL('../../src/crypto/load.ts', import.meta.url).href;
  return execFileSync(process.execPath, ['--input-type=module', '-e', script, load, ...args], {
    encoding: 'utf8',
    cwd: fileURLToPath(new URL('../..', import.meta.url)),
    env: { ...process.env, ...env },
  });
}

describe('loadEngine', () => {
  it.each(['node', 'noble'] as const)('loads %s by name, with nothing to fall back from', async (name) => {
    const { engine, fallback } = await loadEngine({ ...OPTIONS, engine: name, capacity: 2 });
    expect(engine.info.name).toBe(name);
    expect(fallback).toBeUndefined();
    expect(engine.stats().capacity).toBe(2);
    engine.close();
  });

  it('takes native or, with the reason, node for auto; never noble', async () => {
    const { engine, fallback } = await loadEngine({ ...OPTIONS, engine: 'auto' });
    expect(['native', 'node']).toContain(engine.info.name);
    expect(fallback === undefined).toBe(engine.info.name === 'native');
    engine.close();
  });

  it.each(['node', 'noble'] as const)('refuses %s below the lock level asked for, with the remedy', async (name) => {
    const error = await loadEngine({ ...OPTIONS, engine: name, minimumLockLevel: 'locked' }).catch((e: unknown) => e);
    expect(DekdError.is(error, 'UNSUPPORTED')).toBe(true);
    expect((error as Error).message).toMatch(/level heap, below locked: .*npm run build:native/);
  });

  it('says why the addon did not load: falls back for auto, fails hard for native', () => {
    const script = `
      const { loadEngine } = await import(process.argv[1]);
      const options = { minimumLockLevel: 'heap', snapshotSafe: false };
      const { engine, fallback } = await loadEngine({ ...options, engine: 'auto' });
      const error = await loadEngine({ ...options, engine: 'native' }).catch((e) => e);
      process.stdout.write(JSON.stringify([engine.info.name, fallback, error.code, error.message]));
    `;
    const output = runScript(script, [], { DEKD_NATIVE_PATH: '/nonexistent/addon.node' });
    const [name, fallback, code, message] = JSON.parse(output) as string[];
    expect([name, code]).toEqual(['node', 'UNSUPPORTED']);
    expect(fallback).toContain('/nonexistent/addon.node');
    expect(message).toMatch(/native engine does not load: .*nonexistent.*npm run build:native.*DEKD_ENGINE=node/);
  });

  it('refuses an engine it does not know', async () => {
    await expect(loadEngine({ ...OPTIONS, engine: 'openssl' as 'node' })).rejects.toThrow('none of auto');
  });

  it('loads noble only when noble is named', () => {
    const script = `
      const { loadEngine } = await import(process.argv[1]);
      await loadEngine({ engine: process.argv[2], minimumLockLevel: 'heap', snapshotSafe: false });
      const { registerHooks } = await import('node:module');
      let loaded = false;
      registerHooks({ resolve(s, c, n) { return n(s, c); }, load(u, c, n) { loaded = true; return n(u, c); } });
      await import('@noble/ciphers/aes.js');
      process.stdout.write(loaded ? 'not loaded before' : 'loaded before');
    `;
    const run = (name: string): string => runScript(script, [name]);
    expect(run('node')).toBe('not loaded before');
    expect(run('noble')).toBe('loaded before');
  });

  it('names the version of noble that package.json pins', () => {
    const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
    const { dependencies } = JSON.parse(text) as { dependencies: Record<string, string> };
    expect(dependencies['@noble/ciphers']).toBe(NOBLE_VERSION);
  });
});
