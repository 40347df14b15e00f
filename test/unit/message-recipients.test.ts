import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type KeyHandle, RAW_AES_USE } from '../../src/crypto/engine.ts';
import { NodeEngine } from '../../src/crypto/node.ts';
import type { Custody } from '../../src/custody/custody.ts';
import { encodeContext } from '../../src/envelope/context.ts';
import { DekdError } from '../../src/errors.ts';
import { type KeyDefinition, KeyDefinitions } from '../../src/keyring/key-definition.ts';
import {
  type MessageRecipients,
  type MessageRecipientsParts,
  MessageRecipients as Recipients,
  type SealedDataKey,
} from '../../src/keyring/recipients/message-recipients.ts';
import { openRecipients } from '../../src/keyring/recipients/open-recipients.ts';
import type { WholeContext } from '../../src/keyring/recipients/recipient.ts';
import { DEFAULT_WATCH, type WatchLimits, watchTimes } from '../../src/keyring/root-watch.ts';
import { MemoryKeystore } from '../../src/keystores/memory.ts';
import { importKey } from '../support/engines.ts';
import { fakeCustody } from '../support/fake-custody.ts';
import { FakeProvider } from '../support/fake-provider.ts';
import { durable, Sandbox } from './keyring-fixture.ts';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DEFINITIONS: readonly KeyDefinition[] = [
  { pattern: 'k', recipients: ['escrow'] },
  { pattern: 'vaulted', recipients: ['vault'] },
  { pattern: 'raw', recipients: ['partner'] },
  { pattern: 'both', recipients: ['partner', 'escrow', 'vault'] },
  { pattern: 'former', recipients: ['partner'], formerRecipients: ['escrow'] },
];

let engine: NodeEngine;
let kms: FakeProvider;
let vault: FakeProvider;
let custody: Custody;
let now: number;
let logged: string[];
let recipients: MessageRecipients;
let rawKey: KeyHandle;

beforeEach(async () => {
  engine = new NodeEngine({ capacity: 64 });
  kms = new FakeProvider('kms', 'arn:of:kms', 'aws-kms');
  vault = new FakeProvider('vault', 'vault-transit:t/k', 'vault-transit');
  now = 0;
  logged = [];
  custody = await fakeCustody({
    engine,
    providers: [kms, vault],
    keystore: new MemoryKeystore(),
    elapsedMs: () => now,
  });
  rawKey = importKey(engine, randomBytes(32), RAW_AES_USE);
  recipients = make();
});

afterEach(async () => {
  await recipients.close();
  engine.destroyKey(rawKey);
  expect(engine.stats().used).toBe(0);
  await custody.close();
  engine.close();
});

function make(watch: WatchLimits = DEFAULT_WATCH, changes: Partial<MessageRecipientsParts> = {}): MessageRecipients {
  const table = { engine, room: <T>(work: () => T) => work(), roomAsync: <T>(work: () => Promise<T>) => work() };
  const { coastEncryptMs, coastDecryptMs, ...times } = watchTimes(watch);
  const specs = [
    { name: 'escrow', kind: 'root', root: 'kms' },
    { name: 'vault', kind: 'root', root: 'vault' },
    { name: 'partner', kind: 'raw-aes', namespace: 'acme', keyName: 'k1', key: rawKey },
  ] as const;
  return new Recipients({
    table,
    elapsedMs: () => now,
    definitions: new KeyDefinitions(DEFINITIONS),
    recipients: openRecipients(specs, custody, table),
    use: { check: async () => undefined, forget: () => undefined },
    sealing: { ...times, coastMs: coastEncryptMs },
    opening: { ...times, coastMs: coastDecryptMs },
    log: ({ event }) => logged.push(event),
    ...changes,
  });
}

function contextOf(pairs: Readonly<Record<string, string>>): WholeContext {
  return { pairs, bytes: encodeContext(pairs) };
}

const CONTEXT = contextOf({ tenant: 'acme' });

interface Where {
  readonly name?: string;
  readonly partition?: string;
  readonly share?: string;
  readonly context?: WholeContext;
  readonly stored?: Uint8Array;
}

