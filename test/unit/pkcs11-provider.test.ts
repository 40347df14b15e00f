import { utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Pkcs11Settings } from '../../src/config/config.ts';
import { CKR, ThreadLostError, TOKEN_FLAG } from '../../src/providers/pkcs11/cryptoki.ts';
import { Pkcs11Provider } from '../../src/providers/pkcs11.ts';
import { type ProviderCode, ProviderError } from '../../src/providers/provider-error.ts';
import { MemorySessionKeeper, type SessionKeeper } from '../../src/providers/session-keeper.ts';
import { FakeCryptoki, type FakeToken, fakeToken } from '../support/fake-cryptoki.ts';
import { makeFolder, removeFolder } from '../support/temporary-folder.ts';

const CONTEXT = { tenant: 'acme' };
const SECRET = new Uint8Array(32).fill(7);
const IN_TIME = new AbortController().signal;

let folder: string;
let pinFile: string;
let providers: Pkcs11Provider[];
let modules = 0;

beforeEach(() => {
  folder = makeFolder();
  pinFile = join(folder, 'pin');
  writeFileSync(pinFile, '5678\n', { mode: 0o600 });
  providers = [];
  modules++;
});

afterEach(async () => {
  await Promise.all(providers.map((provider) => provider.close()));
  removeFolder(folder);
});

function open(fake: FakeCryptoki, settings: Partial<Pkcs11Settings> = {}, keeper?: SessionKeeper): Pkcs11Provider {
  const provider = new Pkcs11Provider({
    root: 'hsm',
    settings: {
      module: `/fake/${modules}.so`,
      slot: undefined,
      token: settings.slot === undefined ? 'dekd' : undefined,
      pinFile,
      key: settings.keyId === undefined ? 'root' : undefined,
      keyId: undefined,
      mechanism: 'aes-gcm',
      mechanismNumber: undefined,
      sessions: 4,
      timeout: 2000,
      ...settings,
    },
    keeper,
    openThread: fake.openThread,
  });
  providers.push(provider);
  return provider;
}

function fakeWith(...tokens: Partial<FakeToken>[]): FakeCryptoki {
  return new FakeCryptoki(tokens.length === 0 ? [fakeToken()] : tokens.map(fakeToken));
}

const MAP: readonly (readonly [keyof typeof CKR, ProviderCode, boolean])[] = [
  ['SESSION_COUNT', 'RATE_LIMITED', true],
  ['DEVICE_MEMORY', 'RATE_LIMITED', true],
  ['DEVICE_ERROR', 'UNAVAILABLE', true],
  ['DEVICE_REMOVED', 'UNAVAILABLE', true],
  ['TOKEN_NOT_PRESENT', 'UNAVAILABLE', true],
  ['GENERAL_ERROR', 'UNAVAILABLE', true],
  ['HOST_MEMORY', 'UNAVAILABLE', true],
  ['SESSION_HANDLE_INVALID', 'UNAVAILABLE', true],
  ['USER_NOT_LOGGED_IN', 'UNAUTHENTICATED', false],
  ['KEY_FUNCTION_NOT_PERMITTED', 'FORBIDDEN', false],
  ['FUNCTION_REJECTED', 'FORBIDDEN', false],
  ['DATA_LEN_RANGE', 'TOO_LARGE', false],
  ['ATTRIBUTE_SENSITIVE', 'UNSUPPORTED', false],
  ['TEMPLATE_INCONSISTENT', 'UNSUPPORTED', false],
  ['MECHANISM_INVALID', 'CONFIG', false],
  ['MECHANISM_PARAM_INVALID', 'CONFIG', false],
  ['KEY_TYPE_INCONSISTENT', 'CONFIG', false],
];

