import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { connect, type DekdClient } from '../../src/client/index.ts';
import {
  type Credentials,
  type CredentialsOptions,
  credentials,
  legacyEnvelope,
  type MigrationEvent,
} from '../../src/migration/index.ts';
import { startTestAgent, type TestAgent } from '../support/agent.ts';
import { administer } from '../support/agent-state.ts';
import { LegacyLibrary } from '../support/legacy-library.ts';
import { legacySealed, legacyVectors, legacyYaml } from '../support/legacy-vectors.ts';
import { makeFolder, removeFolder } from '../support/temporary-folder.ts';

const RULES = `
    - { name: app, callers: { socket: data }, keys: ['credentials', 'others'], operations: [encrypt, decrypt, openLegacy, migrateLegacy], create: { max: 100 } }
    - { name: no legacy, callers: { socket: data }, keys: 'plain', operations: [encrypt, decrypt], create: { max: 1 } }`;

const library = new LegacyLibrary(legacyVectors.keys, 'v2');
const value = { user: 'ada', password: 'correct horse', port: 5432, tls: true, extra: null, hosts: ['a', 'b'] };
const context = { connector: '17' };

let folder: string;
let agent: TestAgent;
let dekd: DekdClient;

beforeAll(async () => {
  folder = makeFolder();
  agent = await startTestAgent({ folder, yaml: legacyYaml(folder, RULES) });
  dekd = connect({ socket: agent.socket });
});

afterAll(async () => {
  await dekd.close();
  await agent.stop();
  removeFolder(folder);
});

afterEach(() => {
  vi.useRealTimers();
});

function made(options: Partial<CredentialsOptions> = {}): Credentials {
  return credentials(dekd, { key: 'credentials', context, stage: 'write', ...options });
}

/** What looks like something that is encrypted, to whoever goes by shapes. */
async function lookalikes(): Promise<[string, unknown][]> {
  const elsewhere = await made({ context: { connector: '18' } }).encryptCredentials(value);
  const own = await made().encryptCredentials(value);
  const legacy = legacySealed(value);
  return [
    ['a token of another record', elsewhere],
    ['a token of another record, as text', JSON.stringify(elsewhere)],
    ['a token cut short', { ...own, ct: own.ct.slice(0, -4) }],
    ['a token with an extra key', { ...own, extra: 1 }],
    ['a token with an iv', { ...own, iv: legacy.iv }],
    ['a token that is no base64url', { ...own, ct: 'dk1.!!!!' }],
    ['a short token', { ...own, ct: 'dk1.AAAA' }],
    ['the bare text of a token', own.ct],
    ['an envelope that was changed', { ...legacy, kid: 'v2' }],
    ['an envelope of nobody', { __enc: 1, kid: 'v9', iv: legacy.iv, ct: legacy.ct }],
    ['an envelope that is not base64', { __enc: 1, kid: 'v1', iv: 'x', ct: 'y' }],
    ['an envelope with an extra key', { ...legacy, alg: 'none' }],
    ['an envelope of a version to come', { __enc: 2, token: own.ct }],
    ['no more than the mark', { __enc: true }],
    ['the mark in escapes', '{"\\u005f\\u005fenc":true}'],
  ];
}

