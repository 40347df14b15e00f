import { mkdirSync, rmdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { DekdError } from '../../src/errors.ts';
import type { KeyRecord } from '../../src/keyring/record.ts';
import type { WatchLimits } from '../../src/keyring/root-watch.ts';
import { MemoryKeystore } from '../../src/keystores/memory.ts';
import { FakeProvider } from '../support/fake-provider.ts';
import { FakeClock, Sandbox, TENANTS, type World, type WorldOptions } from './keyring-fixture.ts';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const WATCH: WatchLimits = { coastEncryptMs: HOUR, coastDecryptMs: 24 * HOUR, withinMs: 5 * MINUTE, strict: false };

/** Each tenant in a tree of its own. */

describe('keys whose root is at a provider', () => {
  let sandbox: Sandbox;
  let clock: FakeClock;
  let provider: FakeProvider;
  let world: World;

  beforeEach(async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'setTimeout', 'clearTimeout'] });
    sandbox = await Sandbox.make();
    clock = new FakeClock();
    provider = new FakeProvider('kms');
  });

  afterEach(async () => {
    await sandbox.cleanUp();
    vi.useRealTimers();
  });

  async function open(options: WorldOptions = {}): Promise<World> {
    world = await sandbox.world({ providers: [provider], clock, watch: WATCH, placement: TENANTS, ...options });
    return world;
  }

  /** Lets time pass in steps, with everything that timers and the event loop do in it. */
  async function pass(ms: number, step = SECOND, each: () => Promise<void> | void = () => undefined): Promise<void> {
    for (let left = ms; left > 0; left -= step) {
      clock.elapsed += Math.min(step, left);
      vi.advanceTimersByTime(Math.min(step, left));
      for (let turn = 0; turn < 6; turn++) {
        await new Promise<void>((resolve) => setImmediate(resolve));
      }
      await each();
    }
  }

  it('ask the provider once for a thousand concurrent misses, and never while they are warm', async () => {
    const first = await open();
    const token = await first.sealed('k', 'x');
    await first.close();
    provider = Object.assign(new FakeProvider('kms'), {});
    const keystore = new MemoryKeystore();
    const made = await open({ keystore });
    const tokens = await made.sealed('k', 'x');
    const cold = await sandbox.world({ providers: [provider], keystore, clock, watch: WATCH });
    const before = provider.keyCalls;
    const opened = await Promise.all(Array.from({ length: 1_000 }, () => cold.open(tokens)));
    expect(opened.every((text) => text === 'x')).toBe(true);
    expect(provider.keyCalls - before).toBeLessThanOrEqual(1);
    for (let i = 0; i < 10_000; i++) {
      expect(cold.keyring.opening(tokens, 2)).toBeDefined();
    }
    expect(provider.keyCalls - before).toBeLessThanOrEqual(1);
    expect(token.length).toBe(tokens.length);
  });

  it('serve through an hour of silence without a failure, and open on until coast.decrypt ends', async () => {
    await open();
    const token = await world.sealed('k', 'before');
    provider.failure = 'UNAVAILABLE';
    let served = 0;
    await pass(HOUR - 3 * MINUTE, 5 * SECOND, async () => {
      await world.sealed('k', 'during');
      expect(await world.open(token)).toBe('before');
      served++;
    });
    expect(served).toBeGreaterThan(600);
    await pass(6 * MINUTE);
    await expect(world.sealed('k', 'late')).rejects.toMatchObject({ code: 'KMS_UNAVAILABLE', retryable: true });
    await pass(22 * HOUR, 5 * MINUTE, async () => {
      expect(await world.open(token)).toBe('before');
    });
    await pass(2 * HOUR, 5 * MINUTE);
    await expect(world.open(token)).rejects.toMatchObject({ code: 'KMS_UNAVAILABLE', retryable: true });
    expect(world.events.filter(({ event }) => event === 'coast-ended').length).toBe(2);
  });

  it('fail at once, typed and retryable, for a key that is cold in an outage, and work within 5 s of its end', async () => {
    await open();
    await world.sealed('k', 'x');
    provider.failure = 'UNAVAILABLE';
    await pass(10 * MINUTE);
    expect(world.custody.defaultRoot.standing().breaker).toBe('open');
    const calls = provider.keyCalls;
    let probes = 0;
    for (let i = 0; i < 100; i++) {
      const error: unknown = await world.sealed('k', 'x', `tenant-${i}`).catch((reason: unknown) => reason);
      expect(error).toMatchObject({ code: 'KMS_UNAVAILABLE', retryable: true });
      // The one call that a breaker past its 30 s lets through brings what the provider says, without a time.
      probes += (error as DekdError).retryAfterMs === undefined ? 1 : 0;
    }
    expect(probes).toBeLessThanOrEqual(1);
    expect(provider.keyCalls - calls).toBeLessThanOrEqual(1);
    provider.failure = undefined;
    await pass(5 * SECOND);
    await world.sealed('k', 'x', 'tenant-1');
    expect(world.custody.defaultRoot.standing().breaker).toBe('closed');
  });

  it('ask a provider that is silent no more than twice a second, however many keys there are', async () => {
    await open();
    for (let i = 0; i < 40; i++) {
      await world.sealed('k', 'x', `tenant-${i}`);
    }
    provider.failure = 'RATE_LIMITED';
    await pass(3 * MINUTE);
    const calls = provider.keyCalls;
    await pass(10 * MINUTE, SECOND, async () => {
      await world.sealed('k', 'x', 'tenant-3');
    });
    expect(provider.keyCalls - calls).toBeLessThan(2 * 600);
  });

  for (const refusal of ['KEY_DISABLED', 'KEY_PENDING_DELETION', 'KEY_NOT_FOUND'] as const) {
    it(`stop within revocation.within when the provider says ${refusal}`, async () => {
      await open();
      const token = await world.sealed('k', 'x');
      await pass(7 * MINUTE, SECOND, async () => void (await world.sealed('k', 'x')));
      provider.failure = refusal;
      let stoppedAt: number | undefined;
      const refusedAt = clock.elapsed;
      await pass(5 * MINUTE, SECOND, async () => {
        await world.sealed('k', 'x').catch(() => {
          stoppedAt ??= clock.elapsed;
        });
      });
      expect(stoppedAt! - refusedAt).toBeLessThanOrEqual(WATCH.withinMs);
      await expect(world.open(token)).rejects.toMatchObject({ code: 'KMS_DENIED' });
      await expect(world.sealed('k', 'x')).rejects.toMatchObject({ code: 'KMS_DENIED' });
    });
  }

  it('stop when access is denied twice, 30 s apart and within the bound, and not when it is denied once', async () => {
    await open();
    const token = await world.sealed('k', 'x');
    const use = async (): Promise<void> => void (await world.open(token));
    await pass(MINUTE, SECOND, use);
    provider.failure = 'FORBIDDEN';
    await pass(WATCH.withinMs, SECOND, async () => {
      if (world.events.some(({ event }) => event === 'root-denied')) {
        provider.failure = undefined;
      }
      await use();
    });
    expect(await world.open(token)).toBe('x');
    provider.failure = 'FORBIDDEN';
    const from = clock.elapsed;
    let stoppedAt: number | undefined;
    await pass(WATCH.withinMs, SECOND, async () => {
      await use().catch(() => {
        stoppedAt ??= clock.elapsed;
      });
    });
    expect(stoppedAt! - from).toBeGreaterThanOrEqual(30 * SECOND);
    expect(stoppedAt! - from).toBeLessThanOrEqual(WATCH.withinMs);
  });

  it('take no silence for a refusal: throttling, a seal, expired credentials and time-outs stop nothing', async () => {
    for (const code of ['RATE_LIMITED', 'SEALED', 'UNAUTHENTICATED', 'TIMEOUT', 'UNAVAILABLE'] as const) {
      provider = new FakeProvider('kms');
      await open();
      const token = await world.sealed('k', 'x');
      provider.failure = code;
      await pass(20 * MINUTE, 5 * SECOND, async () => void (await world.open(token)));
      expect(await world.open(token)).toBe('x');
      await world.sealed('k', 'x');
      await world.close();
    }
  });

  it('stop on first contact when they were revoked while the provider was silent', async () => {
    await open();
    const token = await world.sealed('k', 'x');
    provider.failure = 'UNAVAILABLE';
    await pass(30 * MINUTE, 5 * SECOND, async () => void (await world.open(token)));
    provider.failure = 'KEY_DISABLED';
    await pass(6 * SECOND);
    await expect(world.open(token)).rejects.toMatchObject({ code: 'KMS_DENIED' });
  });

  it('stop at within, silent provider or not, when revocation is strict', async () => {
    await open({ watch: { ...WATCH, strict: true } });
    const token = await world.sealed('k', 'x');
    provider.failure = 'UNAVAILABLE';
    await pass(4 * MINUTE, SECOND, async () => void (await world.open(token)));
    await pass(MINUTE + 2 * SECOND);
    await expect(world.open(token)).rejects.toMatchObject({ code: 'KMS_UNAVAILABLE' });
    await expect(world.sealed('k', 'x')).rejects.toMatchObject({ code: 'KMS_UNAVAILABLE' });
  });

  it('stop one tenant whose context is refused and no other', async () => {
    await open();
    const a = await world.sealed('k', 'a', 'tenant-a');
    const b = await world.sealed('k', 'b', 'tenant-b');
    provider.failureOfTenant.set('tenant-a', 'FORBIDDEN');
    await pass(WATCH.withinMs, SECOND, async () => {
      await world.open(a).catch(() => undefined);
      expect(await world.open(b)).toBe('b');
    });
    await expect(world.open(a)).rejects.toMatchObject({ code: 'KMS_DENIED' });
    expect(await world.open(b)).toBe('b');
  });

  it('come back when the refusal is lifted', async () => {
    await open();
    const token = await world.sealed('k', 'x');
    provider.failure = 'KEY_DISABLED';
    await pass(WATCH.withinMs, SECOND, async () => void (await world.open(token).catch(() => undefined)));
    await expect(world.open(token)).rejects.toMatchObject({ code: 'KMS_DENIED' });
    provider.failure = undefined;
    await pass(6 * SECOND);
    expect(await world.open(token)).toBe('x');
  });

  it('do not ask a provider that refused for every caller', async () => {
    await open();
    const token = await world.sealed('k', 'x');
    provider.failure = 'KEY_DISABLED';
    await pass(WATCH.withinMs, SECOND, async () => void (await world.open(token).catch(() => undefined)));
    const calls = provider.keyCalls;
    for (let i = 0; i < 500; i++) {
      await expect(world.open(token)).rejects.toMatchObject({ code: 'KMS_DENIED' });
    }
    expect(provider.keyCalls - calls).toBeLessThanOrEqual(1);
  });

  it('cost a few calls an hour while in use, and none once nobody used them for coast.encrypt', async () => {
    await open();
    const token = await world.sealed('k', 'x');
    let calls = provider.keyCalls;
    await pass(HOUR, SECOND, async () => void (await world.open(token)));
    expect(provider.keyCalls - calls).toBeLessThanOrEqual(40);
    await pass(2 * HOUR, 5 * SECOND);
    calls = provider.keyCalls;
    await pass(HOUR, 5 * SECOND);
    expect(provider.keyCalls - calls).toBe(0);
    expect(world.engine.stats().used).toBe(0);
    expect(await world.open(token)).toBe('x');
  });

  it('cause no storm after the process stood still for an hour', async () => {
    await open();
    const tokens = await Promise.all(Array.from({ length: 30 }, (_, i) => world.sealed('k', 'x', `tenant-${i}`)));
    const calls = provider.keyCalls;
    clock.elapsed += 40 * MINUTE;
    await pass(3 * SECOND, SECOND, async () => {
      for (const token of tokens) {
        expect(await world.open(token)).toBe('x');
      }
    });
    expect(provider.keyCalls - calls).toBeLessThanOrEqual(30);
  });

  it('mind the wall clock in nothing', async () => {
    await open();
    const token = await world.sealed('k', 'x');
    const calls = provider.keyCalls;
    for (const jump of [-2 * 24 * HOUR, 400 * 24 * HOUR]) {
      clock.wall += jump;
      await pass(5 * SECOND);
      expect(await world.open(token)).toBe('x');
      await world.sealed('k', 'x');
    }
    expect(provider.keyCalls).toBe(calls);
  });

  it('are loaded at start when they are to be prewarmed', async () => {
    const keystore = new MemoryKeystore();
    await open({ keystore });
    const token = await world.sealed('k', 'x');
    const next = await sandbox.world({
      providers: [provider],
      keystore,
      clock,
      watch: WATCH,
      prewarm: [
        { key: 'k', partition: '' },
        { key: 'none', partition: '' },
      ],
    });
    await pass(SECOND);
    expect(next.keyring.sealing('k', '')).toBeDefined();
    expect(next.keyring.opening(token, 2)).toBeDefined();
    expect(next.events).toContainEqual(expect.objectContaining({ event: 'prewarm-failed', key: 'none' }));
  });
});

