import { describe, expect, it } from 'vitest';
import { decodeContext, encodeContext } from '../../src/envelope/context.ts';
import { DECRYPTION_FAILED_TEXT, DekdError } from '../../src/errors.ts';
import { contextToSeal, namedKey, namingPairs, requiredToOpen } from '../../src/operations/message-context.ts';

const KEY = { purpose: 'files', tenant: 'acme' };
const RECORD = { row: '7', table: 'customers' };

describe('the context of a message that is made', () => {
  it('stores what the key is for, requires what the record is, and wraps with both', () => {
    const { stored, required, whole } = contextToSeal(KEY, RECORD);
    expect(stored).toEqual(encodeContext(KEY));
    expect(required).toEqual(encodeContext(RECORD));
    expect(whole).toEqual(encodeContext({ ...KEY, ...RECORD }));
  });

  it('is the same whatever the order of its pairs', () => {
    const turned = contextToSeal({ tenant: 'acme', purpose: 'files' }, { table: 'customers', row: '7' });
    expect(turned).toEqual(contextToSeal(KEY, RECORD));
  });

  it('is no bytes at all where there are no pairs', () => {
    const empty = contextToSeal({}, {});
    expect([empty.stored, empty.required, empty.whole].map(({ length }) => length)).toEqual([0, 0, 0]);
    expect(contextToSeal(KEY, {}).required).toHaveLength(0);
    expect(contextToSeal({}, RECORD).stored).toHaveLength(0);
  });

  it('requires nothing of a pair that is stored, when the call says the same of it', () => {
    const { required, whole } = contextToSeal(KEY, { ...RECORD, tenant: 'acme' });
    expect(required).toEqual(encodeContext(RECORD));
    expect(whole).toEqual(encodeContext({ ...KEY, ...RECORD }));
  });

  it('is stored whole where providers see it all the same', () => {
    const { stored, required, whole, pairs } = contextToSeal(KEY, { ...RECORD, tenant: 'acme' }, {}, 'stored');
    expect(stored).toEqual(encodeContext({ ...KEY, ...RECORD }));
    expect(whole).toEqual(stored);
    expect(required).toHaveLength(0);
    expect(pairs).toEqual({ ...KEY, ...RECORD });
    expect(() => contextToSeal(KEY, { tenant: 'other' }, {}, 'stored')).toThrow(/belongs to the key/);
  });

  it('names its key and partition, and is read back so', () => {
    for (const [name, partition] of [
      ['files', ''],
      ['files', 'acme'],
    ] as const) {
      expect(namedKey(namingPairs(name, partition))).toEqual({ name, partition });
    }
    expect(namedKey(KEY)).toBe(undefined);
    expect(namingPairs('files', '')).toEqual({ 'dekd-key': 'files' });
  });

  it('is refused when the call says something else of a name of the key, which is told without values', () => {
    const error = thrown(() => contextToSeal(KEY, { tenant: 'other-tenant' }));
    expect([error.code, error.message]).toEqual([
      'INVALID_ARGUMENT',
      "context field 'tenant' belongs to the key and has another value there",
    ]);
    expect(thrown(() => contextToSeal(KEY, { tenant: '' })).code).toBe('INVALID_ARGUMENT');
  });

  it('takes names that every object has for names like others', () => {
    const record = JSON.parse('{"__proto__":"a","constructor":"b","toString":"c"}') as Record<string, string>;
    const { required, whole } = contextToSeal(KEY, record);
    expect(Object.entries(decodeContext(required)).sort()).toEqual(Object.entries(record).sort());
    expect(whole).toEqual(encodeContext(JSON.parse(JSON.stringify({ ...KEY, ...record })) as Record<string, string>));
    expect(thrown(() => contextToSeal(record, { constructor: 'x' })).code).toBe('INVALID_ARGUMENT');
  });
});

describe('what is required of a message that is there', () => {
  it('is no name of ours: what its header says of a message cannot be moved into the call', () => {
    for (const name of ['dekd-key', 'dekd-partition', 'dekd-use', 'dekd-compression', 'dekd-content', 'dekd-']) {
      const error = thrown(() => requiredToOpen(KEY, { ...RECORD, [name]: 'x' }));
      expect([error.code, error.message]).toEqual(['DECRYPTION_FAILED', DECRYPTION_FAILED_TEXT]);
      expect(requiredToOpen({ ...KEY, [name]: 'x' }, { [name]: 'x' })).toHaveLength(0);
    }
  });

  it('is what the call says and the message does not store', () => {
    expect(requiredToOpen(KEY, RECORD)).toEqual(encodeContext(RECORD));
    expect(requiredToOpen(KEY, { ...RECORD, ...KEY })).toEqual(encodeContext(RECORD));
    expect(requiredToOpen({}, {})).toHaveLength(0);
    expect(requiredToOpen(KEY, {})).toHaveLength(0);
  });

  it('is what was required when it was made, for the same record', () => {
    for (const record of [{}, RECORD, { ...RECORD, tenant: 'acme' }]) {
      const { stored, required } = contextToSeal(KEY, record);
      expect(requiredToOpen(decodeContext(stored), record)).toEqual(required);
    }
  });

  it('is refused as every other wrong context when the message stores something else', () => {
    const error = thrown(() => requiredToOpen(KEY, { tenant: 'other-tenant' }));
    expect([error.code, error.message]).toEqual(['DECRYPTION_FAILED', DECRYPTION_FAILED_TEXT]);
    expect(error.reason).toBe("the message stores another value of context field 'tenant'");
  });

  it('takes names that every object has for names like others', () => {
    const record = JSON.parse('{"__proto__":"a","constructor":"b"}') as Record<string, string>;
    expect(Object.entries(decodeContext(requiredToOpen(KEY, record))).sort()).toEqual(Object.entries(record).sort());
    expect(requiredToOpen(record, record)).toHaveLength(0);
  });
});

function thrown(action: () => unknown): DekdError {
  try {
    action();
  } catch (error) {
    expect(error).toBeInstanceOf(DekdError);
    return error as DekdError;
  }
  throw new Error('nothing was thrown');
}