/** Seals, and gives the handle back. @returns the kid of the data key, and its copies */
async function sealed({
  name = 'k',
  partition = '',
  share = 's',
  context = CONTEXT,
  stored,
}: Where = {}): Promise<SealedDataKey & { readonly kid: string }> {
  const made = await recipients.seal({ name, partition, share, context, stored: stored ?? context.bytes });
  const kid = kidOf(made.dataKey);
  engine.destroyKey(made.dataKey);
  return { ...made, kid };
}

async function opened(
  copies: SealedDataKey['copies'],
  { name = 'k', partition = '', share = 's', context = CONTEXT }: Where = {},
): Promise<string> {
  const handle = await recipients.open({ name, partition, share, copies, context, mayAsk: true });
  const kid = kidOf(handle);
  engine.destroyKey(handle);
  return kid;
}

function kidOf(handle: KeyHandle): string {
  return Buffer.from(engine.kid(handle)).toString('hex');
}

const codeOf = (work: Promise<unknown>): Promise<string | undefined> =>
  work.then(
    () => undefined,
    (error: unknown) => DekdError.from(error).code,
  );

/** What happens in the background happens. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) {
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
}

describe('data keys for recipients', () => {
  it('are one for the identical key, partition, and stored and whole context, and others for everything else', async () => {
    const first = await sealed();
    expect((await sealed()).kid).toBe(first.kid);
    expect(kms.calls.wrap).toBe(1);
    const others = [
      await sealed({ partition: 'p' }),
      await sealed({ context: contextOf({ tenant: 'other' }) }),
      await sealed({ context: contextOf({ tenant: 'acme', row: '1' }) }),
      await sealed({ stored: encodeContext({}) }),
      await sealed({ name: 'former' }),
      await sealed({ name: 'both' }),
    ];
    expect(new Set([first, ...others].map(({ kid }) => kid)).size).toBe(7);
  });

  it('are made once for many who ask at the same time', async () => {
    const many = await Promise.all(Array.from({ length: 50 }, () => sealed()));
    expect(new Set(many.map(({ kid }) => kid)).size).toBe(1);
    expect(kms.calls.wrap).toBe(1);
    const copies = many[0]!.copies;
    await Promise.all(Array.from({ length: 50 }, () => opened(copies)));
    expect(kms.calls.unwrap).toBe(1);
  });

  it('open by each of several recipients, those in the agent before those at providers', async () => {
    const { kid, copies } = await sealed({ name: 'both' });
    expect(copies.map(({ providerId }) => providerId)).toEqual(['acme', 'aws-kms', 'vault-transit']);
    expect(await opened(copies.toReversed(), { name: 'both' })).toBe(kid);
    expect([kms.calls.unwrap, vault.calls.unwrap]).toEqual([0, 0]);
    for (const copy of copies) {
      expect(await opened([copy], { name: 'both' })).toBe(kid);
    }
    kms.failure = 'UNAVAILABLE';
    expect(await opened(copies.slice(1), { name: 'both', context: CONTEXT })).toBe(kid);
  });

  it('do not open in another context, under another key that is not a recipient, or for a key without it', async () => {
    const other = contextOf({ tenant: 'other' });
    for (const name of ['k', 'vaulted', 'raw']) {
      const { copies } = await sealed({ name });
      expect([name, await codeOf(opened(copies, { name, context: other }))]).toEqual([name, 'DECRYPTION_FAILED']);
      // Nor when it is warm.
      await opened(copies, { name });
      expect([name, await codeOf(opened(copies, { name, context: other }))]).toEqual([name, 'DECRYPTION_FAILED']);
      expect([name, await codeOf(opened(copies, { name: 'none' }))]).toEqual([name, 'DECRYPTION_FAILED']);
    }
    const calls = kms.keyCalls;
    const { copies } = await sealed({ name: 'raw' });
    const foreign = {
      ...copies[0]!,
      providerId: 'aws-kms',
      providerInfo: new Uint8Array(Buffer.from('arn:of:another')),
    };
    expect(await codeOf(opened([foreign]))).toBe('DECRYPTION_FAILED');
    expect(kms.keyCalls).toBe(calls);
  });

  it('of a former recipient open, and are not sealed for it', async () => {
    const { copies, kid } = await sealed();
    expect(await opened(copies, { name: 'former' })).toBe(kid);
    expect((await sealed({ name: 'former' })).copies.map(({ providerId }) => providerId)).toEqual(['acme']);
  });

  it('say which of two failures a retry may mend', async () => {
    const { copies } = await sealed({ name: 'both' });
    kms.failure = 'KEY_DISABLED';
    vault.failure = 'UNAVAILABLE';
    expect(await codeOf(opened(copies.slice(1), { name: 'both' }))).toBe('KMS_UNAVAILABLE');
    vault.failure = 'CORRUPT';
    expect(await codeOf(opened(copies.slice(1), { name: 'both' }))).toBe('KMS_DENIED');
  });

  it('are in no slot while they are kept', async () => {
    await sealed();
    const { used } = engine.stats();
    for (let row = 0; row < 200; row++) {
      const { copies } = await sealed({ context: contextOf({ row: String(row) }) });
      await opened(copies, { context: contextOf({ row: String(row) }) });
    }
    expect(recipients.kept).toBe(401);
    expect(engine.stats().used).toBe(used);
  });

  it('end after so many messages, and so much time', async () => {
    await recipients.close();
    recipients = make(DEFAULT_WATCH, { limits: { maxMessages: 3, maxAgeMs: HOUR, maxKept: 10 } });
    const kids: string[] = [];
    for (let message = 0; message < 7; message++) {
      kids.push((await sealed()).kid);
    }
    expect(kids.map((kid) => kids.indexOf(kid))).toEqual([0, 0, 0, 3, 3, 3, 6]);
    const { kid } = await sealed();
    now += HOUR - 1;
    expect((await sealed()).kid).toBe(kid);
    now += 1;
    expect((await sealed()).kid).not.toBe(kid);
  });

  it('of one who floods displace only his own', async () => {
    await recipients.close();
    recipients = make(DEFAULT_WATCH, { limits: { maxMessages: 2 ** 28, maxAgeMs: HOUR, maxKept: 10 } });
    const calm = [];
    for (let row = 0; row < 4; row++) {
      calm.push(await sealed({ share: 'calm', context: contextOf({ row: String(row) }) }));
    }
    for (let row = 0; row < 50; row++) {
      await sealed({ share: 'flood', context: contextOf({ flood: String(row) }) });
    }
    expect(recipients.kept).toBe(10);
    const calls = kms.calls.wrap;
    for (const [row, { kid }] of calm.entries()) {
      expect((await sealed({ share: 'calm', context: contextOf({ row: String(row) }) })).kid).toBe(kid);
    }
    expect(kms.calls.wrap).toBe(calls);
  });

  it('of a key that is stopped while a provider is asked are not handed out, and not kept', async () => {
    await recipients.close();
    let checks = 0;
    let allowed = Number.POSITIVE_INFINITY;
    const check = async (): Promise<void> => {
      if (++checks > allowed) {
        throw new DekdError('KEY_DISABLED', 'stopped');
      }
    };
    recipients = make(DEFAULT_WATCH, { use: { check, forget: () => undefined } });
    const { copies } = await sealed();
    recipients.wipe();
    for (const use of [() => sealed(), () => opened(copies)]) {
      checks = 0;
      allowed = 1;
      expect(await codeOf(use())).toBe('KEY_DISABLED');
      expect(recipients.kept).toBe(0);
    }
    expect(kms.calls).toMatchObject({ wrap: 2, unwrap: 1 });
  });

  it('do not open by what was kept from sealing: that is another right', async () => {
    const { copies } = await sealed();
    kms.failure = 'FORBIDDEN';
    expect(await codeOf(opened(copies))).toBe('KMS_DENIED');
    expect(await codeOf(sealed())).toBe(undefined);
  });
});

describe('what a provider says of data keys that are kept', () => {
  /** Uses the key each second for so long, and says when it first failed, and with what. */
  async function firstFailure(ms: number, use: () => Promise<unknown>): Promise<[number, string] | undefined> {
    const start = now;
    for (; now - start < ms; now += SECOND) {
      const code = await codeOf(use());
      await settle();
      if (code !== undefined) {
        return [now - start, code];
      }
    }
    return undefined;
  }

  it.each(['KEY_DISABLED', 'FORBIDDEN'] as const)('counts within revocation.within when it is %s', async (failure) => {
    const { copies } = await sealed();
    await opened(copies);
    for (const use of [() => sealed(), () => opened(copies)]) {
      kms.failure = undefined;
      await use();
      now += 17 * SECOND;
      kms.failure = failure;
      const [after, code] = (await firstFailure(HOUR, use))!;
      expect(code).toBe('KMS_DENIED');
      expect(after).toBeLessThanOrEqual(5 * MINUTE);
      expect(logged).toContain('root-refused');
      expect(recipients.kept).toBe(0);
    }
  });

  it('is asked for a few times an hour, and not when nobody uses the key', async () => {
    const { copies } = await sealed();
    await opened(copies);
    const before = kms.keyCalls;
    expect(await firstFailure(30 * MINUTE, () => opened(copies))).toBe(undefined);
    expect(kms.calls.unwrap).toBeGreaterThan(5);
    expect(kms.keyCalls - before).toBeLessThan(20);
    const calls = kms.keyCalls;
    now += 50 * MINUTE;
    await settle();
    expect(kms.keyCalls).toBe(calls);
  });

  it('is waited for by a key that was idle for longer than a refusal may take', async () => {
    const { copies } = await sealed();
    await opened(copies);
    kms.failure = 'KEY_DISABLED';
    now += 4 * MINUTE;
    // The refusal has time to count, and is found meanwhile.
    expect(await codeOf(opened(copies))).toBe(undefined);
    await settle();
    expect(await codeOf(opened(copies))).toBe('KMS_DENIED');
    kms.failure = undefined;
    await opened(copies);
    kms.failure = 'KEY_DISABLED';
    now += 6 * MINUTE;
    expect(await codeOf(opened(copies))).toBe('KMS_DENIED');
  });

  it('is waited for by all who come at once after that, also when the provider was silent before', async () => {
    const { copies } = await sealed();
    await opened(copies);
    now += 4 * MINUTE;
    kms.failure = 'UNAVAILABLE';
    await opened(copies);
    await settle();
    now += HOUR;
    kms.failure = 'KEY_DISABLED';
    const codes = await Promise.all(Array.from({ length: 3 }, () => codeOf(opened(copies))));
    expect(codes).toEqual(['KMS_DENIED', 'KMS_DENIED', 'KMS_DENIED']);
  });

  it('once denied and then granted again was no refusal', async () => {
    const { copies } = await sealed();
    await opened(copies);
    now += 4 * MINUTE;
    kms.failure = 'FORBIDDEN';
    await opened(copies);
    await settle();
    kms.failure = undefined;
    expect(await firstFailure(20 * MINUTE, () => opened(copies))).toBe(undefined);
    expect(logged).toEqual([]);
  });

  it('is not missed in silence until the coast ends: an hour for sealing, a day for opening', async () => {
    const { copies } = await sealed();
    await opened(copies);
    kms.failure = 'UNAVAILABLE';
    const calls = kms.keyCalls;
    // Longer than an hour no data key seals anyhow; the next one asks the provider, which does not answer.
    expect(await firstFailure(3 * HOUR, () => sealed())).toEqual([HOUR, 'KMS_UNAVAILABLE']);
    expect(await codeOf(opened(copies))).toBe(undefined);
    now = 24 * HOUR - SECOND;
    expect(await codeOf(opened(copies))).toBe(undefined);
    now += 2 * SECOND;
    expect(await codeOf(opened(copies))).toBe('KMS_UNAVAILABLE');
    // The breaker keeps most from a provider that is silent.
    expect(kms.keyCalls - calls).toBeLessThan(400);
    kms.failure = undefined;
    now += MINUTE;
    await settle();
    expect(await codeOf(opened(copies))).toBe(undefined);
  });

  it('is missed sooner where revocation is strict', async () => {
    await recipients.close();
    recipients = make({ ...DEFAULT_WATCH, strict: true });
    const { copies } = await sealed();
    await opened(copies);
    kms.failure = 'UNAVAILABLE';
    const [after, code] = (await firstFailure(HOUR, () => opened(copies)))!;
    expect([after, code]).toEqual([5 * MINUTE, 'KMS_UNAVAILABLE']);
  });

  it('is forgotten with what nobody uses', async () => {
    const { copies } = await sealed();
    await opened(copies);
    now += HOUR - 1;
    recipients.sweep();
    expect(recipients.kept).toBe(2);
    now += 1;
    recipients.sweep();
    expect(recipients.kept).toBe(0);
  });

  it('of one root is wiped with it, and of another is not', async () => {
    await sealed();
    await sealed({ name: 'vaulted' });
    await sealed({ name: 'raw' });
    recipients.wipe('kms');
    expect(recipients.kept).toBe(2);
    recipients.wipe();
    expect(recipients.kept).toBe(0);
  });
});

