import { createCipheriv, createHash, createSign, generateKeyPairSync, hkdfSync, type KeyObject } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { DATA_KEY_USE, type Engine } from '../../src/crypto/engine.ts';
import { DekdError } from '../../src/errors.ts';
import { MessageOpening } from '../../src/operations/message-opening.ts';
import { field, u16, u32 } from '../support/big-endian.ts';
import { engineUnderTest } from '../support/engines.ts';
import { randomNumbers } from './support/random-numbers.ts';

/**
 * Broken messages through the readers of two engines, step by step: both give out the same bytes and end with the same
 * refusal, plaintext that is given out is that of a message in the corpus, and only such a message has a clean end.
 * What does not hold is written to the corpus as `finding-*`, which is read first the next time.
 *
 * The corpus is under one data key. `opens-LENGTH-SALT-*` is a message of `plaintextOf(LENGTH, SALT)`;
 * `refused-CODE-*` ends with that code.
 */
const SECONDS = Number(process.env.DEKD_FUZZ_SECONDS ?? 20);
const SEED = Number(process.env.DEKD_FUZZ_SEED ?? Date.now() % 2 ** 31);
const CORPUS = fileURLToPath(new URL('corpus/message', import.meta.url));
const DATA_KEY = Buffer.alloc(32, 0x2a);
const REQUIRED = Buffer.from('pairs that are bound and not stored');
const FRAME = 16;
const MAX_FINDINGS = 10;
const NOTHING = Buffer.alloc(0);

const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'secp384r1' });
const point = pointOf(publicKey);

interface Case {
  readonly bytes: Buffer;
  /** Bytes of each piece in turn, again from the start when all were used. */
  readonly sizes: readonly number[];
  readonly allowUnverifiedSignature: boolean;
}

/** What one engine makes of a message: what each piece gave, and the refusal. */
interface Outcome {
  readonly given: readonly string[];
  readonly plaintext: Buffer;
  readonly code: string | undefined;
  readonly text: string;
}

interface Seed {
  readonly bytes: Buffer;
  readonly plaintext: Buffer;
}

describe('readers of messages on the native and the node engine', async () => {
  const native = await engineUnderTest('native');
  const node = await engineUnderTest('node');
  const missing = native.missing ?? node.missing;
  const engines = native.missing === undefined && node.missing === undefined ? [native.create(), node.create()] : [];
  const names = readdirSync(CORPUS).filter((name) => name.endsWith('.bin'));
  const seeds = names.filter((name) => name.startsWith('opens-')).map(seedOf);

  /** What both make of a message. @throws what must not be */
  async function agreed(each: Case): Promise<Outcome> {
    const outcomes: Outcome[] = [];
    for (const engine of engines) {
      const { used } = engine.stats();
      outcomes.push(await outcomeOf(engine, each));
      if (engine.stats().used !== used) {
        throw new Error(`a key is left with the ${engine.info.name} engine`);
      }
    }
    const [one, other] = outcomes.map((outcome) => JSON.stringify(outcome));
    if (one !== other) {
      throw new Error(`the native engine gave ${one}, the node engine ${other}`);
    }
    return outcomes[0]!;
  }

  /** Judges what comes of bytes that nobody with the data key wrote. */
  function checkForged({ bytes }: Case, { plaintext, code }: Outcome): void {
    if (!seeds.some((seed) => seed.plaintext.subarray(0, plaintext.length).equals(plaintext))) {
      throw new Error('plaintext that no message has');
    }
    const seed = seeds.find((one) => one.bytes.equals(bytes));
    if (code === undefined && !seed?.plaintext.equals(plaintext)) {
      throw new Error('a clean end of a message that was changed');
    }
  }

  it('agree on the corpus, and make of it what its names say', async ({ skip }) => {
    if (missing !== undefined) {
      return skip(missing);
    }
    expect(seeds.length).toBeGreaterThan(5);
    for (const name of names) {
      const bytes = readFileSync(join(CORPUS, name));
      for (const size of [1, 7, FRAME + 32, 1_000, bytes.length]) {
        for (const allowUnverifiedSignature of [false, true]) {
          const each = { bytes, sizes: [size], allowUnverifiedSignature };
          const outcome = await agreed(each);
          checkForged(each, outcome);
          const [kind, code] = name.split('-');
          if (kind !== 'finding') {
            expect([name, size, outcome.code]).toEqual([name, size, kind === 'opens' ? undefined : code]);
          }
        }
      }
    }
  });

  it(`agree for ${SECONDS} s on changed messages, and on odd ones with good tags, from seed ${SEED}`, async ({
    skip,
  }) => {
    if (missing !== undefined) {
      return skip(missing);
    }
    const random = new Choices(SEED);
    const until = Date.now() + SECONDS * 1_000;
    const counts: Record<string, number> = { changed: 0, odd: 0 };
    const findings: string[] = [];
    while (Date.now() < until && findings.length < MAX_FINDINGS) {
      const odd = random.isOneOf(3) ? oddMessage(random) : undefined;
      const bytes = odd?.bytes ?? changed(random, seeds);
      const each = { bytes, sizes: sizesOf(random, bytes.length), allowUnverifiedSignature: random.isOneOf(2) };
      try {
        const outcome = await agreed(each);
        if (odd === undefined) {
          checkForged(each, outcome);
        } else {
          checkOdd(odd, each, outcome);
        }
        counts[odd === undefined ? 'changed' : 'odd']!++;
        const code = outcome.code ?? 'opened';
        counts[code] = (counts[code] ?? 0) + 1;
      } catch (error) {
        findings.push(
          `${written(bytes)}: pieces of ${each.sizes}, unverified ${each.allowUnverifiedSignature}: ${error}`,
        );
      }
    }
    console.log(`seed ${SEED}, ${SECONDS} s: ${JSON.stringify(counts)}`);
    expect(findings).toEqual([]);
    expect(Math.min(counts.changed!, counts.odd!)).toBeGreaterThan(0);
  });
});

