import { createCipheriv } from 'node:crypto';
import fc from 'fast-check';
import { expect } from 'vitest';
import type { Engine, KeyHandle } from '../../src/crypto/engine.ts';
import { MAC_LENGTH, ROW, ROW_STATUS, ROW_WORDS, TOKEN_OVERHEAD } from '../../src/crypto/engine.ts';
import { importKey, importRoot } from './engines.ts';

const LARGEST = 70_000;
const BATCH = 3;

/** Bytes that depend on the seed alone, so that a failing case is found again. */
function bytesOf(seed: number, length: number): Uint8Array {
  const key = Buffer.alloc(16);
  key.writeUInt32BE(seed);
  return new Uint8Array(createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(length)));
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

/**
 * Random sizes and contexts through two engines that hold the same keys: what one seals, wraps or computes, the other
 * opens, unwraps or equals, alone and in batches; one changed bit is refused by both.
 */
export function checkAgreement(one: Engine, other: Engine, runs: number): void {
  const engines = [one, other] as const;
  const root = engines.map((engine) => importRoot(engine, bytesOf(1, 32)));
  const sealing = { algorithm: 'xaes-256-gcm', purpose: 'seal' } as const;
  const keys = engines.map((engine) => importKey(engine, bytesOf(2, 32), sealing));
  const macKey = { algorithm: 'hmac-sha-256', purpose: 'mac' } as const;
  const macs = engines.map((engine) => importKey(engine, bytesOf(3, 32), macKey));
  expect(equal(one.kid(keys[0]!), other.kid(keys[1]!))).toBe(true);
  expect(equal(one.kid(root[0]!), other.kid(root[1]!))).toBe(true);
  fc.assert(
    fc.property(
      fc.record({
        seed: fc.nat(0xffffffff),
        size: fc.oneof(
          { weight: 3, arbitrary: fc.nat(LARGEST) },
          fc.nat(300),
          fc.constantFrom(0, 1, 15, 16, 17, LARGEST),
        ),
        contextSize: fc.oneof(fc.nat(64), fc.nat(3000)),
        turn: fc.nat(1),
        bit: fc.nat(),
      }),
      ({ seed, size, contextSize, turn, bit }) => {
        const sealer = engines[turn]!;
        const opener = engines[1 - turn]!;
        const input = bytesOf(seed, contextSize + size);
        const token = new Uint8Array(size + TOKEN_OVERHEAD);
        sealer.seal(keys[turn]!, input, 0, contextSize, contextSize, size, token, 0);
        const context = input.subarray(0, contextSize);
        const message = new Uint8Array(Buffer.concat([context, token]));
        const plain = new Uint8Array(size);
        const opened = opener.open(keys[1 - turn]!, message, 0, contextSize, contextSize, token.length, plain, 0);
        if (!opened || !equal(plain, input.subarray(contextSize))) {
          throw new Error('what one engine sealed the other did not open');
        }
        const at = bit % (message.length * 8);
        message[at >> 3]! ^= 1 << (at & 7);
        for (const which of [0, 1]) {
          if (engines[which]!.open(keys[which]!, message, 0, contextSize, contextSize, token.length, plain, 0)) {
            throw new Error(`bit ${at} changed and still opened`);
          }
        }
        checkBatch(sealer, keys[turn]!, opener, keys[1 - turn]!, input, contextSize);
        checkMacs(sealer, macs[turn]!, opener, macs[1 - turn]!, input, contextSize);
        if (seed % 16 === 0) {
          checkWraps(sealer, root[turn]!, keys[turn]!, opener, root[1 - turn]!, context);
        }
      },
    ),
    { numRuns: runs },
  );
}

/** The same bytes cut into three items, through `sealMany` of one and `openMany` of the other. */
function checkBatch(
  sealer: Engine,
  sealKey: KeyHandle,
  opener: Engine,
  openKey: KeyHandle,
  input: Uint8Array,
  contextSize: number,
): void {
  // The whole would double the time of a run for nothing: blocks and counters are exercised by the single call.
  const size = Math.min(input.length - contextSize, 1200);
  const cut = Math.floor(size / BATCH);
  const sizes = [cut, cut, size - 2 * cut];
  const sealed = new Uint8Array(contextSize + size + BATCH * TOKEN_OVERHEAD);
  sealed.set(input.subarray(0, contextSize));
  const table = new Uint32Array(BATCH * ROW_WORDS);
  let data = contextSize;
  let out = contextSize;
  sizes.forEach((length, row) => {
    table.set([sealKey, 0, contextSize, data, length, out, 9], row * ROW_WORDS);
    data += length;
    out += length + TOKEN_OVERHEAD;
  });
  sealer.sealMany(table, BATCH, input, sealed);
  const plain = new Uint8Array(size);
  let start = contextSize;
  let at = 0;
  sizes.forEach((length, row) => {
    if (table[row * ROW_WORDS + ROW.status] !== ROW_STATUS.ok) {
      throw new Error('a row was not sealed');
    }
    table.set([openKey, 0, contextSize, start, length + TOKEN_OVERHEAD, at, 9], row * ROW_WORDS);
    start += length + TOKEN_OVERHEAD;
    at += length;
  });
  opener.openMany(table, BATCH, sealed, plain);
  const opened = sizes.every((_, row) => table[row * ROW_WORDS + ROW.status] === ROW_STATUS.ok);
  if (!opened || !equal(plain, input.subarray(contextSize, contextSize + size))) {
    throw new Error('a batch of one engine did not open in the other');
  }
}

/** The MAC of one row, which the other engine computes alike and verifies. */
function checkMacs(
  maker: Engine,
  makeKey: KeyHandle,
  verifier: Engine,
  verifyKey: KeyHandle,
  input: Uint8Array,
  contextSize: number,
): void {
  const scopes = Uint8Array.of(0, 3, 7, 8, 9);
  const row = (key: KeyHandle, out: number): Uint32Array =>
    Uint32Array.of(key, 0, contextSize, contextSize, input.length - contextSize, out, 9, 0);
  const macs = [new Uint8Array(MAC_LENGTH), new Uint8Array(MAC_LENGTH)];
  maker.macMany(row(makeKey, 0), 1, scopes, input, macs[0]!);
  verifier.macMany(row(verifyKey, 0), 1, scopes, input, macs[1]!);
  const table = row(verifyKey, input.length);
  verifier.verifyMacMany(table, 1, scopes, new Uint8Array(Buffer.concat([input, macs[0]!])));
  if (!equal(macs[0]!, macs[1]!) || table[ROW.status] !== ROW_STATUS.ok) {
    throw new Error('the MAC of one engine is not that of the other');
  }
}

function checkWraps(
  wrapper: Engine,
  wrapRoot: KeyHandle,
  key: KeyHandle,
  unwrapper: Engine,
  unwrapRoot: KeyHandle,
  aad: Uint8Array,
): void {
  const use = { algorithm: 'xaes-256-gcm', purpose: 'seal' } as const;
  const wrapped = wrapper.wrapKey(wrapRoot, 'dekd/v1/wrap', key, aad);
  const again = unwrapper.unwrapKey(unwrapRoot, 'dekd/v1/wrap', wrapped, aad, use);
  const same = equal(unwrapper.kid(again), wrapper.kid(key));
  unwrapper.destroyKey(again);
  const mac = wrapper.mac(wrapRoot, 'dekd/v1/meta', aad);
  if (!same || !unwrapper.verifyMac(unwrapRoot, 'dekd/v1/meta', aad, mac)) {
    throw new Error('a wrapped key or a MAC is not the same in the other engine');
  }
}
