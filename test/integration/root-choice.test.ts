import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Duplex, Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, type DekdClient, DekdError, ERROR_CODES, keyIdOf } from '../../src/client/index.ts';
import { ROOT_NOT_ALLOWED_TEXT } from '../../src/policy/policy.ts';
import { OPERATION } from '../../src/protocol/request-reader.ts';
import type { TestAgent } from '../support/agent.ts';
import { administer } from '../support/agent-state.ts';
import { startFakeAgent } from '../support/fake-agent.ts';
import { KmsServer } from '../support/kms-server/kms-server.ts';
import { RawClient, requestFrame } from '../support/raw-client.ts';
import { makeFolder, removeFolder } from '../support/temporary-folder.ts';
import { startTwoRoots } from '../support/two-roots.ts';

const DATA = Buffer.from('plaintext');

describe('a root that a caller chooses', () => {
  const folder = makeFolder();
  let agent: TestAgent;
  let dekd: DekdClient;

  beforeAll(async () => {
    agent = await startTwoRoots({ folder });
    dekd = connect({ socket: agent.socket });
  });

  afterAll(async () => {
    await dekd.close();
    await agent.stop();
    removeFolder(folder);
  });

  /** The root above the version that a token, or a message of the keystore, was made with. */
  async function rootOf(ciphertext: Uint8Array, key = 'free'): Promise<string | undefined> {
    const { versions } = await dekd.keyInfo(key);
    return versions.find(({ kid }) => kid === keyIdOf(ciphertext))?.root;
  }

  async function refused(call: Promise<unknown>): Promise<DekdError> {
    const error = await call.then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    expect(error).toBeInstanceOf(DekdError);
    return error as DekdError;
  }

  it('is what a value is encrypted under, alone and in batches with others, and moved to', async () => {
    const own = await dekd.encrypt(DATA, { key: 'free' });
    const chosen = await dekd.encrypt(DATA, { key: 'free', root: 'b' });
    expect(await rootOf(own)).toBe('a');
    expect(await rootOf(chosen)).toBe('b');
    expect(Buffer.from(await dekd.decrypt(chosen, { key: 'free' }))).toEqual(DATA);
    // In one tick, so in one frame.
    const roots = [undefined, 'a', 'b', undefined, 'b'];
    const tick = await Promise.all(roots.map((root) => dekd.encrypt(DATA, { key: 'free', root })));
    expect(await Promise.all(tick.map((token) => rootOf(token)))).toEqual(['a', 'a', 'b', 'a', 'b']);
    const items = [DATA, { data: DATA, root: 'a' }, { data: DATA, key: 'free-2' }, { data: DATA, root: 'b' }];
    const many = await dekd.encryptMany(items, { key: 'free', root: 'b' });
    expect(await Promise.all(many.map((result, i) => rootOf(madeOf(result), i === 2 ? 'free-2' : 'free')))).toEqual([
      'b',
      'a',
      'b',
      'b',
    ]);
    expect(await rootOf(await dekd.reencrypt(own, { key: 'free', root: 'b' }))).toBe('b');
    expect(await rootOf(await dekd.reencrypt(chosen, { key: 'free' }))).toBe('a');
    const moved = await dekd.reencryptMany([own, { data: chosen, root: 'a' }, { data: own, root: 'b' }], {
      key: 'free',
      root: 'b',
    });
    expect(await Promise.all(moved.map((result) => rootOf(madeOf(result))))).toEqual(['b', 'a', 'b']);
    const opened = await dekd.decryptMany(moved.map(madeOf), { key: 'free', root: 'b' });
    expect(opened.map((result) => Buffer.from(madeOf(result)))).toEqual([DATA, DATA, DATA]);
  });

  it('is that of large batches, of large values in shared memory, of streams, objects and files', async () => {
    const large = randomBytes(900_000);
    const many = await dekd.encryptMany(
      Array.from({ length: 5_000 }, () => DATA),
      { key: 'free', root: 'b' },
    );
    expect(await rootOf(madeOf(many.at(-1)!))).toBe('b');
    const buffer = await dekd.allocate(large.length);
    buffer.set(large);
    for (const value of [large, buffer]) {
      const token = (await dekd.encrypt(value, { key: 'free', root: 'b' })).slice();
      expect(await rootOf(token)).toBe('b');
      expect(Buffer.from(await dekd.reencrypt(token, { key: 'free', root: 'a' })).length).toBe(token.length);
      expect(large.equals(Buffer.from(await dekd.decrypt(token, { key: 'free' })))).toBe(true);
    }
    const object = await dekd.encryptLarge({ x: 1 }, { key: 'free', root: 'b' });
    expect(await rootOf(object)).toBe('b');
    expect(await dekd.decryptLarge(object, { key: 'free' })).toEqual({ x: 1 });
    expect(Buffer.from(object).includes('dekd-root')).toBe(false);
    const pieces: Buffer[] = [];
    const moving = dekd.reencryptStream({ key: 'free', root: 'a' });
    await pipeline(Readable.from([object]), moving as Duplex, async (source: AsyncIterable<Buffer>) => {
      for await (const piece of source) {
        pieces.push(piece);
      }
    });
    expect(await rootOf(Buffer.concat(pieces))).toBe('a');
    for (const size of [1_000, 2_000_000]) {
      const [source, target, back] = ['in', 'in.dk', 'out'].map((name) => join(folder, `${name}-${size}`));
      writeFileSync(source!, randomBytes(size));
      await dekd.encryptFile(source!, target!, { key: 'free', root: 'b' });
      expect(await rootOf(readFileSync(target!).subarray(0, 1_000))).toBe('b');
      await dekd.decryptFile(target!, back!, { key: 'free' });
      expect(readFileSync(source!).equals(readFileSync(back!))).toBe(true);
    }
  });

  it('is told from one that is not there by the log alone, and the log has the line to add', async () => {
    await dekd.encrypt(DATA, { key: 'k' });
    const denied = await refused(dekd.encrypt(DATA, { key: 'k', root: 'b' }));
    const unknown = await refused(dekd.encrypt(DATA, { key: 'free', root: 'nowhere' }));
    for (const error of [denied, unknown]) {
      expect([error.code, error.message]).toEqual(['PERMISSION_DENIED', ROOT_NOT_ALLOWED_TEXT]);
    }
    const why = async ({ incident }: DekdError) =>
      (await administer(agent, { why: { incident: incident! } })) as { reason: string };
    const { reason } = await why(denied);
    expect(reason).toMatch(/encrypt key "k" under root "b"; this one would, under policy\.rules:\n/);
    expect(reason).toMatch(/\n {4}keys: \["k"\]\n.*\n {4}operations: \[encrypt\]\n {4}roots: \["b"\]$/);
    expect((await why(unknown)).reason).toBe('no root "nowhere" is configured; the roots are a, b');
    // Of a key that the caller may not use nothing else is said either.
    const neither = await refused(dekd.encrypt(DATA, { key: 'theirs', root: 'b' }));
    expect(neither.message).toBe('no such key, or not allowed');
    const options = { key: 'k', root: 'b' };
    const token = await dekd.encrypt(DATA, { key: 'k' });
    for (const call of [
      () => dekd.reencrypt(token, options),
      () => dekd.encryptLarge('x', options),
      () => dekd.encrypt(randomBytes(900_000), options),
      () => dekd.encryptFile(join(folder, 'in-2000000'), join(folder, 'never'), options),
      () => dekd.encryptFile(join(folder, 'in-1000'), join(folder, 'never'), options),
    ]) {
      expect((await refused(call())).message).toBe(ROOT_NOT_ALLOWED_TEXT);
    }
    const [first, second] = await dekd.encryptMany([{ data: DATA, root: 'b' }, DATA], { key: 'k' });
    expect(first).toMatchObject({ ok: false, error: { message: ROOT_NOT_ALLOWED_TEXT } });
    expect(second).toMatchObject({ ok: true });
  });

  it('is a right to the operation that the rule grants, and to no other', async () => {
    const token = await dekd.encrypt(DATA, { key: 'moved' });
    expect((await dekd.reencrypt(token, { key: 'moved', root: 'b' })).length).toBe(token.length);
    expect((await refused(dekd.encrypt(DATA, { key: 'moved', root: 'b' }))).message).toBe(ROOT_NOT_ALLOWED_TEXT);
  });

  it('is chosen for the key that is named, and for no other that a token may be of', async () => {
    const raw = await RawClient.greeted(agent.socket);
    const token = await dekd.encrypt(DATA, { key: 'free' });
    const many = { anyKey: true, root: 'b', items: [{ data: token }] };
    const { many: reply } = (await raw.ask({ reencryptMany: many })) as unknown as { many: { errors: unknown[] } };
    expect(reply.errors).toMatchObject([
      { error: { message: 'a root is chosen for the key that is named: name the key' } },
    ]);
    // Field 4 is none of Reencrypt: it takes no key's rights away that is named.
    const frame = requestFrame({ id: 9, decrypt: { key: 'theirs', anyKey: true, data: token } });
    expect([...frame.subarray(4, 7)]).toEqual([0x08, 9, (OPERATION.decrypt << 3) | 2]);
    frame[6] = (OPERATION.reencrypt << 3) | 2;
    raw.write(frame);
    expect(await raw.reply(9)).toMatchObject({ error: { code: ERROR_CODES.PERMISSION_DENIED.number } });
    raw.destroy();
  });

  it('is checked before it is sent', async () => {
    for (const root of ['', 7, null, '\ud800']) {
      const error = await refused(dekd.encrypt(DATA, { key: 'free', root: root as string }));
      expect([error.code, error.message]).toEqual(['INVALID_ARGUMENT', 'root is the name of a root, not empty']);
    }
  });

  it('is listed with the others that may be chosen', async () => {
    expect(await dekd.roots()).toEqual([
      { name: 'a', provider: 'local', isDefault: true },
      { name: 'b', provider: 'local', isDefault: false },
    ]);
    expect((await dekd.roots({ key: 'free', partition: 'acme' })).map(({ name }) => name)).toEqual(['a', 'b']);
    expect(await dekd.roots({ key: 'k' })).toEqual([]);
    expect(await dekd.roots({ key: 'moved' })).toEqual([{ name: 'b', provider: 'local', isDefault: false }]);
    expect((await refused(dekd.roots({ key: 'theirs' }))).code).toBe('PERMISSION_DENIED');
  });

  it('is one of the rights to a key, which everybody may ask about', async () => {
    expect(await dekd.rights('free')).toEqual({
      operations: ['encrypt', 'decrypt', 'reencrypt', 'keyInfo'],
      create: true,
      roots: ['a', 'b'],
      direct: false,
    });
    expect(await dekd.rights('moved', { partition: 'acme' })).toMatchObject({ create: true, roots: ['b'] });
    const nothing = { operations: [], create: false, roots: [], direct: false };
    expect(await dekd.rights('theirs')).toEqual(nothing);
    expect(await dekd.rights('.l3/default')).toEqual(nothing);
    expect((await refused(dekd.rights(''))).code).toBe('INVALID_ARGUMENT');
  });

  it('stays for callers who choose it while the default goes back and forth, and 64 of them see no error', async () => {
    const choices = [undefined, 'a', 'b'];
    const made: [string | undefined, Uint8Array][] = [];
    const failures: unknown[] = [];
    let isOver = false;
    const callers = Array.from({ length: 64 }, async (_, caller) => {
      const client = connect({ socket: agent.socket });
      for (let i = 0; !isOver; i++) {
        const root = choices[(caller + i) % 3];
        try {
          made.push([root, await client.encrypt(DATA, { key: `free-${i % 4}`, root })]);
        } catch (error) {
          failures.push(error);
        }
      }
      await client.close();
    });
    for (let i = 0; i < 10; i++) {
      await administer(agent, { roots: { action: 'default', name: i % 2 === 0 ? 'b' : 'a' } });
      await administer(agent, { rotate: { name: `free-${i % 4}` } }).catch(() => undefined);
      await new Promise((resolve) => setTimeout(resolve, 30));
    }
    isOver = true;
    await Promise.all(callers);
    expect(failures.length === 0 ? [] : agent.log.filter(({ level }) => level !== 'debug' && level !== 'info')).toEqual(
      [],
    );
    expect(failures).toEqual([]);
    const roots = new Map<string, string | undefined>();
    for (const name of [0, 1, 2, 3]) {
      for (const { kid, root } of (await dekd.keyInfo(`free-${name}`)).versions) {
        roots.set(kid, root);
      }
    }
    for (const [root, token] of made) {
      const under = roots.get(keyIdOf(token)!);
      expect(root === undefined ? ['a', 'b'] : [root]).toContain(under);
    }
    expect(made.length).toBeGreaterThan(500);
  });

  it('is still there, and what was made under it opens, when the agent was started again', async () => {
    const chosen = await dekd.encrypt(DATA, { key: 'free', root: 'b' });
    await agent.stop();
    agent = await startTwoRoots({ folder });
    expect(Buffer.from(await dekd.decrypt(chosen, { key: 'free' }))).toEqual(DATA);
    const next = await dekd.encrypt(DATA, { key: 'free', root: 'b' });
    expect(next.subarray(2, 18)).toEqual(chosen.subarray(2, 18));
  });
});

