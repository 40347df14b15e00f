import { spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadBinding } from '../../src/addon/binding.ts';
import { TOKEN_OVERHEAD } from '../../src/crypto/engine.ts';
import { lockFile, peerCredentials, proveLeakClear, proveLeakPlant, scanForCopies } from '../../src/crypto/host.ts';
import { NativeEngine } from '../../src/crypto/native.ts';
import { DekdError } from '../../src/errors.ts';

const SEAL = { algorithm: 'xaes-256-gcm', purpose: 'seal' } as const;
const root = join(import.meta.dirname, '..', '..');

/** What a script prints in a process of its own; `binding` and `NativeEngine` come from the sources. */
function inOtherProcess(script: string, env: Record<string, string> = {}): string {
  const source = `
    import { loadBinding } from ${JSON.stringify(join(root, 'src/addon/binding.ts'))};
    import { NativeEngine } from ${JSON.stringify(join(root, 'src/crypto/native.ts'))};
    import * as host from ${JSON.stringify(join(root, 'src/crypto/host.ts'))};
    ${script}`;
  const run = spawnSync(process.execPath, ['--input-type=module-typescript', '-e', source], {
    encoding: 'utf8',
    env: { ...process.env, ...env },
  });
  expect(run.stderr).toBe('');
  return run.stdout.trim();
}

describe('loadBinding', () => {
  it('loads the addon that was built here', () => {
    expect(loadBinding().reason).toBeUndefined();
    expect(loadBinding().path).toMatch(/addon\.node$|linux-\w+\.node$/);
  });

  it('says why when the file that is named does not load, and does not take another one', () => {
    const reason = inOtherProcess('console.log(loadBinding().reason)', { DEKD_NATIVE_PATH: '/dev/null/addon.node' });
    expect(reason).toContain('/dev/null/addon.node');
  });

  it('leaves every function of the host absent without the addon', () => {
    const script = `console.log(JSON.stringify([host.peerCredentials(0) ?? null, host.lockFile(0) ?? null,
      host.hardenProcess(), host.scanForCopies(1) ?? null, host.proveLeakPlant(1)]))`;
    expect(inOtherProcess(script, { DEKD_NATIVE_PATH: '/nowhere.node' })).toBe('[null,null,[],null,false]');
  });
});

describe('NativeEngine', () => {
  let engine: NativeEngine;
  beforeEach(() => {
    engine = new NativeEngine();
  });
  afterEach(() => {
    engine.close();
  });

  it('keeps keys out of JavaScript and names its library and level', () => {
    expect(engine.info.name).toBe('native');
    expect(engine.info.keysInJs).toBe(false);
    expect(engine.info.library).toMatch(/^OpenSSL 3\./);
    expect(['secret', 'locked', 'heap']).toContain(engine.info.lockLevel);
    expect(engine.info.lockReason === '').toBe(engine.info.lockLevel === 'secret');
  });

  it.skipIf(process.getuid?.() !== 0)('refuses to start below the level asked for and says why', () => {
    const script = `import { NativeEngine } from ${JSON.stringify(join(root, 'src/crypto/native.ts'))};
      try { new NativeEngine({ minimumLockLevel: 'secret' }); console.log('started') }
      catch (error) { console.log(error.code + ' ' + error.message) }`;
    // Root may lock what it likes; another user with a limit of nothing may not.
    const shell = 'ulimit -l 0; exec "$0" --input-type=module-typescript -e "$1"';
    const run = spawnSync('setpriv', ['--reuid=1000', '--clear-groups', 'sh', '-c', shell, process.execPath, script], {
      encoding: 'utf8',
    });
    expect(run.stdout).toMatch(
      /^UNSUPPORTED keys cannot be kept at level secret: memfd_secret gives E\w+ with RLIMIT_MEMLOCK 0 bytes$/m,
    );
  });

  it('wipes its own keys when it closes, and no other engine’s', () => {
    const other = new NativeEngine();
    const mine = engine.generateKey(SEAL);
    const theirs = other.generateKey(SEAL);
    engine.close();
    expect(() => other.kid(mine)).toThrow('stale key handle');
    expect(other.kid(theirs)).toHaveLength(16);
    expect(() => engine.generateKey(SEAL)).toThrow('closed');
    other.close();
  });

  it('refuses numbers that are no offsets instead of cutting them to 32 bits', () => {
    const key = engine.generateKey(SEAL);
    const input = new Uint8Array(64);
    const output = new Uint8Array(200);
    for (const offset of [-1, 0.5, Number.NaN, 2 ** 32, 2 ** 53, Number.POSITIVE_INFINITY]) {
      expect(() => engine.seal(key, input, 0, 0, offset, 10, output, 0)).toThrow(DekdError);
      expect(() => engine.seal(key, input, 0, 0, 0, 10, output, offset)).toThrow(DekdError);
    }
    expect(() => engine.seal((2 ** 32 + key) as typeof key, input, 0, 0, 0, 10, output, 0)).toThrow('stale');
  });

  it('refuses arrays of another type and detached ones', () => {
    const key = engine.generateKey(SEAL);
    const output = new Uint8Array(200);
    expect(() => engine.seal(key, new Uint16Array(64) as never, 0, 0, 0, 10, output, 0)).toThrow(DekdError);
    expect(() => engine.seal(key, 'text' as never, 0, 0, 0, 2, output, 0)).toThrow(DekdError);
    expect(() => engine.sealMany(new Uint8Array(32) as never, 1, output, output)).toThrow(DekdError);
    const gone = new Uint8Array(64);
    structuredClone(gone, { transfer: [gone.buffer] });
    expect(() => engine.seal(key, gone, 0, 0, 0, 10, output, 0)).toThrow(DekdError);
  });

  it('finds no copy of a key after work, and one after a leak was planted', () => {
    const key = engine.generateKey(SEAL);
    const input = new Uint8Array(64);
    const output = new Uint8Array(64 + TOKEN_OVERHEAD);
    for (let i = 0; i < 100; i++) {
      engine.seal(key, input, 0, 0, 0, 64, output, 0);
    }
    expect(scanForCopies(key)!.copies).toBe(0);
    expect(proveLeakPlant(key)).toBe(true);
    expect(scanForCopies(key)!.copies).toBe(1);
    proveLeakClear();
    expect(scanForCopies(key)!.copies).toBe(0);
  });
});

