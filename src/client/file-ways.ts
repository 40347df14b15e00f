/** How files go through the agent; in a file of its own, because types of Node may not be where these are. */
import type { MessageDuplex } from './types.ts';

/** The ways of a file through the agent. */
export interface FileWays {
  /** What the source is put through; made once both files are there. */
  through(): MessageDuplex;
  /**
   * Lets the agent itself read the one descriptor and write the other; absent where that is no way.
   * @returns false when it is to go as a stream; then nothing that was written counts. @throws what went wrong with the message
   */
  pass?(source: number, target: PassTarget): Promise<boolean>;
}

/** A file that somebody else writes by its descriptor. */
export interface PassTarget {
  readonly descriptor: number;
  /** Bytes that were written so far. */
  length(): Promise<number>;
}