describe('credentials', () => {
  it('come back as they were, from an object that fits where an envelope did', async () => {
    const { encryptCredentials, decryptCredentials } = made();
    const stored = await encryptCredentials(value);
    expect(Object.keys(stored)).toEqual(['__enc', 'kid', 'iv', 'ct']);
    expect(stored).toEqual({ __enc: 1, kid: 'dekd', iv: '', ct: expect.stringMatching(/^dk1\.[\w-]+$/) });
    expect(await decryptCredentials(stored)).toEqual(value);
    expect(await decryptCredentials(JSON.stringify(stored))).toEqual(value);
    expect(await decryptCredentials(JSON.parse(JSON.stringify(stored)))).toEqual(value);
    expect(JSON.stringify(stored)).not.toContain('ada');
  });

  it('are bound to the context of their record: its own, or that of the call', async () => {
    const { encryptCredentials, decryptCredentials } = made();
    const stored = await encryptCredentials(value, { context: { connector: '18' } });
    await expect(decryptCredentials(stored)).rejects.toMatchObject({ code: 'DECRYPTION_FAILED' });
    expect(await decryptCredentials(stored, { context: { connector: '18' } })).toEqual(value);
    await expect(decryptCredentials(stored, { context: { connector: '18' }, partition: 'x' })).rejects.toMatchObject({
      code: 'DECRYPTION_FAILED',
    });
    const others = made({ key: 'others', context: { connector: '18' } });
    await expect(others.decryptCredentials(stored)).rejects.toMatchObject({ code: 'DECRYPTION_FAILED' });
  });

  it('that are encrypted already come back unchanged, however often', async () => {
    const { encryptCredentials, isEncrypted, counts } = made();
    const once = await encryptCredentials(value);
    expect(await isEncrypted(once)).toBe(true);
    const twice = await encryptCredentials(once);
    expect(twice).toEqual(once);
    expect(await encryptCredentials(JSON.stringify(twice))).toEqual(once);
    expect(counts()).toMatchObject({ encrypted: 1, unchanged: 2 });
  });

  it('that only look encrypted are encrypted, and come back as what they are', async () => {
    const { encryptCredentials, decryptCredentials, isEncrypted, counts } = made();
    const all = await lookalikes();
    for (const [name, hostile] of all) {
      expect(await isEncrypted(hostile), name).toBe(false);
      const stored = await encryptCredentials(hostile);
      expect(stored, name).not.toEqual(hostile);
      expect(await decryptCredentials(stored), name).toEqual(hostile);
      expect(await isEncrypted(stored), name).toBe(true);
    }
    expect(counts()).toMatchObject({ encrypted: all.length, unchanged: 0, migrated: 0 });
  });

  it('that only look encrypted are not read: neither as what they hold nor as plaintext', async () => {
    const { decryptCredentials, counts } = made({ plaintext: { until: new Date(Date.now() + 60_000) } });
    for (const [name, hostile] of await lookalikes()) {
      await expect(decryptCredentials(hostile), name).rejects.toMatchObject({
        code: expect.stringMatching(/^(DECRYPTION_FAILED|MALFORMED)$/),
      });
    }
    expect(counts()).toMatchObject({ plaintextRead: 0, tokensRead: 0, legacyRead: 0 });
  });

  it('round-trip for any JSON value, also one that has the names of an envelope', async () => {
    const { encryptCredentials, decryptCredentials } = made();
    const names = fc.oneof(fc.constantFrom('__enc', 'kid', 'iv', 'ct', '__proto__'), fc.string());
    const json = fc.oneof(
      fc.jsonValue(),
      fc.dictionary(names, fc.oneof(fc.constantFrom(1, 'dekd', '', 'dk1.AAAA', 'v1'), fc.jsonValue())),
    );
    await fc.assert(
      fc.asyncProperty(json, async (any) => {
        const plain: unknown = JSON.parse(JSON.stringify(any));
        expect(await decryptCredentials(await encryptCredentials(plain))).toEqual(plain);
      }),
      { numRuns: 300 },
    );
  });

  it('that JSON cannot carry are refused, and what was looked at is what is encrypted', async () => {
    const { encryptCredentials, decryptCredentials } = made();
    const cycle: unknown[] = [];
    cycle.push(cycle);
    for (const bad of [undefined, Number.NaN, { a: Number.POSITIVE_INFINITY }, 1n, cycle, () => {}]) {
      await expect(encryptCredentials(bad)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    }
    const changing: Record<string, unknown> = { ...legacySealed({ real: 1 }), kid: 'v9' };
    const pending = encryptCredentials(changing);
    changing.kid = 'changed';
    expect(await decryptCredentials(await pending)).toMatchObject({ kid: 'v9' });
  });

  it('are not taken for data because nobody could say what they are', async () => {
    const gone = connect({ socket: `${folder}/s/nothing.sock`, timeoutMs: 50 });
    const { encryptCredentials, isEncrypted } = credentials(gone, { key: 'credentials', stage: 'write', context });
    const stored = await made().encryptCredentials(value);
    for (const each of [stored, legacySealed(value)]) {
      await expect(encryptCredentials(each)).rejects.toMatchObject({ code: 'AGENT_UNAVAILABLE' });
      await expect(isEncrypted(each)).rejects.toMatchObject({ code: 'AGENT_UNAVAILABLE' });
    }
    await gone.close();
    const plain = made({ key: 'plain' });
    await expect(plain.encryptCredentials(legacySealed(value))).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
    const other = await startTestAgent();
    await using client = connect({ socket: other.socket });
    const without = credentials(client, { key: 'credentials', stage: 'write' });
    await expect(without.encryptCredentials(legacySealed(value))).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    const done = credentials(client, { key: 'credentials', stage: 'done' });
    const envelope = legacySealed(value);
    expect(await done.decryptCredentials(await done.encryptCredentials(envelope))).toEqual(envelope);
    await other.stop();
  });

  it('take a stage, a key and a date that there is', () => {
    for (const bad of [
      { stage: 'later' as never },
      { key: '' },
      { plaintext: { until: 'soon' } },
      { plaintext: { until: new Date(Number.NaN) } },
      { plaintext: { until: 5 as never } },
    ]) {
      expect(() => made(bad)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }) as Error);
    }
    expect(() => credentials(dekd, undefined as never)).toThrow('stage is one of read, write, done');
  });
});

