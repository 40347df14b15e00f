import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { connect } from '../../src/client/index.ts';
import type { DekdClient } from '../../src/client/types.ts';
import { CacheTransformer, type RedisCommands } from '../../src/helpers/index.ts';
import { startTestAgent, type TestAgent } from '../support/agent.ts';
import { formsFound } from '../support/canary.ts';
import { RawClient } from '../support/raw-client.ts';
import { describeRedis, RedisServer } from '../support/redis.ts';

const CANARY = 'card 4111 1111 1111 1111, "zoë"';
const NOT_VALID = { name: 'DekdError', code: 'DECRYPTION_FAILED', message: 'the cached value is not valid' };

let agent: TestAgent;
let dekd: DekdClient;
beforeAll(async () => {
  agent = await startTestAgent();
  dekd = connect({ socket: agent.socket });
});
afterAll(async () => {
  await dekd.close();
  await agent.stop();
});

describeRedis('a cache in Redis', () => {
  let server: RedisServer;
  let redis: Redis;
  let cache: CacheTransformer;
  let strict: CacheTransformer;
  beforeAll(async () => {
    server = await RedisServer.start();
    redis = server.client();
  });
  afterAll(() => server.stop());
  beforeEach(async () => {
    await redis.flushall();
    cache = new CacheTransformer(dekd, redis, { key: 'cache' });
    strict = new CacheTransformer(dekd, redis, { key: 'cache', onInvalid: 'error' });
  });

  it('gives back what was set, the empty text too, and null for what was not', async () => {
    const values = ['', ' ', '0', 'null', CANARY, '\u0000', '\u{1f600}', 'x'.repeat(700_000)];
    for (const [at, value] of values.entries()) {
      await cache.set(`k${at}`, value);
      expect(await cache.get(`k${at}`)).toBe(value);
    }
    expect(await cache.get('none')).toBeNull();
    expect(await cache.mget(['k4', 'none', 'k0', 'k4'])).toEqual([CANARY, null, '', CANARY]);
    expect(await cache.mget([])).toEqual([]);
    await cache.mset([]);
  });

  it('sets and gets a thousand as one batch of the agent, with one command each', async () => {
    const calls: string[] = [];
    const counted = {
      encryptMany: (...args: Parameters<DekdClient['encryptMany']>) => {
        calls.push(`encrypt ${args[0].length}`);
        return dekd.encryptMany(...args);
      },
      decryptMany: (...args: Parameters<DekdClient['decryptMany']>) => {
        calls.push(`decrypt ${args[0].length}`);
        return dekd.decryptMany(...args);
      },
    };
    const commands: RedisCommands = {
      call: (command, ...args) => {
        calls.push(command);
        return redis.call(command, ...args);
      },
    };
    const many = new CacheTransformer(counted, commands, { key: 'cache' });
    const entries = Array.from({ length: 1000 }, (_, at) => [`k${at}`, `value ${at}`] as const);
    await many.mset(entries);
    expect(await many.mget([...entries.map(([name]) => name), 'none'])).toEqual([
      ...entries.map(([, value]) => value),
      null,
    ]);
    expect(calls).toEqual(['encrypt 1000', 'MSET', 'MGET', 'decrypt 1000']);
  });

  it('has Redis hold nothing of a value, in any form', async () => {
    await cache.set('a', CANARY);
    await cache.mset(Array.from({ length: 50 }, (_, at) => [`k${at}`, `${'.'.repeat(at)}${CANARY}`] as const));
    await cache.set('b', CANARY, { ttlMs: 60_000 });
    const held = await server.dump();
    const raw: Buffer[] = [];
    for (const name of await redis.keys('*')) {
      const value = await redis.get(name);
      expect(value).toMatch(/^dk1\.[\w-]+$/);
      raw.push(Buffer.from(value!.slice(4), 'base64url'));
    }
    expect(raw).toHaveLength(52);
    for (const each of [held, Buffer.concat(raw)]) {
      expect([CANARY, '4111 1111 1111', '1111, "zoë"'].flatMap((text) => formsFound(each, text))).toEqual([]);
    }
  });

  it('opens no value under another name, of another cache, tenant or field', async () => {
    await cache.set('a', 'of a', { partition: 'acme' });
    await cache.set('b', 'of b', { partition: 'other' });
    await redis.rename('a', 'b');
    await expect(strict.get('b', { partition: 'acme' })).rejects.toMatchObject(NOT_VALID);
    await redis.rename('b', 'a');
    await expect(strict.get('a', { partition: 'other' })).rejects.toMatchObject(NOT_VALID);
    const other = new CacheTransformer(dekd, redis, { key: 'cache', kind: 'other', onInvalid: 'error' });
    await expect(other.get('a', { partition: 'acme' })).rejects.toMatchObject(NOT_VALID);
    expect(await strict.get('a', { partition: 'acme' })).toBe('of a');
    const bound = new CacheTransformer<'user'>(dekd, redis, { key: 'cache', bindTo: ['user'], onInvalid: 'error' });
    await bound.set('c', 'of u1', { context: { user: 'u1' } });
    await expect(bound.get('c', { context: { user: 'u2' } })).rejects.toMatchObject(NOT_VALID);
  });

  it('never gives out what does not open: a miss, or an error, and the others of the batch as they are', async () => {
    await cache.mset([
      ['good', 'value'],
      ['changed', 'value'],
      ['swapped', 'other'],
    ]);
    const sealed = (await redis.get('changed'))!;
    await redis.set('changed', `${sealed.slice(0, -1)}${sealed.endsWith('A') ? 'B' : 'A'}`);
    await redis.set('swapped', (await redis.get('good'))!);
    await redis.set('plain', 'a plaintext that somebody put there');
    await redis.set('empty', '');
    await redis.set('long', `dk1.${'A'.repeat(3_000_000)}`);
    const names = ['changed', 'swapped', 'plain', 'empty', 'long'];
    expect(await cache.mget(['good', ...names])).toEqual(['value', null, null, null, null, null]);
    for (const name of names) {
      expect(await cache.get(name)).toBeNull();
      await expect(strict.get(name)).rejects.toMatchObject(NOT_VALID);
      await expect(strict.mget(['good', name])).rejects.toMatchObject(NOT_VALID);
    }
  });

  it('leaves it to Redis when a value ends', async () => {
    await cache.set('a', 'one', { ttlMs: 50_000 });
    expect(await redis.pttl('a')).toBeGreaterThan(40_000);
    await cache.set('a', 'two', { keepTtl: true });
    expect(await redis.pttl('a')).toBeGreaterThan(40_000);
    expect(await cache.get('a')).toBe('two');
    await cache.set('a', 'three');
    expect(await redis.pttl('a')).toBe(-1);
    await cache.mset(
      [
        ['b', '1'],
        ['c', '2'],
      ],
      { ttlMs: 40 },
    );
    expect(await cache.mget(['b', 'c'])).toEqual(['1', '2']);
    await new Promise((resolve) => setTimeout(resolve, 60));
    expect(await cache.mget(['b', 'c'])).toEqual([null, null]);
    for (const time of [{ ttlMs: 0 }, { ttlMs: 1.5 }, { ttlMs: -1 }, { ttlMs: 5, keepTtl: true }]) {
      await expect(cache.set('a', 'x', time)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    }
  });

  it('deletes, and says how many there were', async () => {
    await cache.mset([
      ['a', '1'],
      ['b', '2'],
    ]);
    expect(await cache.del('a', 'b', 'none')).toBe(2);
    expect(await cache.del()).toBe(0);
    expect(await redis.dbsize()).toBe(0);
  });

  it('is no miss and stores nothing when the agent is down', async () => {
    await cache.set('a', 'value');
    const nobody = connect({ socket: '/nowhere/agent.sock', timeoutMs: 50 });
    const alone = new CacheTransformer(nobody, redis, { key: 'cache' });
    await expect(alone.get('a')).rejects.toMatchObject({ code: 'AGENT_UNAVAILABLE' });
    await expect(alone.set('b', 'value')).rejects.toMatchObject({ code: 'AGENT_UNAVAILABLE' });
    expect(await redis.exists('b')).toBe(0);
    await nobody.close();
  });

  it('is no miss either when its key is disabled', async () => {
    const off = new CacheTransformer(dekd, redis, { key: 'cache-off' });
    await off.set('a', 'value');
    const operator = await RawClient.greeted(agent.admin);
    expect((await operator.ask({ admin: { disable: { name: 'cache-off' } } })).error).toBeFalsy();
    operator.destroy();
    await expect(off.get('a')).rejects.toMatchObject({ code: 'KEY_DISABLED' });
  });

  it('sets none of a batch of which one cannot be set', async () => {
    for (const wrong of [1 as never, null as never, '\ud800', 'x'.repeat(3_000_000)]) {
      await expect(
        cache.mset([
          ['a', 'value'],
          ['b', wrong],
        ]),
      ).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    }
    await expect(cache.set('', 'value')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(await redis.dbsize()).toBe(0);
  });

  it('is the same through a client with sendCommand', async () => {
    // A stand-in for the interface of node-redis, over the same server.
    const sent: RedisCommands = { sendCommand: ([command = '', ...args]) => redis.call(command, ...args) };
    const other = new CacheTransformer(dekd, sent, { key: 'cache' });
    await other.mset(
      [
        ['a', '1'],
        ['b', '2'],
      ],
      { ttlMs: 60_000 },
    );
    expect(await cache.mget(['a', 'b'])).toEqual(['1', '2']);
    expect(await other.get('a')).toBe('1');
    expect(await other.del('a', 'b')).toBe(2);
  });

  it('is bound to the name that it was asked for, whatever prefix the client puts before it', async () => {
    const prefixed = server.client('app:');
    const other = new CacheTransformer(dekd, prefixed, { key: 'cache' });
    await other.mset([
      ['a', '1'],
      ['b', '2'],
    ]);
    expect((await redis.keys('*')).sort()).toEqual(['app:a', 'app:b']);
    expect(await other.mget(['a', 'b'])).toEqual(['1', '2']);
  });
});
