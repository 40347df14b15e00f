/** What callers pass, checked, as it goes onto the wire. Everything here throws INVALID_ARGUMENT and nothing else. */
import { MAX_FRAME_LENGTH } from '../envelope/frame-lengths.ts';
import { DekdError } from '../errors.ts';
import { COMPRESSION } from '../protocol/frame.ts';
import { ContextMemo } from './context-memo.ts';
import type { StreamValue, WireBinding } from './requests.ts';
import type { Binding, CompressionChoice, DecryptOptions, EncryptOptions } from './types.ts';

const encoder = new TextEncoder();

export const MAX_TIMEOUT_MS = 0x7fffffff;

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Of all clients of the process. */
export const contexts = new ContextMemo();

export function bindingOf(options: EncryptOptions): WireBinding {
  return {
    key: checkKey(options?.key),
    partition: checkPartition(options.partition),
    context: contexts.bytesOf(options.context),
    anyKey: false,
    root: checkRoot(options.root),
  };
}

export function decryptBinding(options: DecryptOptions): WireBinding {
  if ((options as { anyKey?: boolean } | undefined)?.anyKey === true) {
    return { key: '', partition: '', context: contexts.bytesOf(options.context), anyKey: true, root: undefined };
  }
  const { key, partition, context } = (options ?? {}) as Partial<Binding>;
  // No root: under which one a ciphertext is, it says itself.
  return {
    key: checkKey(key),
    partition: checkPartition(partition),
    context: contexts.bytesOf(context),
    anyKey: false,
    root: undefined,
  };
}

export function checkBytes(data: unknown, item?: number): void {
  if (!(data instanceof Uint8Array)) {
    const what = item === undefined ? 'data' : `data of item ${item}`;
    throw new DekdError('INVALID_ARGUMENT', `${what} is ${data === null ? 'null' : typeof data}, not a Uint8Array`);
  }
}

/** A fresh copy. */
export function utf8Of(text: string): Uint8Array {
  if (!text.isWellFormed()) {
    throw new DekdError('INVALID_ARGUMENT', 'the text has a lone surrogate, which UTF-8 cannot carry');
  }
  return encoder.encode(text);
}

export function checkKey(key: unknown): string {
  if (typeof key !== 'string' || key === '') {
    throw new DekdError('INVALID_ARGUMENT', 'key is a name, not empty');
  }
  return key;
}

export function checkPartition(partition: unknown): string {
  if (partition !== undefined && typeof partition !== 'string') {
    throw new DekdError('INVALID_ARGUMENT', `partition is ${typeof partition}, not a string`);
  }
  if (partition?.isWellFormed() === false) {
    throw new DekdError('INVALID_ARGUMENT', 'partition has a lone surrogate, which UTF-8 cannot carry');
  }
  return partition ?? '';
}

export function checkRoot(root: unknown): string | undefined {
  if (root === undefined) {
    return undefined;
  }
  if (typeof root !== 'string' || root === '' || !root.isWellFormed()) {
    throw new DekdError('INVALID_ARGUMENT', 'root is the name of a root, not empty');
  }
  return root;
}

/** What a stream says whose value is nobody's business. */
export function valueSaying(frameLength?: number): StreamValue {
  return {
    frameLength: frameLength === undefined ? 0 : checkFrameLength(frameLength),
    compression: 0,
    content: 0,
  };
}

export function compressionOf(choice: CompressionChoice | undefined): number {
  switch (choice) {
    case undefined:
    case false:
      return COMPRESSION.none;
    case true:
      return COMPRESSION.best;
    case 'gzip':
    case 'zstd':
      return COMPRESSION[choice];
    default:
      throw new DekdError('INVALID_ARGUMENT', `compression is ${String(choice)}; it is 'zstd', 'gzip', true or false`);
  }
}

export function checkFrameLength(frameLength: number): number {
  if (!Number.isInteger(frameLength) || frameLength < 1 || frameLength > MAX_FRAME_LENGTH) {
    throw new DekdError('INVALID_ARGUMENT', `frameLength is ${frameLength}; it is 1 to ${MAX_FRAME_LENGTH} bytes`);
  }
  return frameLength;
}

export function checkTimeout(timeoutMs: number): number {
  if (!(timeoutMs > 0 && timeoutMs <= MAX_TIMEOUT_MS)) {
    throw new DekdError(
      'INVALID_ARGUMENT',
      `timeoutMs is ${timeoutMs}; it is between 1 and ${MAX_TIMEOUT_MS} milliseconds`,
    );
  }
  return timeoutMs;
}

/** The UTF-8 of a text. */
export function bytesOfText(text: unknown): Uint8Array {
  if (typeof text !== 'string') {
    throw new DekdError('INVALID_ARGUMENT', `encryptText takes a string, not ${typeof text}`);
  }
  return utf8Of(text);
}

export function textOfBytes(plaintext: Uint8Array): string {
  try {
    return decoder.decode(plaintext);
  } catch {
    throw new DekdError('INVALID_ARGUMENT', 'the plaintext is not UTF-8 text: use decrypt for bytes');
  }
}
