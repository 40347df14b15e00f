import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeContext } from '../../src/envelope/context.ts';
import { sealedBodyLength } from '../../src/envelope/message-body.ts';
import {
  encodeMessageHeader,
  type MessageHeader,
  MessageHeaderReader,
  messageContext,
  readMessageHeader,
} from '../../src/envelope/message-header.ts';
import { DekdError } from '../../src/errors.ts';

const RUNS = { numRuns: Number(process.env.DEKD_RUNS ?? 500) };

const text = fc.oneof(
  fc.string({ maxLength: 12 }),
  fc.string({ unit: 'grapheme', maxLength: 8 }),
  fc.constantFrom('__proto__', '', 'a', 'aa', 'é', '\u{1f600}', '\uffee', 'aws-kms'),
);
const context = fc.dictionary(
  text.filter((name) => !name.startsWith('aws-crypto-')),
  text,
  { maxKeys: 6, noNullPrototype: false },
);
const bytesOf = (length: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ minLength: length, maxLength: length });
const fields = fc.record({
  messageId: bytesOf(32),
  context: context.map((map) => new Uint8Array(encodeContext(map))),
  dataKeys: fc.array(
    fc.record({
      providerId: text,
      providerInfo: fc.uint8Array({ maxLength: 40 }),
      ciphertext: fc.uint8Array({ maxLength: 60 }),
    }),
    { minLength: 1, maxLength: 8 },
  ),
  frameLength: fc.oneof(fc.integer({ min: 1, max: 16 * 1024 * 1024 }), fc.constantFrom(1, 4096, 65_536)),
  commitment: bytesOf(32),
});
/** A header with its tag, of either suite, framed or not. */
const header = fc.tuple(fields, fc.boolean(), fc.boolean(), bytesOf(16)).map(([written, signed, framed, tag]) => {
  const body = encodeMessageHeader(written);
  if (signed) {
    body[1] = 0x05;
  }
  if (!framed) {
    body.set([1, 0, 0, 0, 0], body.length - 32 - 5);
  }
  return Buffer.concat([body, tag]);
});

type Outcome = { readonly header: MessageHeader } | { readonly code: string } | 'short';

/** What becomes of bytes; whatever is thrown must be a refusal. */
function outcome(action: () => MessageHeader | undefined): Outcome {
  try {
    const read = action();
    return read === undefined ? 'short' : { header: read };
  } catch (error) {
    if (!DekdError.is(error) || error.code === 'INTERNAL') {
      throw error;
    }
    return { code: error.code };
  }
}

describe('headers', () => {
  it('come back as they were written', () => {
    fc.assert(
      fc.property(fields, bytesOf(16), fc.uint8Array({ maxLength: 50 }), (written, tag, behind) => {
        const body = encodeMessageHeader(written);
        const read = readMessageHeader(Buffer.concat([body, tag, behind]))!;
        expect(read).toEqual({ suite: 0x0478, ...written, body, tag, length: body.length + 16 });
        expect(encodeContext(messageContext(read))).toEqual(written.context);
      }),
      RUNS,
    );
  });

  it('are not there before their last byte, and no part of one is refused', () => {
    fc.assert(
      fc.property(header, (bytes) => {
        for (let length = 0; length < bytes.length; length++) {
          expect(readMessageHeader(bytes.subarray(0, length))).toBeUndefined();
        }
        expect(readMessageHeader(bytes)?.length).toBe(bytes.length);
      }),
      { numRuns: Math.ceil(RUNS.numRuns / 5) },
    );
  });

  it('with a byte changed are refused, are longer, or say what was changed', () => {
    const seen = { refused: 0, short: 0, read: 0 };
    fc.assert(
      fc.property(header, fc.nat(), fc.integer({ min: 1, max: 255 }), (bytes, place, change) => {
        const changed = Buffer.from(bytes);
        changed[place % bytes.length]! ^= change;
        const read = outcome(() => readMessageHeader(changed));
        if (read === 'short' || 'code' in read) {
          seen[read === 'short' ? 'short' : 'refused']++;
          return;
        }
        seen.read++;
        const { body, tag, length } = read.header;
        expect(changed.subarray(0, length).equals(Buffer.concat([body, tag]))).toBe(true);
      }),
      RUNS,
    );
    expect(Math.min(seen.refused, seen.read)).toBeGreaterThan(RUNS.numRuns / 50);
  });

  it('are the same when they come in pieces, with what follows them', () => {
    fc.assert(
      fc.property(
        header,
        fc.uint8Array({ maxLength: 50 }),
        fc.array(fc.nat(), { maxLength: 12 }),
        (bytes, behind, cuts) => {
          const stream = Buffer.concat([bytes, behind]);
          expect(inPieces(stream, cuts)).toEqual({ header: readMessageHeader(bytes)! });
        },
      ),
      RUNS,
    );
  });
});

describe('bytes that may be no header', () => {
  const damaged = fc
    .tuple(header, fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 }))
    .map(([bytes, changes]) => {
      for (const [place, value] of changes) {
        bytes[place % bytes.length] = value;
      }
      return bytes;
    });
  const begun = fc
    .tuple(fc.constantFrom('', '02', '020478', '020578', '01', '0180', `020478${'00'.repeat(34)}`), fc.uint8Array())
    .map(([start, rest]) => Buffer.concat([Buffer.from(start, 'hex'), rest]));

  it('are refused, short or a header, and nothing else is thrown', () => {
    fc.assert(
      fc.property(fc.oneof(begun, damaged), (bytes) => {
        outcome(() => readMessageHeader(bytes));
      }),
      { numRuns: RUNS.numRuns * 4 },
    );
  });

  it('come to the same however they are cut', () => {
    fc.assert(
      fc.property(fc.oneof(begun, damaged), fc.array(fc.nat(), { maxLength: 12 }), (bytes, cuts) => {
        expect(inPieces(bytes, cuts)).toEqual(outcome(() => readMessageHeader(bytes)));
        expect(inPieces(bytes, [...bytes.keys()])).toEqual(outcome(() => readMessageHeader(bytes)));
      }),
      RUNS,
    );
  });
});

describe('bodies', () => {
  it('grow with their plaintext, and by 32 bytes with every frame', () => {
    const most = 2 ** 40;
    fc.assert(
      fc.property(fc.nat(most), fc.integer({ min: 2 ** 9, max: 2 ** 32 - 1 }), (length, frameLength) => {
        const longer = sealedBodyLength(length + frameLength, frameLength);
        const frames = length === 0 ? 0 : 1;
        expect(longer - sealedBodyLength(length, frameLength)).toBe(frameLength + 32 * frames);
      }),
      RUNS,
    );
  });
});

/** What one reader makes of a stream that is cut at these places, each piece in memory of its own. */
function inPieces(stream: Uint8Array, cuts: readonly number[]): Outcome {
  const reader = new MessageHeaderReader();
  const ends = cuts.map((cut) => cut % (stream.length + 1)).sort((a, b) => a - b);
  for (const end of ends) {
    const read = outcome(() => reader.read(new Uint8Array(stream.subarray(0, end))));
    if (read !== 'short') {
      return read;
    }
  }
  return outcome(() => reader.read(stream));
}
