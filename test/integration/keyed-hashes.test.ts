import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { connect } from '../../src/client/index.ts';
import type { BlindIndexOptions, DekdClient, HmacOptions } from '../../src/client/types.ts';
import { DekdError, errorCodeOf } from '../../src/errors.ts';
import type { RequestFields } from '../../src/protocol/messages.ts';
import { startTestAgent, type TestAgent, type TestAgentOptions, writeRunConfig } from '../support/agent.ts';
import { ENGINE_NAMES } from '../support/engines.ts';
import { startFakeAgent } from '../support/fake-agent.ts';
import { contextOf, HELLO, RawClient, type RawReply } from '../support/raw-client.ts';
import { makeFolder, removeFolder } from '../support/temporary-folder.ts';

const KEY = { key: 'k' };
const COLUMN = { ...KEY, table: 'users', column: 'email' };

interface Started {
  readonly agent: TestAgent;
  readonly dekd: DekdClient;
}

/** An agent and a client, ended with the test. */
async function started(options: TestAgentOptions = {}): Promise<Started> {
  const agent = await startTestAgent(options);
  const dekd = connect({ socket: agent.socket });
  onTestFinished(async () => {
    await dekd.close();
    await agent.stop();
  });
  return { agent, dekd };
}

/** The same over the file that tests have, changed; callers may do everything there unless it says something else. */
async function configured(change: (yaml: string) => string, quotaClock?: () => number): Promise<Started> {
  const folder = makeFolder();
  onTestFinished(() => removeFolder(folder));
  const yaml = readFileSync(writeRunConfig(folder), 'utf8').replace(
    'keyInfo]',
    'keyInfo, hmac, verifyHmac, blindIndex]',
  );
  return started({ yaml: change(yaml), folder, ...(quotaClock === undefined ? {} : { quotaClock }) });
}

async function admin(agent: TestAgent, command: NonNullable<RequestFields['admin']>): Promise<RawReply> {
  const client = await RawClient.connect(agent.admin);
  try {
    await client.ask({ hello: HELLO });
    const reply = await client.ask({ admin: command });
    return reply;
  } finally {
    client.destroy();
  }
}

async function changed(agent: TestAgent, command: NonNullable<RequestFields['admin']>): Promise<void> {
  expect((await admin(agent, command)).error ?? undefined).toBeUndefined();
}

async function inWorkers(agent: TestAgent): Promise<number> {
  const { document } = await admin(agent, { status: {} });
  return (JSON.parse(Buffer.from(document!).toString()) as { workers: { inWorkers: number } }).workers.inWorkers;
}

async function codeOf(call: Promise<unknown>): Promise<string | undefined> {
  try {
    await call;
    return undefined;
  } catch (error) {
    expect(error).toBeInstanceOf(DekdError);
    return (error as DekdError).code;
  }
}

function kidOf(mac: Uint8Array): string {
  return Buffer.from(mac.subarray(2, 18)).toString('hex');
}