async function outcomeOf(engine: Engine, { bytes, sizes, allowUnverifiedSignature }: Case): Promise<Outcome> {
  const opening = new MessageOpening({
    engine,
    dataKeyOf: async () => engine.importSecret(Uint8Array.from(DATA_KEY), DATA_KEY_USE),
    requiredOf: () => REQUIRED,
    allowUnverifiedSignature,
  });
  const given: string[] = [];
  let [code, text]: [string | undefined, string] = [undefined, ''];
  try {
    for (let at = 0, piece = 0; at < bytes.length; piece++) {
      const size = sizes[piece % sizes.length]!;
      given.push(hexOf(await opening.push(bytes.subarray(at, at + size))));
      at += size;
    }
    given.push(hexOf(opening.end()));
  } catch (error) {
    if (!DekdError.is(error) || error.code === 'INTERNAL') {
      throw error;
    }
    code = error.code;
    text = error.message;
  }
  opening.close();
  return { given, plaintext: Buffer.from(given.join(''), 'hex'), code, text };
}

/** A message with good tags throughout, and what it must come to. */
interface OddMessage {
  readonly bytes: Buffer;
  /** Of the frames before the first that cannot be where it is. */
  readonly plaintext: Buffer;
  readonly code: 'DECRYPTION_FAILED' | 'MALFORMED' | undefined;
  readonly isSigned: boolean;
}

/** Frames of any kind, number, length and nonce, which only somebody with the data key can write. */
function oddMessage(random: Choices): OddMessage {
  const isSigned = random.isOneOf(8);
  const frameLength = random.isOneOf(6) ? 0 : 1 + random.under(40);
  const writer = new Writer(random, isSigned, frameLength);
  const parts = [writer.header];
  const plaintext: Buffer[] = [];
  // As long as no final frame has come.
  let code: OddMessage['code'] = 'MALFORMED';
  let isOver = false;
  for (let left = random.under(6), sequence = 1; left > 0; left--, sequence++) {
    const { bytes, content, isFinal, fits } = oddFrame(random, writer, frameLength, sequence, left === 1);
    parts.push(bytes);
    if (isOver || !fits) {
      code = isOver ? 'MALFORMED' : 'DECRYPTION_FAILED';
      break;
    }
    plaintext.push(content);
    isOver = isFinal;
    code = isOver ? undefined : 'MALFORMED';
    if (isOver && isSigned) {
      break;
    }
  }
  if (isSigned && code === undefined) {
    const isThere = !random.isOneOf(6);
    parts.push(isThere ? writer.signatureOf(Buffer.concat(parts)) : NOTHING);
    code = isThere ? undefined : 'MALFORMED';
  }
  return { bytes: Buffer.concat(parts), plaintext: Buffer.concat(plaintext), code, isSigned };
}