describe('worker threads', () => {
  const workerSource = `
    const { parentPort, workerData } = require('node:worker_threads');
    import(workerData.module).then(({ NativeEngine }) => {
      const engine = new NativeEngine();
      const seal = { algorithm: 'xaes-256-gcm', purpose: 'seal' };
      const own = engine.generateKey(seal);
      const output = new Uint8Array(1 << 20);
      const input = new Uint8Array(1 << 18);
      const table = new Uint32Array(8);
      parentPort.postMessage({ own, sharedKid: Buffer.from(engine.kid(workerData.key)).toString('hex') });
      for (;;) {
        engine.seal(own, input, 0, 0, 0, input.length, output, 0);
        table.fill(0);
        table[0] = workerData.key;
        table[4] = input.length;
        engine.sealMany(table, 1, input, output);
        try { engine.seal(0, input, 0, 0, 0, 1, output, 0); } catch {}
      }
    });`;

  it('share the table: a key made on one thread is used on another, and ends with the thread that made it', async () => {
    const engine = new NativeEngine();
    const key = engine.generateKey(SEAL);
    const used = engine.stats().used;
    for (let round = 0; round < 5; round++) {
      const worker = new Worker(workerSource, {
        eval: true,
        workerData: { key, module: join(root, 'src/crypto/native.ts') },
      });
      const message = await new Promise<{ own: number; sharedKid: string }>((resolve, reject) => {
        worker.once('message', resolve);
        worker.once('error', reject);
      });
      expect(message.sharedKid).toBe(Buffer.from(engine.kid(key)).toString('hex'));
      expect(engine.stats().used).toBe(used + 1);
      // It is in a native call nearly all of the time; ending it there must not end the process.
      await worker.terminate();
      expect(engine.stats().used).toBe(used);
      expect(() => engine.kid(message.own as typeof key)).toThrow('stale');
    }
    engine.close();
  });
});

describe('host', () => {
  it('tells who connected a Unix socket', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'dekd-peer-'));
    const path = join(dir, 's');
    const accepted = Promise.withResolvers<Socket>();
    const server = createServer((socket) => accepted.resolve(socket)).listen(path);
    const client = connect(path);
    const socket = await accepted.promise;
    const { fd } = (socket as unknown as { _handle: { fd: number } })._handle;
    const peer = peerCredentials(fd)!;
    expect(peer.uid).toBe(process.getuid!());
    expect(peer.gid).toBe(process.getgid!());
    expect(Array.isArray(peer.groups)).toBe(true);
    client.destroy();
    socket.destroy();
    server.close();
    rmSync(dir, { recursive: true, force: true });
  });

  it('refuses peer credentials of a file', () => {
    const fd = openSync('/dev/null', 'r');
    expect(() => peerCredentials(fd)).toThrow(/no peer credentials: ENOTSOCK/);
    closeSync(fd);
  });

  it('locks a file for one open file at a time', () => {
    const folder = mkdtempSync(join(tmpdir(), 'dekd-lock-'));
    const path = join(folder, 'lock');
    writeFileSync(path, '');
    const first = openSync(path, 'r+');
    const second = openSync(path, 'r+');
    expect(lockFile(first)).toBe(true);
    expect(lockFile(second)).toBe(false);
    closeSync(first);
    expect(lockFile(second)).toBe(true);
    closeSync(second);
    rmSync(folder, { recursive: true });
  });

  it('hardens the process with all four measures', () => {
    const script = 'console.log(host.hardenProcess().join("; "))';
    expect(inOtherProcess(script)).toBe('no core file; empty core filter; not dumpable; no new privileges');
  });
});