describe('return values of the module', () => {
  it.each(MAP)('CKR_%s of a wrap becomes %s; it trips the breaker: %s', async (name, code, trip) => {
    const fake = fakeWith();
    const provider = open(fake);
    await provider.describe(IN_TIME);
    fake.fail('encrypt', CKR[name], Number.POSITIVE_INFINITY);
    const wrap = provider.wrap(SECRET, CONTEXT, IN_TIME);
    await expect(wrap).rejects.toMatchObject({ name: 'ProviderError', code, trip, detail: `C_Encrypt: CKR_${name}` });
  });

  it('names the configuration key to change when the mechanism is refused', async () => {
    const fake = fakeWith();
    const provider = open(fake);
    fake.fail('encrypt', CKR.MECHANISM_INVALID);
    await expect(provider.wrap(SECRET, CONTEXT, IN_TIME)).rejects.toThrow(/mechanismNumber/);
  });

  it('gives a value it does not know by its number, as a device that failed', async () => {
    const fake = fakeWith();
    fake.fail('encrypt', 0x80000042, Number.POSITIVE_INFINITY);
    const wrap = open(fake).wrap(SECRET, CONTEXT, IN_TIME);
    await expect(wrap).rejects.toMatchObject({ code: 'UNAVAILABLE', detail: 'C_Encrypt: CKR 0x80000042' });
  });

  it('becomes WRONG_KEY where the device says that bytes are of another key, and no round trip is made', async () => {
    const fake = fakeWith();
    const provider = open(fake);
    const { wrapped, reference } = await provider.wrap(SECRET, CONTEXT, IN_TIME);
    fake.fail('encrypt', CKR.DEVICE_ERROR, Number.POSITIVE_INFINITY);
    const unwrap = provider.unwrap(wrapped, reference, { tenant: 'other' }, IN_TIME);
    await expect(unwrap).rejects.toMatchObject({ code: 'WRONG_KEY', trip: false });
  });

  it.each([CKR.GENERAL_ERROR, CKR.FUNCTION_FAILED, 0x80000042])(
    '0x%s of an unwrap is the fault of the bytes while the key still does a round trip, else of the device',
    async (rv) => {
      const fake = fakeWith();
      const provider = open(fake);
      const { wrapped, reference } = await provider.wrap(SECRET, CONTEXT, IN_TIME);
      fake.fail('decrypt', rv, 1);
      const bytes = provider.unwrap(wrapped, reference, CONTEXT, IN_TIME);
      await expect(bytes).rejects.toMatchObject({ code: 'CORRUPT', trip: false });
      fake.fail('decrypt', rv, 2);
      const device = provider.unwrap(wrapped, reference, CONTEXT, IN_TIME);
      await expect(device).rejects.toMatchObject({ code: 'UNAVAILABLE', trip: true });
      expect(await provider.unwrap(wrapped, reference, CONTEXT, IN_TIME)).toEqual(SECRET);
    },
  );

  it('is missing where the thread dies under a call: UNAVAILABLE, and the next call has a new thread', async () => {
    const fake = fakeWith();
    const provider = open(fake, { sessions: 1 });
    await provider.describe(IN_TIME);
    fake.fail('encrypt', new ThreadLostError('gone'));
    await expect(provider.wrap(SECRET, CONTEXT, IN_TIME)).rejects.toMatchObject({ code: 'UNAVAILABLE', trip: true });
    await provider.wrap(SECRET, CONTEXT, IN_TIME);
    expect(fake.opened).toBe(2);
    fake.fail('encrypt', new TypeError('what a library may never say'));
    const wrap = provider.wrap(SECRET, CONTEXT, IN_TIME);
    await expect(wrap).rejects.toMatchObject({
      name: 'ProviderError',
      message: expect.not.stringContaining('may never'),
    });
  });

  it('is got over when the N-th call of any function fails once with a lost session, for every N', async () => {
    const names = ['tokens', 'openSession', 'isLoggedIn', 'login', 'findKeys', 'encrypt', 'decrypt'] as const;
    for (const name of names) {
      const fake = fakeWith();
      const provider = open(fake);
      fake.fail(name, CKR.SESSION_HANDLE_INVALID);
      const { wrapped, reference } = await provider.wrap(SECRET, CONTEXT, IN_TIME);
      expect(await provider.unwrap(wrapped, reference, CONTEXT, IN_TIME)).toEqual(SECRET);
      await provider.close();
      expect(fake.openSessions, name).toBe(0);
      expect(fake.living, name).toBe(0);
    }
  });

  it('of every function and every kind is a ProviderError, leaves nothing open, and is over with its cause', async () => {
    const functions = [
      'initialize',
      'tokens',
      'openSession',
      'isLoggedIn',
      'login',
      'findKeys',
      'encrypt',
      'decrypt',
    ] as const;
    const pins = new Set<number>([
      CKR.PIN_INCORRECT,
      CKR.PIN_INVALID,
      CKR.PIN_LEN_RANGE,
      CKR.PIN_EXPIRED,
      CKR.PIN_LOCKED,
    ]);
    for (const name of functions) {
      for (const rv of [...Object.values(CKR), 0x80000001].filter((each) => !pins.has(each))) {
        const fake = fakeWith();
        const provider = open(fake, { module: `/fake/${name}-${rv}.so` });
        const roundTrip = async () => {
          const { wrapped, reference } = await provider.wrap(SECRET, CONTEXT, IN_TIME);
          return provider.unwrap(wrapped, reference, CONTEXT, IN_TIME);
        };
        fake.fail(name, rv, Number.POSITIVE_INFINITY);
        const failed = await roundTrip().catch((error: unknown) => error);
        expect(failed, `${name} ${rv}`).toBeInstanceOf(ProviderError);
        fake.heal();
        expect(await roundTrip(), `${name} ${rv}`).toEqual(SECRET);
        await provider.close();
        expect([fake.openSessions, fake.living], `${name} ${rv}`).toEqual([0, 0]);
      }
    }
  });

  it('SESSION_COUNT of a session that cannot be opened becomes RATE_LIMITED, and names the setting', async () => {
    const fake = fakeWith();
    fake.fail('openSession', CKR.SESSION_COUNT);
    await expect(open(fake).describe(IN_TIME)).rejects.toMatchObject({
      code: 'RATE_LIMITED',
      message: expect.stringMatching(/lower sessions/),
    });
  });
});

