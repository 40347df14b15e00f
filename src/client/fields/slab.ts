/** Small byte sequences one behind the other: a view costs less than memory of its own. What was handed out is never reused. */
import { readBase64url } from '../../envelope/base64url.ts';

const SMALLEST = 1024;
const LARGEST = 64 * 1024;
/** Longer texts are written by the runtime. */
const SHORT = 128;

export class Slab {
  #bytes = Buffer.alloc(0);
  #at = 0;

  /** Room for `length` bytes, to be written at once. */
  take(length: number): Uint8Array {
    const start = this.#room(length);
    this.#at = start + length;
    return this.#view(start);
  }

  /** The text in UTF-8; it is well formed. */
  text(text: string): Uint8Array {
    const { length } = text;
    const start = this.#room(length > SHORT ? 3 * length : length);
    const bytes = this.#bytes;
    if (length <= SHORT) {
      for (let i = 0; i < length; i++) {
        const unit = text.charCodeAt(i);
        if (unit > 0x7f) {
          return this.#unicode(text);
        }
        bytes[start + i] = unit;
      }
      this.#at = start + length;
    } else {
      this.#at = start + bytes.write(text, start, 'utf8');
    }
    return this.#view(start);
  }

  /** The JSON text of a string that is short and needs no escape; undefined for every other. */
  quoted(text: string): Uint8Array | undefined {
    const { length } = text;
    if (length > SHORT) {
      return undefined;
    }
    const start = this.#room(length + 2);
    const bytes = this.#bytes;
    bytes[start] = 0x22;
    for (let i = 0; i < length; i++) {
      const unit = text.charCodeAt(i);
      if (unit > 0x7f || unit < 0x20 || unit === 0x22 || unit === 0x5c) {
        return undefined;
      }
      bytes[start + 1 + i] = unit;
    }
    bytes[start + length + 1] = 0x22;
    this.#at = start + length + 2;
    return this.#view(start);
  }

  /** The bytes of what `text` has behind its first `skip` characters, in base64url; undefined when that is none. */
  base64url(text: string, skip: number): Uint8Array | undefined {
    const length = text.length - skip;
    const start = this.#room(length);
    const bytes = this.#bytes;
    for (let i = 0; i < length; i++) {
      const unit = text.charCodeAt(skip + i);
      if (unit > 0x7f) {
        return undefined;
      }
      bytes[start + i] = unit;
    }
    const read = readBase64url(bytes, start, start + length, bytes, start);
    if (read < 0) {
      return undefined;
    }
    this.#at = start + read;
    return this.#view(start);
  }

  #unicode(text: string): Uint8Array {
    const start = this.#room(3 * text.length);
    this.#at = start + this.#bytes.write(text, start, 'utf8');
    return this.#view(start);
  }

  #room(length: number): number {
    if (this.#bytes.length - this.#at < length) {
      // A call for one row needs little.
      const next = Math.min(LARGEST, Math.max(SMALLEST, 4 * this.#bytes.length));
      this.#bytes = Buffer.allocUnsafeSlow(Math.max(next, length));
      this.#at = 0;
    }
    return this.#at;
  }

  #view(start: number): Uint8Array {
    return new Uint8Array(this.#bytes.buffer, this.#bytes.byteOffset + start, this.#at - start);
  }
}
