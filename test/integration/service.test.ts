import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, type DekdClient, keyIdOf } from '../../src/client/index.ts';
import {
  DekdError,
  EncryptionService,
  ERROR_CODES,
  type ReencryptFailure,
  type ServiceOptions,
} from '../../src/service/index.ts';
import { startTestAgent, type TestAgent } from '../support/agent.ts';
import { administer, until } from '../support/agent-state.ts';
import { startFakeAgent } from '../support/fake-agent.ts';
import { KmsServer } from '../support/kms-server/kms-server.ts';
import { makeFolder, removeFolder } from '../support/temporary-folder.ts';
import { startTwoRoots } from '../support/two-roots.ts';

const RULES = `
    - { name: all, keys: [customers, other, spare], operations: [encrypt, decrypt, reencrypt, keyInfo, hmac, verifyHmac], create: { max: 1000 }, roots: ['*'] }
    - { name: reader, keys: read-only, operations: [decrypt] }
    - { name: keeper, keys: kept, operations: [encrypt, decrypt], create: { max: 10 } }`;

const USER = {
  id: '4711',
  name: 'Ada',
  email: 'ada@example.org',
  cards: [{ pan: '4111 1111', year: 2031 }],
  note: null,
};
const FIELDS = ['email', 'cards[].pan', 'note'];

