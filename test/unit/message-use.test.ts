import { beforeEach, describe, expect, it } from 'vitest';
import { DekdError } from '../../src/errors.ts';
import type { Freezes } from '../../src/keyring/freezes.ts';
import { MessageUse } from '../../src/keyring/recipients/message-use.ts';
import type { KeyRecord } from '../../src/keyring/record.ts';
import type { Keystore } from '../../src/keystores/keystore.ts';

const REFRESH_MS = 30_000;
const ACTIVE = [{ state: 'active' }] as unknown as readonly KeyRecord[];
const STOPPED = [{ state: 'suspended' }] as unknown as readonly KeyRecord[];

let now: number;
/** One for each question that the keystore was asked. */
let asked: PromiseWithResolvers<readonly KeyRecord[]>[];
let use: MessageUse;
let isFrozen: boolean;

beforeEach(() => {
  isFrozen = false;
  now = 0;
  asked = [];
  use = new MessageUse({
    keystore: {
      versions() {
        asked.push(Promise.withResolvers());
        return asked.at(-1)!.promise;
      },
    } as unknown as Keystore,
    freezes: {
      check() {
        if (isFrozen) {
          throw new DekdError('KEY_DISABLED', 'frozen');
        }
      },
    } as unknown as Freezes,
    elapsedMs: () => now,
    refreshMs: REFRESH_MS,
  });
});

const check = (partition = ''): Promise<string | undefined> =>
  use.check('k', partition, 'seal').then(
    () => undefined,
    (error: unknown) => DekdError.from(error).code,
  );
const silence = (): DekdError => new DekdError('KEYSTORE_UNAVAILABLE', 'silent');

describe('whether a key may be used for messages', () => {
  it('is read once for all who ask at the same time, and holds for a while', async () => {
    const checks = Promise.all([check(), check(), check('p'), check('p')]);
    expect(asked.length).toBe(2);
    asked[0]!.resolve(ACTIVE);
    asked[1]!.resolve(STOPPED);
    expect(await checks).toEqual([undefined, undefined, 'KEY_DISABLED', 'KEY_DISABLED']);
    now = REFRESH_MS - 1;
    expect(await check()).toBe(undefined);
    expect(asked.length).toBe(2);
    now = REFRESH_MS;
    const next = Promise.all([check(), check()]);
    expect(asked.length).toBe(3);
    asked[2]!.resolve(STOPPED);
    expect(await next).toEqual(['KEY_DISABLED', 'KEY_DISABLED']);
  });

  it('is not what was read before its rows were changed', async () => {
    const before = check();
    use.forget('k', '');
    const after = check();
    expect(asked.length).toBe(2);
    asked[1]!.resolve(STOPPED);
    expect(await after).toBe('KEY_DISABLED');
    asked[0]!.resolve(ACTIVE);
    expect(await before).toBe('KEY_DISABLED');
    expect(await check()).toBe('KEY_DISABLED');
    expect(asked.length).toBe(2);
  });

  it('is not what it was before a freeze that came while it was read', async () => {
    const checked = check();
    isFrozen = true;
    asked[0]!.resolve(ACTIVE);
    expect(await checked).toBe('KEY_DISABLED');
  });

  it('is what it was while the keystore is silent, of which nobody waits for a second silence', async () => {
    const first = check();
    asked[0]!.resolve(ACTIVE);
    await first;
    now = REFRESH_MS;
    const second = check();
    asked[1]!.reject(silence());
    expect(await second).toBe(undefined);
    now += 9_999;
    expect(await check()).toBe(undefined);
    expect(asked.length).toBe(2);
    now += 1;
    expect([await check(), await check()]).toEqual([undefined, undefined]);
    expect(asked.length).toBe(3);
    asked[2]!.resolve(STOPPED);
    await asked[2]!.promise;
    await new Promise((resolve) => setImmediate(resolve));
    expect(await check()).toBe('KEY_DISABLED');
    expect(asked.length).toBe(3);
  });

  it('is an error while that was never known, and asked for again', async () => {
    const first = check();
    asked[0]!.reject(silence());
    expect(await first).toBe('KEYSTORE_UNAVAILABLE');
    const second = check();
    asked[1]!.resolve(ACTIVE);
    expect(await second).toBe(undefined);
  });
});