describe('sessions that are lost', () => {
  it('are opened again after a logout by somebody else, with one login for all of them', async () => {
    const fake = fakeWith();
    const provider = open(fake);
    const many = () => Promise.all(Array.from({ length: 8 }, () => provider.wrap(SECRET, CONTEXT, IN_TIME)));
    await many();
    expect(fake.logins.length).toBe(1);
    fake.logOut();
    await many();
    expect(fake.logins.length).toBe(2);
  });

  it('come back within a second of the token, without a restart of the process', async () => {
    const fake = fakeWith();
    const provider = open(fake);
    const { wrapped, reference } = await provider.wrap(SECRET, CONTEXT, IN_TIME);
    fake.tokens[0]!.present = false;
    fake.endSessions();
    const unwrap = () => provider.unwrap(wrapped, reference, CONTEXT, IN_TIME);
    await expect(unwrap()).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringMatching(/present: none/),
    });
    expect(await provider.health('cheap', IN_TIME)).toMatchObject({ ok: false, code: 'UNAVAILABLE' });
    fake.tokens[0]!.present = true;
    const start = performance.now();
    expect(await unwrap()).toEqual(SECRET);
    expect(performance.now() - start).toBeLessThan(1000);
    expect(await provider.health('cheap', IN_TIME)).toMatchObject({ ok: true });
  });

  it('are one for each call in flight, and never more than configured', async () => {
    const fake = fakeWith();
    const provider = open(fake, { sessions: 3 });
    await provider.wrap(SECRET, CONTEXT, IN_TIME);
    expect(fake.opened).toBe(1);
    await Promise.all(Array.from({ length: 20 }, () => provider.wrap(SECRET, CONTEXT, IN_TIME)));
    expect(fake.opened).toBe(3);
    expect(fake.openSessions).toBe(3);
  });

  it('keep the key they resolved: one that took its label and not its id is not taken for it', async () => {
    const fake = fakeWith();
    const provider = open(fake);
    await provider.describe(IN_TIME);
    const token = fake.tokens[0]!;
    token.keys.splice(0, 1, { label: 'root', id: '02', value: new Uint8Array(32) });
    fake.logOut();
    await expect(provider.wrap(SECRET, CONTEXT, IN_TIME)).rejects.toMatchObject({ code: 'KEY_NOT_FOUND' });
  });

  it('say that a key is gone only when a search finds nothing', async () => {
    const fake = fakeWith();
    const provider = open(fake);
    await provider.describe(IN_TIME);
    fake.fail('encrypt', CKR.KEY_HANDLE_INVALID, Number.POSITIVE_INFINITY);
    await expect(provider.wrap(SECRET, CONTEXT, IN_TIME)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    fake.heal();
    fake.tokens[0]!.keys.length = 0;
    await expect(provider.wrap(SECRET, CONTEXT, IN_TIME)).rejects.toMatchObject({ code: 'KEY_NOT_FOUND', trip: false });
  });
});