describe.each(ENGINE_NAMES)('MACs over the socket with the %s engine', (engine) => {
  let agent: TestAgent;
  let dekd: DekdClient;
  beforeAll(async () => {
    agent = await startTestAgent({ engine, workers: 2 });
    dekd = connect({ socket: agent.socket });
  });
  afterAll(async () => {
    await dekd.close();
    await agent.stop();
  });

  const bound: HmacOptions = { key: 'a', partition: 'bc', context: { row: '1' } };

  it('verify with what they were made with, as bytes and as text, and with nothing else', async () => {
    const mac = await dekd.hmac('data', bound);
    expect(mac).toHaveLength(50);
    expect(await dekd.hmac(Buffer.from('data'), bound)).toEqual(mac);
    const text = await dekd.hmacText('data', bound);
    expect(text).toBe(`dm1.${Buffer.from(mac).toString('base64url')}`);
    expect(await dekd.verifyHmac('data', mac, bound)).toBe(true);
    expect(await dekd.verifyHmac(Buffer.from('data'), text, bound)).toBe(true);
    for (const [data, options] of [
      ['datA', bound],
      ['', bound],
      ['data', { ...bound, context: { row: '2' } }],
      ['data', { ...bound, context: {} }],
      ['data', { ...bound, context: { row: '1', more: '' } }],
      ['data', { ...bound, key: 'ab', partition: 'c' }],
      ['data', { ...bound, partition: '' }],
      ['data', { ...bound, key: 'b' }],
    ] as const) {
      expect(await dekd.verifyHmac(data, mac, options), JSON.stringify([data, options])).toBe(false);
    }
    for (let at = 0; at < mac.length; at++) {
      const flipped = mac.slice();
      flipped[at]! ^= 1;
      expect(await dekd.verifyHmac('data', flipped, bound), `byte ${at}`).toBe(false);
    }
  });

  it('bind context and data with a border between them', async () => {
    const context = contextOf({ a: 'b' });
    const mac = await dekd.hmac(Buffer.concat([context, Buffer.from('x')]), KEY);
    expect(await dekd.verifyHmac('x', mac, { ...KEY, context: { a: 'b' } })).toBe(false);
  });

  it('are no tokens, and tokens are no MACs', async () => {
    const mac = await dekd.hmac('data', bound);
    const token = await dekd.encrypt(Buffer.from('data'), bound);
    expect(await codeOf(dekd.decrypt(mac, bound))).toBe('MALFORMED');
    expect(await dekd.verifyHmac('data', token, bound)).toBe(false);
    expect(await dekd.verifyHmac('data', token.subarray(0, 50), bound)).toBe(false);
    // Under the kid of a key for tokens, and a token under the kid of a key for MACs.
    const other = mac.slice();
    other.set(token.subarray(2, 18), 2);
    expect(await dekd.verifyHmac('data', other, bound)).toBe(false);
    const forged = token.slice();
    forged.set(mac.subarray(2, 18), 2);
    expect(await codeOf(dekd.decrypt(forged, bound))).toBe('DECRYPTION_FAILED');
  });

  it('of another length do not borrow bytes of the data', async () => {
    const mac = await dekd.hmac('data', KEY);
    const cut = mac.subarray(0, 49);
    const data = Buffer.concat([mac.subarray(49), Buffer.from('data')]);
    expect(await dekd.verifyHmac(data, cut, KEY)).toBe(false);
    expect(await dekd.verifyHmac('ata', Buffer.concat([mac, Buffer.from('d')]), KEY)).toBe(false);
    for (const none of [new Uint8Array(0), '', 'dm1.', 'no MAC', new Uint8Array(50)]) {
      expect(await dekd.verifyHmac('data', none, KEY)).toBe(false);
    }
    expect(await codeOf(dekd.verifyHmac('data', 7 as never, KEY))).toBe('INVALID_ARGUMENT');
    expect(await codeOf(dekd.hmac(7 as never, KEY))).toBe('INVALID_ARGUMENT');
    expect(await codeOf(dekd.hmac('\ud800', KEY))).toBe('INVALID_ARGUMENT');
  });

  it('made and verified in one tick are one frame each, and each gets its own answer', async () => {
    const options = (i: number): HmacOptions =>
      i % 3 === 0 ? { key: 'many', context: { row: String(i) } } : { key: i % 3 === 1 ? 'many' : 'other' };
    const numbers = Array.from({ length: 300 }, (_, i) => i);
    const macs = await Promise.all(numbers.map((i) => dekd.hmac(`value ${i}`, options(i))));
    expect(new Set(macs.map((mac) => Buffer.from(mac).toString('hex'))).size).toBe(300);
    const answers = await Promise.all(
      numbers.map((i) => dekd.verifyHmac(`value ${i}`, macs[i === 7 ? 8 : i]!, options(i))),
    );
    expect(answers.flatMap((answer, i) => (answer ? [] : [i]))).toEqual([7]);
  });

  it('of a megabyte are the same as those of a page, wherever they were made', async () => {
    const large = Buffer.alloc(1 << 20, 'value');
    const mac = await dekd.hmac(large, KEY);
    expect(await dekd.verifyHmac(large, mac, KEY)).toBe(true);
    large[0]! ^= 1;
    expect(await dekd.verifyHmac(large, mac, KEY)).toBe(false);
    expect(await codeOf(dekd.hmac(Buffer.alloc((1 << 20) + 1), KEY))).toBe('INVALID_ARGUMENT');
  });

  it('of many items in one frame go through slices and workers, and a bad item fails alone', async () => {
    const client = await RawClient.greeted(agent.socket);
    onTestFinished(() => client.destroy());
    const count = engine === 'noble' ? 2_000 : 8_000;
    const items = Array.from({ length: count }, (_, i) => ({
      data: Buffer.from(`item ${i}`),
      ...(i % 5 === 0 ? { context: contextOf({ row: String(i) }) } : {}),
      ...(i === 3 ? { context: Buffer.from('no context') } : {}),
      ...(i === 4 ? { key: '.reserved' } : {}),
      ...(i % 7 === 0 ? { key: 'second' } : {}),
    }));
    // Whether native batches are worth a hop depends on the machine; those of the slower engines are, once that was found out.
    const isDone = async (round: number): Promise<boolean> =>
      round >= (engine === 'native' ? 3 : 200) || (round >= 3 && engine !== 'native' && (await inWorkers(agent)) > 0);
    for (let round = 0; !(await isDone(round)); round++) {
      const { many } = await client.ask({ hmacMany: { key: 'first', items } });
      expect(many!.errors.map(({ index, error }) => [index, errorCodeOf(error.code)])).toEqual([
        [3, 'INVALID_ARGUMENT'],
        [4, 'PERMISSION_DENIED'],
      ]);
      const macs = many!.values;
      const { many: verified } = await client.ask({
        verifyHmacMany: {
          key: 'first',
          items: items.map((item, i) => ({ ...item, mac: i === 9 ? Buffer.of(1) : i === 10 ? macs[11]! : macs[i]! })),
        },
      });
      const wrong = verified!.values.flatMap((value, i) => (value[0] === 1 && value.length === 1 ? [] : [i]));
      expect(wrong.filter((i) => i !== 3 && i !== 4)).toEqual([9, 10]);
      expect(verified!.errors.map(({ index }) => index)).toEqual([3, 4]);
    }
    expect(engine === 'native' || (await inWorkers(agent)) > 0).toBe(true);
  });
});

