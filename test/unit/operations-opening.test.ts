import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { MESSAGE_KEY_USE } from '../../src/crypto/engine.ts';
import { DekdError } from '../../src/errors.ts';
import { decryptMany, decryptValue } from '../../src/operations/decrypt.ts';
import type { OperationsEnvironment } from '../../src/operations/environment.ts';
import { reencryptMany, reencryptValue } from '../../src/operations/reencrypt.ts';
import type { Caller, ItemFailure, Output } from '../../src/operations/request.ts';
import { WorkPool } from '../../src/pool/pool.ts';
import { messages, type RequestFields } from '../../src/protocol/messages.ts';
import { RequestReader } from '../../src/protocol/request-reader.ts';
import { Sandbox, type World } from './keyring-fixture.ts';

const CALLER: Caller = {
  share: 'uid:0',
  isGated: false,
  charge: () => {},
  begin: () => undefined,
  owe: () => 0,
  checkContext: () => {},
  authorize: () => {},
  rights: () => [],
  authorizeRoot: () => {},
  allowsRoot: () => true,
  maySomewhere: () => true,
  allows: () => true,
  allowsLegacy: () => true,
  authorizeCreate: () => {},
  mayCreate: () => true,
  chargeIndex: () => {},
};

/** Tokens whose kid is that of a key which does not open tokens: what a caller can tell of it is nothing. */
describe("a token with the kid of the named key's message version", () => {
  let sandbox: Sandbox;
  let world: World;
  let env: OperationsEnvironment;
  /** Of the named key; with the kid of a key of another name; with that of the named key for messages. */
  let good: Uint8Array;
  let ofOther: Uint8Array;
  let ofMessages: Uint8Array;

  beforeEach(async () => {
    sandbox = await Sandbox.make();
    world = await sandbox.world();
    const { engine, keyring } = world;
    const decoy = engine.generateKey({ algorithm: 'xaes-256-gcm', purpose: 'seal' });
    const messageDecoy = engine.generateKey(MESSAGE_KEY_USE);
    const pool = new WorkPool({ engine, workers: 0, maxPayload: 1024 });
    env = {
      engine,
      keyring,
      pool,
      maxPayload: 1024,
      maxExpanded: 1024,
      decoy,
      messageDecoy,
      macDecoy: messageDecoy,
      exposeRecordContext: false,
      legacy: { find: () => undefined, decoy: undefined },
      volume: { bytesSealed: 0, bytesOpened: 0 },
    };
    good = await world.sealed('k', 'text');
    ofOther = await world.sealed('other', 'text');
    ofMessages = good.slice();
    ofMessages.set((await keyring.prepareSealing('k', '', 'x', () => undefined, 'message')).kid, 2);
  });

  afterEach(() => sandbox.cleanUp());

  /** What the caller is told, and under which keys the engine opened what. */
  async function answer(
    operation: (env: OperationsEnvironment, caller: Caller, request: RequestReader, out: Output) => unknown,
    fields: RequestFields,
  ): Promise<{ told: unknown; opened: unknown }> {
    const open = vi.spyOn(env.engine, 'open');
    const openMany = vi.spyOn(env.engine, 'openMany');
    const failures: ItemFailure[] = [];
    const out = {
      buffer: new Uint8Array(4096),
      reserveValue: () => 0,
      beginMany: () => undefined,
      manyValue: () => 0,
      keyUsed: () => {},
      endMany: (items: readonly ItemFailure[]) => void failures.push(...items),
      rewind: () => undefined,
    };
    const reader = new RequestReader();
    reader.read(Buffer.from(messages.Request.encode({ id: 1, ...fields }).finish()));
    reader.readBinding();
    let told: unknown;
    try {
      await operation(env, CALLER, reader, out as unknown as Output);
      told = failures.map(({ index, error: { code, message } }) => ({ index, code, message }));
    } catch (error) {
      const { code, message } = DekdError.from(error);
      told = { code, message };
    }
    const opened = [...open.mock.calls.map(([key]) => key), ...openMany.mock.calls.map(([table]) => table[0])];
    vi.restoreAllMocks();
    return { told, opened };
  }

  it.each([
    ['decrypt', (data: Uint8Array) => answer(decryptValue, { decrypt: { key: 'k', data } })],
    ['decrypt, any key', (data: Uint8Array) => answer(decryptValue, { decrypt: { data, anyKey: true } })],
    ['decrypt of many', (data: Uint8Array) => answer(decryptMany, { decryptMany: { key: 'k', items: [{ data }] } })],
    ['re-encrypt', (data: Uint8Array) => answer(reencryptValue, { reencrypt: { key: 'k', data } })],
    [
      're-encrypt of many',
      (data: Uint8Array) => answer(reencryptMany, { reencryptMany: { key: 'k', items: [{ data }] } }),
    ],
  ])('is answered as one of a wrong key, by the same work: %s', async (name, ask) => {
    const told = { code: 'DECRYPTION_FAILED', message: 'decryption failed' };
    const refused = { told: name.includes('many') ? [{ index: 0, ...told }] : told, opened: [env.decoy] };
    expect((await ask(good)).told).not.toEqual(refused.told);
    if (!name.includes('any key')) {
      expect(await ask(ofOther)).toEqual(refused);
    }
    expect(await ask(ofMessages)).toEqual(refused);
    // Also when the key for messages may not be used, and when it is not loaded.
    await world.keyring.disable('k', '', undefined, 'message');
    expect(await ask(ofMessages)).toEqual(refused);
    const { keystore } = world;
    const next = await sandbox.world({ keystore });
    const decoy = next.engine.generateKey({ algorithm: 'xaes-256-gcm', purpose: 'seal' });
    env = { ...env, engine: next.engine, keyring: next.keyring, decoy };
    expect(await ask(ofMessages)).toEqual({ ...refused, opened: [decoy] });
  });
});
