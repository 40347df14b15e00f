import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DATA_KEY_USE, type Engine, type EngineName, type KeyHandle } from '../../src/crypto/engine.ts';
import { encodeContext } from '../../src/envelope/context.ts';
import { sealedBodyLength } from '../../src/envelope/message-body.ts';
import { messageContext, readMessageHeader } from '../../src/envelope/message-header.ts';
import { DekdError } from '../../src/errors.ts';
import { MessageOpening, openMessage } from '../../src/operations/message-opening.ts';
import { MessageSealing, sealMessage } from '../../src/operations/message-sealing.ts';
import { engineUnderTest } from '../support/engines.ts';

const RUNS = { numRuns: Number(process.env.DEKD_RUNS ?? 300) };
const DATA_KEY = randomBytes(32);
const DIRECTIONS: readonly (readonly [EngineName, EngineName])[] = [
  ['node', 'node'],
  ['native', 'node'],
  ['node', 'native'],
  ['native', 'native'],
];

const cuts = fc.array(fc.nat(), { maxLength: 12 });
const pairs = fc.dictionary(fc.string({ minLength: 1, maxLength: 8 }), fc.string({ maxLength: 8 }), { maxKeys: 4 });
const small = fc.record({ length: fc.nat(700), frameLength: fc.integer({ min: 1, max: 200 }) });
const large = fc.record({ length: fc.nat(200_000), frameLength: fc.constantFrom(65_535, 65_536, 65_537) });
/** A plaintext whose length is often that of whole frames, with what its message is made of. */
const shape = fc.record({
  size: fc.oneof({ arbitrary: small, weight: 9 }, { arbitrary: large, weight: 1 }),
  isWhole: fc.boolean(),
  context: pairs.map((stored) => ({ ...stored })),
  required: pairs.map((required) => encodeContext({ ...required })),
});

describe.each(DIRECTIONS)('messages sealed by %s and opened by %s', async (sealer, opener) => {
  const [sealing, opening] = [await engineUnderTest(sealer), await engineUnderTest(opener)];
  const missing = sealing.missing ?? opening.missing;
  const [seals, opens] = missing === undefined ? [engineOf(sealing), engineOf(opening)] : [];

  it('come back however they are cut, sealed and opened', async ({ skip }) => {
    if (seals === undefined || opens === undefined) {
      return skip(missing);
    }
    const dataKey = dataKeyIn(seals);
    const before = [seals.stats().used, opens.stats().used];
    await fc.assert(
      fc.asyncProperty(shape, cuts, cuts, async ({ size, isWhole, context, required }, here, there) => {
        const { frameLength } = size;
        const plaintext = randomBytes(isWhole ? size.length - (size.length % frameLength) : size.length);
        const message = sealedIn(seals, dataKey, piecesOf(plaintext, here), { context, required, frameLength });
        const header = readMessageHeader(message)!;
        expect(message.length - header.length).toBe(sealedBodyLength(plaintext.length, frameLength));
        expect(messageContext(header)).toEqual(Object.assign(Object.create(null), context));
        const opened = await outcomeOf(opens, piecesOf(message, there), required);
        expect([opened.code, opened.given.equals(plaintext)]).toEqual([undefined, true]);
        const whole = await openMessage(message, optionsOf(opens, required));
        expect(Buffer.from(whole).equals(plaintext)).toBe(true);
      }),
      RUNS,
    );
    expect([seals.stats().used, opens.stats().used]).toEqual(before);
  });
});

describe('messages that were changed', async () => {
  const under = await engineUnderTest('node');
  const engine = engineOf(under);
  const dataKey = dataKeyIn(engine);
  const required = encodeContext({ purpose: 'files' });
  const context = { tenant: 'acme', 'aws-key': 'é' };
  const messages = [0, 1, 40, 64, 200].map((length) => {
    const plaintext = randomBytes(length);
    return { plaintext, bytes: sealedIn(engine, dataKey, [plaintext], { context, required, frameLength: 32 }) };
  });
  const change = fc.record({
    kind: fc.constantFrom('set', 'flip', 'insert', 'delete', 'swap', 'repeat', 'cut', 'number'),
    at: fc.nat(),
    to: fc.nat(),
    length: fc.integer({ min: 1, max: 80 }),
    value: fc.nat(255),
  });

  it('never have a clean end with other plaintext, give out nothing that was changed, and throw refusals', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...messages),
        fc.array(change, { minLength: 1, maxLength: 4 }),
        cuts,
        async ({ bytes, plaintext }, changes, places) => {
          const changed = changes.reduce(applied, bytes);
          const { given, code } = await outcomeOf(engine, piecesOf(changed, places), required);
          expect(plaintext.subarray(0, given.length).equals(given)).toBe(true);
          if (code === undefined) {
            expect(changed.equals(bytes)).toBe(true);
            expect(given.equals(plaintext)).toBe(true);
          }
        },
      ),
      { numRuns: 5 * RUNS.numRuns },
    );
    expect(engine.stats().used).toBe(1);
  });

  it('are opened, or refused with the same code, however they are cut', async () => {
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...messages), change, cuts, async ({ bytes }, one, places) => {
        const changed = applied(bytes, one);
        const { code } = await outcomeOf(engine, [changed], required);
        for (const ends of [places, [...changed.keys()]]) {
          expect((await outcomeOf(engine, piecesOf(changed, ends), required)).code).toBe(code);
        }
      }),
      RUNS,
    );
  });
});