describe('the PIN', () => {
  it('is sent once when it is wrong, however often it is asked for, until its file changes', async () => {
    const fake = fakeWith();
    writeFileSync(pinFile, 'wrong');
    const provider = open(fake);
    const refused = {
      code: 'UNAUTHENTICATED',
      message: expect.stringMatching(/not tried again until the file changes/),
    };
    for (let i = 0; i < 3; i++) {
      await expect(provider.describe(IN_TIME)).rejects.toMatchObject(refused);
      await expect(provider.wrap(SECRET, CONTEXT, IN_TIME)).rejects.toMatchObject(refused);
      expect((await provider.health('deep', IN_TIME)).ok).toBe(false);
    }
    await Promise.all(Array.from({ length: 8 }, () => provider.describe(IN_TIME).catch(() => {})));
    await expect(open(fake).describe(IN_TIME)).rejects.toMatchObject(refused);
    expect(fake.logins).toEqual(['wrong']);
    writeFileSync(pinFile, '5678\r\n');
    utimesSync(pinFile, 1, 1);
    await provider.describe(IN_TIME);
    expect(fake.logins).toEqual(['wrong', '5678']);
    expect(fake.openSessions).toBeGreaterThan(0);
  });

  it('that was refused is not sent by the next process either, which has the keeper of this one', async () => {
    const keeper = new MemorySessionKeeper();
    writeFileSync(pinFile, 'wrong');
    const first = fakeWith();
    await expect(open(first, {}, keeper).describe(IN_TIME)).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
    await Promise.all(providers.splice(0).map((provider) => provider.close()));
    const next = fakeWith();
    await expect(open(next, {}, keeper).describe(IN_TIME)).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
    expect(next.logins).toEqual([]);
    expect(Buffer.from(keeper.load()!).toString()).not.toContain('wrong');
  });

  it('is never sent when one more failure would lock the token', async () => {
    for (const flag of [TOKEN_FLAG.USER_PIN_FINAL_TRY, TOKEN_FLAG.USER_PIN_LOCKED]) {
      const fake = fakeWith({ flags: TOKEN_FLAG.INITIALIZED | TOKEN_FLAG.LOGIN_REQUIRED | flag });
      await expect(open(fake).describe(IN_TIME)).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
      expect(fake.logins).toEqual([]);
      await providers.pop()!.close();
    }
  });

  it('is not asked for by a token that needs no login', async () => {
    const fake = fakeWith({ flags: TOKEN_FLAG.INITIALIZED });
    await expect(open(fake, { pinFile: '/nowhere' }).describe(IN_TIME)).rejects.toMatchObject({
      code: 'KEY_NOT_FOUND',
    });
    expect(fake.logins).toEqual([]);
  });

  it.each([
    ['open to others', () => writeFileSync(join(folder, 'bad'), '5678', { mode: 0o644 }), /mode 0644.*chmod 600/],
    ['empty', () => writeFileSync(join(folder, 'bad'), '\n', { mode: 0o600 }), /one line of 1 to 256 bytes/],
    ['too long', () => writeFileSync(join(folder, 'bad'), 'x'.repeat(300), { mode: 0o600 }), /1 to 256 bytes/],
    ['missing', () => {}, /ENOENT/],
  ])('is refused before the token sees it when its file is %s', async (_, write, message) => {
    write();
    const fake = fakeWith();
    const provider = open(fake, { pinFile: join(folder, 'bad') });
    await expect(provider.describe(IN_TIME)).rejects.toMatchObject({
      code: 'CONFIG',
      message: expect.stringMatching(message),
    });
    await expect(provider.wrap(SECRET, CONTEXT, IN_TIME)).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
    expect(fake.logins).toEqual([]);
  });
});