describe('a root at a service', () => {
  it('is chosen like any other, and its silence stops nobody else', { timeout: 30_000 }, async () => {
    const folder = makeFolder();
    const kms = await KmsServer.start();
    const key = kms.createKey();
    const before = { ...process.env };
    Object.assign(process.env, kms.environment());
    const agent = await startTwoRoots({
      folder,
      roots: ['a'],
      extra: `custody: inline\n`,
      rules: `
    - { name: all, keys: '*', operations: [encrypt, decrypt, keyInfo], create: { max: 9 }, roots: [kms] }`,
      more: `
  kms: { provider: aws-kms, aws: { key: '${key.arn}', region: eu-central-1, endpoint: "${kms.endpoint}" } }`,
    }).finally(() => {
      process.env = before;
    });
    const dekd = connect({ socket: agent.socket });
    expect((await dekd.roots()).map(({ name, provider }) => [name, provider])).toEqual([['kms', 'aws-kms']]);
    const own = await dekd.encrypt(DATA, { key: 'k' });
    const chosen = await dekd.encrypt(DATA, { key: 'k', root: 'kms' });
    const { versions } = await dekd.keyInfo('k');
    expect(versions.map(({ root }) => root)).toEqual(['a', 'kms']);
    await kms.stop();
    expect(Buffer.from(await dekd.decrypt(chosen, { key: 'k' }))).toEqual(DATA);
    expect(Buffer.from(await dekd.decrypt(own, { key: 'k' }))).toEqual(DATA);
    await dekd.encrypt(DATA, { key: 'other' });
    await dekd.close();
    await agent.stop();
    removeFolder(folder);
  });
});