interface Change {
  readonly kind: 'set' | 'flip' | 'insert' | 'delete' | 'swap' | 'repeat' | 'cut' | 'number';
  readonly at: number;
  readonly to: number;
  readonly length: number;
  readonly value: number;
}

function applied(bytes: Buffer, { kind, at, to, length, value }: Change): Buffer {
  const from = at % (bytes.length + 1);
  const until = Math.min(bytes.length, from + length);
  const before = bytes.subarray(0, from);
  const range = bytes.subarray(from, until);
  const after = bytes.subarray(until);
  switch (kind) {
    case 'set':
      return Buffer.concat([before, range.map(() => value), after]);
    case 'flip':
      return Buffer.concat([
        before,
        range.map((byte, index) => (index === 0 ? byte ^ (1 << (value & 7)) : byte)),
        after,
      ]);
    case 'insert':
      return Buffer.concat([before, Buffer.alloc(length, value), range, after]);
    case 'delete':
      return Buffer.concat([before, after]);
    case 'repeat':
      return Buffer.concat([before, range, range, after]);
    case 'cut':
      return before;
    case 'number': {
      const changed = Buffer.from(bytes);
      if (from + 4 <= changed.length) {
        changed.writeUInt32BE([0, 1, 2, 0x7fffffff, 0xfffffffe, 0xffffffff][value % 6]!, from);
      }
      return changed;
    }
    case 'swap': {
      const place = to % (after.length + 1);
      return Buffer.concat([before, after.subarray(0, place), range, after.subarray(place)]);
    }
  }
}

/** `bytes`, cut at these places. */
function piecesOf(bytes: Buffer, places: readonly number[]): Buffer[] {
  const ends = places.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b);
  return [0, ...ends].map((start, index) => bytes.subarray(start, ends[index] ?? bytes.length));
}

interface Shape {
  readonly context: Record<string, string>;
  readonly required: Uint8Array;
  readonly frameLength: number;
}

/** The message of this plaintext, sealed in one call when it is in one piece. */
function sealedIn(
  engine: Engine,
  dataKey: KeyHandle,
  pieces: readonly Buffer[],
  { context, required, frameLength }: Shape,
): Buffer {
  const options = {
    engine,
    dataKey,
    dataKeys: [{ providerId: 'aws-kms', providerInfo: Buffer.from('arn'), ciphertext: randomBytes(9) }],
    context: encodeContext(context),
    required,
    frameLength,
  };
  if (pieces.length === 1) {
    return Buffer.from(sealMessage(pieces[0]!, options));
  }
  const sealing = new MessageSealing(options);
  return Buffer.concat([sealing.header, ...pieces.map((piece) => sealing.update(piece)), sealing.end()]);
}

/** What is given out of a message, and the code of its refusal. Anything else that is thrown is thrown on. */
async function outcomeOf(engine: Engine, pieces: readonly Buffer[], required: Uint8Array) {
  const opening = new MessageOpening(optionsOf(engine, required));
  const given: Uint8Array[] = [];
  let code: string | undefined;
  try {
    for (const piece of pieces) {
      given.push(await opening.push(piece));
    }
    given.push(opening.end());
  } catch (error) {
    if (!DekdError.is(error) || error.code === 'INTERNAL') {
      throw error;
    }
    code = error.code;
  }
  return { given: Buffer.concat(given), code };
}

function optionsOf(engine: Engine, required: Uint8Array) {
  return { engine, dataKeyOf: async () => dataKeyIn(engine), requiredOf: () => required };
}

function dataKeyIn(engine: Engine): KeyHandle {
  return engine.importSecret(Uint8Array.from(DATA_KEY), DATA_KEY_USE);
}

function engineOf(under: Awaited<ReturnType<typeof engineUnderTest>>): Engine {
  if (under.missing !== undefined) {
    throw new Error(under.missing);
  }
  return under.create();
}
