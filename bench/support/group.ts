/** What a bench file exports: groups of subjects that are measured side by side. */
import type { Work } from './interleave.ts';

export interface Subject {
  /** `operation/variant/size` */
  readonly name: string;
  /** Plaintext bytes of one value. */
  readonly bytes: number;
  /** Values in one call; 1 unless given. */
  readonly items?: number;
  /** Whether each call is timed by itself, so that its percentiles mean something. */
  readonly latency?: boolean;
  readonly work: Work;
  /** Done before each turn of `work` and not timed; such work is done once a turn. */
  readonly prepare?: () => void;
}

export interface OpenGroup {
  readonly subjects: readonly Subject[];
  close?(): Promise<void> | void;
}

export interface Group {
  readonly name: string;
  /** Name of the subject that the others are compared with. */
  readonly baseline: string;
  open(): OpenGroup | Promise<OpenGroup>;
}

/** `operation` over and over, as work. */
export function repeat(operation: () => void): Work {
  return (count) => {
    for (let i = 0; i < count; i++) {
      operation();
    }
  };
}

export interface Size {
  readonly name: string;
  readonly bytes: number;
}

/** Geometric, as values are: fields, documents, files. */
export const SIZES: readonly Size[] = [
  { name: '64B', bytes: 64 },
  { name: '256B', bytes: 256 },
  { name: '1KiB', bytes: 1024 },
  { name: '4KiB', bytes: 4 * 1024 },
  { name: '16KiB', bytes: 16 * 1024 },
  { name: '64KiB', bytes: 64 * 1024 },
  { name: '256KiB', bytes: 256 * 1024 },
  { name: '1MiB', bytes: 1024 * 1024 },
];
