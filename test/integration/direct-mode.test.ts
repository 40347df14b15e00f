import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { connect } from '../../src/client/index.ts';
import { startTestAgent, type TestAgent } from '../support/agent.ts';
import { type KmsKey, KmsServer } from '../support/kms-server/kms-server.ts';
import { removeFolder } from '../support/temporary-folder.ts';

const LIMIT = 4_064;

describe('direct mode, where the provider encrypts each value itself', () => {
  let server: KmsServer;
  let key: KmsKey;
  let agent: TestAgent;
  let dekd: ReturnType<typeof connect>;
  let before: NodeJS.ProcessEnv;

  beforeEach(async () => {
    server = await KmsServer.start();
    key = server.createKey();
    server.alias('alias/direct', key);
    before = { ...process.env };
    Object.assign(process.env, server.environment());
    await start();
  });

  afterEach(async () => {
    await dekd.close();
    await agent.stop();
    await server.stop();
    process.env = before;
  });

  async function start(direct = 'true', folder?: string): Promise<void> {
    agent = await startTestAgent({
      ...(folder === undefined ? {} : { folder }),
      yaml: `
engine: auto
custody: inline
memory: { level: heap, allowInsecureMemory: true }
socket: { path: FOLDER/s/agent.sock, allowOwnUid: true }
state: FOLDER/state
roots: { kms: { provider: aws-kms, aws: { key: alias/direct, region: eu-central-1, endpoint: '${server.endpoint}' } } }
keys:
  - { name: 'direct*', direct: ${direct}, keyContext: { purpose: 'cards' }, requiredContext: [field] }
policy:
  rules:
    - { name: own, callers: { socket: data }, keys: '*', operations: [encrypt, decrypt, reencrypt, anyKey, keyInfo], create: { max: 100 } }
`,
    });
    dekd = connect({ socket: agent.socket });
  }

  const binding = { key: 'direct', partition: 'acme', context: { field: 'pan' } };
  const bytes = (length: number): Uint8Array => new Uint8Array(length).fill(7);

  it('makes no data key, calls the provider once each way, and shows it the key context only', async () => {
    const token = await dekd.encryptText('4111 1111', binding);
    expect(await dekd.decryptText(token, binding)).toBe('4111 1111');
    expect([server.count('Encrypt'), server.count('Decrypt')]).toEqual([1, 1]);
    expect(JSON.stringify(server.requests.map(({ input }) => input))).not.toContain('pan');
    expect(server.requests.at(-1)?.context).toEqual({ purpose: 'cards', tenant: 'acme', 'dekd-use': 'direct' });
  });

  it(`takes ${LIMIT} bytes and not one more, and says the limit`, async () => {
    const token = await dekd.encrypt(bytes(LIMIT), binding);
    expect(await dekd.decrypt(token, binding)).toEqual(bytes(LIMIT));
    await expect(dekd.encrypt(bytes(LIMIT + 1), binding)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(`at most ${LIMIT} bytes`),
    });
  });

  it('has its place in a batch that is large, beside items of other keys', async () => {
    const plain = Array.from({ length: 9_000 }, (_, i) => Buffer.from(`item ${i}`));
    const direct = new Set([0, 5_000, 8_999]);
    const items = (values: readonly Uint8Array[]) =>
      values.map((data, i) => (direct.has(i) ? { data, ...binding } : { data, key: 'sealed' }));
    const sealed = await dekd.encryptMany(items(plain), { timeoutMs: 60_000 });
    const tokens = sealed.map((result) => (result.ok ? result.value : expect.fail(result.error.message)));
    expect(tokens.flatMap((token, i) => (token[1] === 0x10 ? [i] : []))).toEqual([...direct]);
    const opened = await dekd.decryptMany(items(tokens), { timeoutMs: 60_000 });
    expect(opened.flatMap((result, i) => (result.ok && plain[i]!.equals(result.value) ? [] : [i]))).toEqual([]);
    // Three items each way, none of them twice, and the record of the other key: wrapped once, and opened to prove that.
    expect([server.count('Encrypt'), server.count('Decrypt')]).toEqual([4, 4]);
  });

  it('opens under the same key, partition and context only', async () => {
    const token = await dekd.encrypt(bytes(9), binding);
    for (const other of [
      { ...binding, key: 'direct-other' },
      { ...binding, partition: 'other' },
      { ...binding, partition: '' },
      { ...binding, context: { field: 'other' } },
      { ...binding, context: { field: 'pan', more: '1' } },
    ]) {
      await expect(dekd.decrypt(token, other)).rejects.toMatchObject({ code: 'DECRYPTION_FAILED' });
    }
    for (let at = 2; at < token.length; at += 11) {
      const changed = token.slice();
      changed[at]! ^= 1;
      await expect(dekd.decrypt(changed, binding)).rejects.toMatchObject({ code: 'DECRYPTION_FAILED' });
    }
    await expect(dekd.encrypt(bytes(1), { key: 'direct' })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });

  it('carries batches with data keys and without, each item with its own result, at most 50 calls at once', async () => {
    const items = Array.from({ length: 120 }, (_, i) => ({
      data: bytes(i === 3 ? LIMIT + 1 : 10 + i),
      key: i % 10 === 9 ? 'envelope' : 'direct',
    }));
    const made = await dekd.encryptMany(items, { ...binding });
    expect(made.filter(({ ok }) => !ok).length).toBe(1);
    expect(made[3]).toMatchObject({ ok: false, error: { code: 'INVALID_ARGUMENT' } });
    const tokens = made.flatMap((result, i) => (result.ok ? [{ data: result.value, key: items[i]!.key }] : []));
    const opened = await dekd.decryptMany(tokens, { ...binding });
    expect(opened.every(({ ok }) => ok)).toBe(true);
    expect(opened.map((result) => (result.ok ? result.value.length : 0))).toEqual(
      items.flatMap(({ data }, i) => (i === 3 ? [] : [data.length])),
    );
  });

  it('opens what it made before the alias was moved, and makes new tokens under the new key', async () => {
    const old = await dekd.encrypt(bytes(9), binding);
    const next = server.createKey();
    server.alias('alias/direct', next);
    const fresh = await dekd.encrypt(bytes(9), binding);
    expect(await dekd.decrypt(old, binding)).toEqual(bytes(9));
    expect(await dekd.decrypt(fresh, binding)).toEqual(bytes(9));
    server.disable(key);
    await expect(dekd.decrypt(old, binding)).rejects.toMatchObject({ code: 'KMS_DENIED' });
    expect(await dekd.decrypt(fresh, binding)).toEqual(bytes(9));
  });

  it('moves a token to a data key when the key is direct no longer', async () => {
    const token = await dekd.encrypt(bytes(9), binding);
    const { folder } = agent;
    onTestFinished(() => removeFolder(folder));
    await dekd.close();
    await agent.agent.close();
    await start('false', folder);
    expect(await dekd.decrypt(token, binding)).toEqual(bytes(9));
    const moved = await dekd.reencrypt(token, binding);
    expect([token[1], moved[1]]).toEqual([0x10, 0x01]);
    const calls = server.count();
    expect(await dekd.decrypt(moved, binding)).toEqual(bytes(9));
    expect(server.count()).toBe(calls);
  });

  it('is unavailable, and says so at once, while the provider is', async () => {
    await server.down();
    for (let i = 0; i < 6; i++) {
      await expect(dekd.encrypt(bytes(1), { ...binding, timeoutMs: 1_000 })).rejects.toBeDefined();
    }
    await server.up();
  });
});