describe('envelopes from before', () => {
  it('are read, of every kid, and counted', async () => {
    const events: MigrationEvent[] = [];
    const { decryptCredentials, isEncrypted, counts } = made({ onEvent: (event) => events.push(event) });
    for (const kid of Object.keys(legacyVectors.keys)) {
      const envelope = legacySealed({ kid }, kid);
      expect(await decryptCredentials(envelope)).toEqual({ kid });
      expect(await decryptCredentials(JSON.stringify(envelope))).toEqual({ kid });
      expect(await isEncrypted(envelope)).toBe(true);
    }
    expect(counts()).toMatchObject({ legacyRead: 6, tokensRead: 0 });
    expect(events[0]).toEqual({ event: 'legacyRead', key: 'credentials', partition: '', kid: 'v1' });
  });

  it('become tokens when they are saved again, without their plaintext leaving the agent', async () => {
    const { encryptCredentials, decryptCredentials, counts } = made();
    const before = (await administer(agent, { status: {} })) as { legacy: { kid: string; opened: number }[] };
    const stored = await encryptCredentials(legacySealed(value));
    expect(stored.kid).toBe('dekd');
    expect(await decryptCredentials(stored)).toEqual(value);
    expect(counts()).toMatchObject({ migrated: 1, encrypted: 0 });
    const after = (await administer(agent, { status: {} })) as typeof before;
    expect(after.legacy.map(({ opened }) => opened)).toEqual(before.legacy.map(({ opened }) => opened));
  });

  it('are data like any other where users choose what is saved', async () => {
    const { encryptCredentials, decryptCredentials } = made({ migrateOnEncrypt: false });
    const stolen = legacySealed({ of: 'somebody else' });
    expect(await decryptCredentials(await encryptCredentials(stolen))).toEqual(stolen);
  });

  it('are given in their new form to whoever saves what he has read, and are read also when that fails', async () => {
    const events: string[] = [];
    const { decryptCredentials, counts } = made({
      onEvent: ({ event }) => {
        events.push(event);
        throw new Error('the log is full');
      },
    });
    let column: unknown = legacySealed(value);
    const resave = (stored: unknown): void => {
      column = stored;
    };
    expect(await decryptCredentials(column, { resave })).toEqual(value);
    expect(column).toMatchObject({ kid: 'dekd' });
    expect(await decryptCredentials(column, { resave })).toEqual(value);
    const full = (): Promise<never> => Promise.reject(new Error('read-only'));
    expect(await decryptCredentials(legacySealed(value), { resave: full })).toEqual(value);
    expect(counts()).toMatchObject({ legacyRead: 2, migrated: 2, resaveFailed: 1, tokensRead: 1 });
    expect(events).toEqual(['legacyRead', 'migrated', 'legacyRead', 'migrated', 'resaveFailed']);
  });

  it('are left as they are by pods that only read, whoever would save them', async () => {
    const { decryptCredentials, counts } = made({ stage: 'read' });
    let saved = 0;
    const resave = (): void => {
      saved += 1;
    };
    expect(await decryptCredentials(legacySealed(value), { resave })).toEqual(value);
    expect(saved).toBe(0);
    expect(counts()).toMatchObject({ legacyRead: 1, migrated: 0, resaveFailed: 0 });
  });

  it('are migrated many at a time, with what else is in the column, each row for itself', async () => {
    const migration = made({ plaintext: { until: new Date(Date.now() + 60_000) } });
    const token = await migration.encryptCredentials(value, { context: { row: '2' } });
    const rows = [
      { value: legacySealed({ row: 0 }), context: { row: '0' } },
      { value: { row: 1 }, context: { row: '1' } },
      { value: token, context: { row: '2' } },
      { value: token, context: { row: '3' } },
      { value: { ...legacySealed({ row: 4 }), kid: 'v2' }, context: { row: '4' } },
      { value: { __enc: 3 }, context: { row: '5' } },
      { value: JSON.stringify(legacySealed({ row: 6 })), context: { row: '6' }, partition: 'acme' },
      { value: Number.NaN, context: { row: '7' } },
    ];
    const results = await migration.migrateCredentials(rows);
    expect(results.map((result) => (result.ok ? [result.from, result.changed] : result.error.code))).toEqual([
      ['legacy', true],
      ['plaintext', true],
      ['token', false],
      'DECRYPTION_FAILED',
      'DECRYPTION_FAILED',
      'MALFORMED',
      ['legacy', true],
      'INVALID_ARGUMENT',
    ]);
    for (const [index, result] of results.entries()) {
      const { context, partition } = rows[index]!;
      if (result.ok && result.from !== 'token') {
        expect(await migration.decryptCredentials(result.stored, { context, partition })).toEqual({ row: index });
      }
    }
    expect(migration.counts()).toMatchObject({ migrated: 3, unchanged: 1, lookalikeRefused: 1 });
    // A second run changes nothing.
    const again = await migration.migrateCredentials(
      results.flatMap((result, index) => (result.ok ? [{ ...rows[index]!, value: result.stored }] : [])),
    );
    expect(again.every((result) => result.ok && !result.changed)).toBe(true);
    expect(await migration.migrateCredentials([])).toEqual([]);
  });

  it('are given back as they were looked at, whatever becomes of their rows meanwhile', async () => {
    const own = await made().encryptCredentials(value);
    const elsewhere = await made({ context: { connector: '18' } }).encryptCredentials('of somebody else');
    const rows = [{ value: { ...own } }];
    const migrating = made().migrateCredentials(rows);
    Object.assign(rows[0]!.value, elsewhere);
    expect(await migrating).toEqual([{ ok: true, stored: own, from: 'token', changed: false }]);
  });

  it('of other layouts are put together from their parts', async () => {
    const sealed = Buffer.from(legacySealed(value).ct, 'base64');
    const { iv, ct } = legacySealed(value);
    const bytes = Buffer.from(ct, 'base64');
    const parts = {
      kid: 'v1',
      iv: Buffer.from(iv, 'base64'),
      ciphertext: bytes.subarray(0, -16),
      tag: bytes.subarray(-16),
    };
    const [token] = await dekd.migrateLegacy([legacyEnvelope(parts)], { key: 'credentials', context });
    const plaintext = token?.ok === true ? await dekd.decrypt(token.value, { key: 'credentials', context }) : undefined;
    expect(JSON.parse(Buffer.from(plaintext!).toString())).toEqual(value);
    for (const bad of [{ iv: sealed.subarray(0, 16) }, { tag: sealed.subarray(0, 12) }, { ciphertext: 'x' as never }]) {
      expect(() => legacyEnvelope({ ...parts, ...bad })).toThrow('an envelope has an iv of 12 bytes');
    }
    expect(() => legacyEnvelope({ ...parts, kid: 'dekd' })).toThrow('kid');
  });
});

