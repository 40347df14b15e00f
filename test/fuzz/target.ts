/**
 * One reader of hostile bytes. `read` gives the reader `bytes` and judges what comes of it: it returns for everything that
 * is refused or read as it should be, and throws what is a finding.
 */
export interface FuzzTarget {
  readonly name: string;
  /** What the first inputs are made of: small, good, and different. */
  readonly seeds: () => readonly Uint8Array[];
  /** Pieces that mean something to the reader, which a change of bytes would find late. */
  readonly words: readonly string[];
  readonly maxLength: number;
  /** Source files below `src/` whose lines the run is to reach. */
  readonly covers: readonly string[];
  readonly read: (bytes: Uint8Array) => void;
}

/** What broke a promise, with the bytes that did. */
export class Finding extends Error {
  readonly bytes: Uint8Array;

  constructor(target: string, bytes: Uint8Array, cause: unknown) {
    super(`${target}: ${cause instanceof Error ? cause.stack : String(cause)}`);
    this.bytes = bytes.slice();
  }
}
