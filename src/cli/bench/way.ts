import type { Work } from './interleave.ts';

/** One way of encrypting values of one size, as it is measured. */
export interface Way {
  readonly name: string;
  /** Whose it is: ratios are to the baseline, and to the fastest way of the user's own. */
  readonly of: 'baseline' | 'dekd' | 'own';
  /** Values in one call. */
  readonly items: number;
  /** Calls under way at once. */
  readonly width: number;
  /** Makes `count` times `width` calls. */
  readonly work: Work;
  /** One call, where each is to be timed by itself. */
  readonly call?: () => Promise<unknown>;
}

/** Wide enough for small values, and no more bytes under way than a pod would allow for large ones. */
const MOST_IN_FLIGHT = 1_024;
const MOST_IN_BATCH = 1_000;
const MOST_BYTES = 8 * 1024 * 1024;

/** Calls of this many bytes that are under way at once. */
export function widthFor(bytes: number): number {
  return Math.max(2, Math.min(MOST_IN_FLIGHT, Math.floor(MOST_BYTES / bytes)));
}

/** Values of this many bytes in one batch; 1 where there is nothing to gather. */
export function batchFor(bytes: number): number {
  return Math.max(1, Math.min(MOST_IN_BATCH, Math.floor(MOST_BYTES / bytes)));
}