describe('plaintext from before', () => {
  it('is refused unless it is let through', async () => {
    const { decryptCredentials, counts } = made();
    for (const plain of [value, 'text', 5, null, [], {}, '{"user":"ada"}']) {
      await expect(decryptCredentials(plain)).rejects.toMatchObject({ code: 'MALFORMED' });
    }
    expect(counts()).toMatchObject({ plaintextRead: 0, plaintextRefused: 7 });
  });

  it('is let through for one key, counted and told of, until its end date and not after it', async () => {
    vi.useFakeTimers({ toFake: ['Date'], now: new Date('2027-03-30T23:59:59.999Z') });
    const events: MigrationEvent[] = [];
    const plaintext = { until: '2027-03-31' };
    const passing = made({ plaintext, onEvent: (event) => events.push(event) });
    const other = made({ key: 'others' });
    expect(await passing.decryptCredentials(value)).toEqual(value);
    expect(await passing.isEncrypted(value)).toBe(false);
    await expect(other.decryptCredentials(value)).rejects.toMatchObject({ code: 'MALFORMED' });
    vi.setSystemTime(new Date('2027-03-31T00:00:00.000Z'));
    await expect(passing.decryptCredentials(value)).rejects.toThrow('not let through');
    const [row] = await passing.migrateCredentials([{ value }]);
    expect(row).toMatchObject({ ok: false, error: { code: 'MALFORMED' } });
    expect(passing.counts()).toMatchObject({ plaintextRead: 1, plaintextRefused: 2 });
    expect(events.map(({ event }) => event)).toEqual(['plaintextRead', 'plaintextRefused', 'plaintextRefused']);
    expect(JSON.stringify(events)).not.toContain('ada');
    // What was encrypted before the end date is of course read after it.
    expect(await passing.decryptCredentials(await passing.encryptCredentials(value))).toEqual(value);
  });
});

