/** Where the lines of the audit log go. */

export interface AuditSink {
  /** For messages and `status`: `file PATH`, `standard output`. */
  readonly name: string;
  /** Bytes taken and not written yet. */
  readonly pending: number;
  /** Why it does not take what it should, for the operator; undefined while all is well. */
  readonly failure: string | undefined;
  /** Takes whole lines over and writes what can be written, without waiting. */
  write(block: Buffer): void;
  /** Tries again to write what is pending. @returns whether nothing is left */
  drain(): boolean;
  /** Has what is written reach the disk, now, where that means something. @returns whether it did */
  sync(): boolean;
  /** Whether a new file is due; `rotate` then begins one, whose first line says what it continues. */
  readonly isRotationDue: boolean;
  rotate(): void;
  /** Writes what can be written and lets go of everything. */
  close(): void;
}
