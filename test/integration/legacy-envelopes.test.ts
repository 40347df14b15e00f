import { readFileSync, writeFileSync } from 'node:fs';
import { connect as connectSocket } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { connect, type DekdClient, type ManyResult } from '../../src/client/index.ts';
import type { Config } from '../../src/config/config.ts';
import { DekdError } from '../../src/errors.ts';
import { startTestAgent, type TestAgent } from '../support/agent.ts';
import { administer } from '../support/agent-state.ts';
import { legacySealed, legacyVectors, legacyYaml } from '../support/legacy-vectors.ts';
import { makeFolder, removeFolder } from '../support/temporary-folder.ts';

const RULES = `
    - { name: all, callers: { socket: data }, keys: credentials, operations: [encrypt, decrypt, openLegacy, migrateLegacy], create: { max: 100 } }
    - { name: migrating, callers: { socket: data }, keys: migrating, operations: [migrateLegacy] }
    - { name: one kid, callers: { socket: data }, keys: one-kid, operations: [encrypt, openLegacy], legacyKids: [v2, '2024-*'] }
    - { name: other kid, callers: { socket: data }, keys: one-kid, operations: migrateLegacy, legacyKids: v1 }
    - { name: before, callers: { socket: data }, keys: plain, operations: [encrypt, decrypt], create: { max: 1 } }`;

const bytesOf = (value: unknown): Uint8Array => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value));
const key = 'credentials';

let folder: string;
let agent: TestAgent;
let dekd: DekdClient;

async function start(engine: Config['engine'] = 'auto', extra = '', kids?: readonly string[]): Promise<void> {
  folder = makeFolder();
  agent = await startTestAgent({ folder, engine, yaml: `${legacyYaml(folder, RULES, kids)}${extra}` });
  dekd = connect({ socket: agent.socket });
}

afterEach(async () => {
  await dekd?.close();
  await agent?.stop();
  removeFolder(folder);
});

function textOf(result: ManyResult | undefined): string {
  return result?.ok === true ? Buffer.from(result.value).toString() : `${result?.error.code}: ${result?.error.message}`;
}

describe.each(['native', 'node', 'noble'] as const)('legacy envelopes in an agent with the %s engine', (engine) => {
  it('are opened, each of its own kid, and nothing of those that were changed', async () => {
    await start(engine);
    const opened = await dekd.openLegacy(
      legacyVectors.opens.map(({ envelope }) => bytesOf(envelope)),
      { key },
    );
    expect(opened.map((result) => (result.ok ? Buffer.from(result.value).toString('base64') : result.error))).toEqual(
      legacyVectors.opens.map(({ plaintext }) => plaintext),
    );
    const texts = [...Object.values(legacyVectors.fails), ...Object.values(legacyVectors.malformed)];
    const refused = await dekd.openLegacy(texts.map(bytesOf), { key });
    const migrated = await dekd.migrateLegacy(texts.map(bytesOf), { key });
    const expected = [
      ...Object.keys(legacyVectors.fails).map(() => 'DECRYPTION_FAILED: decryption failed'),
      ...Object.keys(legacyVectors.malformed).map(() => expect.stringMatching(/^MALFORMED: not a legacy envelope/)),
    ];
    expect(refused.map(textOf)).toEqual(expected);
    expect(migrated.map(textOf)).toEqual(expected);
  });

  it('become tokens that are bound to their context, as if they had been encrypted here', async () => {
    await start(engine);
    const items = legacyVectors.opens.map(({ envelope }, index) => ({
      data: bytesOf(envelope),
      context: { row: String(index) },
    }));
    const tokens = await dekd.migrateLegacy(items, { key, partition: 'acme' });
    for (const [index, result] of tokens.entries()) {
      const token = result.ok ? result.value : expect.fail(textOf(result));
      const plaintext = Buffer.from(legacyVectors.opens[index]!.plaintext, 'base64');
      expect(token).toHaveLength(plaintext.length + 58);
      const binding = { key, partition: 'acme', context: { row: String(index) } };
      expect(Buffer.from(await dekd.decrypt(token, binding))).toEqual(plaintext);
      const other = { ...binding, context: { row: String(index + 1) } };
      await expect(dekd.decrypt(token, other)).rejects.toMatchObject({ code: 'DECRYPTION_FAILED' });
    }
  });
});