describe('the token and the key', () => {
  it('are found by slot or label, and by label or id', async () => {
    const fake = fakeWith({ label: 'first', serial: '1' }, { serial: '2' });
    const byLabel = await open(fake).describe(IN_TIME);
    expect(byLabel).toEqual({
      kind: 'pkcs11',
      resolvedId: 'pkcs11:token=dekd;serial=2;object=root;id=%01;type=secret-key',
      materialVersion: '01',
      warnings: [],
    });
    expect(await open(fake, { slot: 1, keyId: '01' }).describe(IN_TIME)).toEqual(byLabel);
    expect((await open(fake, { slot: 0 }).describe(IN_TIME)).resolvedId).toContain('token=first;serial=1');
  });

  it('are refused where two tokens have the label, and both are named', async () => {
    const fake = fakeWith({ serial: 'aa' }, { serial: 'bb' });
    await expect(open(fake).describe(IN_TIME)).rejects.toMatchObject({
      code: 'CONFIG',
      message: expect.stringMatching(/slot 0 \(serial aa\), slot 1 \(serial bb\)/),
    });
  });

  it('are unavailable, not misnamed, while no such token is present; the labels present are listed', async () => {
    const fake = fakeWith({ label: 'backup' });
    await expect(open(fake).describe(IN_TIME)).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringMatching(/no token "dekd" is present; present: "backup" in slot 0/),
    });
  });

  it('are refused where two keys have the label', async () => {
    const value = new Uint8Array(32);
    const keys = ['01', '02'].map((id) => ({ label: 'root', id, value }));
    await expect(open(fakeWith({ keys })).describe(IN_TIME)).rejects.toMatchObject({
      code: 'CONFIG',
      message: expect.stringMatching(/name one by keyId/),
    });
    expect(await open(fakeWith({ keys }), { module: '/fake/b.so', keyId: '02' }).describe(IN_TIME)).toMatchObject({
      materialVersion: '02',
    });
  });

  it('are refused where the key is not there, and where it may not be used', async () => {
    await expect(open(fakeWith({ keys: [] })).describe(IN_TIME)).rejects.toMatchObject({ code: 'KEY_NOT_FOUND' });
    const keys = [{ label: 'root', id: '01', value: new Uint8Array(32), attributes: { decrypt: false } }];
    await expect(open(fakeWith({ keys }), { module: '/fake/b.so' }).describe(IN_TIME)).rejects.toMatchObject({
      code: 'KEY_DISABLED',
      message: expect.stringMatching(/CKA_DECRYPT/),
    });
  });

  it('are warned of where the key can be read, or has no id', async () => {
    const keys = [{ label: 'root', id: '', value: new Uint8Array(32), attributes: { extractable: true } }];
    const { warnings, materialVersion, resolvedId } = await open(fakeWith({ keys })).describe(IN_TIME);
    expect(warnings.length).toBe(2);
    expect(materialVersion).toBe('');
    expect(resolvedId).not.toContain('id=');
  });

  it('need a mechanism that the token has, and the number to change is named', async () => {
    const provider = open(fakeWith(), { mechanism: 'aes-kwp', mechanismNumber: 0x210a });
    await expect(provider.describe(IN_TIME)).rejects.toMatchObject({
      code: 'CONFIG',
      message: expect.stringMatching(/does not have mechanism 0x210a for aes-kwp: set mechanismNumber/),
    });
  });

  it('that a reference names are used: the key of before opens what it wrapped, after the configuration moved on', async () => {
    const fake = fakeWith();
    const before = open(fake);
    const { wrapped, reference } = await before.wrap(SECRET, CONTEXT, IN_TIME);
    fake.tokens[0]!.keys.push({ label: 'root-2', id: '02', value: new Uint8Array(32).fill(2) });
    const after = open(fake, { key: 'root-2' });
    expect((await after.describe(IN_TIME)).resolvedId).not.toBe(reference.resolvedId);
    expect(await after.unwrap(wrapped, reference, CONTEXT, IN_TIME)).toEqual(SECRET);
    for (const resolvedId of ['root', '', 'pkcs11:type=secret-key', 'pkcs11:object=%zz;type=secret-key']) {
      const unwrap = after.unwrap(wrapped, { ...reference, resolvedId }, CONTEXT, IN_TIME);
      await expect(unwrap).rejects.toMatchObject({ code: 'KEY_NOT_FOUND' });
    }
  });
});

