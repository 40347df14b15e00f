import fc from 'fast-check';
import { Reader } from 'protobufjs/minimal.js';
import { describe, expect, it } from 'vitest';
import { DekdError } from '../../src/errors.ts';
import { OPERATION, RequestReader } from '../../src/protocol/request-reader.ts';
import { readAll } from '../support/request-readers.ts';

const RUNS = { numRuns: Number(process.env.DEKD_RUNS ?? 10_000) };
const EDGES = [
  0n,
  1n,
  127n,
  128n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 32n,
  2n ** 53n - 1n,
  2n ** 53n,
  2n ** 63n,
  2n ** 64n - 1n,
];

/** A varint of `value` in its shortest form and, padded with empty groups, in longer ones that are as good. */
function varint(value: bigint, padding: number): number[] {
  const groups: number[] = [];
  for (let left = value; ; left >>= 7n) {
    groups.push(Number(left & 0x7fn) | 0x80);
    if (left < 0x80n) {
      break;
    }
  }
  for (let i = 0; i < padding && groups.length < 10; i++) {
    groups.push(0x80);
  }
  groups[groups.length - 1]! &= 0x7f;
  return groups;
}

const value = fc.oneof(
  fc.constantFrom(...EDGES),
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  fc.bigInt({ min: 0n, max: 300n }),
);
const anyVarint = fc.tuple(value, fc.nat(9)).map(([number, padding]) => varint(number, padding));
const raw = fc.array(fc.nat(255), { maxLength: 12 });
/** A field that the reader does not know, in each wire type that can be stepped over. */
const unknown = fc.oneof(
  anyVarint.map((bytes) => [0xf8, 0x3f, ...bytes]),
  fc.constant([0xf9, 0x3f, 1, 2, 3, 4, 5, 6, 7, 8]),
  fc.array(fc.nat(255), { maxLength: 9 }).map((bytes) => [0xfa, 0x3f, bytes.length, ...bytes]),
  fc.constant([0xfd, 0x3f, 1, 2, 3, 4]),
);

function attempt<T>(read: () => T): T | 'refused' {
  try {
    return read();
  } catch (error) {
    if (error instanceof RangeError || error instanceof Error) {
      return 'refused';
    }
    throw error;
  }
}

describe('numbers of the wire', () => {
  it('are read as the reference does: overlong, negative, of 64 bits, cut short', () => {
    fc.assert(
      fc.property(fc.oneof(anyVarint, raw), fc.array(unknown, { maxLength: 3 }), (bytes, others) => {
        const body = Uint8Array.from([...others.flat(), 0x08, ...bytes]);
        const mine = attempt(() => {
          const reader = new RequestReader();
          reader.read(Buffer.from(body));
          return reader.id;
        });
        const theirs = attempt(() => {
          const reader = Reader.create(body);
          let id = 0;
          while (reader.pos < reader.len) {
            const tag = reader.uint32();
            if (tag === 0x08) {
              id = reader.uint32();
            } else {
              reader.skipType(tag & 7);
            }
          }
          return id;
        });
        // What follows the number may be fields that only one of them looks into; then both have read, or both refused.
        expect(mine).toBe(theirs);
      }),
      RUNS,
    );
  });

  it('of 64 bits in a range of the lane are exact, or refused where a number has no such value', () => {
    fc.assert(
      fc.property(anyVarint, value, (bytes, number) => {
        const offset = [0x10, ...varint(number, 0)];
        const input = [0x08, 1, ...offset, 0x18, ...bytes];
        const call = [0x0a, 1, 0x6b, 0x2a, input.length, ...input];
        const body = Uint8Array.from([
          0x08,
          1,
          ((OPERATION.laneEncrypt << 3) & 0x7f) | 2 | 0x80,
          OPERATION.laneEncrypt >> 4,
          call.length,
          ...call,
        ]);
        const read = attempt(() => readAll(body));
        if (read === 'refused') {
          return;
        }
        expect(read.operation).toBe(OPERATION.laneEncrypt);
        const { offset: mine } = read.input;
        // Never negative, and never a small number where the wire has a large one.
        expect(mine >= 0).toBe(true);
        expect(number <= BigInt(Number.MAX_SAFE_INTEGER) ? mine : mine > Number.MAX_SAFE_INTEGER).toBe(
          number <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(number) : true,
        );
      }),
      RUNS,
    );
  });

  it('of no operation, and enums that nobody knows, are refused by a typed error or ignored', () => {
    fc.assert(
      fc.property(raw, (bytes) => {
        try {
          readAll(Uint8Array.from([0x08, 1, 0x72, bytes.length, ...bytes]));
        } catch (error) {
          expect(DekdError.is(error, 'PROTOCOL_ERROR'), String(error)).toBe(true);
        }
      }),
      RUNS,
    );
  });
});