describe('legacy envelopes', () => {
  it('are answered one by one: what is wrong with one is not the matter of the others', async () => {
    await start();
    const good = bytesOf(legacySealed({ a: 1 }));
    const bad = bytesOf(Object.values(legacyVectors.fails)[0]);
    const none = bytesOf('{}');
    const results = await dekd.migrateLegacy([good, bad, { data: good, key: 'plain' }, none, good], { key });
    expect(results.map((result) => (result.ok ? 'ok' : result.error.code))).toEqual([
      'ok',
      'DECRYPTION_FAILED',
      'PERMISSION_DENIED',
      'MALFORMED',
      'ok',
    ]);
    expect(await dekd.openLegacy([], { key })).toEqual([]);
  });

  it('need a right of their own: neither decrypt nor encrypt is it, and one is not the other', async () => {
    await start();
    const envelope = bytesOf(legacySealed({ a: 1 }));
    for (const call of ['openLegacy', 'migrateLegacy'] as const) {
      const [refused] = await dekd[call]([envelope], { key: 'plain' });
      expect(refused).toMatchObject({ ok: false, error: { code: 'PERMISSION_DENIED' } });
    }
    const [opened] = await dekd.openLegacy([envelope], { key: 'migrating' });
    expect(opened).toMatchObject({ ok: false, error: { code: 'PERMISSION_DENIED' } });
    const why = agent.log.find(({ reason }) => String(reason).includes('openLegacy key "migrating"'));
    expect(String(why?.reason)).toContain('operations: [openLegacy]');
  });

  it('are opened of the kids that a rule names, and of another kid say no more than any that does not open', async () => {
    await start();
    const [first, second, third] = ['v1', 'v2', '2024-key.B'].map((kid) => bytesOf(legacySealed({ kid }, kid)));
    const opened = await dekd.openLegacy([first!, second!, third!], { key: 'one-kid' });
    expect(opened.map(textOf)).toEqual([
      'DECRYPTION_FAILED: decryption failed',
      '{"kid":"v2"}',
      '{"kid":"2024-key.B"}',
    ]);
    const reasons = agent.log.map(({ reason }) => String(reason));
    expect(reasons).toContainEqual(expect.stringMatching(/no rule grants openLegacy on envelopes of kid "v1"/));
    // The rule with the other kid grants the other operation: the two do not add up.
    await dekd.encrypt(bytesOf('x'), { key: 'plain' });
    const migrated = await dekd.migrateLegacy([second!], { key: 'one-kid' });
    expect(migrated[0]).toMatchObject({ ok: false });
  });

  it('become tokens of a key that is there; to make it takes encrypt and create', async () => {
    await start();
    const envelope = bytesOf(legacySealed({ a: 1 }));
    const [missing] = await dekd.migrateLegacy([envelope], { key: 'migrating' });
    expect(missing).toMatchObject({ ok: false, error: { code: 'KEY_NOT_FOUND' } });
    await administer(agent, { create: { name: 'migrating' } });
    const [token] = await dekd.migrateLegacy([envelope], { key: 'migrating' });
    expect(token?.ok).toBe(true);
    const [made] = await dekd.migrateLegacy([envelope], { key, partition: 'new' });
    expect(made?.ok).toBe(true);
  });

  it('carry the context that their key requires, and none of a stopped key become tokens', async () => {
    await start('auto', 'keys:\n  - { name: credentials, requiredContext: [row] }\n');
    const envelope = bytesOf(legacySealed({ a: 1 }));
    const [without] = await dekd.migrateLegacy([envelope], { key });
    expect(without).toMatchObject({ ok: false, error: { code: 'INVALID_ARGUMENT' } });
    const context = { row: '1' };
    expect((await dekd.migrateLegacy([envelope], { key, context }))[0]?.ok).toBe(true);
    await administer(agent, { freeze: { name: key } });
    const [frozen] = await dekd.migrateLegacy([envelope], { key, context });
    expect(frozen).toMatchObject({ ok: false, error: { code: 'KEY_DISABLED' } });
    await administer(agent, { freeze: { name: key, thaw: true } });
    expect((await dekd.migrateLegacy([envelope], { key, context }))[0]?.ok).toBe(true);
  });

  it('are as many as one likes, in order, while others are served', async () => {
    await start();
    const count = 5_000;
    const items = Array.from({ length: count }, (_, i) => ({
      data: bytesOf(i % 100 === 99 ? { ...legacySealed(i), kid: 'v2' } : legacySealed(i)),
      context: { row: String(i) },
    }));
    const [opened, migrated] = await Promise.all([
      dekd.openLegacy(items, { key, timeoutMs: 60_000 }),
      dekd.migrateLegacy(items, { key, timeoutMs: 60_000 }),
      dekd.ping(),
    ]);
    const wanted = Array.from({ length: count }, (_, i) =>
      i % 100 === 99 ? 'DECRYPTION_FAILED: decryption failed' : String(i),
    );
    expect(opened.map(textOf)).toEqual(wanted);
    const tokens = migrated.map((result, i) => ({
      data: result.ok ? result.value : new Uint8Array(58),
      context: { row: String(i) },
    }));
    const back = await dekd.decryptMany(tokens, { key, timeoutMs: 60_000 });
    expect(back.filter(({ ok }) => !ok)).toHaveLength(count / 100);
    expect(back.map((result) => (result.ok ? textOf(result) : 'DECRYPTION_FAILED: decryption failed'))).toEqual(wanted);
  }, 60_000);

  it('of a large value go through in one frame, and over the limit are refused before they are sent', async () => {
    await start();
    const value = 'x'.repeat(700_000);
    const [token] = await dekd.migrateLegacy([bytesOf(legacySealed(value))], { key });
    expect(token?.ok === true && (await dekd.decrypt(token.value, { key })).length).toBe(value.length + 2);
    const [over] = await dekd.migrateLegacy([bytesOf(legacySealed('x'.repeat(800_000)))], { key });
    expect(over).toMatchObject({ ok: false, error: { code: 'INVALID_ARGUMENT' } });
  });

  it('are counted by their kid, so that the operator sees which key is still needed', async () => {
    await start();
    const of = (kid: string): Uint8Array => bytesOf(legacySealed({ kid }, kid));
    await dekd.openLegacy([of('v1'), of('v1'), of('v2')], { key });
    await dekd.migrateLegacy([of('v2'), bytesOf({ ...legacySealed(1, 'v2'), kid: 'v1' })], { key });
    const { legacy, counters } = (await administer(agent, { status: {} })) as {
      legacy: unknown;
      counters: { operations: Record<string, Record<string, number>> };
    };
    expect(legacy).toEqual([
      { kid: 'v1', opened: 2, migrated: 0, failed: 1 },
      { kid: 'v2', opened: 1, migrated: 1, failed: 0 },
      { kid: '2024-key.B', opened: 0, migrated: 0, failed: 0 },
    ]);
    expect(counters.operations).toMatchObject({
      openLegacy: { ok: 3 },
      migrateLegacy: { ok: 1, DECRYPTION_FAILED: 1 },
    });
  });

  it('are unknown to an agent without keys for them, which says what is missing', async () => {
    folder = makeFolder();
    agent = await startTestAgent();
    dekd = connect({ socket: agent.socket });
    const [result] = await dekd.openLegacy([bytesOf(legacySealed({ a: 1 }))], { key });
    expect(textOf(result)).toBe('UNSUPPORTED: this agent has no legacy keys: configure legacy.keys');
  });

  it('and their keys are in nothing that the agent writes', async () => {
    await start();
    await dekd.migrateLegacy([bytesOf(legacySealed({ secret: 'canary-4711' }))], { key });
    const status = JSON.stringify([await administer(agent, { status: {} }), agent.log]);
    for (const secret of ['canary-4711', ...Object.values(legacyVectors.keys)]) {
      expect(status).not.toContain(secret.slice(0, 16));
    }
  });
});

