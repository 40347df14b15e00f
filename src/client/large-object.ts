/** Values of any size as one message: JSON or bytes, compressed or not, given out only when all of it was verified. */
import type { Duplex } from 'node:stream';
import { joined } from '../bytes.ts';
import { messageContext, readMessageHeader } from '../envelope/message-header.ts';
import { CONTENT_NAME } from '../envelope/own-names.ts';
import { DekdError } from '../errors.ts';
import { CONTENT } from '../protocol/frame.ts';
import { jsonText } from './json-text.ts';

const DEFAULT_MAX_OUTPUT = 256 * 1024 * 1024;

/** The bytes of a value, and what they are. */
export interface LargeValue {
  /** The caller's own, or fresh ones. */
  readonly bytes: Uint8Array;
  readonly content: number;
}

/** @throws INVALID_ARGUMENT for what JSON cannot carry, or would carry as something else */
export function valueToSeal(value: unknown): LargeValue {
  if (value instanceof Uint8Array) {
    return { bytes: value, content: CONTENT.bytes };
  }
  return { bytes: new TextEncoder().encode(jsonText(value)), content: CONTENT.json };
}

/** @throws INVALID_ARGUMENT */
export function maxOutputOf(maxOutput: number | undefined): number {
  if (maxOutput === undefined) {
    return DEFAULT_MAX_OUTPUT;
  }
  if (!Number.isSafeInteger(maxOutput) || maxOutput < 0) {
    throw new DekdError('INVALID_ARGUMENT', `maxOutput is ${maxOutput}; it is a whole number of bytes`);
  }
  return maxOutput;
}

/**
 * What the header of a message says that its value is. Nobody has vouched for it yet: whoever decrypts the same bytes does.
 * @throws MALFORMED; INVALID_ARGUMENT when it says nothing of the kind
 */
export function contentOf(message: Uint8Array): 'json' | 'bytes' {
  const header = readMessageHeader(message);
  if (header === undefined) {
    throw new DekdError('MALFORMED', 'the message is cut short: its header is not whole');
  }
  const content = messageContext(header)[CONTENT_NAME];
  if (content !== 'json' && content !== 'bytes') {
    throw new DekdError(
      'INVALID_ARGUMENT',
      content === undefined
        ? 'the message is not one of encryptLarge: read it with decryptStream'
        : 'the message holds a kind of value that this client does not know',
    );
  }
  return content;
}

/** @throws INVALID_ARGUMENT when the bytes are not what the message says that they are */
export function openedValue(bytes: Uint8Array, content: 'json' | 'bytes'): unknown {
  if (content === 'bytes') {
    return bytes;
  }
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch {
    // What it would say quotes the plaintext.
    throw new DekdError('INVALID_ARGUMENT', 'the message says that its value is JSON, and it is not');
  } finally {
    bytes.fill(0);
  }
}

/**
 * Puts `input` through a stream and gives the whole result, or nothing of it.
 * @throws what the stream throws; INVALID_ARGUMENT when the result is longer than `maxOutput` bytes
 */
export async function passWhole(stream: Duplex, input: Uint8Array, maxOutput: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let length = 0;
  try {
    stream.end(input);
    for await (const part of stream as AsyncIterable<Uint8Array>) {
      parts.push(part);
      length += part.length;
      if (length > maxOutput) {
        throw new DekdError('INVALID_ARGUMENT', `the value is longer than maxOutput of ${maxOutput} bytes`);
      }
    }
    return joined(parts);
  } finally {
    for (const part of parts) {
      part.fill(0);
    }
  }
}