describe('versions of a key for MACs', () => {
  it('verify after a rotation, and new MACs are of the newest', async () => {
    const { agent, dekd } = await started();
    const old = await dekd.hmac('x', KEY);
    await changed(agent, { rotate: { name: 'k', purpose: 'mac' } });
    const newer = await dekd.hmac('x', KEY);
    expect(kidOf(newer)).not.toBe(kidOf(old));
    expect([await dekd.verifyHmac('x', old, KEY), await dekd.verifyHmac('x', newer, KEY)]).toEqual([true, true]);
    // What one version computed is not vouched for by the other.
    const mixed = newer.slice();
    mixed.set(old.subarray(18), 18);
    expect(await dekd.verifyHmac('x', mixed, KEY)).toBe(false);
    const { versions } = await dekd.keyInfo('k');
    expect(versions.map(({ purpose, version, state }) => [purpose, version, state])).toEqual([
      ['mac', 1, 'deactivated'],
      ['mac', 2, 'active'],
    ]);
  });

  it('follow their states: stopped ones say so to who names the key, and to nobody else', async () => {
    const { agent, dekd } = await started();
    const mac = await dekd.hmac('x', KEY);
    await dekd.hmac('x', { key: 'other' });
    const one = { name: 'k', version: 1, purpose: 'mac' };
    await changed(agent, { disable: one });
    expect(await codeOf(dekd.hmac('x', KEY))).toBe('KEY_DISABLED');
    expect(await codeOf(dekd.verifyHmac('x', mac, KEY))).toBe('KEY_DISABLED');
    expect(await dekd.verifyHmac('x', mac, { key: 'other' })).toBe(false);
    await changed(agent, { enable: one });
    expect(await dekd.verifyHmac('x', mac, KEY)).toBe(true);
    await changed(agent, { compromise: one });
    expect(await codeOf(dekd.hmac('x', KEY))).toBe('KEY_DISABLED');
    expect(await dekd.verifyHmac('x', mac, KEY)).toBe(true);
    await changed(agent, { destroy: one });
    expect(await codeOf(dekd.verifyHmac('x', mac, KEY))).toBe('KEY_DISABLED');
    await changed(agent, { freeze: { name: 'other' } });
    expect(await codeOf(dekd.hmac('x', { key: 'other' }))).toBe('KEY_DISABLED');
  });

  it('that left the table make and verify in batches of more keys than it holds', async () => {
    const { agent } = await configured((yaml) =>
      yaml
        .replace('engine: auto', 'engine: node')
        .replace('allowInsecureMemory: true', 'allowInsecureMemory: true, slots: 16'),
    );
    const client = await RawClient.greeted(agent.socket);
    onTestFinished(() => client.destroy());
    const items = Array.from({ length: 200 }, (_, i) => ({ data: Buffer.from('x'), key: `key-${i % 100}` }));
    const { many } = await client.ask({ hmacMany: { key: '', items } });
    expect(many!.errors).toEqual([]);
    expect(many!.values.slice(0, 100)).toEqual(many!.values.slice(100));
    expect(new Set(many!.values.map((mac) => Buffer.from(mac).toString('hex'))).size).toBe(100);
    const { many: verified } = await client.ask({
      verifyHmacMany: { key: '', items: items.map((item, i) => ({ ...item, mac: many!.values[i === 150 ? 51 : i]! })) },
    });
    expect(verified!.errors).toEqual([]);
    expect(verified!.values.flatMap((value, i) => (value[0] === 1 ? [] : [i]))).toEqual([150]);
  });
});

