import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { DATA_KEY_USE, type Engine } from '../../src/crypto/engine.ts';
import { messageContext } from '../../src/envelope/message-header.ts';
import { MessageOpening } from '../../src/operations/message-opening.ts';
import { ENGINE_NAMES, engineUnderTest } from '../support/engines.ts';
import { objectsIn, readVectors, textField, type VectorFile } from './vector-files.ts';

/** AWS Encryption SDK, message format version 2: what was published with its release, with the data key of each. */
interface MessageCase {
  readonly comment: string;
  readonly ciphertext: Uint8Array;
  readonly dataKey: Uint8Array;
  readonly commitment: string;
  readonly context: Record<string, string>;
  /** Undefined for a message that must be refused. */
  readonly plaintext: string | undefined;
}

const NUMBER_OF_CASES = 46;
const NUMBER_OF_REFUSED = 5;
const PIECES = [1, 100, 100_000];

const file = readVectors('esdk-v2');
const cases = file.missing === undefined ? casesOf(file) : [];

describe('messages of the AWS Encryption SDK', async () => {
  it('are all there', ({ skip }) => {
    if (file.missing !== undefined) {
      skip(file.missing);
    }
    expect(cases.length).toBe(NUMBER_OF_CASES);
    expect(cases.filter(({ plaintext }) => plaintext === undefined).length).toBe(NUMBER_OF_REFUSED);
  });

  for (const name of ENGINE_NAMES) {
    const under = await engineUnderTest(name);
    it(`open with the ${name} engine, whole and in pieces, and those that must not are refused`, async ({ skip }) => {
      if (file.missing !== undefined || under.missing !== undefined) {
        return skip(file.missing ?? under.missing);
      }
      const engine = under.create();
      for (const each of cases) {
        for (const size of PIECES) {
          const outcome = await outcomeOf(engine, each, size);
          expect([each.comment, size, outcome]).toEqual([each.comment, size, each.plaintext ?? 'DECRYPTION_FAILED']);
        }
      }
      expect(engine.stats().used).toBe(0);
      engine.close();
    });
  }
});

/** The plaintext, or the code of the refusal, after which nothing may have been given out. */
async function outcomeOf(engine: Engine, message: MessageCase, size: number) {
  const { ciphertext, dataKey, commitment, context, plaintext } = message;
  const opening = new MessageOpening({
    engine,
    // What the published cases have: more than a reader takes of strangers.
    limits: { maxHeader: 65_536, maxDataKeys: 100, maxFrameLength: 65_536 },
    dataKeyOf: async (header) => {
      if (plaintext !== undefined) {
        expect(Buffer.from(header.commitment).toString('base64')).toBe(commitment);
      }
      expect({ ...messageContext(header) }).toEqual(context);
      return engine.importSecret(Uint8Array.from(dataKey), DATA_KEY_USE);
    },
    requiredOf: () => new Uint8Array(0),
  });
  const pieces: Uint8Array[] = [];
  try {
    for (let at = 0; at < ciphertext.length; at += size) {
      pieces.push(await opening.push(ciphertext.subarray(at, at + size)));
    }
    pieces.push(opening.end());
    return Buffer.concat(pieces).toString('base64');
  } catch (error) {
    expect(Buffer.concat(pieces).length).toBe(0);
    return (error as { code?: string }).code;
  }
}

function casesOf({ name, text }: Extract<VectorFile, { text: string }>): MessageCase[] {
  return [...objectsIn(name.endsWith('.ts') ? literalIn(text) : JSON.parse(text))]
    .filter((object) => typeof object.ciphertext === 'string' && typeof object['decrypted-dek'] === 'string')
    .map((object) => ({
      comment: String(object.comment),
      ciphertext: bytesOf(object, 'ciphertext'),
      dataKey: bytesOf(object, 'decrypted-dek'),
      commitment: textField(object, 'commitment') ?? '',
      context: object['encryption-context'] as Record<string, string>,
      plaintext: object.status === true ? plaintextOf(object) : undefined,
    }));
}

/** What the function returns: an object literal, whose syntax is that of a flow mapping in YAML as well. */
function literalIn(source: string): unknown {
  const begin = source.indexOf('return {', source.indexOf('function compatibilityVectors()'));
  const end = source.indexOf('\n}\n', begin);
  return parse(source.slice(begin + 'return '.length, end));
}

function bytesOf(object: Record<string, unknown>, name: string): Uint8Array {
  return new Uint8Array(Buffer.from(textField(object, name) ?? '', 'base64'));
}

function plaintextOf(object: Record<string, unknown>): string {
  const whole = textField(object, 'plaintextBase64');
  return whole ?? Buffer.from((object['plaintext-frames'] as string[]).join('')).toString('base64');
}
