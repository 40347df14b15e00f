/** What becomes known of a request between its arrival and its answer. */
import type { ErrorCode } from '../errors.ts';
import type { UsedKey } from '../telemetry/observation.ts';

export class RequestNotes {
  /** When its frame had arrived whole, by the clock of the host. */
  arrived = 0;
  used: UsedKey | undefined;
  /** Items of a batch that failed; the first of them. */
  failed = 0;
  failure: ErrorCode | undefined;
  incident = '';
  /** Bytes that a stream took. */
  taken = 0;
  /** The context, kept when the request had to wait and somebody wants it. */
  context: Uint8Array | undefined;

  /** Notes one more item that failed. */
  itemFailed(code: ErrorCode, incident: string): void {
    if (this.failed === 0) {
      this.failure = code;
      this.incident = incident;
    }
    this.failed += 1;
  }

  /** For the next request. */
  clear(arrived: number): void {
    this.arrived = arrived;
    this.used = undefined;
    this.failed = 0;
    this.failure = undefined;
    this.incident = '';
    this.taken = 0;
    this.context = undefined;
  }
}