describe('a key that this agent destroys', () => {
  it('opens nothing more here, although its row cannot be read again', async () => {
    const sandbox = await Sandbox.make();
    let isDown = false;
    class FailingKeystore extends MemoryKeystore {
      override async delete(...args: Parameters<MemoryKeystore['delete']>): Promise<void> {
        await super.delete(...args);
        isDown = true;
      }

      override async versions(...args: Parameters<MemoryKeystore['versions']>): Promise<readonly KeyRecord[]> {
        if (isDown) {
          throw new DekdError('KEYSTORE_UNAVAILABLE', 'it does not answer');
        }
        return super.versions(...args);
      }
    }
    const failing = new FailingKeystore();
    const world = await sandbox.world({ keystore: failing });
    const token = await world.sealed('k', 'x');
    // The answer cannot be had either; that it is destroyed is known.
    await world.keyring.destroy('k', '', 1, 'seal').catch(() => undefined);
    expect(isDown).toBe(true);
    await expect(world.open(token)).rejects.toMatchObject({ code: 'KEY_DISABLED' });
    await sandbox.cleanUp();
  });
});

describe('a freeze', () => {
  let sandbox: Sandbox;
  let world: World;

  beforeEach(async () => {
    sandbox = await Sandbox.make();
    world = await sandbox.world({ stateFolder: sandbox.path('state') });
  });

  afterEach(() => sandbox.cleanUp());

  it('stops sealing and opening in the same turn, and a thaw brings both back', async () => {
    const token = await world.sealed('k', 'x');
    const other = await world.sealed('other', 'y');
    void world.keyring.freeze({ name: 'k', partition: '' });
    expect(world.keyring.sealing('k', '')).toBeUndefined();
    expect(world.keyring.opening(token, 2)).toBeUndefined();
    await expect(world.sealed('k', 'x')).rejects.toMatchObject({ code: 'KEY_DISABLED' });
    await expect(world.open(token)).rejects.toMatchObject({ code: 'KEY_DISABLED' });
    expect(await world.open(other)).toBe('y');
    await world.keyring.thaw({ name: 'k', partition: '' });
    expect(await world.open(token)).toBe('x');
    await world.sealed('k', 'x');
  });

  it('of everything leaves no key in the table', async () => {
    await world.sealed('a', 'x');
    await world.sealed('b', 'x', 'tenant');
    await world.keyring.freeze({ name: '', partition: '' });
    // The local root key itself stays.
    expect(world.engine.stats().used).toBe(1);
    await expect(world.sealed('c', 'x')).rejects.toMatchObject({ code: 'KEY_DISABLED' });
  });

  it('of a partition stops its keys and no others', async () => {
    const a = await world.sealed('k', 'a', 'a');
    const b = await world.sealed('k', 'b', 'b');
    await world.keyring.freeze({ name: '', partition: 'a' });
    await expect(world.open(a)).rejects.toMatchObject({ code: 'KEY_DISABLED' });
    expect(await world.open(b)).toBe('b');
  });

  it('outlives a restart', async () => {
    const token = await world.sealed('k', 'x');
    const { keystore } = world;
    await world.keyring.freeze({ name: 'k', partition: '' });
    await world.keyring.close();
    const next = await sandbox.world({ keystore, stateFolder: sandbox.path('state') });
    await expect(next.open(token)).rejects.toMatchObject({ code: 'KEY_DISABLED' });
    expect(next.keyring.freezes()).toEqual([{ name: 'k', partition: '' }]);
  });

  it('checks rows that were met during it once it is over', async () => {
    const token = await world.sealed('k', 'x');
    const { keystore } = world;
    await world.keyring.disable('k', '', undefined);
    const [row] = await keystore.versions('k', '', 'seal');
    const next = await sandbox.world({ keystore });
    await next.keyring.freeze({ name: 'k', partition: '' });
    // A hostile keystore says active while nobody looks.
    await keystore.updateMetadata([{ record: { ...row!, state: 'active' }, expect: { seq: row!.seq } }]);
    await expect(next.open(token)).rejects.toMatchObject({ code: 'KEY_DISABLED' });
    await next.keyring.thaw({ name: 'k', partition: '' });
    expect(await next.open(token).catch(() => undefined)).toBeUndefined();
  });

  it('is not lifted when the row changes during it, as by a rotation at another agent', async () => {
    const { keystore } = world;
    const held = await sandbox.world({ keystore, refreshMs: 10 });
    const token = await held.sealed('k', 'x');
    const other = await sandbox.world({ keystore });
    await held.keyring.freeze({ name: 'k', partition: '' });
    await other.keyring.rotate({ name: 'k', partition: '', purpose: 'seal' });
    for (let again = 0; again < 10; again++) {
      await sleep(10);
      await expect(held.open(token)).rejects.toMatchObject({ code: 'KEY_DISABLED' });
    }
    await held.keyring.thaw({ name: 'k', partition: '' });
    expect(await held.open(token)).toBe('x');
  });

  it('holds when its thaw cannot be written, and the next thaw lifts it', async () => {
    const token = await world.sealed('k', 'x');
    await world.keyring.freeze({ name: 'k', partition: '' });
    // Nothing can be written where a folder has the name.
    mkdirSync(sandbox.path('state/frozen.next'));
    await expect(world.keyring.thaw({ name: 'k', partition: '' })).rejects.toMatchObject({
      code: 'KEYSTORE_UNAVAILABLE',
    });
    await expect(world.open(token)).rejects.toMatchObject({ code: 'KEY_DISABLED' });
    rmdirSync(sandbox.path('state/frozen.next'));
    await world.keyring.thaw({ name: 'k', partition: '' });
    expect(await world.open(token)).toBe('x');
  });

  it('that is not there cannot be thawed', async () => {
    await expect(world.keyring.thaw({ name: 'k', partition: '' })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });
});