describe('a key whose recipients are not the keystore', () => {
  let sandbox: Sandbox;

  beforeEach(async () => {
    sandbox = await Sandbox.make();
  });

  afterEach(() => sandbox.cleanUp());

  it('is stopped by a freeze and by disabling its versions, at once, and goes on afterwards', async () => {
    const provider = new FakeProvider('kms', 'arn:of:kms', 'aws-kms');
    const world = await sandbox.world({
      providers: [provider],
      keystore: durable(new MemoryKeystore()),
      definitions: [{ pattern: 'k', recipients: ['escrow'] }],
      recipients: [{ name: 'escrow', kind: 'root', root: 'kms' }],
    });
    const { keyring } = world;
    const seal = async (): Promise<SealedDataKey['copies']> => {
      const request = { name: 'k', partition: '', share: 's', context: CONTEXT, stored: CONTEXT.bytes };
      const { dataKey, copies } = await keyring.recipients.seal(request);
      world.engine.destroyKey(dataKey);
      return copies;
    };
    const open = async (): Promise<void> => {
      const request = { name: 'k', partition: '', share: 's', context: CONTEXT, copies, mayAsk: true };
      world.engine.destroyKey(await keyring.recipients.open(request));
    };
    const copies = await seal();
    await open();
    const steps = [
      {
        stop: () => keyring.freeze({ name: 'k', partition: '' }),
        go: () => keyring.thaw({ name: 'k', partition: '' }),
      },
      { stop: () => keyring.freeze({ name: '', partition: '' }), go: () => keyring.thaw({ name: '', partition: '' }) },
      {
        stop: async () => {
          await keyring.create({ name: 'k', partition: '', purpose: 'message' });
          expect(await codeOf(seal())).toBe(undefined);
          await keyring.disable('k', '', undefined);
        },
        go: () => keyring.enable('k', '', undefined),
      },
    ];
    for (const { stop, go } of steps) {
      await stop();
      const calls = provider.keyCalls;
      expect(await codeOf(seal())).toBe('KEY_DISABLED');
      expect(await codeOf(open())).toBe('KEY_DISABLED');
      expect(provider.keyCalls).toBe(calls);
      await go();
      expect([await codeOf(seal()), await codeOf(open())]).toEqual([undefined, undefined]);
    }
    await keyring.destroy('k', '', undefined);
    expect([await codeOf(seal()), await codeOf(open())]).toEqual(['KEY_DISABLED', 'KEY_DISABLED']);
  });

  it('needs a root of a kind that can be a recipient', async () => {
    const recipient = { name: 'escrow', kind: 'root', root: 'local' } as const;
    await expect(sandbox.world({ recipients: [recipient] })).rejects.toThrow(/recipient escrow is of root local/);
  });
});
