import { byteSize } from './terminal.ts';

const INTERVAL_MS = 200;

/** How far a file is, in one line on standard error that is redrawn in place, where that is a terminal. */
export class ByteProgress {
  readonly #size: number | undefined;
  readonly #started = performance.now();
  #bytes = 0;
  #shown = 0;

  /** @param size bytes in all, where that is known */
  constructor(size: number | undefined) {
    this.#size = size;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get elapsedMs(): number {
    return performance.now() - this.#started;
  }

  /** So many bytes more; fewer, where some go again. */
  add(bytes: number): void {
    this.#bytes += bytes;
    const now = performance.now();
    if (process.stderr.isTTY && now - this.#shown >= INTERVAL_MS) {
      this.#shown = now;
      process.stderr.write(`\r${progressLine(this.#bytes, this.#size, this.elapsedMs)}\u001b[K`);
    }
  }

  /** What counts the bytes that pass through it, as a step of a pipeline. */
  counting(): (chunks: AsyncIterable<Uint8Array>) => AsyncGenerator<Uint8Array> {
    const add = (bytes: number) => this.add(bytes);
    return async function* (chunks) {
      for await (const chunk of chunks) {
        add(chunk.length);
        yield chunk;
      }
    };
  }

  clear(): void {
    if (this.#shown > 0) {
      process.stderr.write('\r\u001b[K');
    }
  }
}

/** `12 MiB of 1.0 GiB  1 %  450 MiB/s  3 s left` */
export function progressLine(bytes: number, size: number | undefined, elapsedMs: number): string {
  const rate = elapsedMs > 0 ? (bytes / elapsedMs) * 1_000 : 0;
  const speed = `${byteSize(Math.round(rate))}/s`;
  if (size === undefined || size === 0) {
    return `${byteSize(bytes)}  ${speed}`;
  }
  const share = Math.min(100, Math.floor((bytes / size) * 100));
  const left = rate > 0 ? `  ${Math.ceil(Math.max(0, size - bytes) / rate)} s left` : '';
  return `${byteSize(bytes)} of ${byteSize(size)}  ${share} %  ${speed}${left}`;
}