describe('an agent that knows nothing of the choice', () => {
  it('is not sent a value that names a root, and gets the others', async () => {
    const fake = await startFakeAgent({
      hello: { agent: 'dekd/0.0.1' },
      onRequest: ({ id, encryptMany }, connection) =>
        connection.reply(
          encryptMany ? { id, many: { values: encryptMany.items!.map(() => DATA) } } : { id, value: DATA },
        ),
    });
    const dekd = connect({ socket: fake.path, lane: false });
    const settled = await Promise.allSettled([
      dekd.encrypt(DATA, { key: 'k' }),
      dekd.encrypt(DATA, { key: 'k', root: 'b' }),
      dekd.encrypt(DATA, { key: 'k' }),
      dekd.encryptMany([{ data: DATA, root: 'b' }], { key: 'k' }),
      dekd.encryptMany([DATA], { key: 'k', root: 'b' }),
      dekd.encryptMany([DATA], { key: 'k' }),
      dekd.encryptLarge('x', { key: 'k', root: 'b' }),
    ]);
    expect(settled.map(({ status }) => status)).toEqual([
      'fulfilled',
      'rejected',
      'fulfilled',
      'rejected',
      'rejected',
      'fulfilled',
      'rejected',
    ]);
    for (const result of settled) {
      if (result.status === 'rejected') {
        expect(result.reason).toMatchObject({
          code: 'UNSUPPORTED',
          message: /dekd\/0\.0\.1 lets callers choose no root/,
        });
      }
    }
    expect(JSON.stringify(fake.requests)).not.toContain('"root":"b"');
    await dekd.close();
    await fake.stop();
  });
});

function madeOf(
  result: { readonly ok: true; readonly value: Uint8Array } | { readonly ok: false; readonly error: DekdError },
): Uint8Array {
  if (!result.ok) {
    throw result.error;
  }
  return result.value;
}
