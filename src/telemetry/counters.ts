/** Counters of one agent process since its start, for `status`. */
import { ERROR_CODES, type ErrorCode } from '../errors.ts';

/** What is counted apart: items of a batch count under the kind they are. */
export const COUNTED_OPERATIONS = [
  'hello',
  'ping',
  'encrypt',
  'decrypt',
  'reencrypt',
  'openLegacy',
  'migrateLegacy',
  'keyInfo',
  'hmac',
  'verifyHmac',
  'blindIndex',
  'roots',
  'rights',
  'cancel',
  'admin',
  'unknown',
] as const;
export type CountedOperation = (typeof COUNTED_OPERATIONS)[number];

const OUTCOMES = ['ok', ...(Object.keys(ERROR_CODES) as ErrorCode[])] as const;
export type Outcome = (typeof OUTCOMES)[number];

const ROW: Readonly<Record<CountedOperation, number>> = indexed(COUNTED_OPERATIONS, OUTCOMES.length);
const COLUMN: Readonly<Record<Outcome, number>> = indexed(OUTCOMES, 1);

function indexed<T extends string>(names: readonly T[], step: number): Readonly<Record<T, number>> {
  return Object.fromEntries(names.map((name, index) => [name, index * step])) as Record<T, number>;
}

/** The counters as `status` shows them; operations and outcomes that never happened are left out. */
export interface CountersSnapshot {
  /** Operation → outcome → how often. */
  readonly operations: Readonly<Partial<Record<CountedOperation, Readonly<Partial<Record<Outcome, number>>>>>>;
  /** Batches; their items are counted under `operations`. */
  readonly batches: number;
  /** Plaintext bytes taken to seal, and opened. */
  readonly bytesSealed: number;
  readonly bytesOpened: number;
  /** Frames over the limit or unreadable; each closes its connection. */
  readonly framesRefused: number;
  readonly connectionsOpen: number;
  readonly connectionsAccepted: number;
  /** Connections refused: over the cap, not known, or out of file descriptors. */
  readonly connectionsRefused: number;
  /** 1 when another engine runs than the native one because that could not be loaded. */
  readonly engineFallbacks: number;
}

export class Counters {
  readonly #operations = new Float64Array(COUNTED_OPERATIONS.length * OUTCOMES.length);
  batches = 0;
  bytesSealed = 0;
  bytesOpened = 0;
  framesRefused = 0;
  connectionsOpen = 0;
  connectionsAccepted = 0;
  connectionsRefused = 0;
  engineFallbacks = 0;

  /** Counts `times` operations that ended alike. */
  count(operation: CountedOperation, outcome: Outcome, times = 1): void {
    const cell = ROW[operation] + COLUMN[outcome];
    this.#operations[cell] = this.#operations[cell]! + times;
  }

  snapshot(): CountersSnapshot {
    const operations: Record<string, Record<string, number>> = {};
    for (const operation of COUNTED_OPERATIONS) {
      for (const outcome of OUTCOMES) {
        const times = this.#operations[ROW[operation] + COLUMN[outcome]]!;
        if (times > 0) {
          operations[operation] ??= {};
          operations[operation][outcome] = times;
        }
      }
    }
    return {
      operations,
      batches: this.batches,
      bytesSealed: this.bytesSealed,
      bytesOpened: this.bytesOpened,
      framesRefused: this.framesRefused,
      connectionsOpen: this.connectionsOpen,
      connectionsAccepted: this.connectionsAccepted,
      connectionsRefused: this.connectionsRefused,
      engineFallbacks: this.engineFallbacks,
    };
  }
}
