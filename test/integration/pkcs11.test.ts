import { execFile, execFileSync } from 'node:child_process';
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { cpSync, mkdirSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type pkcs11js from 'pkcs11js';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Pkcs11Settings } from '../../src/config/config.ts';
import { encodeContext } from '../../src/envelope/context.ts';
import { Pkcs11Provider } from '../../src/providers/pkcs11.ts';
import { NEEDS_SOFTHSM, pkcs11, SOFTHSM, SOFTHSM_KWP, SoftHsm } from '../support/softhsm.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const SOURCE = fileURLToPath(new URL('../../src', import.meta.url));
const SLOW_MODULE = fileURLToPath(new URL('../support/slow_cryptoki.c', import.meta.url));
const HEADERS = fileURLToPath(new URL('../../node_modules/pkcs11js/includes/pkcs11', import.meta.url));
const CONTEXT = { tenant: 'acme' };
const IN_TIME = new AbortController().signal;
const KWP_IV = Buffer.from('a65959a6', 'hex');

const value = randomBytes(32);
let hsm: SoftHsm;
let providers: Pkcs11Provider[];

beforeEach(({ skip }) => {
  skip(SOFTHSM === undefined, NEEDS_SOFTHSM);
  providers = [];
  hsm = new SoftHsm([{ label: 'dekd', keys: [{ label: 'root', id: '01', value: value.toString('hex') }] }]);
});

afterEach(async () => {
  await Promise.all(providers.map((provider) => provider.close()));
  hsm?.remove();
});

function open(settings: Partial<Pkcs11Settings> = {}): Pkcs11Provider {
  const provider = new Pkcs11Provider({ root: 'hsm', settings: hsm.settings(settings) });
  providers.push(provider);
  return provider;
}

