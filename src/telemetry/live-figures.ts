/** The figures behind `dekd status --watch` and the page: as counters, so that each reader has rates of its own. */
import type { CountedOperation, CountersSnapshot } from './counters.ts';
import type { RequestForm } from './observation.ts';

/** Counts of a histogram, by bucket. */
export type LiveCounts = readonly number[];

export interface LiveCall {
  /** Name of the root or the keystore. */
  readonly target: string;
  readonly operation: string;
  readonly outcomes: Readonly<Record<string, number>>;
  readonly counts: LiveCounts;
}

export interface LiveFigures {
  readonly agent: string;
  readonly pid: number;
  /** Milliseconds since the epoch. */
  readonly time: number;
  readonly uptimeSeconds: number;
  readonly ready: boolean;
  readonly reasons: readonly string[];
  readonly engine: string;
  readonly lockLevel: string;
  /** Upper bounds of the buckets of all histograms here, in seconds; one more bucket is above them. */
  readonly bounds: readonly number[];
  /** Empty when metrics are switched off. */
  readonly requests: readonly {
    readonly operation: CountedOperation;
    readonly form: RequestForm;
    readonly counts: LiveCounts;
  }[];
  readonly counters: CountersSnapshot;
  readonly traffic: {
    readonly inFlight: number;
    readonly streams: number;
    readonly data: number;
    readonly admin: number;
    readonly limit: number;
  };
  readonly arena: {
    readonly slots: number;
    readonly used: number;
    readonly evictions: number;
    readonly reloads: number;
  };
  readonly keys: {
    readonly known: number;
    readonly loaded: number;
    readonly hits: number;
    readonly misses: number;
    readonly loads: number;
    readonly frozen: number;
    /** Of the oldest version that seals, of the keys that are known. */
    readonly oldestAgeMs: number | null;
    /** Only on the admin socket; oldest first. */
    readonly names?: readonly { readonly name: string; readonly ageMs: number }[];
  };
  readonly roots: readonly {
    readonly name: string;
    readonly provider: string;
    readonly default: boolean;
    readonly breaker: 'closed' | 'half-open' | 'open';
    /** Since the provider last answered, and since it last proved what hangs below the root. */
    readonly answerAgeMs: number | null;
    readonly proofAgeMs: number | null;
  }[];
  readonly calls: { readonly providers: readonly LiveCall[]; readonly keystores: readonly LiveCall[] };
  readonly custodians: readonly { readonly role: string; readonly up: boolean; readonly crashes: number }[];
  readonly pool: {
    readonly workers: number;
    readonly threads: number;
    readonly inWorkers: number;
    readonly inSlices: number;
    readonly waiting: number;
    readonly heldBytes: number;
    readonly deaths: number;
  };
  readonly lane: { readonly open: boolean; readonly budget: number; readonly heldBytes: number } | null;
  readonly loopDelay: LiveCounts;
  readonly process: {
    readonly cpuSeconds: number;
    readonly residentBytes: number;
    readonly openFiles: number | null;
    /** In which the event loop was busy. */
    readonly activeSeconds: number;
  };
}