describe('an agent whose legacy keys cannot be read', () => {
  it.each<[string, (path: string) => void, RegExp]>([
    [
      'a short key',
      (path) => writeFileSync(path, Buffer.alloc(31), { mode: 0o600 }),
      /legacy kid "v2" .* does not hold a key/,
    ],
    [
      'a short key in base64',
      (path) => writeFileSync(path, Buffer.alloc(31).toString('base64')),
      /legacy kid "v2" .* does not hold a key/,
    ],
    ['an empty file', (path) => writeFileSync(path, ''), /legacy kid "v2" .* does not hold a key/],
  ])('does not start, and names the kid: %s', async (_, spoil, expected) => {
    folder = makeFolder();
    const yaml = legacyYaml(folder, RULES);
    spoil(join(folder, 'legacy-1.key'));
    const failure = await startTestAgent({ folder, yaml }).then(
      () => expect.fail('it started'),
      (error: unknown) => error as DekdError,
    );
    expect(failure).toBeInstanceOf(DekdError);
    expect(failure.message).toMatch(expected);
    expect(failure.message).toContain('the 32 bytes that the application had');
    expect(await connects(join(folder, 's', 'agent.sock'))).toBe(false);
  });

  it('does not start with a file that others can read, or that is not there', async () => {
    folder = makeFolder();
    const yaml = legacyYaml(folder, RULES);
    const file = join(folder, 'legacy-0.key');
    const content = readFileSync(file);
    removeFolder(file);
    await expect(startTestAgent({ folder, yaml })).rejects.toThrow(/legacy kid "v1" .* does not exist/);
    writeFileSync(file, content, { mode: 0o644 });
    await expect(startTestAgent({ folder, yaml })).rejects.toThrow(/legacy kid "v1" .* is open to group or others/);
  });
});

function connects(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connectSocket(path, () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