describe('values for indexes', () => {
  it('are the same for the same value, and others in every other place, key, tenant, and as a fingerprint', async () => {
    const { dekd } = await started();
    const value = await dekd.blindIndex('a@b.c', COLUMN);
    expect(value).toMatch(/^[0-9a-f]{32}$/);
    expect(await dekd.blindIndex(Buffer.from('a@b.c'), COLUMN)).toBe(value);
    const others = await Promise.all([
      dekd.blindIndex('a@b.d', COLUMN),
      dekd.blindIndex('', COLUMN),
      dekd.blindIndex('a@b.c', { ...COLUMN, table: 'users2' }),
      dekd.blindIndex('a@b.c', { ...COLUMN, column: 'mail' }),
      dekd.blindIndex('a@b.c', { ...COLUMN, table: 'userse', column: 'mail' }),
      dekd.blindIndex('a@b.c', { ...COLUMN, partition: 'acme' }),
      dekd.blindIndex('a@b.c', { ...COLUMN, key: 'k2' }),
      dekd.fingerprint('a@b.c', KEY),
      dekd.fingerprint('a@b.c', { ...KEY, partition: 'acme' }),
    ]);
    expect(new Set([value, ...others].map((each) => each.slice(0, 32))).size).toBe(10);
    expect(others.at(-1)).toMatch(/^[0-9a-f]{64}$/);
  });

  it('are shortened to their first bits, in whole bytes', async () => {
    const { dekd } = await started();
    const whole = await dekd.blindIndex('x', { ...COLUMN, bits: 256 });
    expect(whole).toHaveLength(64);
    for (let bits = 16; bits <= 256; bits += 8) {
      expect(await dekd.blindIndex('x', { ...COLUMN, bits })).toBe(whole.slice(0, bits / 4));
    }
    for (const bits of [0, 8, 15, 17, 264, Number.NaN, 16.5]) {
      expect(await codeOf(dekd.blindIndex('x', { ...COLUMN, bits }))).toBe('INVALID_ARGUMENT');
    }
  });

  it('are normalised only as asked, and one of which nothing is left fails alone', async () => {
    const { dekd } = await started();
    const plain = await dekd.blindIndex('ada@example.org', COLUMN);
    expect(await dekd.blindIndex(' Ada@Example.ORG ', COLUMN)).not.toBe(plain);
    expect(await dekd.blindIndex(' Ada@Example.ORG ', { ...COLUMN, normalise: 'email' })).toBe(plain);
    expect(await dekd.blindIndex(' ada@example.org', { ...COLUMN, normalise: (text) => text.trim() })).toBe(plain);
    const results = await dekd.blindIndexMany(['1-2', { value: '１２', normalise: ['nfkc'] }, 'n/a'], {
      ...COLUMN,
      normalise: 'digits',
    });
    expect(results.map((result) => (result.ok ? result.value : result.error.code))).toEqual([
      await dekd.blindIndex('12', COLUMN),
      await dekd.blindIndex('12', COLUMN),
      'INVALID_ARGUMENT',
    ]);
    expect(await codeOf(dekd.blindIndex('n/a', { ...COLUMN, normalise: 'digits' }))).toBe('INVALID_ARGUMENT');
    expect(await codeOf(dekd.blindIndex(Buffer.from('1'), { ...COLUMN, normalise: 'digits' }))).toBe(
      'INVALID_ARGUMENT',
    );
  });

  it('of a batch are of the key, tenant and column that each item names, in order', async () => {
    const { dekd } = await started();
    const items = [
      'a',
      { value: 'a', column: 'name' },
      { value: 'a', partition: 'acme' },
      Buffer.from('a'),
      { value: 'b', key: 'k2', table: 't2', column: 'c2', bits: 256 },
    ];
    const results = await dekd.blindIndexMany(items, COLUMN);
    const singly: BlindIndexOptions[] = [
      COLUMN,
      { ...COLUMN, column: 'name' },
      { ...COLUMN, partition: 'acme' },
      COLUMN,
      { key: 'k2', table: 't2', column: 'c2', bits: 256 },
    ];
    const expected = await Promise.all(singly.map((each, i) => dekd.blindIndex(i === 4 ? 'b' : 'a', each)));
    expect(results).toEqual(expected.map((value) => ({ ok: true, value })));
    expect(await dekd.blindIndexMany([], COLUMN)).toEqual([]);
    for (const wrong of [
      { key: 'k', table: 't' },
      { key: 'k', column: 'c' },
      { table: 't', column: 'c' },
      { ...COLUMN, table: '' },
      { ...COLUMN, column: 'x'.repeat(256) },
      { ...COLUMN, normalise: 'upper' as never },
    ]) {
      expect(await codeOf(dekd.blindIndexMany(['a'], wrong))).toBe('INVALID_ARGUMENT');
    }
    expect(await codeOf(dekd.blindIndexMany([undefined as never], COLUMN))).toBe('INVALID_ARGUMENT');
    expect(await codeOf(dekd.blindIndexMany('a' as never, COLUMN))).toBe('INVALID_ARGUMENT');
  });

  it('survive the rotation of every other key of the name, which for their own is refused', async () => {
    const { agent, dekd } = await started();
    const value = await dekd.blindIndex('x', COLUMN);
    const print = await dekd.fingerprint('x', KEY);
    await dekd.encrypt(Buffer.from('x'), KEY);
    await changed(agent, { rotate: { name: 'k' } });
    const { error } = await admin(agent, { rotate: { name: 'k', purpose: 'index' } });
    expect(errorCodeOf(error!.code)).toBe('INVALID_ARGUMENT');
    expect(error!.message).toContain('never rotated');
    expect([await dekd.blindIndex('x', COLUMN), await dekd.fingerprint('x', KEY)]).toEqual([value, print]);
    await changed(agent, { disable: { name: 'k', purpose: 'index' } });
    expect(await codeOf(dekd.blindIndex('x', COLUMN))).toBe('KEY_DISABLED');
    await changed(agent, { enable: { name: 'k', purpose: 'index' } });
    expect(await dekd.blindIndex('x', COLUMN)).toBe(value);
  });

  it('on the wire are of one key: an item that names another, or a context, fails alone', async () => {
    const { agent } = await started();
    const client = await RawClient.greeted(agent.socket);
    onTestFinished(() => client.destroy());
    const data = Buffer.from('x');
    const place = { key: 'k', table: 't', column: 'c' };
    const { many } = await client.ask({
      blindIndex: {
        ...place,
        items: [
          { data },
          { data, key: 'other' },
          { data, partition: 'p' },
          { data, context: contextOf({ a: 'b' }) },
          { data },
        ],
      },
    });
    expect(many!.errors.map(({ index, error }) => [index, errorCodeOf(error.code)])).toEqual(
      [1, 2, 3].map((index) => [index, 'INVALID_ARGUMENT']),
    );
    expect(many!.values[0]).toEqual(many!.values[4]);
    for (const wrong of [
      { table: 't', column: '' },
      { table: 'x'.repeat(256), column: 'c' },
      { table: 't', column: 'c', fingerprint: true },
    ]) {
      const { error } = await client.ask({ blindIndex: { key: 'k', items: [{ data }], ...wrong } });
      expect(errorCodeOf(error!.code)).toBe('INVALID_ARGUMENT');
    }
    const { error } = await client.ask({ blindIndex: { ...place, items: Array(20_000).fill({ data: Buffer.of() }) } });
    expect(errorCodeOf(error!.code)).toBe('INVALID_ARGUMENT');
  });
});

