/**
 * One ciphertext of AES-GCM that two keys open, to two plaintexts: "invisible salamanders" (Dodis, Grubbs, Ristenpart and
 * Woodage, 2018). GHASH is linear in the blocks, so one block is solved for such that both keys make the same tag.
 */
import { createCipheriv } from 'node:crypto';

const BLOCK = 16;
const REDUCTION = 0xe1n << 120n;

/** Product in GF(2^128) with the order of bits that SP 800-38D, 6.3 has. */
function product(x: bigint, y: bigint): bigint {
  let sum = 0n;
  let term = y;
  for (let bit = 127n; bit >= 0n; bit--) {
    if (((x >> bit) & 1n) === 1n) {
      sum ^= term;
    }
    term = (term & 1n) === 1n ? (term >> 1n) ^ REDUCTION : term >> 1n;
  }
  return sum;
}

const ONE = 1n << 127n;

function power(base: bigint, exponent: bigint): bigint {
  let result = ONE;
  let square = base;
  for (let left = exponent; left > 0n; left >>= 1n) {
    if ((left & 1n) === 1n) {
      result = product(result, square);
    }
    square = product(square, square);
  }
  return result;
}

const inverse = (x: bigint): bigint => power(x, (1n << 128n) - 2n);
const toInteger = (block: Uint8Array): bigint => BigInt(`0x${Buffer.from(block).toString('hex')}`);
const toBlock = (x: bigint): Buffer => Buffer.from(x.toString(16).padStart(32, '0'), 'hex');

function encryptBlock(key: Uint8Array, block: Uint8Array): Buffer {
  const cipher = createCipheriv('aes-256-ecb', key, null).setAutoPadding(false);
  return Buffer.concat([cipher.update(block), cipher.final()]);
}

function padded(bytes: Uint8Array): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((BLOCK - (bytes.length % BLOCK)) % BLOCK)]);
}

/**
 * Ciphertext of `blocks` blocks and tag that both keys take under this nonce and AAD.
 * @param keys two keys of 32 bytes
 */
export function salamander(
  keys: readonly [Uint8Array, Uint8Array],
  nonce: Uint8Array,
  aad: Uint8Array,
  blocks = 3,
): Buffer {
  const ciphertext = Buffer.alloc(blocks * BLOCK, 0x5a);
  // The last block is what is solved for.
  ciphertext.fill(0, (blocks - 1) * BLOCK);
  const lengths = Buffer.alloc(BLOCK);
  lengths.writeBigUInt64BE(BigInt(aad.length * 8), 0);
  lengths.writeBigUInt64BE(BigInt(ciphertext.length * 8), 8);
  const sides = keys.map((key) => {
    const h = toInteger(encryptBlock(key, Buffer.alloc(BLOCK)));
    const mask = toInteger(encryptBlock(key, Buffer.concat([nonce, Buffer.from([0, 0, 0, 1])])));
    const tagOf = (body: Buffer): bigint => {
      const input = Buffer.concat([padded(aad), padded(body), lengths]);
      let hash = 0n;
      for (let at = 0; at < input.length; at += BLOCK) {
        hash = product(hash ^ toInteger(input.subarray(at, at + BLOCK)), h);
      }
      return hash ^ mask;
    };
    return { tagOf, weight: product(h, h) };
  });
  const [one, other] = sides as [(typeof sides)[0], (typeof sides)[0]];
  const difference = one.tagOf(ciphertext) ^ other.tagOf(ciphertext);
  toBlock(product(difference, inverse(one.weight ^ other.weight))).copy(ciphertext, (blocks - 1) * BLOCK);
  return Buffer.concat([ciphertext, toBlock(one.tagOf(ciphertext))]);
}

/** The key of XAES-256-GCM for one nonce (C2SP): two blocks of CMAC over counter, label and the first half of the nonce. */
export function xaesSubkey(key: Uint8Array, nonce: Uint8Array): Buffer {
  const l = toInteger(encryptBlock(key, Buffer.alloc(BLOCK)));
  const k1 = toBlock(((l << 1n) & ((1n << 128n) - 1n)) ^ (l >> 127n === 1n ? 0x87n : 0n));
  const half = (counter: number): Buffer => {
    const block = Buffer.concat([Buffer.from([0, counter, 0x58, 0]), nonce.subarray(0, 12)]);
    return encryptBlock(
      key,
      block.map((byte, at) => byte ^ k1[at]!),
    );
  };
  return Buffer.concat([half(1), half(2)]);
}
