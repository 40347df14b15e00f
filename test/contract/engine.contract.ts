import { createCipheriv, createHmac, hkdfSync, randomBytes } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, readFileSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadBinding } from '../../src/addon/binding.ts';
import type { Engine, KeyHandle, KeyUse } from '../../src/crypto/engine.ts';
import {
  DATA_KEY_USE,
  LEGACY_USE,
  MAC_LENGTH,
  MAX_PIPED_LENGTH,
  RAW_AES_USE,
  ROW,
  ROW_STATUS,
  ROW_WORDS,
  SECRET_USE,
  TOKEN_OVERHEAD,
  WRAPPED_KEY_LENGTH,
} from '../../src/crypto/engine.ts';
import { type KeyPipe, openPipe } from '../../src/crypto/host.ts';
import { primitives as reference } from '../../src/crypto/node.ts';
import { DekdError, type ErrorCode } from '../../src/errors.ts';
import { type EngineUnderTest, importKey, importRoot, importRootLine } from '../support/engines.ts';

const SEAL: KeyUse = { algorithm: 'xaes-256-gcm', purpose: 'seal' };
const WRAP: KeyUse = { algorithm: 'hkdf-sha-256', purpose: 'wrap' };
const MAC: KeyUse = { algorithm: 'hmac-sha-256', purpose: 'mac' };
const INDEX: KeyUse = { algorithm: 'hmac-sha-256', purpose: 'index' };
const SIZES = [0, 1, 15, 16, 17, 64, 4096, 65_536];

interface RowSpec {
  key: KeyHandle;
  context?: [number, number];
  data: [number, number];
  out: number;
  scope?: number;
  skip?: boolean;
}

function tableOf(rows: RowSpec[]): Uint32Array {
  const table = new Uint32Array(rows.length * ROW_WORDS);
  rows.forEach((row, index) => {
    const at = index * ROW_WORDS;
    table[at + ROW.key] = row.key;
    table[at + ROW.contextOffset] = row.context?.[0] ?? 0;
    table[at + ROW.contextLength] = row.context?.[1] ?? 0;
    table[at + ROW.dataOffset] = row.data[0];
    table[at + ROW.dataLength] = row.data[1];
    table[at + ROW.outOffset] = row.out;
    table[at + ROW.status] = row.skip === true ? ROW_STATUS.skip : 77;
    table[at + ROW.scopeOffset] = row.scope ?? 0;
  });
  return table;
}

function statusOf(table: Uint32Array, row: number): number {
  return table[row * ROW_WORDS + ROW.status]!;
}

function codeOf(action: () => unknown): { code: ErrorCode; message: string } | undefined {
  try {
    action();
    return undefined;
  } catch (error) {
    if (error instanceof DekdError) {
      return { code: error.code, message: error.message };
    }
    throw error;
  }
}

/** What an operator reads of the failure of a pipe; another error is thrown on. */
function pipeReasonOf(action: () => unknown): string | undefined {
  try {
    action();
    return undefined;
  } catch (error) {
    if (DekdError.is(error, 'KMS_UNAVAILABLE')) {
      return error.reason;
    }
    throw error;
  }
}

const ENDED = 'key pipe: the other end was closed before a whole frame';
const UNEXPECTED = 'key pipe: a frame of another call or of a length that the call does not take';

/** A frame of the key pipe, made here. */
function frameOf(id: number, body: Uint8Array, length = body.length): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32BE(id);
  head.writeUInt32BE(length, 4);
  return Buffer.concat([head, body]);
}

function sealOne(engine: Engine, key: KeyHandle, data: Uint8Array, context: Uint8Array): Uint8Array {
  const token = new Uint8Array(data.length + TOKEN_OVERHEAD);
  engine.seal(key, Buffer.concat([context, data]), 0, context.length, context.length, data.length, token, 0);
  return token;
}

/** The plaintext, or undefined when the engine refused. */
function openOne(engine: Engine, key: KeyHandle, token: Uint8Array, context: Uint8Array): Uint8Array | undefined {
  const plain = new Uint8Array(Math.max(0, token.length - TOKEN_OVERHEAD)).fill(0xee);
  const opened = engine.open(
    key,
    Buffer.concat([context, token]),
    0,
    context.length,
    context.length,
    token.length,
    plain,
    0,
  );
  if (!opened && plain.some((byte) => byte !== 0)) {
    throw new Error('bytes were released although the token did not open');
  }
  return opened ? plain : undefined;
}

/** Scopes as `macMany` takes them, and where each begins. */
function scopesOf(...texts: string[]): { scopes: Uint8Array; offsets: number[] } {
  const offsets: number[] = [];
  const parts: Buffer[] = [];
  let at = 0;
  for (const text of texts) {
    const scope = Buffer.from(text);
    const length = Buffer.alloc(2);
    length.writeUInt16BE(scope.length);
    offsets.push(at);
    parts.push(length, scope);
    at += 2 + scope.length;
  }
  return { scopes: new Uint8Array(Buffer.concat(parts)), offsets };
}

/** What `macMany` computes of one row. */
function rowMac(key: Uint8Array, scope: string, context: Uint8Array, data: Uint8Array): Uint8Array {
  const lengths = Buffer.alloc(8);
  lengths.writeUInt32BE(context.length);
  lengths.writeUInt32BE(data.length, 4);
  const parts = [Buffer.from(scope), lengths.subarray(0, 4), context, lengths.subarray(4), data];
  return new Uint8Array(createHmac('sha256', key).update(Buffer.concat(parts)).digest());
}

function nonceNumber(token: Uint8Array, offset: number): bigint {
  return BigInt(`0x${Buffer.from(token.subarray(offset + 30, offset + 42)).toString('hex')}`);
}