const RULES = `
policy:
  rules:
    - { name: maker, callers: { socket: data }, keys: [made-*], operations: [hmac, verifyHmac], create: { max: 2 } }
    - { name: verifier, callers: { socket: data }, keys: [read-*], operations: [verifyHmac, encrypt], create: { max: 9 } }
    - { name: indexer, callers: { socket: data }, keys: [index-*, made-1], operations: [blindIndex], create: { max: 9 }, blindIndexPerSecond: 100 }
    - { name: looker, callers: { socket: data }, keys: [there], operations: [blindIndex, keyInfo], blindIndexPerSecond: 5 }
`;

describe('rights and quotas', () => {
  let now = 0;

  async function ruled(): Promise<Started> {
    now = 1_000;
    return configured(
      (yaml) => yaml.replace(/\npolicy:[\s\S]*$/, RULES),
      () => now,
    );
  }

  it('are three of their own, and one does not give another', async () => {
    const { dekd } = await ruled();
    const made = { key: 'made-1' };
    const mac = await dekd.hmac('x', made);
    expect(await dekd.verifyHmac('x', mac, made)).toBe(true);
    expect(await codeOf(dekd.encrypt(Buffer.from('x'), made))).toBe('PERMISSION_DENIED');
    expect(await dekd.blindIndex('x', { ...COLUMN, ...made })).toHaveLength(32);
    expect(await codeOf(dekd.hmac('x', { key: 'read-1' }))).toBe('PERMISSION_DENIED');
    expect(await codeOf(dekd.fingerprint('x', { key: 'read-1' }))).toBe('PERMISSION_DENIED');
    expect(await codeOf(dekd.blindIndex('x', { ...COLUMN, key: 'made-2' }))).toBe('PERMISSION_DENIED');
    // Without a right there is no answer, whatever the MAC looks like.
    for (const claimed of [mac, 'nothing', new Uint8Array(3)]) {
      expect(await codeOf(dekd.verifyHmac('x', claimed, { key: 'index-1' }))).toBe('PERMISSION_DENIED');
      expect(await dekd.verifyHmac('x', claimed, { key: 'read-1' })).toBe(false);
    }
  });

  it('of creation count what makes the key, and need that right', async () => {
    const { dekd } = await ruled();
    await dekd.hmac('x', { key: 'made-a' });
    await dekd.hmac('x', { key: 'made-b' });
    expect(await codeOf(dekd.hmac('x', { key: 'made-c' }))).toBe('PERMISSION_DENIED');
    const error = await dekd.blindIndex('x', { ...COLUMN, key: 'there' }).catch((reason: DekdError) => reason);
    expect(error).toMatchObject({ code: 'KEY_NOT_FOUND' });
  });

  it('name the rule that would allow what was denied', async () => {
    const { agent, dekd } = await ruled();
    const error = (await dekd.fingerprint('x', { key: 'read-1' }).catch((reason: unknown) => reason)) as DekdError;
    const { document } = await admin(agent, { why: { incident: error.incident! } });
    const why = JSON.parse(Buffer.from(document!).toString()) as { operation: string; reason: string };
    expect(why.operation).toBe('blindIndex');
    expect(why.reason).toContain('operations: [blindIndex]');
  });

  it('give so many values a second, items of batches counted, and say when to come again', async () => {
    const { dekd } = await ruled();
    const index = { ...COLUMN, key: 'index-1' };
    await dekd.blindIndexMany(
      Array.from({ length: 99 }, (_, i) => String(i)),
      index,
    );
    await dekd.fingerprint('x', { key: 'index-2' });
    const error = (await dekd.blindIndex('x', index).catch((reason: unknown) => reason)) as DekdError;
    expect(error).toMatchObject({ code: 'RESOURCE_EXHAUSTED', retryable: true, retryAfterMs: 10 });
    now += 10;
    await dekd.blindIndex('x', index);
    expect(await codeOf(dekd.fingerprint('x', { key: 'index-1' }))).toBe('RESOURCE_EXHAUSTED');
    // MACs have no such quota, and verifying none.
    const macs = await Promise.all(Array.from({ length: 500 }, (_, i) => dekd.hmac(String(i), { key: 'made-1' })));
    expect(macs).toHaveLength(500);
  });

  it('are waited for by a batch until its deadline, and no longer', async () => {
    const { dekd } = await ruled();
    const index = { ...COLUMN, key: 'index-1' };
    const values = Array.from({ length: 100 }, (_, i) => String(i));
    await dekd.blindIndexMany(values, index);
    const begun = performance.now();
    expect(await codeOf(dekd.blindIndexMany(values, { ...index, timeoutMs: 300 }))).toBe('RESOURCE_EXHAUSTED');
    expect(performance.now() - begun).toBeLessThan(250);
    const clock = setInterval(() => {
      now += 50;
    }, 20);
    onTestFinished(() => clearInterval(clock));
    const waiting = await dekd.blindIndexMany(values, { ...index, timeoutMs: 20_000 });
    expect(waiting.every(({ ok }) => ok)).toBe(true);
    const aborted = AbortSignal.timeout(50);
    await dekd.blindIndexMany(values, { ...index, signal: aborted, timeoutMs: 20_000 }).catch((error: unknown) => {
      expect(error).toBe(aborted.reason);
    });
  });

  it('are charged before anything is loaded, and a denial is not charged', async () => {
    const { dekd } = await ruled();
    for (let i = 0; i < 20; i++) {
      expect(await codeOf(dekd.blindIndex('x', { ...COLUMN, key: 'read-1' }))).toBe('PERMISSION_DENIED');
    }
    for (let i = 0; i < 5; i++) {
      expect(await codeOf(dekd.blindIndex('x', { ...COLUMN, key: 'there' }))).toBe('KEY_NOT_FOUND');
    }
    expect(await codeOf(dekd.blindIndex('x', { ...COLUMN, key: 'there' }))).toBe('RESOURCE_EXHAUSTED');
  });
});

