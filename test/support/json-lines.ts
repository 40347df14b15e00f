import { Readable } from 'node:stream';
import { parseFields } from '../../src/cli/json-lines/field-list.ts';
import {
  type Direction,
  type FieldCipher,
  type SpliceReport,
  spliceJsonLines,
} from '../../src/cli/json-lines/splice.ts';
import { decryptionFailed } from '../../src/errors.ts';

/** Not encryption: the path and the bytes turned around, 58 bytes longer, and refused under another path. */
export const fakeEncrypt: FieldCipher = async (values, path) =>
  values.map((value) => {
    const head = Buffer.alloc(58);
    head.write(`${path.length}:${path}`);
    return { ok: true, value: Buffer.concat([head, Buffer.from(value).reverse()]) };
  });

export const fakeDecrypt: FieldCipher = async (tokens, path) =>
  tokens.map((token) => {
    const bytes = Buffer.from(token);
    return bytes.toString('utf8', 0, 58).startsWith(`${path.length}:${path}\0`)
      ? { ok: true, value: Buffer.from(bytes.subarray(58)).reverse() }
      : { ok: false, error: decryptionFailed('another path') };
  });

export interface Spliced {
  readonly output: Buffer;
  readonly report: SpliceReport | undefined;
  readonly error: Error | undefined;
}

/** Runs the whole of `input` through, in chunks of `chunkBytes`. */
export async function splice(
  direction: Direction,
  input: string | Buffer,
  fields: string,
  options: { chunkBytes?: number; cipher?: FieldCipher; maxLineBytes?: number } = {},
): Promise<Spliced> {
  const bytes = Buffer.from(input as string);
  const size = options.chunkBytes ?? 65_536;
  const chunks: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += size) {
    chunks.push(bytes.subarray(at, at + size));
  }
  const written: Buffer[] = [];
  const cipher = options.cipher ?? (direction === 'encrypt' ? fakeEncrypt : fakeDecrypt);
  try {
    const report = await spliceJsonLines(
      Readable.from(chunks),
      async (block) => {
        written.push(Buffer.from(block));
      },
      { direction, fields: parseFields([fields]), cipher, maxLineBytes: options.maxLineBytes },
    );
    return { output: Buffer.concat(written), report, error: undefined };
  } catch (error) {
    return { output: Buffer.concat(written), report: undefined, error: error as Error };
  }
}