function oddFrame(random: Choices, writer: Writer, frameLength: number, sequence: number, isLast: boolean) {
  if (frameLength === 0) {
    const content = random.bytes(random.under(60));
    return { bytes: writer.singleBlock(content), content, isFinal: true, fits: true };
  }
  const isFinal = random.isOneOf(10) ? !isLast : isLast;
  const number = random.isOneOf(12) ? random.from([0, 2, sequence + 1, sequence - 1, 0xfffffffe]) : sequence;
  const length = isFinal ? random.under(frameLength + (random.isOneOf(6) ? 3 : 1)) : frameLength;
  const content = random.bytes(length);
  const bytes = isFinal ? writer.finalFrame(number, content) : writer.frame(number, content);
  return { bytes, content, isFinal, fits: number === sequence && length <= frameLength };
}

function checkOdd(odd: OddMessage, { allowUnverifiedSignature }: Case, { plaintext, code, text }: Outcome): void {
  if (code !== odd.code) {
    throw new Error(`${code ?? 'opened'} and not ${odd.code ?? 'opened'}: ${text}`);
  }
  if (code === undefined && !plaintext.equals(odd.plaintext)) {
    throw new Error('a clean end with other plaintext than was written');
  }
  if (code !== undefined && odd.isSigned && !allowUnverifiedSignature && plaintext.length > 0) {
    throw new Error('plaintext of a signed message whose signature was not verified');
  }
  if (!odd.plaintext.subarray(0, plaintext.length).equals(plaintext)) {
    throw new Error('plaintext from behind a frame that cannot be where it is');
  }
}

/** A message of the corpus after one to three changes. */
function changed(random: Choices, seeds: readonly Seed[]): Buffer {
  let { bytes } = random.from(seeds);
  for (let left = 1 + random.under(3); left > 0; left--) {
    const at = random.under(bytes.length + 1);
    const end = Math.min(bytes.length, at + 1 + random.under(random.isOneOf(2) ? 8 : 120));
    const other = random.from(seeds).bytes;
    const taken = random.under(other.length + 1);
    const [before, range, after] = [bytes.subarray(0, at), bytes.subarray(at, end), bytes.subarray(end)];
    const place = random.under(after.length + 1);
    bytes = Buffer.concat(
      random.from([
        () => [before, random.bytes(range.length), after],
        () => [before, random.bytes(1 + random.under(40)), range, after],
        () => [before, after],
        () => [before, range, range, after],
        () => [before, after.subarray(0, place), range, after.subarray(place)],
        () => [before, numberOf(random), bytes.subarray(at + 4)],
        () => [before, numberOf(random).subarray(2), bytes.subarray(at + 2)],
        () => [before, flipped(random, range), after],
        () => [before, other.subarray(taken, taken + range.length), after],
        () => [before, other.subarray(at)],
        () => framesMoved(random, bytes),
        () => [before],
        () => [bytes, range],
      ])(),
    );
  }
  return bytes;
}

/** The message with two stretches behind its header exchanged, which are frames when it has frames of `FRAME`. */
function framesMoved(random: Choices, bytes: Buffer): Buffer[] {
  const start = bytes.indexOf(Buffer.of(0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1));
  if (start < 0) {
    return [bytes];
  }
  const size = FRAME + 32;
  const frames = Array.from({ length: Math.ceil((bytes.length - start) / size) }, (_, index) =>
    bytes.subarray(start + index * size, start + (index + 1) * size),
  );
  const moved = frames.splice(random.under(frames.length), random.isOneOf(4) ? 2 : 1);
  frames.splice(random.under(frames.length + 1), random.isOneOf(3) ? 1 : 0, ...moved);
  return [bytes.subarray(0, start), ...frames];
}

function flipped(random: Choices, bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  const at = random.under(copy.length);
  if (at < copy.length) {
    copy[at]! ^= 1 << random.under(8);
  }
  return copy;
}

function numberOf(random: Choices): Buffer {
  return u32(random.from([0, 1, 2, 3, FRAME, FRAME + 1, 0xff, 0xffff, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff]));
}

function sizesOf(random: Choices, length: number): number[] {
  const most = random.from([1, 8, FRAME + 32, length + 1]);
  return Array.from({ length: 1 + random.under(5) }, () => 1 + random.under(most));
}

/** Random choices that a seed repeats. */
class Choices {
  readonly #next: () => number;

  constructor(seed: number) {
    this.#next = randomNumbers(seed);
  }