describe('a call whose connection was lost', () => {
  it('is sent again: a MAC, its verification and an index do no harm when they are made twice', async () => {
    const seen = new Set<string>();
    const agent = await startFakeAgent({
      onRequest({ id, hmac, verifyHmac, blindIndex }, connection) {
        const operation = hmac ? 'hmac' : verifyHmac ? 'verifyHmac' : 'blindIndex';
        if (!seen.has(operation)) {
          seen.add(operation);
          connection.socket.destroy();
        } else if (blindIndex) {
          connection.reply({ id, many: { values: [Buffer.alloc(32, 2)], errors: [] } });
        } else {
          connection.reply({ id, value: hmac ? Buffer.alloc(50, 1) : Buffer.of(1) });
        }
      },
    });
    const dekd = connect({ socket: agent.path });
    onTestFinished(async () => {
      await dekd.close();
      await agent.stop();
    });
    expect(await dekd.hmac('x', KEY)).toHaveLength(50);
    expect(await dekd.verifyHmac('x', new Uint8Array(50), KEY)).toBe(true);
    expect(await dekd.blindIndex('x', COLUMN)).toBe('02'.repeat(16));
    expect(agent.connections).toHaveLength(4);
  });

  it.each([[[]], [[0]], [[2]], [[1, 1]]])('and nothing but the one byte 01 is a yes: %j', async (answer) => {
    const agent = await startFakeAgent({
      onRequest: ({ id }, connection) => connection.reply({ id, value: Uint8Array.from(answer) }),
    });
    const dekd = connect({ socket: agent.path });
    onTestFinished(async () => {
      await dekd.close();
      await agent.stop();
    });
    expect(await dekd.verifyHmac('x', new Uint8Array(50), KEY)).toBe(false);
  });
});
