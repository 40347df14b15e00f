/** The audit log on standard output, between the lines of the log; whoever collects that has both. */
import type { LogOutput } from '../telemetry/log-output.ts';
import type { AuditSink } from './sink.ts';

export class OutputSink implements AuditSink {
  readonly name = 'standard output';
  readonly isRotationDue = false;
  readonly #output: LogOutput;
  /** What the output did not take, in order. */
  #waiting: Buffer[] = [];
  #waitingBytes = 0;

  constructor(output: LogOutput) {
    this.#output = output;
  }

  get pending(): number {
    return this.#waitingBytes + this.#output.pendingBytes;
  }

  get failure(): string | undefined {
    return this.#output.isGone ? 'its reader is gone' : undefined;
  }

  write(block: Buffer): void {
    this.#waiting.push(block);
    this.#waitingBytes += block.length;
    this.drain();
  }

  drain(): boolean {
    this.#output.drain();
    while (this.#waiting.length > 0 && this.#output.offer(this.#waiting[0]!)) {
      this.#waitingBytes -= this.#waiting.shift()!.length;
    }
    return !this.#output.isGone && this.pending === 0;
  }

  sync(): boolean {
    return true;
  }

  rotate(): void {}

  close(): void {
    this.drain();
    this.#output.flushSync();
  }
}