  /** 0 to `limit` - 1, and 0 when that is none. */
  under(limit: number): number {
    return Math.floor(this.#next() * limit);
  }

  isOneOf(many: number): boolean {
    return this.under(many) === 0;
  }

  from<T>(values: readonly T[]): T {
    return values[this.under(values.length)]!;
  }

  bytes(length: number): Buffer {
    return Buffer.from(Array.from({ length }, () => this.under(256)));
  }
}

/** Writes messages by the published format; frames in any order and of any number. */
class Writer {
  readonly header: Buffer;
  readonly #random: Choices;
  readonly #id: Buffer;
  readonly #key: Buffer;

  constructor(random: Choices, isSigned: boolean, frameLength: number) {
    this.#random = random;
    this.#id = random.bytes(32);
    const suite = u16(isSigned ? 0x0578 : 0x0478);
    const label = Buffer.concat([suite, Buffer.from('DERIVEKEY')]);
    this.#key = Buffer.from(hkdfSync('sha512', DATA_KEY, this.#id, label, 32));
    const context = isSigned ? Buffer.concat([u16(1), field('aws-crypto-public-key'), field(point)]) : NOTHING;
    const dataKeys = Array.from({ length: 1 + random.under(3) }, () => [
      field(random.from(['aws-kms', 'ns', ''])),
      field(random.bytes(random.under(9))),
      field(random.bytes(random.under(9))),
    ]);
    const body = Buffer.concat([
      Buffer.of(0x02),
      suite,
      this.#id,
      field(context),
      u16(dataKeys.length),
      ...dataKeys.flat(),
      Buffer.of(frameLength === 0 ? 1 : 2),
      u32(frameLength),
      Buffer.from(hkdfSync('sha512', DATA_KEY, this.#id, 'COMMITKEY', 32)),
    ]);
    this.header = Buffer.concat([body, this.#sealed(Buffer.alloc(12), Buffer.concat([body, REQUIRED]), NOTHING)]);
  }

  frame(sequence: number, content: Buffer): Buffer {
    const nonce = this.#nonce(sequence);
    return Buffer.concat([u32(sequence), nonce, this.#body('Frame', sequence, content, nonce)]);
  }

  finalFrame(sequence: number, content: Buffer): Buffer {
    const nonce = this.#nonce(sequence);
    const head = Buffer.concat([u32(0xffffffff), u32(sequence), nonce, u32(content.length)]);
    return Buffer.concat([head, this.#body('Final Frame', sequence, content, nonce)]);
  }

  singleBlock(content: Buffer): Buffer {
    const nonce = this.#nonce(1);
    return Buffer.concat([nonce, u32(0), u32(content.length), this.#body('Single Block', 1, content, nonce)]);
  }

  signatureOf(bytes: Buffer): Buffer {
    return field(createSign('sha384').update(bytes).sign(privateKey));
  }

  #nonce(sequence: number): Buffer {
    return this.#random.isOneOf(6) ? this.#random.bytes(12) : Buffer.concat([Buffer.alloc(8), u32(sequence)]);
  }

  #body(text: string, sequence: number, content: Buffer, nonce: Buffer): Buffer {
    const numbers = Buffer.concat([u32(sequence), u32(0), u32(content.length)]);
    return this.#sealed(
      nonce,
      Buffer.concat([this.#id, Buffer.from(`AWSKMSEncryptionClient ${text}`), numbers]),
      content,
    );
  }

  #sealed(nonce: Buffer, aad: Buffer, content: Buffer): Buffer {
    const cipher = createCipheriv('aes-256-gcm', this.#key, nonce).setAAD(aad);
    return Buffer.concat([cipher.update(content), cipher.final(), cipher.getAuthTag()]);
  }
}

function seedOf(name: string): Seed {
  const [, length, salt] = name.split('-');
  return { bytes: readFileSync(join(CORPUS, name)), plaintext: plaintextOf(Number(length), Number(salt)) };
}

function plaintextOf(length: number, salt: number): Buffer {
  return Buffer.from(Array.from({ length }, (_, index) => index * 7 + salt));
}

/** @returns the name of a new file of the corpus with these bytes */
function written(bytes: Buffer): string {
  const path = join(CORPUS, `finding-${createHash('sha256').update(bytes).digest('hex').slice(0, 12)}.bin`);
  writeFileSync(path, bytes);
  return basename(path);
}

/** The compressed point of a public key, in base64. */
function pointOf(key: KeyObject): string {
  const { x, y } = key.export({ format: 'jwk' });
  const odd = Buffer.from(y!, 'base64url').at(-1)! & 1;
  return Buffer.concat([Buffer.of(2 + odd), Buffer.from(x!, 'base64url')]).toString('base64');
}

function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