describe('formats', () => {
  it('keep direct ciphertexts and wrapped secrets apart: neither opens as the other', async () => {
    const provider = open(fakeWith());
    const direct = await provider.encrypt(SECRET, CONTEXT, IN_TIME);
    const opened = await provider.decrypt(direct.wrapped, direct.reference, CONTEXT, IN_TIME);
    expect(opened).toEqual(SECRET);
    const posed = direct.wrapped.slice();
    posed[0] = 1;
    for (const wrapped of [direct.wrapped, posed]) {
      const unwrap = provider.unwrap(wrapped, direct.reference, CONTEXT, IN_TIME);
      await expect(unwrap).rejects.toMatchObject({ code: expect.stringMatching(/^(CORRUPT|WRONG_KEY)$/) });
    }
  });

  it('never send the device what is too short or of another mechanism', async () => {
    const fake = fakeWith();
    const provider = open(fake);
    const { wrapped, reference } = await provider.wrap(SECRET, CONTEXT, IN_TIME);
    fake.fail('decrypt', CKR.DEVICE_ERROR, Number.POSITIVE_INFINITY);
    for (const bytes of [wrapped.subarray(0, 0), wrapped.subarray(0, 28), Uint8Array.of(2, ...wrapped.subarray(1))]) {
      await expect(provider.unwrap(bytes, reference, CONTEXT, IN_TIME)).rejects.toMatchObject({ code: 'CORRUPT' });
    }
  });

  it('take 65,536 bytes in direct mode and one more in none; aes-kwp has no direct mode', async () => {
    const provider = open(fakeWith());
    const { directLimit } = provider.capabilities();
    expect(directLimit).toBe(65_536);
    await provider.encrypt(new Uint8Array(directLimit), CONTEXT, IN_TIME);
    const over = provider.encrypt(new Uint8Array(directLimit + 1), CONTEXT, IN_TIME);
    await expect(over).rejects.toMatchObject({ code: 'TOO_LARGE' });
    const kwp = open(fakeWith(), { module: '/fake/kwp.so', mechanism: 'aes-kwp' });
    expect(kwp.capabilities()).toMatchObject({ nativeContext: false, directLimit: 0 });
    await expect(kwp.encrypt(SECRET, CONTEXT, IN_TIME)).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });

  it('leave the secret to the caller', async () => {
    const secret = SECRET.slice();
    for (const mechanism of ['aes-gcm', 'aes-kwp'] as const) {
      await open(fakeWith(), { module: `/fake/${mechanism}.so`, mechanism }).wrap(secret, CONTEXT, IN_TIME);
      expect(secret).toEqual(SECRET);
    }
  });
});

