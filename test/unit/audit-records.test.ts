import { afterAll, describe, expect, it } from 'vitest';
import type { AuditLog } from '../../src/audit/audit-log.ts';
import { CHAIN_USE } from '../../src/audit/chain-key.ts';
import { firstDigestKey } from '../../src/audit/key-state.ts';
import { fieldNames, RequestRecords, type RequestRecordsOptions } from '../../src/audit/request-records.ts';
import { loadEngine } from '../../src/crypto/load.ts';
import { encodeContext } from '../../src/envelope/context-encoding.ts';
import type { Observation } from '../../src/telemetry/observation.ts';

const { engine } = await loadEngine({ engine: 'node', minimumLockLevel: 'heap', snapshotSafe: false });
const digestKey = firstDigestKey(engine, engine.generateKey(CHAIN_USE));
afterAll(() => engine.close());

const TOLD: Observation = {
  operation: 'encrypt',
  form: 'value',
  caller: 'uid:1000',
  gid: 1000,
  socket: 'data',
  client: 'shop',
  key: 'k',
  partition: '',
  used: undefined,
  outcome: 'ok',
  items: 1,
  failed: 0,
  failure: undefined,
  incident: '',
  bytes: 64,
  context: new Uint8Array(0),
  traceparent: '',
  arrived: 0,
};

function recorder(options: Partial<RequestRecordsOptions>): {
  records: RequestRecords;
  written: Record<string, unknown>[];
} {
  const written: Record<string, unknown>[] = [];
  const log = { append: (body: string) => void written.push(JSON.parse(`{${body}}`)) } as unknown as AuditLog;
  const defaults = { log, engine, digestKey, requests: 'all', sample: 1, reasonOf: () => 'because' } as const;
  return { records: new RequestRecords({ ...defaults, ...options }), written };
}

describe('records of requests', () => {
  it('are a share of those without a failure, as large as it is told to be, and every one that failed', () => {
    for (const sample of [0, 0.01, 0.3, 1]) {
      const { records, written } = recorder({ sample });
      const times = 20_000;
      for (let i = 0; i < times; i++) {
        records.answered(TOLD);
      }
      // Six standard deviations: it fails by chance once in a lifetime.
      expect(Math.abs(written.length - times * sample)).toBeLessThanOrEqual(
        6 * Math.sqrt(times * sample * (1 - sample)),
      );
      const before = written.length;
      for (let i = 0; i < 100; i++) {
        records.answered({ ...TOLD, outcome: 'DECRYPTION_FAILED', incident: `x-${i}` });
      }
      expect(written.length).toBe(before + 100);
    }
  });

  it('never are of greetings and probes that went well', () => {
    const { records, written } = recorder({});
    for (const operation of ['hello', 'ping', 'cancel', 'admin'] as const) {
      records.answered({ ...TOLD, operation });
    }
    expect(written).toEqual([]);
  });

  it('have names as they are, whatever is in them, and not too much of them', () => {
    const { records, written } = recorder({});
    const key = 'a"b\\c\n\u2028é';
    records.answered({ ...TOLD, key, partition: 'p'.repeat(1_000), client: '\u001b[31m' });
    expect(written[0]).toMatchObject({ key, partition: 'p'.repeat(256), client: '\u001b[31m' });
  });

  it('say of a batch how many failed, and why the first did', () => {
    const { records, written } = recorder({ requests: 'failures' });
    const batch = { ...TOLD, form: 'batch', items: 9 } as const;
    records.answered(batch);
    records.answered({ ...batch, failed: 2, failure: 'MALFORMED', incident: 'abc-1' });
    expect(written).toEqual([
      expect.objectContaining({ items: 9, failed: 2, failure: 'MALFORMED', incident: 'abc-1', reason: 'because' }),
    ]);
  });
});

describe('the names of the fields of a context', () => {
  it('are listed without their values', () => {
    const context = { tenant: 'secret one', größe: 'secret two', field: 'secret three' };
    expect(fieldNames(encodeContext(context))).toEqual(['field', 'größe', 'tenant']);
    expect(fieldNames(new Uint8Array(0))).toEqual([]);
  });

  it('are cut, in number and in length', () => {
    const many = Object.fromEntries(
      Array.from({ length: 40 }, (_, i) => [`n${String(i).padStart(2, '0')}${'x'.repeat(100)}`, 'v']),
    );
    const names = fieldNames(encodeContext(many));
    expect(names).toHaveLength(16);
    expect(new Set(names.map((name) => name.length))).toEqual(new Set([64]));
  });

  it('are those up to where bytes are no context, and never a part of a value', () => {
    const bytes = Buffer.from(encodeContext({ a: 'secret-value', b: 'x' }));
    for (let length = 0; length < bytes.length; length++) {
      expect(fieldNames(bytes.subarray(0, length)).join()).not.toContain('secret');
    }
    const lying = Buffer.concat([
      Buffer.from([0, 2, 0, 1]),
      Buffer.from('a'),
      Buffer.from([0xff, 0xff]),
      Buffer.from('secret-value'),
    ]);
    expect(fieldNames(lying)).toEqual(['a']);
  });
});
