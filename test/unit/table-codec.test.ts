import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { messageTables } from '../../proto/message-tables.mjs';
import { messages } from '../../src/protocol/messages.ts';
import { codecsOf, type FieldRow, type MessageTables, PRESENCE } from '../../src/protocol/table-codec.ts';

const PROTO = fileURLToPath(new URL('../../proto/dekd.proto', import.meta.url));
const CLIENT = new URL('../../src/client/', import.meta.url);

interface Generated {
  encode(fields: object): { finish(): Uint8Array };
  decode(bytes: Uint8Array): object;
}

const tables: MessageTables = messageTables(PROTO);
const codecs = codecsOf(tables);
const generated = messages as unknown as Record<string, Generated>;

function valueOfType(type: string): fc.Arbitrary<unknown> {
  switch (type) {
    case 'uint32':
      return fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 0xffffffff }));
    case 'bool':
      return fc.boolean();
    case 'string':
      return fc.string({ unit: 'grapheme', maxLength: 12 });
    case 'bytes':
      return fc.uint8Array({ maxLength: 12 }).map((bytes) => Buffer.from(bytes));
    default:
      return fieldsOf(tables[type]!);
  }
}

function fieldsOf(rows: readonly FieldRow[]): fc.Arbitrary<object> {
  const each = rows.map(([name, , type, presence]) => {
    const value = valueOfType(type);
    return [name, presence === PRESENCE.repeated ? fc.array(value, { maxLength: 2 }) : value] as const;
  });
  return fc.record(Object.fromEntries(each), { requiredKeys: [] });
}

/** Fields that have no rows, and are passed over unread, by number. */
const LEFT_OUT: Readonly<Record<string, readonly number[]>> = {
  Request: [7, 8, 9, 10, 11, 12, 13, 16, 17, 18, 21, 22, 24, 25, 26, 30, 31],
  Reply: [17],
};

/** Whether a tag of one of those may begin with the byte. */
function beginsLeftOut(name: string, byte: number): boolean {
  return (LEFT_OUT[name] ?? []).some(
    (number) => byte === (number < 16 ? (number << 3) | 2 : 0x82 | ((number & 15) << 3)),
  );
}

const RUNS = { numRuns: 40, endOnFailure: true };

/** A message as plain data, whichever way it was decoded: what was not there is left out, bytes are hexadecimal. */
function plain(rows: readonly FieldRow[], message: object): object {
  const shown = (type: string, value: unknown): unknown =>
    value instanceof Uint8Array
      ? Buffer.from(value).toString('hex')
      : type in tables
        ? plain(tables[type]!, value as object)
        : value;
  return Object.fromEntries(
    rows.map(([name, , type, presence]) => {
      const value = (message as Record<string, unknown>)[name];
      if (presence === PRESENCE.repeated) {
        return [name, (value as unknown[]).map((one) => shown(type, one))];
      }
      return [name, value === null || value === undefined ? undefined : shown(type, value)];
    }),
  );
}

describe.for(Object.keys(tables))('%s by tables', (name) => {
  const rows = tables[name]!;

  it('is the same bytes as by the generated code', () => {
    fc.assert(
      fc.property(fieldsOf(rows), (fields) => {
        expect(Buffer.from(codecs[name]!.encode(fields).finish())).toEqual(
          Buffer.from(generated[name]!.encode(fields).finish()),
        );
      }),
      RUNS,
    );
  });

  it('is read alike, with fields that nobody knows and fields that come twice', () => {
    fc.assert(
      fc.property(fc.array(fieldsOf(rows), { minLength: 1, maxLength: 3 }), fc.boolean(), (parts, withUnknown) => {
        const unknown = [Buffer.from('f2ff030568656c6c6f', 'hex'), Buffer.from('f8ff0307', 'hex')];
        const bytes = Buffer.concat([
          ...(withUnknown ? unknown : []),
          ...parts.map((fields) => Buffer.from(generated[name]!.encode(fields).finish())),
        ]);
        expect(plain(rows, codecs[name]!.decode(bytes))).toEqual(plain(rows, generated[name]!.decode(bytes)));
      }),
      RUNS,
    );
  });

  it('refuses the bytes that the generated code refuses', () => {
    const outcome = (codec: Pick<Generated, 'decode'>, bytes: Uint8Array) => {
      try {
        return plain(rows, codec.decode(bytes));
      } catch {
        return 'refused';
      }
    };
    fc.assert(
      fc.property(fieldsOf(rows), fc.uint8Array({ maxLength: 6 }), fc.nat(), (fields, noise, at) => {
        const whole = Buffer.from(generated[name]!.encode(fields).finish());
        const cut = whole.subarray(0, at % (whole.length + 1));
        for (const bytes of [cut, Buffer.concat([cut, noise]), Buffer.from(noise)]) {
          if (bytes.some((byte) => beginsLeftOut(name, byte))) {
            continue;
          }
          const theirs = outcome(generated[name]!, bytes);
          // For a message without fields the generated code lets fields without a number pass.
          if (rows.length > 0 || theirs === 'refused') {
            expect(outcome(codecs[name]!, bytes)).toEqual(theirs);
          }
        }
      }),
      RUNS,
    );
  });
});

describe('the tables', () => {
  it('have every operation but those of the command line and those written by hand, which no message() says', () => {
    const operations = Object.keys(
      Object.getPrototypeOf(messages.Request.decode(new Uint8Array(0))) as Record<string, unknown>,
    );
    const known = tables.Request!.map(([name]) => name);
    const missing = operations.filter((name) => name !== 'operation' && !known.includes(name));
    expect(missing.toSorted()).toEqual([
      ...['admin', 'blindIndex', 'decrypt', 'decryptMany', 'encrypt', 'encryptMany', 'hmac', 'hmacMany', 'laneDecrypt'],
      ...['laneEncrypt', 'migrateLegacy', 'openLegacy', 'reencrypt', 'reencryptMany', 'streamPart', 'verifyHmac'],
      'verifyHmacMany',
    ]);
    const files = readdirSync(CLIENT, { recursive: true, encoding: 'utf8' }).filter(
      // What the command line and the testkit ask an agent for; the light client is without it.
      (file) => file.endsWith('.ts') && file !== 'admin-request.ts',
    );
    const code = files.map((file) => readFileSync(new URL(file, CLIENT), 'utf8')).join('');
    for (const name of missing) {
      expect(code).not.toMatch(new RegExp(`\\b${name}: ?\\{`));
    }
    // The same expression finds those that have rows.
    for (const name of ['hello', 'ping', 'fileDecrypt', 'roots']) {
      expect(code).toMatch(new RegExp(`\\b${name}: ?\\{`));
    }
  });
});