function hasCompiler(): boolean {
  try {
    execFileSync('cc', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** What another part of this process does to the module, which is loaded once. */
function meddle(work: (module: pkcs11js.PKCS11) => void): void {
  const module = new pkcs11!.PKCS11(SOFTHSM);
  work(module);
}

describe('the pkcs11 provider on SoftHSM2', () => {
  it('makes with aes-gcm what OpenSSL opens with the same key, first byte and context as AAD', async () => {
    const secret = randomBytes(32);
    const { wrapped } = await open().wrap(secret, CONTEXT, IN_TIME);
    expect(wrapped.length).toBe(1 + 12 + 32 + 16);
    const decipher = createDecipheriv('aes-256-gcm', value, wrapped.subarray(1, 13));
    decipher.setAAD(Buffer.concat([Uint8Array.of(1), encodeContext(CONTEXT)])).setAuthTag(wrapped.subarray(45));
    expect(Buffer.concat([decipher.update(wrapped.subarray(13, 45)), decipher.final()])).toEqual(secret);
  });

  it('makes with aes-kwp what OpenSSL opens as RFC 5649, and opens what OpenSSL wrapped', async () => {
    const provider = open({ mechanism: 'aes-kwp', mechanismNumber: SOFTHSM_KWP });
    const secret = randomBytes(32);
    const { wrapped, reference } = await provider.wrap(secret, CONTEXT, IN_TIME);
    const decipher = createDecipheriv('id-aes256-wrap-pad', value, KWP_IV);
    expect(Buffer.concat([decipher.update(wrapped.subarray(1)), decipher.final()])).toEqual(secret);
    const cipher = createCipheriv('id-aes256-wrap-pad', value, KWP_IV);
    const theirs = Buffer.concat([Uint8Array.of(2), cipher.update(secret), cipher.final()]);
    expect(Buffer.from(await provider.unwrap(theirs, reference, CONTEXT, IN_TIME))).toEqual(secret);
  });

  it('refuses the standard number of AES-KWP on SoftHSM2 at start, and names the one to set', async () => {
    await expect(open({ mechanism: 'aes-kwp' }).describe(IN_TIME)).rejects.toMatchObject({
      code: 'CONFIG',
      message: expect.stringMatching(/mechanism 0x210b for aes-kwp.*mechanismNumber.*0x210a for SoftHSM2/),
    });
  });

  it('tells a wrong context, which SoftHSM2 calls a general error, from a device that failed', async () => {
    const provider = open();
    const { wrapped, reference } = await provider.wrap(randomBytes(32), CONTEXT, IN_TIME);
    const unwrap = provider.unwrap(wrapped, reference, { tenant: 'other' }, IN_TIME);
    await expect(unwrap).rejects.toMatchObject({
      code: 'CORRUPT',
      trip: false,
      detail: 'C_Decrypt: CKR_GENERAL_ERROR',
    });
  });

  it('has the same resolved id after a restart, and wraps in direct mode up to its limit', async () => {
    const first = await open().describe(IN_TIME);
    expect(first.resolvedId).toMatch(/^pkcs11:token=dekd;serial=[0-9a-f]{16};object=root;id=%01;type=secret-key$/);
    expect(first).toMatchObject({ materialVersion: '01', warnings: [] });
    await providers.pop()!.close();
    const again = open();
    expect(await again.describe(IN_TIME)).toEqual(first);
    const plaintext = randomBytes(65_536);
    const { wrapped, reference } = await again.encrypt(plaintext, {}, IN_TIME);
    expect(plaintext.equals(await again.decrypt(wrapped, reference, {}, IN_TIME))).toBe(true);
    await expect(again.encrypt(new Uint8Array(0), {}, IN_TIME)).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });

  it('never gets the root key out of the token', async () => {
    const { warnings } = await open().describe(IN_TIME);
    expect(warnings).toEqual([]);
    meddle((module) => {
      const [slot] = module.C_GetSlotList(true);
      const session = module.C_OpenSession(slot!, pkcs11!.CKF_SERIAL_SESSION);
      module.C_FindObjectsInit(session, [{ type: pkcs11!.CKA_LABEL, value: 'root' }]);
      const key = module.C_FindObjects(session)!;
      module.C_FindObjectsFinal(session);
      const read = () => module.C_GetAttributeValue(session, key, [{ type: pkcs11!.CKA_VALUE }]);
      expect(read).toThrow(/CKR_ATTRIBUTE_SENSITIVE/);
    });
  });

  it('leaves no session object behind: 100 wraps and unwraps by aes-kwp, and the token holds the root key alone', async () => {
    const provider = open({ mechanism: 'aes-kwp', mechanismNumber: SOFTHSM_KWP });
    const { wrapped, reference } = await provider.wrap(randomBytes(32), CONTEXT, IN_TIME);
    for (let i = 0; i < 100; i++) {
      await provider.unwrap(wrapped, reference, CONTEXT, IN_TIME);
      await provider.wrap(randomBytes(32), CONTEXT, IN_TIME);
    }
    meddle((module) => {
      const session = module.C_OpenSession(module.C_GetSlotList(true)[0]!, pkcs11!.CKF_SERIAL_SESSION);
      module.C_FindObjectsInit(session, []);
      expect((module.C_FindObjects(session, 10) as Buffer[]).length).toBe(1);
      module.C_FindObjectsFinal(session);
    });
  });

  it('logs in again within a second after a logout by somebody else', async () => {
    const provider = open();
    const { wrapped, reference } = await provider.wrap(new Uint8Array(32), CONTEXT, IN_TIME);
    meddle((module) =>
      module.C_Logout(module.C_OpenSession(module.C_GetSlotList(true)[0]!, pkcs11!.CKF_SERIAL_SESSION)),
    );
    const start = performance.now();
    expect(await provider.unwrap(wrapped, reference, CONTEXT, IN_TIME)).toEqual(new Uint8Array(32));
    expect(performance.now() - start).toBeLessThan(1000);
  });

  it('is unavailable while the token is pulled, and opens within a second of its return', async () => {
    const provider = open();
    const { wrapped, reference } = await provider.wrap(new Uint8Array(32), CONTEXT, IN_TIME);
    const unwrap = () => provider.unwrap(wrapped, reference, CONTEXT, IN_TIME);
    const putBack = hsm.pull();
    await expect(unwrap()).rejects.toMatchObject({ code: 'UNAVAILABLE', trip: true });
    expect((await provider.health('cheap', IN_TIME)).ok).toBe(false);
    putBack();
    const start = performance.now();
    let opened: Uint8Array | undefined;
    while (opened === undefined && performance.now() - start < 3000) {
      opened = await unwrap().catch(() => setTimeout(50, undefined));
    }
    expect(opened).toEqual(new Uint8Array(32));
    expect(performance.now() - start).toBeLessThan(1000);
    expect((await provider.health('deep', IN_TIME)).ok).toBe(true);
  });

  it('takes the pulled token for no missing key when nobody asked while it was away', async () => {
    const provider = open();
    const { wrapped, reference } = await provider.wrap(new Uint8Array(32), CONTEXT, IN_TIME);
    hsm.pull()();
    meddle((module) => {
      // As a module does that looks at its slots now and then.
      module.C_GetTokenInfo(module.C_GetSlotList(true)[0]!);
    });
    expect(await provider.unwrap(wrapped, reference, CONTEXT, IN_TIME)).toEqual(new Uint8Array(32));
  });

  it('sends a wrong PIN once, and the right one when its file was written again', async () => {
    const pinFile = hsm.pinFile('0000', 'wrong');
    const provider = open({ pinFile });
    for (let i = 0; i < 3; i++) {
      await expect(provider.describe(IN_TIME)).rejects.toMatchObject({ code: 'UNAUTHENTICATED', trip: false });
    }
    hsm.pinFile('5678', 'wrong');
    await provider.describe(IN_TIME);
  });

  it('resolves only one AES key of 256 bits: none, one of 128, two of one label', async () => {
    hsm.add([
      {
        label: 'second',
        keys: [{ label: 'short', size: 16 }, { label: 'twice' }, { label: 'twice' }, { label: 'off', encrypt: false }],
      },
    ]);
    const describing = (key: string) => open({ token: 'second', key }).describe(IN_TIME);
    await expect(describing('none')).rejects.toMatchObject({ code: 'KEY_NOT_FOUND' });
    await expect(describing('short')).rejects.toMatchObject({ code: 'KEY_NOT_FOUND' });
    await expect(describing('twice')).rejects.toMatchObject({ code: 'CONFIG' });
    await expect(describing('off')).rejects.toMatchObject({ code: 'KEY_DISABLED' });
    await expect(open({ token: 'third' }).describe(IN_TIME)).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringMatching(/(?=.*"dekd" in slot \d).*"second" in slot \d/),
    });
  });

  it('says so when the path is no PKCS#11 module', async () => {
    const nothing = join(hsm.folder, 'nothing.so');
    writeFileSync(nothing, '');
    for (const module of [nothing, join(hsm.folder, 'missing.so')]) {
      await expect(open({ module }).describe(IN_TIME)).rejects.toMatchObject({
        code: 'CONFIG',
        message: expect.stringMatching(/does not load: check its path/),
      });
    }
  });

  it('does not hold up the event loop while the module blocks, and keeps its other sessions', async ({ skip }) => {
    skip(!hasCompiler(), 'needs a C compiler');
    const gate = join(hsm.folder, 'gate');
    const module = join(hsm.folder, 'slow.so');
    execFileSync('cc', ['-shared', '-fPIC', '-o', module, '-I', HEADERS, SLOW_MODULE]);
    process.env.SLOW_CRYPTOKI_MODULE = SOFTHSM;
    process.env.SLOW_CRYPTOKI_GATE = gate;
    const provider = open({ module, sessions: 2, timeout: 1500 });
    await Promise.all([provider.describe(IN_TIME), provider.describe(IN_TIME)]);
    writeFileSync(gate, '');
    let ticks = 0;
    const ticking = setInterval(() => ticks++, 10);
    await expect(provider.wrap(new Uint8Array(32), CONTEXT, IN_TIME)).rejects.toMatchObject({ code: 'TIMEOUT' });
    clearInterval(ticking);
    expect(ticks).toBeGreaterThan(10);
    expect(await provider.health('cheap', IN_TIME)).toMatchObject({ ok: true });
    unlinkSync(gate);
    await provider.wrap(new Uint8Array(32), CONTEXT, IN_TIME);
  });
});

describe('the package pkcs11js', () => {
  const run = promisify(execFile);

  /** What a process prints that runs `body` with a `provider`, in a tree whose node_modules hold what the test put there. */
  async function runIn(folder: string, body: string): Promise<string> {
    cpSync(SOURCE, join(folder, 'src'), { recursive: true });
    writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
    const settings = JSON.stringify(hsm.settings({}), (_, each: unknown) => each ?? null);
    const code = `
      import { openPkcs11 } from './src/providers/pkcs11.ts';
      const settings = JSON.parse(${JSON.stringify(settings)}, (_, each) => each ?? undefined);
      const provider = await openPkcs11('hsm', settings);
      const signal = AbortSignal.timeout(10_000);
      ${body}
      await provider.close();
      console.log('closed');
    `;
    writeFileSync(join(folder, 'main.ts'), code);
    const { stdout } = await run(process.execPath, ['main.ts'], { cwd: folder });
    return stdout;
  }

  const DESCRIBE = 'await provider.describe(signal).catch(({ code, message }) => console.log(code, message));';

  it('is loaded in a thread that neither keeps its process alive nor outlives close', async () => {
    const folder = temporaryFolder();
    symlinkSync(fileURLToPath(new URL('../../node_modules', import.meta.url)), join(folder, 'node_modules'));
    const body = `await provider.wrap(new Uint8Array(32), {}, signal); await provider.health('deep', signal);`;
    expect(await runIn(folder, body)).toBe('closed\n');
  });

  it('that is not installed is a CONFIG error with the command', async () => {
    expect(await runIn(temporaryFolder(), DESCRIBE)).toMatch(
      /^CONFIG .*not installed: run npm install pkcs11js\nclosed\n$/,
    );
  });

  it('whose install script was blocked is a CONFIG error with the command, and no stack', async () => {
    const folder = temporaryFolder();
    const installed = join(folder, 'node_modules/pkcs11js');
    const original = fileURLToPath(new URL('../../node_modules/pkcs11js', import.meta.url));
    mkdirSync(installed, { recursive: true });
    for (const file of ['package.json', 'index.js']) {
      cpSync(join(original, file), join(installed, file));
    }
    const said = await runIn(folder, DESCRIBE);
    expect(said).toMatch(/^CONFIG .*without its native part.*run npm rebuild pkcs11js\nclosed\n$/);
  });
});