describe('the encryption service', () => {
  const folder = makeFolder();
  const services: EncryptionService[] = [];
  let agent: TestAgent;
  let dekd: DekdClient;

  beforeAll(async () => {
    agent = await startTwoRoots({ folder, rules: RULES });
    dekd = connect({ socket: agent.socket });
  });

  afterAll(async () => {
    await Promise.all(services.map((service) => service.close()));
    await dekd.close();
    await agent.stop();
    removeFolder(folder);
  });

  function open(options: Partial<ServiceOptions> = {}): EncryptionService {
    const service = new EncryptionService({
      key: 'customers',
      connection: { socket: agent.socket },
      ...options,
    } as ServiceOptions);
    services.push(service);
    return service;
  }

  async function rootOf(
    ciphertext: Uint8Array | string,
    key = 'customers',
    partition = '',
  ): Promise<string | undefined> {
    const { versions } = await dekd.keyInfo(key, { partition });
    return versions.find(({ kid }) => kid === keyIdOf(ciphertext))?.root;
  }

  it('encrypts texts and bytes, bound to key, partition and the contexts of service and call', async () => {
    const service = open({ partition: 'acme', context: { app: 'shop' } });
    const text = await service.encrypt('grüße', { context: { field: 'pan' } });
    const bytes = await service.encrypt(new Uint8Array([1, 2, 3]));
    expect(text).toMatch(/^dk1\./);
    expect(await service.decrypt(text, { context: { field: 'pan' } })).toBe('grüße');
    expect(await service.decrypt(bytes)).toEqual(new Uint8Array([1, 2, 3]));
    const whole = { key: 'customers', partition: 'acme', context: { app: 'shop', field: 'pan' } };
    expect(await dekd.decryptText(text, whole)).toBe('grüße');
    for (const call of [{}, { context: { field: 'x' } }, { context: { field: 'pan', app: 'y' } }]) {
      await expect(service.decrypt(text, call)).rejects.toMatchObject({ code: 'DECRYPTION_FAILED' });
    }
    await expect(service.decrypt(text, { ...whole, partition: 'other' })).rejects.toThrow(DekdError);
    const other = await service.encrypt('x', { key: 'other', partition: 'p' });
    expect(await dekd.decryptText(other, { key: 'other', partition: 'p', context: { app: 'shop' } })).toBe('x');
  });

  it('carries large data of any kind as one message', async () => {
    const service = open();
    const object = { rows: Array.from({ length: 1000 }, (_, id) => ({ id, text: 'same' })), none: null };
    const message = await service.encryptLargeData(object, { compression: true, context: { export: '7' } });
    expect(message.length).toBeLessThan(JSON.stringify(object).length / 4);
    expect(await service.decryptLargeData(message, { context: { export: '7' } })).toEqual(object);
    const bytes = randomBytes(3_000_000);
    const large = await service.encryptLargeData(bytes);
    expect(bytes.equals(await service.decryptLargeData<Uint8Array>(large))).toBe(true);
    await expect(service.decryptLargeData(large, { maxOutput: 10 })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
    const moved = await service.reencryptLargeData(large);
    expect(bytes.equals(await service.decryptLargeData<Uint8Array>(moved))).toBe(true);
  });

  it('encrypts the listed fields of an object, and no others, and gives each back as it was', async () => {
    const service = open({ partition: 'acme' });
    const options = { context: { user: USER.id } };
    const stored = await service.encryptObject(USER as object, FIELDS, options);
    expect(stored).toMatchObject({ id: '4711', name: 'Ada', cards: [{ year: 2031 }] });
    expect(JSON.stringify(stored)).not.toMatch(/ada@|4111/);
    expect(await service.decryptObject(stored, FIELDS, options)).toEqual(USER);
    const swapped = { ...stored, email: stored.note, note: stored.email };
    await expect(service.decryptObject(swapped, FIELDS, options)).rejects.toMatchObject({ code: 'DECRYPTION_FAILED' });
    await expect(service.decryptObject(stored, FIELDS, { context: { user: '1' } })).rejects.toMatchObject({
      code: 'DECRYPTION_FAILED',
    });
    await expect(service.encryptObject(USER as object, ['cards[].'], options)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
    // The types of fields that are known when it is compiled.
    const typed = await service.encryptObject(USER, ['email', 'cards[].pan'], options);
    const back = await service.decryptObject<typeof USER, 'email' | 'cards[].pan'>(
      typed,
      ['email', 'cards[].pan'],
      options,
    );
    expect(back.email.toUpperCase()).toBe('ADA@EXAMPLE.ORG');
  });

  it('makes keyed hashes in the agent, bound to key, partition and context, and tells a wrong one', async () => {
    const service = open({ partition: 'acme', context: { app: 'shop' } });
    const hash = await service.generateHash('ada@example.org', 'hmac-sha-256', { context: { use: 'dedupe' } });
    expect(hash).toMatch(/^dm1\.[\w-]{67}$/);
    expect(await service.generateHash(Buffer.from('ada@example.org'), undefined, { context: { use: 'dedupe' } })).toBe(
      hash,
    );
    const verify = (value: string, claimed = hash, call: object = { context: { use: 'dedupe' } }) =>
      service.verifyHash(value, claimed, 'hmac-sha-256', call);
    expect(await verify('ada@example.org')).toBe(true);
    expect(await verify('ada@example.com')).toBe(false);
    expect(await verify('ada@example.org', hash, {})).toBe(false);
    expect(await verify('ada@example.org', hash, { context: { use: 'dedupe' }, partition: 'other' })).toBe(false);
    for (const wrong of ['', 'x', `${hash}A`, hash.slice(1), `${hash.slice(0, -1)}${hash.endsWith('A') ? 'B' : 'A'}`]) {
      expect(await verify('ada@example.org', wrong), wrong).toBe(false);
    }
    // One that was made before a rotation is still right.
    await administer(agent, { rotate: { name: 'customers', partition: 'acme', purpose: 'mac' } });
    expect(await verify('ada@example.org')).toBe(true);
    expect(await service.generateHash('ada@example.org', undefined, { context: { use: 'dedupe' } })).not.toBe(hash);
    const lower = await service.generateHash('abc', 'sha-256');
    expect(lower).toBe('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
  });

  describe('when it is switched to another root', () => {
    it('costs 64 clients at full load no error, sends every later value there, and opens 1,000 old ones', async () => {
      const service = open({ partition: 'switch' });
      const old = await Promise.all(Array.from({ length: 1000 }, (_, i) => service.encrypt(`old ${i}`)));
      const made: { readonly token: string; readonly begun: number }[] = [];
      const failures: unknown[] = [];
      let isOver = false;
      const clients = Array.from({ length: 64 }, async (_, client) => {
        for (let i = 0; !isOver; i++) {
          const begun = performance.now();
          try {
            made.push({ token: await service.encrypt(`new ${client} ${i}`), begun });
            const index = (client * 31 + i) % old.length;
            if ((await service.decrypt(old[index]!)) !== `old ${index}`) {
              throw new Error('another plaintext');
            }
          } catch (error) {
            failures.push(error);
          }
        }
      });
      await new Promise((resolve) => setTimeout(resolve, 300));
      await service.setProvider('b');
      const switched = performance.now();
      expect(service.provider).toBe('b');
      await new Promise((resolve) => setTimeout(resolve, 300));
      isOver = true;
      await Promise.all(clients);
      expect(failures).toEqual([]);
      const later = made.filter(({ begun }) => begun > switched);
      expect(later.length).toBeGreaterThan(64);
      const { versions } = await dekd.keyInfo('customers', { partition: 'switch' });
      const roots = new Map(versions.map(({ kid, root }) => [kid, root]));
      expect(new Set(later.map(({ token }) => roots.get(keyIdOf(token)!)))).toEqual(new Set(['b']));
      expect(roots.get(keyIdOf(old[0]!)!)).toBe('a');
      const opened = await Promise.all(old.map((token) => service.decrypt(token)));
      expect(opened.every((text, i) => text === `old ${i}`)).toBe(true);
    });

    it('is one of those it may choose, and goes back to what the agent says', async () => {
      const service = open({ partition: 'back' });
      expect((await service.providers()).map(({ name, isDefault }) => [name, isDefault])).toEqual([
        ['a', true],
        ['b', false],
      ]);
      await service.setProvider('b');
      expect(await rootOf(await service.encrypt('x'), 'customers', 'back')).toBe('b');
      await expect(service.setProvider('kms')).rejects.toMatchObject({
        code: 'PERMISSION_DENIED',
        message: `setProvider: this caller may not choose root "kms" for key 'customers': it may choose a, b`,
      });
      await expect(service.setProvider('')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
      expect(service.provider).toBe('b');
      await service.setProvider(undefined);
      expect(await rootOf(await service.encrypt('x'), 'customers', 'back')).toBe('a');
      await expect(open({ key: 'kept' }).setProvider('b')).rejects.toThrow(/it may choose none$/);
      const both = [service.setProvider('b'), service.setProvider('a')];
      await Promise.all(both);
      expect(service.provider).toBe('a');
    });

    it('is of this service alone', async () => {
      const one = open();
      const two = open();
      await one.setProvider('b');
      expect([one.provider, two.provider]).toEqual(['b', undefined]);
      expect(await rootOf(await two.encrypt('x'))).toBe('a');
      const object = await one.encryptObject({ id: 1, secret: 's' } as object, ['secret'], { context: { id: '1' } });
      expect(await rootOf(object.secret as string)).toBe('b');
      expect(await rootOf(await one.encryptLargeData('x'))).toBe('b');
      expect(await rootOf(await one.reencrypt(await two.encrypt('x')))).toBe('b');
      expect(await rootOf(await one.reencrypt(await two.encrypt(new Uint8Array(3))))).toBe('b');
    });
  });

  describe('re-encryption on access', () => {
    it('stores what is under another root anew, once, and leaves the rest alone', async () => {
      const service = open({ partition: 'access' });
      const old = await service.encrypt('value');
      await service.setProvider('b');
      const stored: [string, string][] = [];
      const onReencrypted = async (next: string, previous: string): Promise<void> => {
        stored.push([next, previous]);
      };
      expect(await service.decrypt(old, { onReencrypted })).toBe('value');
      expect(stored).toHaveLength(1);
      const [next, previous] = stored[0]!;
      expect(previous).toBe(old);
      expect(await rootOf(next, 'customers', 'access')).toBe('b');
      const before = await requests();
      expect(await service.decrypt(next, { onReencrypted })).toBe('value');
      expect(stored).toHaveLength(1);
      // Which version encrypts was seen just now: nothing else was asked.
      expect((await requests()) - before).toBe(1);
      const fresh = open({ partition: 'access', root: 'b' });
      expect(await fresh.decrypt(next, { onReencrypted })).toBe('value');
      expect(stored).toHaveLength(1);
    });

    it('does the same to bytes, large data and objects', async () => {
      const service = open({ partition: 'kinds' });
      const bytes = await service.encrypt(new Uint8Array([7]));
      const message = await service.encryptLargeData({ x: 1 }, { compression: true });
      const context = { user: '4711' };
      const object = await service.encryptObject(USER as object, FIELDS, { context });
      await service.setProvider('b');
      const kept: unknown[] = [];
      const onReencrypted = (next: unknown): void => void kept.push(next);
      expect(await service.decrypt(bytes, { onReencrypted })).toEqual(new Uint8Array([7]));
      expect(await service.decryptLargeData(message, { onReencrypted })).toEqual({ x: 1 });
      expect(await service.decryptObject(object, FIELDS, { context, onReencrypted })).toEqual(USER);
      const [token, large, row] = kept as [Uint8Array, Uint8Array, Record<string, string>];
      for (const ciphertext of [token, large, row.email!, row.note!]) {
        expect(await rootOf(ciphertext, 'customers', 'kinds')).toBe('b');
      }
      expect(await service.decryptLargeData(large, { onReencrypted })).toEqual({ x: 1 });
      expect(await service.decryptObject(row, FIELDS, { context, onReencrypted })).toEqual(USER);
      expect(kept).toHaveLength(3);
    });

    it('notices a rotation too, and is told of nothing where nobody asked', async () => {
      const service = open({ partition: 'rotated' });
      const old = await service.encrypt('value');
      await administer(agent, { rotate: { name: 'customers', partition: 'rotated' } });
      let next = '';
      expect(await service.decrypt(old)).toBe('value');
      await service.decrypt(old, {
        onReencrypted: (made: string) => {
          next = made;
        },
      });
      expect(keyIdOf(next)).not.toBe(keyIdOf(old));
    });

    it('loses no plaintext when storing or re-encrypting fails, and tells of both', async () => {
      const service = open({ partition: 'failing' });
      const old = await service.encrypt('value');
      await service.setProvider('b');
      const failures: ReencryptFailure[] = [];
      const onReencryptFailed = (failure: ReencryptFailure): void => void failures.push(failure);
      const boom = new Error('the store is down');
      const onReencrypted = (): never => {
        throw boom;
      };
      expect(await service.decrypt(old, { onReencrypted, onReencryptFailed })).toBe('value');
      expect(failures).toEqual([
        { operation: 'decrypt', key: 'customers', partition: 'failing', step: 'store', error: boom },
      ]);
      const keeper = open({ key: 'kept', onReencryptFailed: (failure) => void failures.push(failure) });
      const token = await keeper.encrypt('kept');
      expect(await keeper.decrypt(token, { onReencrypted: () => expect.unreachable() })).toBe('kept');
      expect(failures[1]).toMatchObject({ step: 'reencrypt', error: { code: 'PERMISSION_DENIED' } });
      // Who is told may fail as well.
      const worse = open({ partition: 'failing', root: 'b', onReencryptFailed: onReencrypted });
      expect(await worse.decrypt(old, { onReencrypted })).toBe('value');
    });

    it('warns once of what nobody is told of, and shows nothing of what a callback threw', async () => {
      const warnings: Error[] = [];
      const listen = (warning: Error): void => void warnings.push(warning);
      process.on('warning', listen);
      try {
        const service = open({ partition: 'warned' });
        const old = await service.encrypt('value');
        await service.setProvider('b');
        for (let i = 0; i < 3; i++) {
          await service.decrypt(old, { onReencrypted: () => Promise.reject(new TypeError('secret value')) });
        }
        await until(() => warnings.length > 0);
        expect(warnings.map(({ message }) => message)).toEqual([
          "decrypt: a value of key 'customers' was not re-encrypted: the callback that stores it failed: TypeError",
        ]);
      } finally {
        process.off('warning', listen);
      }
    });

    it('does not spare a ciphertext that does not open', async () => {
      const service = open({ partition: 'failing' });
      const token = await service.encrypt('value');
      const onReencrypted = () => expect.unreachable();
      await expect(service.decrypt(token, { context: { x: 'y' }, onReencrypted })).rejects.toMatchObject({
        code: 'DECRYPTION_FAILED',
      });
      await expect(service.decrypt('plain', { onReencrypted })).rejects.toMatchObject({ code: 'MALFORMED' });
    });
  });

  describe('capabilities', () => {
    it('agree with what the operations do', async () => {
      const cases = [
        [
          'customers',
          [
            'encrypt',
            'decrypt',
            'reencrypt',
            'encryptLargeData',
            'decryptLargeData',
            'reencryptLargeData',
            'encryptObject',
            'decryptObject',
            'generateHash',
            'verifyHash',
            'setProvider',
            'keyInfo',
          ],
        ],
        ['kept', ['encrypt', 'decrypt', 'encryptLargeData', 'decryptLargeData', 'encryptObject', 'decryptObject']],
        ['read-only', ['decrypt', 'decryptLargeData', 'decryptObject']],
        ['nobody', []],
      ] as const;
      for (const [key, expected] of cases) {
        const service = open({ key });
        const able = await service.capabilities();
        expect(able, key).toEqual(expected);
        const maker = open({ key: 'customers' });
        const token = await maker.encrypt('x');
        const message = await maker.encryptLargeData('x');
        const calls: Record<string, () => Promise<unknown>> = {
          encrypt: () => service.encrypt('x'),
          decrypt: () => service.decrypt(token),
          reencrypt: () => service.reencrypt(token),
          encryptLargeData: () => service.encryptLargeData('x'),
          decryptLargeData: () => service.decryptLargeData(message),
          reencryptLargeData: () => service.reencryptLargeData(message),
          encryptObject: () => service.encryptObject({ x: 1 } as object, ['x'], { context: {} }),
          generateHash: () => service.generateHash('x'),
          verifyHash: () => maker.generateHash('x').then((hash) => service.verifyHash('x', hash)),
          setProvider: () => service.setProvider('b'),
          keyInfo: () => service.keyInfo(),
        };
        for (const [name, call] of Object.entries(calls)) {
          const code = await call().then(
            () => 'done',
            (error: DekdError) => error.code,
          );
          expect(code !== 'PERMISSION_DENIED', `${name} of ${key}: ${code}`).toBe(able.includes(name as 'encrypt'));
        }
      }
    });

    it('are checked at the start of an application, with what there is instead', async () => {
      await open().check();
      await open({ root: 'b' }).check();
      await expect(open({ root: 'nowhere' }).check()).rejects.toThrow(/root "nowhere" .* it may choose a, b$/);
      await expect(open({ key: 'nobody' }).check()).rejects.toThrow(
        /nothing is granted to this caller on key 'nobody'/,
      );
      await expect(
        open({ connection: { socket: `${folder}/none.sock`, timeoutMs: 200 } }).check(),
      ).rejects.toMatchObject({ code: 'AGENT_UNAVAILABLE' });
    });

    it('of a key that its provider uses directly lack what it cannot do, which is UNSUPPORTED, by name', async () => {
      const kms = await KmsServer.start();
      const key = kms.createKey();
      const before = { ...process.env };
      Object.assign(process.env, kms.environment());
      const direct = await startTestAgent({
        yaml: `
engine: auto
custody: inline
memory: { level: heap, allowInsecureMemory: true }
socket: { path: FOLDER/s/agent.sock, allowOwnUid: true }
state: FOLDER/state
roots: { kms: { provider: aws-kms, aws: { key: '${key.arn}', region: eu-central-1, endpoint: '${kms.endpoint}' } } }
keys: [{ name: direct, direct: true }]
policy:
  rules:
    - { name: own, keys: direct, operations: [encrypt, decrypt, reencrypt, keyInfo], create: { max: 9 } }`,
      }).finally(() => {
        process.env = before;
      });
      const service = open({ key: 'direct', connection: { socket: direct.socket } });
      expect(await service.capabilities()).toEqual([
        'encrypt',
        'decrypt',
        'reencrypt',
        'encryptObject',
        'decryptObject',
        'keyInfo',
      ]);
      expect(await service.decrypt(await service.encrypt('x'))).toBe('x');
      await expect(service.encryptLargeData('x')).rejects.toMatchObject({
        code: 'UNSUPPORTED',
        message: expect.stringMatching(/^encryptLargeData: key 'direct' is direct/),
      });
      await service.close();
      await direct.stop();
      await kms.stop();
    });

    it('cannot be asked of an agent that does not know the question, which is UNSUPPORTED, by name', async () => {
      const fake = await startFakeAgent({
        onRequest: ({ id }, connection) =>
          connection.reply({
            id,
            error: { code: ERROR_CODES.UNSUPPORTED.number, message: 'operation 28 is not known to this agent' },
          }),
      });
      const service = open({ connection: { socket: fake.path, lane: false } });
      await expect(service.capabilities()).rejects.toMatchObject({
        code: 'UNSUPPORTED',
        message: 'capabilities: operation 28 is not known to this agent',
      });
      await service.close();
      await fake.stop();
    });
  });

  describe('a disabled service', () => {
    it('refuses every operation, and passes nothing through', async () => {
      const service = EncryptionService.fromEnvironment({ ENCRYPTION_ENABLED: 'false' });
      expect([service.isEnabled, await service.capabilities()]).toEqual([false, []]);
      const bytes = new Uint8Array(1);
      for (const [name, call] of [
        ['encrypt', () => service.encrypt('x')],
        ['decrypt', () => service.decrypt('x')],
        ['reencrypt', () => service.reencrypt('x')],
        ['encryptLargeData', () => service.encryptLargeData('x')],
        ['decryptLargeData', () => service.decryptLargeData(bytes)],
        ['reencryptLargeData', () => service.reencryptLargeData(bytes)],
        ['encryptObject', () => service.encryptObject({} as object, [])],
        ['decryptObject', () => service.decryptObject({} as object, [])],
        ['generateHash', () => service.generateHash('x', 'sha-256')],
        ['verifyHash', () => service.verifyHash('x', 'x', 'sha-256')],
        ['providers', () => service.providers()],
        ['setProvider', () => service.setProvider('a')],
        ['check', () => service.check()],
        ['keyInfo', () => service.keyInfo()],
      ] as const) {
        const error = await (call() as Promise<unknown>).catch((thrown: unknown) => thrown);
        expect(error, name).toMatchObject({
          code: 'SERVICE_DISABLED',
          message: `${name}: the encryption service is disabled`,
        });
      }
      await service.close();
    });
  });

  describe('connections', () => {
    it('are one for all services of the same settings, and another for others', async () => {
      const before = await connectionsOpen();
      const settings = { connection: { socket: agent.socket, timeoutMs: 9_000 } };
      const [one, two, three] = [
        open(settings),
        open(settings),
        open({ connection: { socket: agent.socket, timeoutMs: 8_000 } }),
      ];
      await Promise.all([one!.encrypt('x'), two!.encrypt('x')]);
      expect((await connectionsOpen()) - before).toBe(1);
      await three!.encrypt('x');
      expect((await connectionsOpen()) - before).toBe(2);
      await one!.close();
      expect(await two!.decrypt(await two!.encrypt('x'))).toBe('x');
      await expect(one!.encrypt('x')).rejects.toMatchObject({
        code: 'AGENT_UNAVAILABLE',
        message: 'encrypt: the encryption service was closed',
      });
      await Promise.all([two!.close(), three!.close()]);
      await until(async () => (await connectionsOpen()) === before);
    });

    it('are made anew when the cache is cleared, and calls under way finish', async () => {
      const service = open({ connection: { socket: agent.socket, timeoutMs: 7_000 } });
      await service.encrypt('x');
      const accepted = await counter('connectionsAccepted');
      const calls = Array.from({ length: 200 }, (_, i) => service.encrypt(`x${i}`));
      const cleared = service.clearCache();
      expect((await Promise.all(calls)).length).toBe(200);
      await cleared;
      await service.encrypt('x');
      // That of the counter, and the service's.
      expect((await counter('connectionsAccepted')) - accepted).toBeGreaterThan(0);
      await service.close();
    });

    it('that were given stay open', async () => {
      const service = new EncryptionService({ key: 'customers', client: dekd });
      await service.encrypt('x');
      await service.clearCache();
      await service.close();
      expect(await dekd.decryptText(await dekd.encryptText('x', { key: 'customers' }), { key: 'customers' })).toBe('x');
    });
  });

  it('lets its old root go: what was read moves, none is left under it, and all opens without it', {
    timeout: 60_000,
  }, async () => {
    const own = makeFolder();
    let place = await startTwoRoots({ folder: own, rules: RULES });
    const store = new Map<number, string>();
    let service = new EncryptionService({ key: 'customers', connection: { socket: place.socket } });
    for (let id = 0; id < 100; id++) {
      store.set(id, await service.encrypt(`value ${id}`, { context: { id: `${id}` } }));
    }
    const underA = async (): Promise<number> => {
      const ids = (await service.keyInfo()).versions.flatMap(({ kid, root }) => (root === 'a' ? [kid] : []));
      return [...store.values()].filter((token) => ids.includes(keyIdOf(token)!)).length;
    };
    expect(await underA()).toBe(100);
    await service.setProvider('b');
    for (const [id, token] of store) {
      const plain = await service.decrypt(token, {
        context: { id: `${id}` },
        onReencrypted: (next: string, previous: string) => {
          if (store.get(id) === previous) {
            store.set(id, next);
          }
        },
      });
      expect(plain).toBe(`value ${id}`);
    }
    expect(await underA()).toBe(0);
    await administer(place, { roots: { action: 'default', name: 'b' } });
    await administer(place, { rotate: { name: 'customers' } });
    await service.close();
    await place.stop();
    place = await startTwoRoots({ folder: own, roots: ['b'], rules: RULES });
    service = new EncryptionService({ key: 'customers', connection: { socket: place.socket } });
    for (const [id, token] of store) {
      expect(await service.decrypt(token, { context: { id: `${id}` } })).toBe(`value ${id}`);
    }
    expect(await service.decrypt(await service.encrypt('new'))).toBe('new');
    await service.close();
    await place.stop();
    removeFolder(own);
  });

  async function connectionsOpen(): Promise<number> {
    return (await counter('connectionsOpen')) - 1;
  }

  async function counter(name: string): Promise<number> {
    const status = (await administer(agent, { status: {} })) as { counters: Record<string, number> };
    return status.counters[name]!;
  }

  async function requests(): Promise<number> {
    const { counters } = (await administer(agent, { status: {} })) as unknown as {
      counters: { operations: Record<string, { ok?: number }> };
    };
    return ['encrypt', 'decrypt', 'reencrypt'].reduce((sum, name) => sum + (counters.operations[name]?.ok ?? 0), 0);
  }
});
