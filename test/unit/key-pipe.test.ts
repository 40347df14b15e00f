import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadBinding } from '../../src/addon/binding.ts';
import { type KeyPipe, openPipe, scanForCopies } from '../../src/crypto/host.ts';
import { NativeEngine } from '../../src/crypto/native.ts';
import { DekdError } from '../../src/errors.ts';

const SEAL = { algorithm: 'xaes-256-gcm', purpose: 'seal' } as const;
const WRAP = { algorithm: 'hkdf-sha-256', purpose: 'wrap' } as const;
const keyPipe = join(import.meta.dirname, '..', '..', 'src', 'crypto', 'key-pipe.ts');

/** A child that reads a frame of call 7 at descriptor 3 and writes it back at 4, as call 8, saying so by a line. */
const ECHO = `
  import { readFrame, writeFrame } from ${JSON.stringify(keyPipe)};
  const bytes = readFrame(3, 7, 1, 16384, 'read');
  writeFrame(4, 8, bytes, 'write');
  console.log('written');
  process.stdin.resume();`;

describe.skipIf(loadBinding().binding === undefined)('the key pipe of the native engine', () => {
  let engine: NativeEngine;
  let toChild: KeyPipe;
  let fromChild: KeyPipe;
  let open: Set<number>;
  let child: ChildProcess | undefined;

  beforeEach(() => {
    engine = new NativeEngine();
    toChild = openPipe('write')!;
    fromChild = openPipe('read')!;
    open = new Set([toChild.read, toChild.write, fromChild.read, fromChild.write]);
    child = undefined;
  });
  afterEach(() => {
    child?.kill('SIGKILL');
    for (const fd of open) {
      closeSync(fd);
    }
    engine.close();
  });

  function start(script: string): ChildProcess & { stdout: Readable } {
    child = spawn(process.execPath, ['--input-type=module-typescript', '-e', script], {
      stdio: ['pipe', 'pipe', 'inherit', toChild.read, fromChild.write],
    });
    for (const fd of [toChild.read, fromChild.write]) {
      closeSync(fd);
      open.delete(fd);
    }
    return child as ChildProcess & { stdout: Readable };
  }

  it('carries a key to a child and back, and leaves no copy of it here', async () => {
    const key = engine.generateKey(WRAP);
    const echo = start(ECHO);
    // Before the child reads: a frame waits in the pipe.
    engine.sendKey(toChild.write, 7, key);
    expect(scanForCopies(key)!.copies).toBe(0);
    await once(echo.stdout, 'data');
    const back = engine.receiveKey(fromChild.read, 8);
    expect(engine.kid(back)).toEqual(engine.kid(key));
    expect(scanForCopies(back)!.copies).toBe(0);
  });

  it('leaves no copy of what it seals and opens', async () => {
    const key = engine.generateKey(WRAP);
    const seal = engine.generateKey(SEAL);
    const context = new Uint8Array(20);
    const echo = start(ECHO);
    engine.sendKey(toChild.write, 7, key);
    await once(echo.stdout, 'data');
    // The key is the login token here: its bytes can be looked for without being known.
    const token = engine.receiveSealed(fromChild.read, 8, seal, context);
    expect(scanForCopies(key)!.copies).toBe(0);
    const own = openPipe('read')!;
    engine.sendOpened(own.write, 9, seal, token, context);
    expect(scanForCopies(key)!.copies).toBe(0);
    expect(engine.kid(engine.receiveKey(own.read, 9))).toEqual(engine.kid(key));
    closeSync(own.read);
    closeSync(own.write);
  });

  it('is found broken once the child is dead, at either end', async () => {
    const key = engine.generateKey(WRAP);
    const silent = start('process.stdin.resume();');
    silent.kill('SIGKILL');
    await once(silent, 'exit');
    const used = engine.stats().used;
    expect(failureOf(() => engine.sendKey(toChild.write, 7, key))).toBe('KMS_UNAVAILABLE key pipe: EPIPE');
    expect(failureOf(() => engine.receiveKey(fromChild.read, 7))).toBe(
      'KMS_UNAVAILABLE key pipe: the other end was closed before a whole frame',
    );
    expect(engine.stats().used).toBe(used);
  });

  it('is not waited for while the child says nothing', () => {
    expect(failureOf(() => engine.receiveKey(fromChild.read, 7))).toBe('KMS_UNAVAILABLE key pipe: EAGAIN');
  });

  it('is left to no program that is started without being named', async () => {
    const other = spawn(process.execPath, [
      '-e',
      `const fs = require('node:fs');
       for (const fd of process.argv.slice(1)) {
         try { console.log(fs.readlinkSync('/proc/self/fd/' + fd)) } catch { console.log('none') }
       }`,
      ...[...open].map(String),
    ]);
    let said = '';
    other.stdout.on('data', (text: Buffer) => {
      said += text;
    });
    await once(other, 'close');
    // The child may have given the number to something of its own.
    for (const fd of said.trim().split('\n')) {
      expect(fd).not.toMatch(/^pipe:/);
    }
  });

  it('is not needed for a secret in JavaScript, which is wiped when it is imported', () => {
    const key = engine.generateKey(WRAP);
    const bytes = engine.exposeSecret(key);
    expect(scanForCopies(key)!.copies).toBe(1);
    const again = engine.importSecret(bytes);
    expect(scanForCopies(key)!.copies).toBe(0);
    expect(engine.kid(again)).toEqual(engine.kid(key));
  });
});

describe('openPipe', () => {
  it('says when there is no descriptor left', async () => {
    const script = `
      import { openPipe } from ${JSON.stringify(join(import.meta.dirname, '..', '..', 'src', 'crypto', 'host.ts'))};
      try { for (;;) { if (openPipe('read') === undefined) { console.log('no addon'); break; } } }
      catch (error) { console.log(error.code + ' ' + error.message); }`;
    const limited = spawn('sh', [
      '-c',
      'ulimit -n 64; exec "$0" --input-type=module-typescript -e "$1"',
      process.execPath,
      script,
    ]);
    let said = '';
    limited.stdout.on('data', (text: Buffer) => {
      said += text;
    });
    await once(limited, 'close');
    expect(said.trim()).toBe(loadBinding().binding === undefined ? 'no addon' : 'RESOURCE_EXHAUSTED no pipe: EMFILE');
  });
});

/** Code and reason of the error. */
function failureOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof DekdError) {
      return `${error.code} ${error.reason}`;
    }
    throw error;
  }
  return 'no error';
}