describe('a roll-out in stages', () => {
  /** Pods at the three points of it, over one column. */
  const pods = () => {
    const writeLegacy = (each: unknown): unknown => library.encryptCredentials(each);
    const reading = made({ stage: 'read', writeLegacy });
    const writing = made();
    return {
      before: {
        read: async (column: unknown) => library.decryptCredentials(column),
        write: async (each: unknown) => library.encryptCredentials(each),
      },
      reading: { read: reading.decryptCredentials, write: reading.encryptCredentials },
      writing: { read: writing.decryptCredentials, write: writing.encryptCredentials },
    };
  };

  it.each([
    ['before', 'reading'],
    ['reading', 'before'],
    ['reading', 'writing'],
    ['writing', 'reading'],
    ['before', 'before'],
    ['reading', 'reading'],
    ['writing', 'writing'],
  ] as const)('has pods that read each other: written by %s, read by %s', async (writer, reader) => {
    const all = pods();
    const column: unknown = JSON.parse(JSON.stringify(await all[writer].write(value)));
    expect(await all[reader].read(column)).toEqual(value);
    // And what was read and saved again by the other is read by the first.
    const saved: unknown = await all[reader].write(await all[reader].read(column));
    expect(await all[writer].read(saved)).toEqual(value);
  });

  it('lets a pod from before fail on what it cannot read, instead of taking it for plaintext', async () => {
    const all = pods();
    const column = await all.writing.write(value);
    await expect(all.before.read(column)).rejects.toThrow('unknown kid dekd');
    const single = new LegacyLibrary({ dekd: legacyVectors.keys.v1! }, 'dekd');
    expect(() => single.decryptCredentials(column)).toThrow();
    // Which is why the form has no number of its own: such a library hands that on as if it were credentials.
    expect(library.decryptCredentials({ __enc: 2, token: column.ct })).toEqual({ __enc: 2, token: column.ct });
  });

  it('goes back a step as it went forward', async () => {
    const all = pods();
    const column = await all.writing.write(value);
    expect(await all.reading.read(column)).toEqual(value);
    // Saved again as it is, or after a change.
    expect(await all.reading.write(column)).toEqual(column);
    const changed = await all.reading.write({ ...value, port: 1 });
    expect(await all.before.read(changed)).toEqual({ ...value, port: 1 });
    expect(await all.writing.read(changed)).toEqual({ ...value, port: 1 });
  });

  it('writes nothing in the stage read but what the library from before wrote and the agent opens', async () => {
    const refusing = made({ stage: 'read' });
    await expect(refusing.encryptCredentials(value)).rejects.toMatchObject({ code: 'SERVICE_DISABLED' });
    await expect(refusing.migrateCredentials([])).rejects.toMatchObject({ code: 'SERVICE_DISABLED' });
    const envelope = legacySealed(value);
    expect(await refusing.encryptCredentials(envelope)).toEqual(envelope);
    const stranger = new LegacyLibrary({ v1: Buffer.alloc(32, 1).toString('base64') }, 'v1');
    for (const writeLegacy of [
      (each: unknown) => stranger.encryptCredentials(each),
      (each: unknown) => each,
      () => undefined,
      () => ({ __enc: 2 }),
    ]) {
      const { encryptCredentials, counts } = made({ stage: 'read', writeLegacy });
      await expect(encryptCredentials(value)).rejects.toThrow('no envelope that the agent opens');
      expect(counts().legacyWritten).toBe(0);
    }
    // The library takes this for encrypted; it is not stored.
    const hostile = { ...envelope, kid: 'v2' };
    const { encryptCredentials } = made({ stage: 'read', writeLegacy: (each) => library.encryptCredentials(each) });
    await expect(encryptCredentials(hostile)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    const text = made({ stage: 'read', writeLegacy: (each) => JSON.stringify(library.encryptCredentials(each)) });
    expect(library.decryptCredentials(await text.encryptCredentials(value))).toEqual(value);
  });

  it('is over when it is said to be: then there are tokens, and nothing else is read', async () => {
    const done = made({ stage: 'done', plaintext: { until: '2999-01-01' } });
    const stored = await made().encryptCredentials(value);
    expect(await done.decryptCredentials(stored)).toEqual(value);
    const envelope = legacySealed(value);
    await expect(done.decryptCredentials(envelope)).rejects.toThrow('the stage is done');
    await expect(done.decryptCredentials(value)).rejects.toMatchObject({ code: 'MALFORMED' });
    expect(await done.isEncrypted(envelope)).toBe(false);
    expect(await done.isEncrypted(stored)).toBe(true);
    expect(await done.decryptCredentials(await done.encryptCredentials(envelope))).toEqual(envelope);
    await expect(done.migrateCredentials([])).rejects.toMatchObject({ code: 'SERVICE_DISABLED' });
  });
});