/** What every engine must do; one call for each engine. */
export function describeEngine(subject: EngineUnderTest): void {
  describe(`the ${subject.name} engine`, () => {
    let engine: Engine;

    beforeEach(({ skip }) => {
      if (subject.missing !== undefined) {
        skip(subject.missing);
        return;
      }
      engine = subject.create();
    });
    afterEach(() => {
      engine?.close();
    });

    describe('tokens', () => {
      it.each(SIZES)('opens what it sealed, %i bytes', (size) => {
        const key = engine.generateKey(SEAL);
        const data = randomBytes(size);
        const context = randomBytes(40);
        const token = sealOne(engine, key, data, context);
        expect(openOne(engine, key, token, context)).toEqual(new Uint8Array(data));
      });

      it('opens with a context of 65,535 bytes and refuses one byte changed in it', () => {
        const key = engine.generateKey(SEAL);
        const context = randomBytes(65_535);
        const token = sealOne(engine, key, Buffer.from('x'), context);
        expect(openOne(engine, key, token, context)).toEqual(new Uint8Array([0x78]));
        context[65_534]! ^= 1;
        expect(openOne(engine, key, token, context)).toBeUndefined();
      });

      it('writes C1, suite 01, the kid and a nonce of its own', () => {
        const key = engine.generateKey(SEAL);
        const token = sealOne(engine, key, Buffer.from('value'), new Uint8Array(0));
        const other = sealOne(engine, key, Buffer.from('value'), new Uint8Array(0));
        expect(Buffer.from(token.subarray(0, 18)).toString('hex')).toBe(
          `c101${Buffer.from(engine.kid(key)).toString('hex')}`,
        );
        expect(token.subarray(18, 42)).not.toEqual(other.subarray(18, 42));
      });

      it('writes XAES-256-GCM over head and context, as a reader of its own finds', () => {
        const bytes = randomBytes(32);
        const key = importKey(engine, bytes, SEAL);
        const context = randomBytes(33);
        const data = randomBytes(100);
        const token = sealOne(engine, key, data, context);
        const aad = Buffer.concat([token.subarray(0, 18), context]);
        expect(reference.xaesOpen(bytes, token.subarray(18, 42), aad, token.subarray(42))).toEqual(
          new Uint8Array(data),
        );
      });

      it('writes and reads at offsets and leaves the bytes around them alone', () => {
        const key = engine.generateKey(SEAL);
        const input = randomBytes(200);
        const output = new Uint8Array(300).fill(0xaa);
        engine.seal(key, input, 3, 20, 50, 70, output, 11);
        expect(output.subarray(0, 11)).toEqual(new Uint8Array(11).fill(0xaa));
        expect(output.subarray(11 + 128)).toEqual(new Uint8Array(300 - 139).fill(0xaa));
        const both = Buffer.concat([input.subarray(3, 23), output]);
        const plain = new Uint8Array(90).fill(0xbb);
        expect(engine.open(key, both, 0, 20, 31, 128, plain, 9)).toBe(true);
        expect(plain.subarray(9, 79)).toEqual(new Uint8Array(input.subarray(50, 120)));
        expect([...plain.subarray(0, 9), ...plain.subarray(79)].every((byte) => byte === 0xbb)).toBe(true);
      });

      it('refuses another key and releases nothing', () => {
        const key = engine.generateKey(SEAL);
        const other = engine.generateKey(SEAL);
        const token = sealOne(engine, key, randomBytes(64), new Uint8Array(0));
        expect(openOne(engine, other, token, new Uint8Array(0))).toBeUndefined();
        // The kid alone does not make it open either.
        token.set(engine.kid(other), 2);
        expect(openOne(engine, other, token, new Uint8Array(0))).toBeUndefined();
      });

      it('refuses tokens cut short at every length', () => {
        const key = engine.generateKey(SEAL);
        const token = sealOne(engine, key, randomBytes(8), new Uint8Array(0));
        for (let length = 0; length < token.length; length++) {
          expect(openOne(engine, key, token.subarray(0, length), new Uint8Array(0))).toBeUndefined();
        }
      });

      it('refuses regions that leave their buffers', () => {
        const key = engine.generateKey(SEAL);
        const input = new Uint8Array(100);
        const output = new Uint8Array(100 + TOKEN_OVERHEAD);
        for (const [co, cl, dol, dl, oo] of [
          [0, 0, 1, 100, 0],
          [0, 0, 0, 101, 0],
          [90, 11, 0, 0, 0],
          [0, 0, 0, 100, 1],
          [0, 0, 0, 0, 101],
          [-1, 0, 0, 0, 0],
          [0, 0, -1, 1, 0],
          [0, 0, 0, 0, -1],
          [0, 0, 2 ** 32, 1, 0],
          [0, 0, 0, 2 ** 32 - 1, 0],
          [2 ** 32, 0, 0, 0, 0],
        ] as const) {
          expect(codeOf(() => engine.seal(key, input, co, cl, dol, dl, output, oo))?.code).toBe('INVALID_ARGUMENT');
          expect(
            codeOf(() => engine.open(key, input, co, cl, dol, dl + 58, output, oo < 0 ? oo : oo + 100))?.code,
          ).toBe('INVALID_ARGUMENT');
        }
        expect(output.every((byte) => byte === 0)).toBe(true);
      });

      it('refuses output over what is read, and takes neighbours in one buffer', () => {
        const key = engine.generateKey(SEAL);
        const memory = new Uint8Array(400);
        memory.set(randomBytes(64), 0);
        expect(codeOf(() => engine.seal(key, memory, 0, 0, 0, 64, memory, 0))?.code).toBe('INVALID_ARGUMENT');
        expect(codeOf(() => engine.seal(key, memory, 0, 0, 0, 64, memory, 63))?.code).toBe('INVALID_ARGUMENT');
        expect(codeOf(() => engine.seal(key, memory, 130, 4, 0, 64, memory, 64))?.code).toBe('INVALID_ARGUMENT');
        const view = memory.subarray(32);
        expect(codeOf(() => engine.seal(key, memory, 0, 0, 0, 64, view, 0))?.code).toBe('INVALID_ARGUMENT');
        engine.seal(key, memory, 0, 0, 0, 64, memory, 64);
        expect(codeOf(() => engine.open(key, memory, 0, 0, 64, 122, memory, 100))?.code).toBe('INVALID_ARGUMENT');
        expect(engine.open(key, memory, 0, 0, 64, 122, memory, 186)).toBe(true);
        expect(memory.subarray(186, 250)).toEqual(memory.subarray(0, 64));
      });
    });

    describe('batches', () => {
      it('opens with single calls what it sealed as a batch, with mixed keys, sizes and contexts', () => {
        const keys = [engine.generateKey(SEAL), engine.generateKey(SEAL), engine.generateKey(SEAL)] as const;
        const input = randomBytes(4000);
        const rows: RowSpec[] = [];
        let out = 0;
        for (let i = 0; i < 40; i++) {
          const length = (i * 37) % 90;
          rows.push({ key: keys[i % 3]!, context: [i * 5, i % 7], data: [300 + i * 90, length], out });
          out += length + TOKEN_OVERHEAD;
        }
        const output = new Uint8Array(out);
        const table = tableOf(rows);
        engine.sealMany(table, rows.length, input, output);
        rows.forEach((row, index) => {
          expect(statusOf(table, index)).toBe(ROW_STATUS.ok);
          const token = output.subarray(row.out, row.out + row.data[1] + TOKEN_OVERHEAD);
          const context = input.subarray(row.context![0], row.context![0] + row.context![1]);
          const plain = new Uint8Array(input.subarray(row.data[0], row.data[0] + row.data[1]));
          expect(openOne(engine, row.key, token, context)).toEqual(plain);
        });
      });

      it('opens as a batch what it sealed as a batch, with keys in turns under one nonce draw', () => {
        const keys = [engine.generateKey(SEAL), engine.generateKey(SEAL)] as const;
        const input = randomBytes(32);
        const sealed = new Uint8Array(6 * 74);
        const rows = [0, 0, 1, 0, 1, 1].map((key, i): RowSpec => ({ key: keys[key]!, data: [i, 16], out: i * 74 }));
        engine.sealMany(tableOf(rows), 6, input, sealed);
        const opening = tableOf(rows.map((row, i): RowSpec => ({ key: row.key, data: [row.out, 74], out: i * 16 })));
        const plain = new Uint8Array(96);
        engine.openMany(opening, 6, sealed, plain);
        rows.forEach((row, i) => {
          expect(statusOf(opening, i)).toBe(ROW_STATUS.ok);
          expect(plain.subarray(i * 16, i * 16 + 16)).toEqual(
            new Uint8Array(input.subarray(row.data[0], row.data[0] + 16)),
          );
        });
      });

      it('adds the index of the row to one nonce drawn for the call', () => {
        const key = engine.generateKey(SEAL);
        const other = engine.generateKey(SEAL);
        const rows = Array.from({ length: 300 }, (_, i): RowSpec => {
          return { key: i % 2 === 0 ? key : other, data: [0, 4], out: i * 62, skip: i === 7 };
        });
        const output = new Uint8Array(300 * 62);
        engine.sealMany(tableOf(rows), 300, new Uint8Array(4), output);
        const first = nonceNumber(output, 0);
        for (let i = 0; i < 300; i++) {
          if (i === 7) {
            expect(output.subarray(i * 62, i * 62 + 62)).toEqual(new Uint8Array(62));
            continue;
          }
          expect(output.subarray(i * 62 + 18, i * 62 + 30)).toEqual(output.subarray(18, 30));
          expect(nonceNumber(output, i * 62)).toBe((first + BigInt(i)) % (1n << 96n));
        }
        const again = new Uint8Array(62);
        engine.sealMany(tableOf([{ key, data: [0, 4], out: 0 }]), 1, new Uint8Array(4), again);
        expect(again.subarray(18, 42)).not.toEqual(output.subarray(18, 42));
      });

      it('opens a batch; a failed row is zero and the others are not touched by it', () => {
        const key = engine.generateKey(SEAL);
        const other = engine.generateKey(SEAL);
        const stale = engine.generateKey(SEAL);
        const data = [
          randomBytes(64),
          randomBytes(10),
          randomBytes(64),
          randomBytes(64),
          randomBytes(0),
          randomBytes(64),
        ];
        const context = randomBytes(12);
        const owners = [key, other, key, stale, key, key];
        const tokens = data.map((bytes, i) => sealOne(engine, owners[i]!, bytes, context));
        tokens[2]![60]! ^= 0x10;
        engine.destroyKey(stale);
        const input = Buffer.concat([context, ...tokens]);
        const output = new Uint8Array(400).fill(0xcc);
        let offset = context.length;
        let out = 0;
        const rows = tokens.map((token, i): RowSpec => {
          const row = {
            key: owners[i]!,
            context: [0, 12] as [number, number],
            data: [offset, token.length] as [number, number],
            out,
            skip: i === 5,
          };
          offset += token.length;
          out += token.length - TOKEN_OVERHEAD;
          return row;
        });
        const table = tableOf(rows);
        engine.openMany(table, rows.length, input, output);
        expect(rows.map((_, i) => statusOf(table, i))).toEqual([
          ROW_STATUS.ok,
          ROW_STATUS.ok,
          ROW_STATUS.failed,
          ROW_STATUS.staleKey,
          ROW_STATUS.ok,
          ROW_STATUS.skip,
        ]);
        expect(output.subarray(0, 64)).toEqual(new Uint8Array(data[0]!));
        expect(output.subarray(64, 74)).toEqual(new Uint8Array(data[1]!));
        expect(output.subarray(74, 202)).toEqual(new Uint8Array(128));
        expect(output.subarray(202)).toEqual(new Uint8Array(198).fill(0xcc));
      });

      it('fails the row of a token that is too short or has another head', () => {
        const key = engine.generateKey(SEAL);
        const token = sealOne(engine, key, randomBytes(16), new Uint8Array(0));
        const input = Buffer.concat([token, token, token, token]);
        input[74] = 0xc2;
        input[74 * 2 + 1] = 0x02;
        input[74 * 3 + 17]! ^= 1;
        const table = tableOf([
          { key, data: [0, 57], out: 0 },
          { key, data: [74, 74], out: 0 },
          { key, data: [148, 74], out: 16 },
          { key, data: [222, 74], out: 32 },
          { key, data: [0, 0], out: 48 },
          { key, data: [0, 74], out: 48 },
        ]);
        const output = new Uint8Array(64).fill(0xcc);
        engine.openMany(table, 6, input, output);
        expect([0, 1, 2, 3, 4, 5].map((row) => statusOf(table, row))).toEqual([1, 1, 1, 1, 1, 0]);
        expect(output.subarray(0, 48)).toEqual(new Uint8Array(48));
      });

      it('marks a stale handle when sealing and zeroes its region', () => {
        const key = engine.generateKey(SEAL);
        const stale = engine.generateKey(SEAL);
        engine.destroyKey(stale);
        const table = tableOf([
          { key: stale, data: [0, 2], out: 0 },
          { key, data: [0, 2], out: 60 },
        ]);
        const output = new Uint8Array(120).fill(0xcc);
        engine.sealMany(table, 2, new Uint8Array(2), output);
        expect([statusOf(table, 0), statusOf(table, 1)]).toEqual([ROW_STATUS.staleKey, ROW_STATUS.ok]);
        expect(output.subarray(0, 60)).toEqual(new Uint8Array(60));
        expect(openOne(engine, key, output.subarray(60), new Uint8Array(0))).toEqual(new Uint8Array(2));
      });

      it('checks every row before it works on the first', () => {
        const key = engine.generateKey(SEAL);
        const wrap = engine.generateKey(WRAP);
        const good: RowSpec = { key, data: [0, 74], out: 0 };
        const input = new Uint8Array(100);
        for (const bad of [
          { key, data: [90, 11], out: 150 },
          { key, context: [99, 2], data: [0, 16], out: 150 },
          { key, context: [0xffffffff, 0xffffffff], data: [0, 16], out: 150 },
          { key, data: [0xfffffff0, 0x20], out: 150 },
          { key, data: [0, 0xffffffff], out: 150 },
          { key, data: [0, 60], out: 300 },
          { key, data: [0, 60], out: 0xffffffff },
          { key: wrap, data: [0, 60], out: 150 },
        ] as RowSpec[]) {
          for (const many of ['sealMany', 'openMany'] as const) {
            const output = new Uint8Array(299).fill(0xcc);
            const table = tableOf([good, bad]);
            expect(codeOf(() => engine[many](table, 2, input, output))?.code).toBe('INVALID_ARGUMENT');
            expect(output.every((byte) => byte === 0xcc)).toBe(true);
            expect([statusOf(table, 0), statusOf(table, 1)]).toEqual([77, 77]);
          }
        }
      });

      it('refuses output over input, and more rows than the table has', () => {
        const key = engine.generateKey(SEAL);
        const memory = new Uint8Array(300);
        const over = (data: [number, number], out: number): Uint32Array => tableOf([{ key, data, out }]);
        expect(codeOf(() => engine.sealMany(over([0, 16], 15), 1, memory, memory))?.code).toBe('INVALID_ARGUMENT');
        expect(codeOf(() => engine.openMany(over([16, 74], 15), 1, memory, memory))?.code).toBe('INVALID_ARGUMENT');
        engine.sealMany(over([0, 16], 16), 1, memory, memory);
        for (const count of [2, -1, 2 ** 32]) {
          expect(codeOf(() => engine.sealMany(over([0, 16], 100), count, memory, memory))?.code).toBe(
            'INVALID_ARGUMENT',
          );
          expect(codeOf(() => engine.openMany(over([0, 74], 100), count, memory, memory))?.code).toBe(
            'INVALID_ARGUMENT',
          );
        }
      });

      it('takes an empty batch', () => {
        engine.sealMany(new Uint32Array(0), 0, new Uint8Array(0), new Uint8Array(0));
        engine.openMany(new Uint32Array(0), 0, new Uint8Array(0), new Uint8Array(0));
      });
    });

    describe('keys', () => {
      it('gives the kid HMAC-SHA-256 defines for key, algorithm and purpose', () => {
        const bytes = randomBytes(32);
        for (const use of [SEAL, WRAP, MAC, { algorithm: 'esdk-0478', purpose: 'message' } as const]) {
          const input = Buffer.concat([
            Buffer.from('dekd/v1/kid'),
            Buffer.of(use.algorithm.length),
            Buffer.from(use.algorithm),
            Buffer.of(use.purpose.length),
            Buffer.from(use.purpose),
          ]);
          const expected = createHmac('sha256', bytes).update(input).digest().subarray(0, 16);
          const key = importKey(engine, bytes, use);
          expect(Buffer.from(engine.kid(key)).toString('hex')).toBe(expected.toString('hex'));
        }
      });

      it('hands out the kid as a copy', () => {
        const key = engine.generateKey(SEAL);
        engine.kid(key).fill(0);
        expect(engine.kid(key).some((byte) => byte !== 0)).toBe(true);
      });

      it('makes a new key each time', () => {
        const kids = Array.from({ length: 50 }, () =>
          Buffer.from(engine.kid(engine.generateKey(SEAL))).toString('hex'),
        );
        expect(new Set(kids).size).toBe(50);
      });

      it('refuses a destroyed key everywhere, and destroying it again does nothing', () => {
        const key = engine.generateKey(SEAL);
        const wrap = engine.generateKey(WRAP);
        const token = sealOne(engine, key, new Uint8Array(4), new Uint8Array(0));
        const wrapped = engine.wrapKey(wrap, 'l', key, new Uint8Array(0));
        engine.destroyKey(key);
        engine.destroyKey(wrap);
        const used = engine.stats().used;
        engine.destroyKey(key);
        expect(engine.stats().used).toBe(used);
        const live = engine.generateKey(WRAP);
        const nothing = new Uint8Array(0);
        const stale = { code: 'INTERNAL', message: 'stale key handle' };
        const out = new Uint8Array(100);
        for (const action of [
          () => engine.kid(key),
          () => engine.seal(key, out, 0, 0, 0, 4, new Uint8Array(100), 0),
          () => engine.open(key, token, 0, 0, 0, token.length, out, 0),
          () => engine.wrapKey(wrap, 'l', live, nothing),
          () => engine.wrapKey(live, 'l', key, nothing),
          () => engine.unwrapKey(wrap, 'l', wrapped, nothing, SEAL),
          () => engine.mac(wrap, 'l', nothing),
          () => engine.verifyMac(wrap, 'l', nothing, new Uint8Array(32)),
        ]) {
          expect(codeOf(action)).toEqual(stale);
        }
      });

      it('refuses numbers that never were handles', () => {
        engine.generateKey(SEAL);
        for (const number of [0, 1, 0xffffffff]) {
          expect(codeOf(() => engine.kid(number as KeyHandle))).toEqual({
            code: 'INTERNAL',
            message: 'stale key handle',
          });
          engine.destroyKey(number as KeyHandle);
        }
        for (const number of [-1, 2 ** 32, 2 ** 53]) {
          expect(codeOf(() => engine.kid(number as KeyHandle))?.code).toMatch(/INTERNAL|INVALID_ARGUMENT/);
          engine.destroyKey(number as KeyHandle);
        }
        expect(engine.stats().used).toBe(1);
      });

      it('does not take a destroyed handle for the next key in its slot', () => {
        const stale: KeyHandle[] = [];
        for (let i = 0; i < 3000; i++) {
          const key = engine.generateKey(MAC);
          engine.destroyKey(key);
          stale.push(key);
        }
        engine.generateKey(MAC);
        for (const key of stale) {
          expect(codeOf(() => engine.kid(key))?.message).toBe('stale key handle');
        }
      });

      it('says the table is full, and has room again after one key is destroyed', () => {
        const { capacity } = engine.stats();
        expect(capacity).toBe(1024);
        const root = importRoot(engine, randomBytes(32));
        const keys = [root];
        while (keys.length < capacity) {
          keys.push(engine.generateKey(SEAL));
        }
        expect(engine.stats().used).toBe(capacity);
        expect(codeOf(() => engine.generateKey(SEAL))?.code).toBe('RESOURCE_EXHAUSTED');
        expect(codeOf(() => importRoot(engine, randomBytes(32)))?.code).toBe('RESOURCE_EXHAUSTED');
        const wrapped = engine.wrapKey(root, 'l', keys[5]!, new Uint8Array(0));
        expect(codeOf(() => engine.unwrapKey(root, 'l', wrapped, new Uint8Array(0), SEAL))?.code).toBe(
          'RESOURCE_EXHAUSTED',
        );
        expect(engine.stats().used).toBe(capacity);
        engine.destroyKey(keys[7]!);
        expect(engine.kid(engine.unwrapKey(root, 'l', wrapped, new Uint8Array(0), SEAL))).toEqual(engine.kid(keys[5]!));
      });

      it('counts keys made and destroyed', () => {
        const before = engine.stats();
        const key = engine.generateKey(SEAL);
        engine.generateKey(WRAP);
        engine.destroyKey(key);
        const after = engine.stats();
        expect(after.created - before.created).toBe(2);
        expect(after.destroyed - before.destroyed).toBe(1);
        expect(after.used - before.used).toBe(1);
      });

      it('refuses a key made for something else', () => {
        const seal = engine.generateKey(SEAL);
        const wrap = engine.generateKey(WRAP);
        const mac = engine.generateKey(MAC);
        const nothing = new Uint8Array(0);
        const wrapped = engine.wrapKey(wrap, 'l', seal, nothing);
        const room = new Uint8Array(100);
        for (const key of [wrap, mac]) {
          expect(codeOf(() => engine.seal(key, nothing, 0, 0, 0, 0, room, 0))?.code).toBe('INVALID_ARGUMENT');
          expect(codeOf(() => engine.open(key, room, 0, 0, 0, 58, nothing, 0))?.code).toBe('INVALID_ARGUMENT');
        }
        for (const key of [seal, mac]) {
          expect(codeOf(() => engine.wrapKey(key, 'l', seal, nothing))?.code).toBe('INVALID_ARGUMENT');
          expect(codeOf(() => engine.unwrapKey(key, 'l', wrapped, nothing, SEAL))?.code).toBe('INVALID_ARGUMENT');
          expect(codeOf(() => engine.mac(key, 'l', nothing))?.code).toBe('INVALID_ARGUMENT');
        }
        for (const key of [seal, wrap]) {
          expect(codeOf(() => engine.mac(key, '', nothing))?.code).toBe('INVALID_ARGUMENT');
        }
      });
    });

    describe('the key pipe', () => {
      let pipe: KeyPipe;
      let open: Set<number>;

      const use = (own: 'read' | 'write'): void => {
        for (const fd of open) {
          closeSync(fd);
        }
        pipe = openPipe(own)!;
        open = new Set([pipe.read, pipe.write]);
      };
      const shut = (fd: number): void => {
        closeSync(fd);
        open.delete(fd);
      };
      const put = (bytes: Uint8Array): void => {
        expect(writeSync(pipe.write, bytes)).toBe(bytes.length);
      };
      /** What lies in the pipe; nothing when it is empty. */
      const take = (): Buffer => {
        const bytes = Buffer.alloc(65_536);
        try {
          return bytes.subarray(0, readSync(pipe.read, bytes));
        } catch (error) {
          expect((error as { code?: unknown }).code).toBe('EAGAIN');
          return Buffer.alloc(0);
        }
      };

      beforeEach(({ skip }) => {
        open = new Set();
        if (loadBinding().binding === undefined) {
          skip('without the addon there is no pipe');
          return;
        }
        use('read');
      });
      afterEach(() => {
        for (const fd of open) {
          closeSync(fd);
        }
      });

      it('carries a key as id, length and 32 bytes', () => {
        const bytes = randomBytes(32);
        const key = engine.importSecret(Uint8Array.from(bytes));
        engine.sendKey(pipe.write, 0xfedcba98, key);
        expect(take()).toEqual(frameOf(0xfedcba98, bytes));
        put(frameOf(3, bytes));
        put(frameOf(4, randomBytes(32)));
        const again = engine.receiveKey(pipe.read, 3);
        expect(again).not.toBe(key);
        expect(engine.kid(again)).toEqual(engine.kid(key));
        expect(engine.exposeSecret(again)).toEqual(new Uint8Array(bytes));
        expect(engine.receiveKey(pipe.read, 4)).not.toBe(again);
      });

      it('carries a data key, which stays one at the other end', () => {
        const key = engine.generateKey(DATA_KEY_USE);
        engine.sendKey(pipe.write, 5, key);
        const again = engine.receiveKey(pipe.read, 5, DATA_KEY_USE);
        expect(engine.kid(again)).toEqual(engine.kid(key));
        put(frameOf(6, randomBytes(32)));
        for (const other of [SEAL, MAC, RAW_AES_USE]) {
          expect(codeOf(() => engine.receiveKey(pipe.read, 6, other))?.code).toBe('INVALID_ARGUMENT');
        }
        expect(take()).toHaveLength(40);
      });

      it('sends only what a provider wraps, and no byte of another key', () => {
        for (const other of [SEAL, MAC, RAW_AES_USE, { algorithm: 'hkdf-sha-256', purpose: 'mac' } as const]) {
          const key = engine.generateKey(other);
          expect(codeOf(() => engine.sendKey(pipe.write, 1, key))?.code).toBe('INVALID_ARGUMENT');
        }
        const stale = engine.generateKey(WRAP);
        engine.destroyKey(stale);
        expect(codeOf(() => engine.sendKey(pipe.write, 1, stale))?.message).toBe('stale key handle');
        expect(take()).toHaveLength(0);
      });

      it.each([
        ['another id', frameOf(8, Buffer.alloc(32)), UNEXPECTED],
        ['31 bytes', frameOf(7, Buffer.alloc(31)), UNEXPECTED],
        ['33 bytes', frameOf(7, Buffer.alloc(33)), UNEXPECTED],
        ['no bytes', frameOf(7, Buffer.alloc(0)), UNEXPECTED],
        ['a length of 4 GiB', frameOf(7, Buffer.alloc(32), 0xffffffff), UNEXPECTED],
        ['nothing', Buffer.alloc(0), 'EAGAIN'],
        ['half a head', Buffer.alloc(4), 'EAGAIN'],
        ['a head alone', frameOf(7, Buffer.alloc(0), 32), 'EAGAIN'],
        ['a byte less than it says', frameOf(7, Buffer.alloc(31), 32), 'EAGAIN'],
      ])('makes no key of a frame with %s', (_, bytes, reason) => {
        const used = engine.stats().used;
        const receive = () => engine.receiveKey(pipe.read, 7);
        put(bytes);
        expect(pipeReasonOf(receive)).toBe(reason === 'EAGAIN' ? 'key pipe: EAGAIN' : reason);
        use('read');
        put(bytes);
        shut(pipe.write);
        expect(pipeReasonOf(receive)).toBe(reason === 'EAGAIN' ? ENDED : reason);
        expect(codeOf(receive)?.message).toBe('cannot receive a key: the key pipe failed');
        expect(engine.stats().used).toBe(used);
      });

      it('takes the frame off the pipe when the table is full', () => {
        const key = engine.generateKey(WRAP);
        while (engine.stats().used < engine.stats().capacity) {
          engine.generateKey(SEAL);
        }
        engine.sendKey(pipe.write, 7, key);
        engine.sendKey(pipe.write, 8, key);
        expect(codeOf(() => engine.receiveKey(pipe.read, 7))?.code).toBe('RESOURCE_EXHAUSTED');
        const kid = engine.kid(key);
        engine.destroyKey(key);
        expect(engine.kid(engine.receiveKey(pipe.read, 8))).toEqual(kid);
      });

      it('says that the pipe is full or has no reader, and goes on living', () => {
        use('write');
        const key = engine.generateKey(WRAP);
        let reason: string | undefined;
        for (let sent = 0; sent < 10_000 && reason === undefined; sent++) {
          reason = pipeReasonOf(() => engine.sendKey(pipe.write, sent, key));
        }
        expect(reason).toBe('key pipe: EAGAIN');
        shut(pipe.read);
        expect(pipeReasonOf(() => engine.sendKey(pipe.write, 1, key))).toBe('key pipe: EPIPE');
        expect(codeOf(() => engine.sendKey(pipe.write, 1, key))?.message).toBe(
          'cannot send a key: the key pipe failed',
        );
      });

      it.each([1, 32, 4096, MAX_PIPED_LENGTH])('seals what arrives and sends it on as it was, %i bytes', (size) => {
        const key = engine.generateKey(SEAL);
        const context = randomBytes(30);
        const data = randomBytes(size);
        put(frameOf(7, data));
        const token = engine.receiveSealed(pipe.read, 7, key, context);
        expect(token).toHaveLength(size + TOKEN_OVERHEAD);
        expect(openOne(engine, key, token, context)).toEqual(new Uint8Array(data));
        engine.sendOpened(pipe.write, 9, key, token, context);
        expect(take()).toEqual(frameOf(9, data));
        const made = sealOne(engine, key, data, new Uint8Array(0));
        engine.sendOpened(pipe.write, 9, key, made, new Uint8Array(0));
        expect(take()).toEqual(frameOf(9, data));
      });

      it('seals no frame that is empty, too long, cut short or of another call', () => {
        const key = engine.generateKey(SEAL);
        const nothing = new Uint8Array(0);
        for (const [bytes, reason] of [
          [frameOf(7, nothing), UNEXPECTED],
          [frameOf(7, Buffer.alloc(8), MAX_PIPED_LENGTH + 1), UNEXPECTED],
          [frameOf(6, Buffer.alloc(8)), UNEXPECTED],
          [frameOf(7, Buffer.alloc(8), 9), ENDED],
        ] as const) {
          use('read');
          put(bytes);
          shut(pipe.write);
          expect(pipeReasonOf(() => engine.receiveSealed(pipe.read, 7, key, nothing))).toBe(reason);
        }
      });

      it('takes the frame off the pipe when the key cannot seal it', () => {
        const wrap = engine.generateKey(WRAP);
        const stale = engine.generateKey(SEAL);
        engine.destroyKey(stale);
        const nothing = new Uint8Array(0);
        put(frameOf(7, Buffer.alloc(100)));
        expect(codeOf(() => engine.receiveSealed(pipe.read, 7, wrap, nothing))?.code).toBe('INVALID_ARGUMENT');
        put(frameOf(7, Buffer.alloc(100)));
        expect(codeOf(() => engine.receiveSealed(pipe.read, 7, stale, nothing))?.code).toBe('INTERNAL');
        expect(take()).toHaveLength(0);
      });

      it('sends nothing of a token that does not open', () => {
        const key = engine.generateKey(SEAL);
        const context = randomBytes(9);
        const token = sealOne(engine, key, randomBytes(20), context);
        const failed = { code: 'DECRYPTION_FAILED', message: 'decryption failed' };
        const send = (bytes: Uint8Array, with_ = key, aad: Uint8Array = context) =>
          codeOf(() => engine.sendOpened(pipe.write, 7, with_, bytes, aad));
        for (let at = 0; at < token.length; at++) {
          const changed = token.slice();
          changed[at]! ^= 0x20;
          expect(send(changed)).toEqual(failed);
        }
        expect(send(token, engine.generateKey(SEAL))).toEqual(failed);
        expect(send(token, key, context.subarray(1))).toEqual(failed);
        expect(send(sealOne(engine, key, new Uint8Array(0), context))).toEqual(failed);
        expect(send(sealOne(engine, key, new Uint8Array(MAX_PIPED_LENGTH + 1), context))).toEqual(failed);
        expect(send(new Uint8Array(0))).toEqual(failed);
        expect(send(token, engine.generateKey(WRAP))?.code).toBe('INVALID_ARGUMENT');
        expect(take()).toHaveLength(0);
        use('write');
        const long = sealOne(engine, key, new Uint8Array(MAX_PIPED_LENGTH), context);
        put(Buffer.alloc(60_000));
        expect(pipeReasonOf(() => engine.sendOpened(pipe.write, 7, key, long, context))).toBe('key pipe: EAGAIN');
      });

      it('refuses ids that are no 32-bit numbers', () => {
        const key = engine.generateKey(WRAP);
        const seal = engine.generateKey(SEAL);
        const token = sealOne(engine, seal, new Uint8Array(1), new Uint8Array(0));
        for (const id of [-1, 0.5, 2 ** 32, Number.NaN]) {
          for (const action of [
            () => engine.sendKey(pipe.write, id, key),
            () => engine.receiveKey(pipe.read, id),
            () => engine.receiveSealed(pipe.read, id, seal, new Uint8Array(0)),
            () => engine.sendOpened(pipe.write, id, seal, token, new Uint8Array(0)),
          ]) {
            expect(codeOf(action)?.code).toBe('INVALID_ARGUMENT');
          }
        }
        expect(take()).toHaveLength(0);
      });
    });

    describe('secrets in JavaScript', () => {
      it('are zero once they are imported, and come back as a fresh copy', () => {
        const bytes = randomBytes(32);
        const expected = Uint8Array.from(bytes);
        const key = engine.importSecret(bytes);
        expect(bytes).toEqual(Buffer.alloc(32));
        expect(engine.kid(key)).toEqual(engine.kid(importRoot(engine, expected)));
        const exposed = engine.exposeSecret(key);
        expect(exposed).toEqual(expected);
        // A buffer of its own, so that wiping it reaches every copy.
        expect(exposed.buffer.byteLength).toBe(32);
        exposed.fill(0);
        expect(engine.exposeSecret(key)).toEqual(expected);
      });

      it('are zero also when they are refused', () => {
        const refused = (bytes: Uint8Array): ErrorCode | undefined => {
          const code = codeOf(() => engine.importSecret(bytes))?.code;
          expect(bytes.every((byte) => byte === 0)).toBe(true);
          return code;
        };
        for (const length of [0, 31, 33]) {
          expect(refused(randomBytes(length))).toBe('INVALID_ARGUMENT');
        }
        while (engine.stats().used < engine.stats().capacity) {
          engine.generateKey(SEAL);
        }
        expect(refused(randomBytes(32))).toBe('RESOURCE_EXHAUSTED');
        engine.close();
        expect(refused(randomBytes(32))).toBe('INTERNAL');
      });

      it('are exposed of no key for anything else', () => {
        for (const other of [SEAL, MAC, { algorithm: 'hkdf-sha-256', purpose: 'mac' } as const]) {
          const key = engine.generateKey(other);
          expect(codeOf(() => engine.exposeSecret(key))?.code).toBe('INVALID_ARGUMENT');
        }
        const stale = engine.generateKey(WRAP);
        engine.destroyKey(stale);
        expect(codeOf(() => engine.exposeSecret(stale))?.message).toBe('stale key handle');
      });
    });

    describe('wrapping', () => {
      it('unwraps what it wrapped to the same key', () => {
        const parent = engine.generateKey(WRAP);
        const key = engine.generateKey(SEAL);
        const aad = randomBytes(50);
        const wrapped = engine.wrapKey(parent, 'dekd/v1/wrap', key, aad);
        expect(wrapped.length).toBe(WRAPPED_KEY_LENGTH);
        expect(wrapped[0]).toBe(1);
        const again = engine.unwrapKey(parent, 'dekd/v1/wrap', wrapped, aad, SEAL);
        expect(again).not.toBe(key);
        expect(engine.kid(again)).toEqual(engine.kid(key));
        const token = sealOne(engine, key, Buffer.from('value'), aad);
        expect(openOne(engine, again, token, aad)).toEqual(new Uint8Array(Buffer.from('value')));
      });

      it('writes 01, nonce and XAES-256-GCM under the HKDF key, as a reader of its own finds', () => {
        const rootBytes = randomBytes(32);
        const keyBytes = randomBytes(32);
        const root = importRoot(engine, rootBytes);
        const aad = randomBytes(20);
        const wrapped = engine.wrapKey(root, 'dekd/v1/wrap', importKey(engine, keyBytes, SEAL), aad);
        const wrapping = reference.hkdfSha256(rootBytes, new Uint8Array(0), Buffer.from('dekd/v1/wrap'), 32);
        expect(reference.xaesOpen(wrapping, wrapped.subarray(1, 25), aad, wrapped.subarray(25))).toEqual(
          new Uint8Array(keyBytes),
        );
      });

      it('refuses another parent, label, AAD, any flipped bit and any other length', () => {
        const parent = engine.generateKey(WRAP);
        const other = engine.generateKey(WRAP);
        const key = engine.generateKey(SEAL);
        const aad = randomBytes(10);
        const wrapped = engine.wrapKey(parent, 'a', key, aad);
        const used = engine.stats().used;
        const failed = { code: 'DECRYPTION_FAILED', message: 'decryption failed' };
        expect(codeOf(() => engine.unwrapKey(other, 'a', wrapped, aad, SEAL))).toEqual(failed);
        expect(codeOf(() => engine.unwrapKey(parent, 'b', wrapped, aad, SEAL))).toEqual(failed);
        expect(codeOf(() => engine.unwrapKey(parent, 'a', wrapped, aad.subarray(1), SEAL))).toEqual(failed);
        for (let bit = 0; bit < wrapped.length * 8; bit++) {
          const changed = wrapped.slice();
          changed[bit >> 3]! ^= 1 << (bit & 7);
          expect(codeOf(() => engine.unwrapKey(parent, 'a', changed, aad, SEAL))).toEqual(failed);
        }
        for (const length of [0, 1, 41, 72]) {
          expect(codeOf(() => engine.unwrapKey(parent, 'a', wrapped.subarray(0, length), aad, SEAL))).toEqual(failed);
        }
        expect(codeOf(() => engine.unwrapKey(parent, 'a', Buffer.concat([wrapped, Buffer.of(0)]), aad, SEAL))).toEqual(
          failed,
        );
        expect(engine.stats().used).toBe(used);
      });

      it('gives MACs that HMAC and HKDF define, and verifies them', () => {
        const bytes = randomBytes(32);
        const data = randomBytes(99);
        const root = importRoot(engine, bytes);
        const derived = reference.hkdfSha256(bytes, new Uint8Array(0), Buffer.from('dekd/v1/meta'), 32);
        const expected = createHmac('sha256', derived).update(data).digest();
        expect(Buffer.from(engine.mac(root, 'dekd/v1/meta', data))).toEqual(expected);
        expect(engine.verifyMac(root, 'dekd/v1/meta', data, expected)).toBe(true);
        const key = importKey(engine, bytes, MAC);
        const direct = createHmac('sha256', bytes).update(data).digest();
        expect(Buffer.from(engine.mac(key, '', data))).toEqual(direct);
        expect(engine.verifyMac(key, '', data, direct)).toBe(true);
        for (const wrong of [expected, direct.subarray(0, 31), Buffer.concat([direct, Buffer.of(0)]), Buffer.of()]) {
          expect(engine.verifyMac(key, '', data, wrong)).toBe(false);
        }
        for (let bit = 0; bit < 256; bit++) {
          const changed = Buffer.from(direct);
          changed[bit >> 3]! ^= 1 << (bit & 7);
          expect(engine.verifyMac(key, '', data, changed)).toBe(false);
        }
      });
    });

    describe('MACs of rows', () => {
      it('are HMAC-SHA-256 of scope, context and data with their lengths, under keys in turns', () => {
        const bytes = [randomBytes(32), randomBytes(32)];
        const keys = [importKey(engine, bytes[0]!, MAC), importKey(engine, bytes[1]!, INDEX)];
        const scopeTexts = ['', 'one', 'x'.repeat(4000)];
        const { scopes, offsets } = scopesOf(...scopeTexts);
        const input = randomBytes(70_000);
        const rows: RowSpec[] = [];
        const expected: Uint8Array[] = [];
        for (const [row, size] of [...SIZES, 55, 56, 63, 65].entries()) {
          const contextLength = [0, 1, 300][row % 3]!;
          rows.push({
            key: keys[row % 2]!,
            context: [row, contextLength],
            data: [400, size],
            out: row * 40 + 3,
            scope: offsets[row % 3]!,
          });
          const data = input.subarray(400, 400 + size);
          const context = input.subarray(row, row + contextLength);
          expected.push(rowMac(bytes[row % 2]!, scopeTexts[row % 3]!, context, data));
        }
        const output = new Uint8Array(rows.length * 40).fill(0xcc);
        const table = tableOf(rows);
        engine.macMany(table, rows.length, scopes, input, output);
        rows.forEach(({ out }, row) => {
          expect(statusOf(table, row)).toBe(ROW_STATUS.ok);
          expect(output.slice(out, out + MAC_LENGTH), `row ${row}`).toEqual(expected[row]);
          expect([...output.subarray(row * 40, out), ...output.subarray(out + MAC_LENGTH, row * 40 + 40)]).toEqual(
            new Array(8).fill(0xcc),
          );
        });
      });

      it('verify where they are right, and with one bit changed in MAC, data, context, scope or key they do not', () => {
        const key = engine.generateKey(MAC);
        const other = engine.generateKey(MAC);
        const { scopes, offsets } = scopesOf('scope');
        const input = new Uint8Array(randomBytes(90));
        const row: RowSpec = { key, context: [0, 20], data: [20, 38], out: 58, scope: offsets[0]! };
        const mac = new Uint8Array(MAC_LENGTH);
        engine.macMany(tableOf([{ ...row, out: 0 }]), 1, scopes, input, mac);
        input.set(mac, 58);
        const verifies = (rows: RowSpec[]): number[] => {
          const table = tableOf(rows);
          const before = Buffer.from(input);
          engine.verifyMacMany(table, rows.length, scopes, input);
          expect(before.equals(input)).toBe(true);
          return rows.map((_, index) => statusOf(table, index));
        };
        const { ok, failed, staleKey, skip } = ROW_STATUS;
        expect(verifies([row, { ...row, key: other }, { ...row, skip: true }, row])).toEqual([ok, failed, skip, ok]);
        for (let bit = 0; bit < input.length * 8; bit++) {
          input[bit >> 3]! ^= 1 << (bit & 7);
          expect(verifies([row]), `bit ${bit}`).toEqual([failed]);
          input[bit >> 3]! ^= 1 << (bit & 7);
        }
        scopes[4]! ^= 1;
        expect(verifies([row])).toEqual([failed]);
        scopes[4]! ^= 1;
        // The border between context and data is part of it.
        expect(verifies([{ ...row, context: [0, 19], data: [19, 39] }])).toEqual([failed]);
        engine.destroyKey(other);
        expect(verifies([{ ...row, key: other }, row])).toEqual([staleKey, ok]);
      });

      it('of a stale key are zero, and rows to skip are left alone', () => {
        const key = engine.generateKey(MAC);
        const stale = engine.generateKey(MAC);
        engine.destroyKey(stale);
        const { scopes } = scopesOf('s');
        const output = new Uint8Array(3 * MAC_LENGTH).fill(0xcc);
        const rows = [key, stale, key].map(
          (each, row): RowSpec => ({ key: each, data: [0, 5], out: row * MAC_LENGTH, skip: row === 0 }),
        );
        const table = tableOf(rows);
        engine.macMany(table, 3, scopes, new Uint8Array(5), output);
        expect([0, 1, 2].map((row) => statusOf(table, row))).toEqual([
          ROW_STATUS.skip,
          ROW_STATUS.staleKey,
          ROW_STATUS.ok,
        ]);
        expect(output.subarray(0, 32).every((byte) => byte === 0xcc)).toBe(true);
        expect(output.subarray(32, 64).every((byte) => byte === 0)).toBe(true);
        expect(output.subarray(64).every((byte) => byte === 0)).toBe(false);
      });

      it('check every row before the first is worked on', () => {
        const key = engine.generateKey(MAC);
        const seal = engine.generateKey(SEAL);
        const { scopes } = scopesOf('abcdef');
        const good: RowSpec = { key, data: [0, 10], out: 0 };
        const input = new Uint8Array(100);
        for (const bad of [
          { key, data: [90, 11], out: 32 },
          { key, data: [0, 0xffffffff], out: 32 },
          { key, data: [0xfffffff0, 0x20], out: 32 },
          { key, context: [99, 2], data: [0, 1], out: 32 },
          { key, context: [0xffffffff, 0xffffffff], data: [0, 1], out: 32 },
          { key, data: [0, 1], out: 69 },
          { key, data: [0, 1], out: 0xffffffff },
          { key, data: [0, 1], out: 32, scope: 1 },
          { key, data: [0, 1], out: 32, scope: 7 },
          { key, data: [0, 1], out: 32, scope: 0xffffffff },
          { key: seal, data: [0, 1], out: 32 },
        ] as RowSpec[]) {
          const output = new Uint8Array(100).fill(0xcc);
          const table = tableOf([good, bad]);
          expect(codeOf(() => engine.macMany(table, 2, scopes, input, output))?.code).toBe('INVALID_ARGUMENT');
          expect(output.every((byte) => byte === 0xcc)).toBe(true);
          expect(codeOf(() => engine.verifyMacMany(table, 2, scopes, input))?.code).toBe('INVALID_ARGUMENT');
          expect([statusOf(table, 0), statusOf(table, 1)]).toEqual([77, 77]);
        }
        const over = tableOf([{ key, data: [0, 10], out: 9 }]);
        expect(codeOf(() => engine.macMany(over, 1, scopes, input, input))?.code).toBe('INVALID_ARGUMENT');
        for (const count of [2, -1, 2 ** 32]) {
          expect(codeOf(() => engine.macMany(tableOf([good]), count, scopes, input, new Uint8Array(99)))?.code).toBe(
            'INVALID_ARGUMENT',
          );
          expect(codeOf(() => engine.verifyMacMany(tableOf([good]), count, scopes, input))?.code).toBe(
            'INVALID_ARGUMENT',
          );
        }
        engine.macMany(new Uint32Array(0), 0, scopes, input, new Uint8Array(0));
        engine.verifyMacMany(new Uint32Array(0), 0, scopes, input);
      });
    });

    describe('root keys', () => {
      const line = Buffer.alloc(32, 0xfb).toString('base64');

      it('reads 32 bytes as one base64 line, with and without the line feed', () => {
        const expected = engine.kid(importRoot(engine, Buffer.alloc(32, 0xfb)));
        expect(engine.kid(importRootLine(engine, line))).toEqual(expected);
        expect(engine.kid(importRootLine(engine, `${line}\n`))).toEqual(expected);
      });

      it('reads the same file as a raw AES key, which is another key, and for no other use', () => {
        const raw = importRootLine(engine, line, RAW_AES_USE);
        expect(engine.kid(raw)).toEqual(engine.kid(importKey(engine, Buffer.alloc(32, 0xfb), RAW_AES_USE)));
        expect(engine.kid(raw)).not.toEqual(engine.kid(importRootLine(engine, line)));
        expect(codeOf(() => engine.mac(raw, 'label', Buffer.alloc(1)))?.code).toBe('INVALID_ARGUMENT');
        for (const use of [SEAL, MAC, DATA_KEY_USE]) {
          expect(codeOf(() => importRootLine(engine, line, use))?.code).toBe('INVALID_ARGUMENT');
        }
      });

      it.each([
        ['an empty file', ''],
        ['only a line feed', '\n'],
        ['31 bytes', `${Buffer.alloc(31, 1).toString('base64')}\n`],
        ['33 bytes', `${Buffer.alloc(33, 1).toString('base64')}\n`],
        ['48 bytes', `${Buffer.alloc(48, 1).toString('base64')}\n`],
        ['no padding', `${line.slice(0, 43)}\n`],
        ['two line feeds', `${line}\n\n`],
        ['a carriage return', `${line}\r\n`],
        ['two lines', `${line}\n${line}\n`],
        ['a space before', ` ${line}`],
        ['a space after', `${line} `],
        ['a byte order mark', `\u{feff}${line}`],
        ['base64url', line.replaceAll('+', '-').replaceAll('/', '_')],
        ['bits left over', `${line.slice(0, 42)}t=`],
        ['a character that is not base64', `*${line.slice(1)}`],
        ['a zero byte', `\0${line.slice(1)}`],
        ['a padding character inside', `${line.slice(0, 20)}=${line.slice(21)}`],
        ['hexadecimal', Buffer.alloc(32, 1).toString('hex')],
        ['32 raw bytes', Buffer.alloc(32, 0x41).toString('latin1')],
      ])('refuses %s', (_, content) => {
        const used = engine.stats().used;
        expect(codeOf(() => importRootLine(engine, content))?.code).toBe('INVALID_ARGUMENT');
        expect(engine.stats().used).toBe(used);
      });

      it('refuses a descriptor that cannot be read', () => {
        const folder = openSync(tmpdir(), 'r');
        try {
          expect(codeOf(() => engine.readRootKey(folder))?.code).toBe('INVALID_ARGUMENT');
        } finally {
          closeSync(folder);
        }
        expect(codeOf(() => engine.readRootKey(folder))?.code).toBe('INVALID_ARGUMENT');
      });

      it('writes what it reads, another key each time, and keeps none', () => {
        const folder = mkdtempSync(join(tmpdir(), 'dekd-root-'));
        try {
          const lines: string[] = [];
          const used = engine.stats().used;
          for (const name of ['a', 'b']) {
            const fd = openSync(join(folder, name), 'w', 0o600);
            engine.writeRootKey(fd);
            closeSync(fd);
            lines.push(readFileSync(join(folder, name), 'latin1'));
          }
          expect(engine.stats().used).toBe(used);
          expect(lines[0]).toMatch(/^[A-Za-z0-9+/]{43}=\n$/);
          expect(lines[0]).not.toBe(lines[1]);
          const bytes = Buffer.from(lines[0]!, 'base64');
          expect(bytes.length).toBe(32);
          expect(engine.kid(importRootLine(engine, lines[0]!))).toEqual(engine.kid(importRoot(engine, bytes)));
          const readOnly = openSync(join(folder, 'a'), 'r');
          expect(codeOf(() => engine.writeRootKey(readOnly))?.code).toBe('INVALID_ARGUMENT');
          closeSync(readOnly);
        } finally {
          rmSync(folder, { recursive: true, force: true });
        }
      });
    });

    describe('keys that follow each other', () => {
      it('derives HKDF-SHA-256 of a key, which knows nothing of its parent any more', () => {
        const bytes = randomBytes(32);
        const parent = engine.importSecret(Uint8Array.from(bytes));
        const next = engine.deriveKey(parent, 'next', SECRET_USE);
        const mac = engine.deriveKey(parent, 'mac', { algorithm: 'hmac-sha-256', purpose: 'mac' });
        engine.destroyKey(parent);
        const derived = (label: string) => Buffer.from(hkdfSync('sha256', bytes, '', label, 32));
        expect(Buffer.from(engine.exposeSecret(next))).toEqual(derived('next'));
        const data = Buffer.from('what is authenticated');
        expect(Buffer.from(engine.mac(mac, '', data))).toEqual(
          createHmac('sha256', derived('mac')).update(data).digest(),
        );
        expect(engine.kid(next)).toEqual(engine.kid(engine.importSecret(Uint8Array.from(derived('next')))));
        expect(codeOf(() => engine.deriveKey(parent, 'next', SECRET_USE))?.code).toBe('INTERNAL');
        expect(codeOf(() => engine.deriveKey(mac, 'next', SECRET_USE))?.code).toBe('INVALID_ARGUMENT');
      });

      it('writes a key as it is read, and no key that is for something else', () => {
        const folder = mkdtempSync(join(tmpdir(), 'dekd-key-'));
        try {
          const key = engine.generateKey(SECRET_USE);
          const fd = openSync(join(folder, 'key'), 'w', 0o600);
          engine.writeKey(key, fd);
          expect(codeOf(() => engine.writeKey(engine.generateKey(SEAL), fd))?.code).toBe('INVALID_ARGUMENT');
          closeSync(fd);
          const line = readFileSync(join(folder, 'key'), 'latin1');
          expect(engine.kid(importRootLine(engine, line))).toEqual(engine.kid(key));
          const readOnly = openSync(join(folder, 'key'), 'r');
          expect(codeOf(() => engine.writeKey(key, readOnly))?.code).toBe('INVALID_ARGUMENT');
          closeSync(readOnly);
        } finally {
          rmSync(folder, { recursive: true, force: true });
        }
      });
    });

    describe('values that applications sealed before', () => {
      const bytes = Buffer.alloc(32, 0xfb);
      const nonce = Buffer.alloc(12, 3);
      const nothing = new Uint8Array(0);

      it('opens what node:crypto sealed with AES-256-GCM, of every size, and nothing that was changed', () => {
        const key = engine.importSecret(Uint8Array.from(bytes), LEGACY_USE);
        for (const size of SIZES) {
          const plaintext = randomBytes(size);
          const cipher = createCipheriv('aes-256-gcm', bytes, nonce);
          const sealed = Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
          const output = Buffer.alloc(size + 8, 0xee);
          expect(engine.openLegacy(key, nonce, sealed, output, 4)).toBe(true);
          expect(output.subarray(4, 4 + size)).toEqual(plaintext);
          expect([...output.subarray(0, 4), ...output.subarray(4 + size)]).toEqual(new Array(8).fill(0xee));
          for (const at of new Set([0, size - 1, size, size + 15].filter((each) => each >= 0))) {
            const changed = Buffer.from(sealed);
            changed[at]! ^= 1;
            expect(engine.openLegacy(key, nonce, changed, output, 4)).toBe(false);
            expect(output.subarray(4, 4 + size)).toEqual(Buffer.alloc(size));
          }
          const otherNonce = Buffer.alloc(12, 4);
          expect(engine.openLegacy(key, otherNonce, sealed, output, 4)).toBe(false);
        }
        for (const short of [0, 1, 15]) {
          expect(engine.openLegacy(key, nonce, Buffer.alloc(short), nothing, 0)).toBe(false);
        }
      });

      it('opens nothing with additional data, and nothing of another key', () => {
        const key = engine.importSecret(Uint8Array.from(bytes), LEGACY_USE);
        const other = engine.generateKey(LEGACY_USE);
        const output = Buffer.alloc(5);
        const plain = reference.aesGcmSeal(bytes, nonce, nothing, Buffer.from('abcde'));
        const bound = reference.aesGcmSeal(bytes, nonce, Buffer.from('aad'), Buffer.from('abcde'));
        expect(engine.openLegacy(key, nonce, plain, output, 0)).toBe(true);
        expect(engine.openLegacy(other, nonce, plain, output, 0)).toBe(false);
        expect(engine.openLegacy(key, nonce, bound, output, 0)).toBe(false);
      });

      it('reads their keys from files, as a base64 line or as the 32 bytes themselves', () => {
        const kid = engine.kid(engine.importSecret(Uint8Array.from(bytes), LEGACY_USE));
        for (const content of [bytes, bytes.toString('base64'), `${bytes.toString('base64')}\n`]) {
          expect(engine.kid(importRootLine(engine, content, LEGACY_USE))).toEqual(kid);
        }
        for (const content of ['', bytes.subarray(1), Buffer.alloc(33, 1), bytes.toString('hex')]) {
          expect(codeOf(() => importRootLine(engine, content, LEGACY_USE))?.code).toBe('INVALID_ARGUMENT');
        }
      });

      it('does nothing else with such a key, and opens them with no other', () => {
        const key = engine.generateKey(LEGACY_USE);
        const room = Buffer.alloc(100);
        const refusals = [
          () => engine.seal(key, room, 0, 0, 0, 1, Buffer.alloc(59), 0),
          () => engine.wrapKey(key, 'label', key, nothing),
          () => engine.mac(key, 'label', nothing),
          () => engine.exposeSecret(key),
          () => engine.wrapDataKeyUnder(key, nothing, engine.generateKey(DATA_KEY_USE), nothing),
          ...[SEAL, WRAP, MAC, RAW_AES_USE].map(
            (use) => () => engine.openLegacy(engine.generateKey(use), nonce, room, Buffer.alloc(84), 0),
          ),
          () => engine.openLegacy(key, Buffer.alloc(16), room, Buffer.alloc(84), 0),
          () => engine.openLegacy(key, nonce, room, Buffer.alloc(83), 0),
          () => engine.openLegacy(key, nonce, room, Buffer.alloc(84), 1),
          () => engine.openLegacy(key, nonce, room, Buffer.alloc(84), -1),
          () => engine.openLegacy(key, nonce, room, room, 0),
        ];
        expect(refusals.map((call) => codeOf(call)?.code)).toEqual(refusals.map(() => 'INVALID_ARGUMENT'));
        engine.destroyKey(key);
        expect(codeOf(() => engine.openLegacy(key, nonce, room, Buffer.alloc(84), 0))?.code).toBe('INTERNAL');
      });
    });

    it('gives random bytes of the length asked for', () => {
      for (const length of [0, 1, 24, 4096, 4097, 70_000]) {
        expect(engine.random(length).length).toBe(length);
      }
      expect(engine.random(16)).not.toEqual(engine.random(16));
      const seen = new Set(Array.from({ length: 5000 }, () => Buffer.from(engine.random(12)).toString('hex')));
      expect(seen.size).toBe(5000);
      for (const length of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY]) {
        expect(codeOf(() => engine.random(length))?.code).toBe('INVALID_ARGUMENT');
      }
    });

    it('wipes every key when it closes and refuses work afterwards', () => {
      const key = engine.generateKey(SEAL);
      engine.close();
      expect(engine.stats().used).toBe(0);
      expect(codeOf(() => engine.kid(key))?.code).toBe('INTERNAL');
      expect(codeOf(() => engine.generateKey(SEAL))?.code).toBe('INTERNAL');
      expect(codeOf(() => engine.random(1))?.code).toBe('INTERNAL');
    });

    it('says what it is', () => {
      expect(engine.info.name).toBe(subject.name);
      expect(engine.info.library).toMatch(/\d+\.\d+/);
      expect(engine.info.keysInJs).toBe(subject.name !== 'native');
      if (subject.name !== 'native') {
        expect(engine.info.lockLevel).toBe('heap');
        expect(engine.info.lockReason).not.toBe('');
      }
    });
  });
}
