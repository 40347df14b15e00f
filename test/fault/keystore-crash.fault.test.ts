import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SqliteKeystore } from '../../src/keystores/sqlite.ts';
import { Sandbox } from '../unit/keyring-fixture.ts';

const WORKER = fileURLToPath(new URL('./keystore-crash-worker.ts', import.meta.url));
const CRASHES = 40;

describe('a keyring on sqlite that is killed at any moment', () => {
  let sandbox: Sandbox;

  beforeEach(async () => {
    sandbox = await Sandbox.make();
  });

  afterEach(() => sandbox.cleanUp());

  it('loses no acknowledged version and leaves exactly one active, with its high-water mark in step', async () => {
    /** Token and text of everything that the worker acknowledged. */
    const acknowledged = new Map<string, string>();
    const highest = new Map<string, number>();
    let killed = 0;
    for (let crash = 0; crash < CRASHES; crash++) {
      const worker = spawn(process.execPath, [WORKER, sandbox.folder], { stdio: ['ignore', 'pipe', 'inherit'] });
      const exit = once(worker, 'exit');
      let lines = 0;
      for await (const line of createInterface({ input: worker.stdout })) {
        const [name, version, token, text] = line.split(' ') as [string, string, string, string];
        acknowledged.set(token, text);
        highest.set(name, Math.max(Number(version), highest.get(name) ?? 0));
        if (++lines === 1 + (crash % 12)) {
          setTimeout(() => worker.kill('SIGKILL'), Math.random() * 8);
        }
      }
      await exit;
      killed += worker.signalCode === 'SIGKILL' ? 1 : 0;
    }
    expect(killed).toBe(CRASHES);
    const keystore = await SqliteKeystore.open({ path: sandbox.path('keys.db') });
    const world = await sandbox.world({ keystore, stateFolder: sandbox.path('state') });
    for (const [token, text] of acknowledged) {
      expect(await world.open(new Uint8Array(Buffer.from(token, 'base64url')))).toBe(text);
    }
    expect(highest.size).toBeGreaterThan(1);
    for (const [name, version] of highest) {
      const rows = await keystore.versions(name, '', 'seal');
      expect(rows.at(-1)!.version).toBeGreaterThanOrEqual(version);
      expect(rows.filter(({ state }) => state === 'active').length).toBe(1);
      expect(rows.map((row) => row.version)).toEqual(rows.map((_, i) => i + 1));
    }
    expect(world.events.filter(({ level }) => level === 'error')).toEqual([]);
  });
});