describe('a module that hangs', () => {
  it('costs the caller its time-out, takes no other session, and gets its own back when it returns', async () => {
    const fake = fakeWith();
    const provider = open(fake, { sessions: 2, timeout: 60 });
    const { wrapped, reference } = await provider.wrap(SECRET, CONTEXT, IN_TIME);
    const release = fake.hang('decrypt');
    const unwrap = () => provider.unwrap(wrapped, reference, CONTEXT, IN_TIME);
    const wrap = () => provider.wrap(SECRET, CONTEXT, IN_TIME);
    await expect(unwrap()).rejects.toMatchObject({ code: 'TIMEOUT', trip: true });
    await wrap();
    await expect(unwrap()).rejects.toMatchObject({ code: 'TIMEOUT' });
    const start = performance.now();
    await expect(wrap()).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringMatching(/all 2 sessions hang/),
    });
    expect(performance.now() - start).toBeLessThan(50);
    expect(fake.opened).toBe(2);
    release();
    await new Promise((resolve) => setTimeout(resolve, 10));
    expect(await unwrap()).toEqual(SECRET);
    expect(fake.opened).toBe(2);
  });

  it('lets a caller go that cancels, and one that waits for a session', async () => {
    const fake = fakeWith();
    const provider = open(fake, { sessions: 1 });
    await provider.describe(IN_TIME);
    const release = fake.hang('encrypt');
    const [first, second] = [new AbortController(), new AbortController()];
    const working = provider.wrap(SECRET, CONTEXT, first.signal);
    const waiting = provider.wrap(SECRET, CONTEXT, second.signal);
    second.abort();
    await expect(waiting).rejects.toMatchObject({ code: 'CANCELLED', trip: false });
    first.abort();
    await expect(working).rejects.toMatchObject({ code: 'CANCELLED', trip: false });
    await expect(provider.wrap(SECRET, CONTEXT, AbortSignal.abort())).rejects.toMatchObject({ code: 'CANCELLED' });
    release();
    await provider.wrap(SECRET, CONTEXT, IN_TIME);
  });

  it('is not waited for by close, nor finalised under its call', async () => {
    const fake = fakeWith();
    const provider = open(fake, { timeout: 30 });
    await provider.describe(IN_TIME);
    const release = fake.hang('encrypt');
    await expect(provider.wrap(SECRET, CONTEXT, IN_TIME)).rejects.toMatchObject({ code: 'TIMEOUT' });
    await provider.close();
    expect(fake.finalisations).toBe(0);
    release();
    await new Promise((resolve) => setTimeout(resolve, 10));
    expect(fake.living).toBe(0);
  });
});

describe('one library in one process', () => {
  it('is initialised once for all roots, and finalised with the last of them', async () => {
    const fake = fakeWith();
    const [first, second] = [open(fake), open(fake)];
    await Promise.all([first.describe(IN_TIME), second.describe(IN_TIME)]);
    expect(fake.initialisations).toBe(1);
    expect(fake.logins.length).toBe(1);
    await first.close();
    expect(fake.finalisations).toBe(0);
    await second.wrap(SECRET, CONTEXT, IN_TIME);
    await second.close();
    await second.close();
    expect(fake.finalisations).toBe(1);
    expect(fake.living).toBe(0);
  });

  it('is asked again when its first initialisation failed', async () => {
    const fake = fakeWith();
    fake.fail('initialize', CKR.DEVICE_ERROR);
    const provider = open(fake);
    await expect(provider.describe(IN_TIME)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    await provider.describe(IN_TIME);
  });

  it('answers nothing after close', async () => {
    const provider = open(fakeWith());
    await provider.close();
    await expect(provider.wrap(SECRET, CONTEXT, IN_TIME)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(await provider.health('cheap', IN_TIME)).toMatchObject({ ok: false });
  });
});
