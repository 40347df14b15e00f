/** What the operator learns of a failure, and what the caller does. */
import { DekdError } from '../errors.ts';
import type { Caller } from '../operations/request.ts';
import type { CountedOperation, Counters } from '../telemetry/counters.ts';
import type { Incidents } from '../telemetry/incidents.ts';
import type { Log } from '../telemetry/log.ts';

/** What was asked, as far as it is known. */
export interface Asked {
  readonly operation: CountedOperation;
  readonly key: string;
  readonly partition: string;
}

export class Reporter {
  readonly #log: Log;
  readonly #incidents: Incidents;
  readonly #counters: Counters;

  constructor(log: Log, incidents: Incidents, counters: Counters) {
    this.#log = log;
    this.#incidents = incidents;
    this.#counters = counters;
  }

  /** Keeps the reason under an incident id, counts and logs it, and returns what may travel: the reason stays here. */
  report(error: DekdError, caller: Caller, asked: Asked): DekdError {
    const reason = error.reason ?? error.message;
    const incident = this.#incidents.record({
      code: error.code,
      reason,
      operation: asked.operation,
      key: asked.key,
      partition: asked.partition,
      caller: caller.share,
    });
    this.#counters.count(asked.operation, error.code);
    const fields = {
      code: error.code,
      reason,
      incident,
      operation: asked.operation,
      key: asked.key || undefined,
      partition: asked.partition || undefined,
      caller: caller.share,
    };
    if (error.code === 'INTERNAL') {
      this.#log.error('request failed by a defect', fields);
    } else if (WARNED.has(error.code)) {
      this.#log.warn('request refused', fields);
    } else {
      this.#log.debug('request failed', fields);
    }
    return new DekdError(error.code, error.message, {
      incident,
      ...(error.retryAfterMs === undefined ? {} : { retryAfterMs: error.retryAfterMs }),
    });
  }
}

/** What an operator has to do something about. The rest is between the caller and its data. */
const WARNED: ReadonlySet<string> = new Set([
  'UNAUTHENTICATED',
  'PERMISSION_DENIED',
  'KMS_UNAVAILABLE',
  'KMS_DENIED',
  'KEYSTORE_UNAVAILABLE',
  'RESOURCE_EXHAUSTED',
  'PROTOCOL_ERROR',
]);
