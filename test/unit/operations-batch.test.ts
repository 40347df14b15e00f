import { describe, expect, it } from 'vitest';
import { type Engine, ROW, ROW_STATUS } from '../../src/crypto/engine.ts';
import { DekdError } from '../../src/errors.ts';
import type { DataKey, Keyring } from '../../src/keyring/keyring.ts';
import { decryptMany } from '../../src/operations/decrypt.ts';
import { encryptMany, encryptValue } from '../../src/operations/encrypt.ts';
import type { OperationsEnvironment } from '../../src/operations/environment.ts';
import { reencryptMany } from '../../src/operations/reencrypt.ts';
import type { Caller, ItemFailure } from '../../src/operations/request.ts';
import { verifyHmacMany } from '../../src/operations/verify-hmac.ts';
import type { WorkPool } from '../../src/pool/pool.ts';
import { messages, type RequestFields } from '../../src/protocol/messages.ts';
import { RequestReader } from '../../src/protocol/request-reader.ts';

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

const KEY = {
  kid: new Uint8Array(16),
  name: 'k',
  partition: '',
  version: 1,
  state: 'active',
  purpose: 'seal',
  requiredContext: [],
  handle: () => 1,
  used: () => {},
} as unknown as DataKey;

/** Operations over an engine in which every seal and open fails. */
function environment(): OperationsEnvironment {
  const fail = (): never => {
    throw new DekdError('INTERNAL', 'internal error');
  };
  return {
    engine: { seal: fail, open: fail, sealMany: fail, openMany: fail } as unknown as Engine,
    keyring: { directSealing: () => undefined, sealing: () => KEY, opening: () => KEY } as unknown as Keyring,
    maxPayload: 1024,
    maxExpanded: 1024,
    decoy: 0 as never,
    messageDecoy: 0 as never,
    macDecoy: 0 as never,
    exposeRecordContext: false,
    legacy: { find: () => undefined, decoy: undefined },
    pool: { planRows: () => undefined, isWorthHop: () => false } as unknown as WorkPool,
    volume: { bytesSealed: 0, bytesOpened: 0 },
  };
}

function request(fields: RequestFields): RequestReader {
  const reader = new RequestReader();
  reader.read(Buffer.from(messages.Request.encode({ id: 1, ...fields }).finish()));
  reader.readBinding();
  return reader;
}

/** Counts what is opened and taken back. */
function output() {
  const state = { opened: 0, rewound: 0, ended: 0 };
  const open = (): number => {
    state.opened++;
    return 0;
  };
  return {
    ...{ buffer: new Uint8Array(4096) },
    reserveValue: open,
    beginMany: () => void open(),
    manyValue: () => 0,
    keyUsed: () => {},
    endMany: () => void state.ended++,
    rewind: () => void state.rewound++,
    owner: {},
    detach: () => expect.fail('the request is small'),
    state,
  };
}

describe('an operation whose engine fails after its reply was opened', () => {
  const data = Buffer.from('x');
  const token = Buffer.concat([Buffer.from([0xc1, 1]), Buffer.alloc(60)]);

  it.each([
    ['encrypt', () => request({ encrypt: { key: 'k', data } }), encryptValue],
    ['encrypt of many', () => request({ encryptMany: { key: 'k', items: [{ data }] } }), encryptMany],
    ['decrypt of many', () => request({ decryptMany: { key: 'k', items: [{ data: token }] } }), decryptMany],
  ] as const)('takes it back: %s', (_name, make, operation) => {
    const out = output();
    expect(() => operation(environment(), CALLER, make(), out)).toThrow('internal error');
    expect(out.state).toEqual({ opened: 1, rewound: 1, ended: 0 });
  });
});

describe('a MAC whose key was stopped while the batch was under way', () => {
  it('is an error, and what was in the memory of the reply before is in no answer', () => {
    let asked = 0;
    const handle = (): number => {
      if (asked++ > 0) {
        throw new DekdError('KEY_DISABLED', 'key k is disabled');
      }
      return 1;
    };
    const env = environment();
    Object.assign(env.engine, {
      verifyMacMany: (table: Uint32Array) => {
        table[ROW.status] = ROW_STATUS.staleKey;
      },
    });
    Object.assign(env.keyring, { opening: () => ({ ...KEY, purpose: 'mac', handle }) });
    const mac = Buffer.concat([Buffer.from([0xc0, 1]), Buffer.alloc(48)]);
    const out = output();
    out.buffer.fill(0xaa);
    let failed: readonly ItemFailure[] = [];
    const endMany = (failures: readonly ItemFailure[]): void => {
      failed = failures;
    };
    const many = { key: 'k', items: [{ data: Buffer.from('x'), mac }] };
    const outcome = verifyHmacMany(env, CALLER, request({ verifyHmacMany: many }), { ...out, endMany });
    expect(outcome).toBeUndefined();
    expect(failed.map(({ error }) => error.code)).toEqual(['KEY_DISABLED']);
    expect(out.buffer[0]).toBe(0);
  });
});

describe('a batch of more items than count towards the limit', () => {
  it.each([encryptMany, decryptMany, reencryptMany])('is refused before any is looked at', (operation) => {
    const many = {
      count: 1_000_000,
      visitItems: () => expect.fail('an item was looked at'),
      copy: () => many,
    } as unknown as RequestReader;
    const out = output();
    expect(() => operation(environment(), CALLER, many, out)).toThrow(/1000000 items counts 80000000 bytes/);
    expect(out.state.opened).toBe(0);
  });
});
