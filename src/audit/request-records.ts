/** Which requests are written to the audit log, and what a record of one says. */

import { hex } from '../bytes.ts';
import type { Engine, KeyHandle } from '../crypto/engine.ts';
import type { Observation, Observer } from '../telemetry/observation.ts';
import { traceIdOf } from '../telemetry/trace-context.ts';
import type { AuditLog } from './audit-log.ts';
import { isoTime } from './format.ts';
import { contextDigest } from './key-state.ts';

/** Characters of names that callers choose. */
const MAX_NAME = 256;
const MAX_REASON = 1024;
/** Names of context fields that are listed. */
const MAX_FIELDS = 16;
const MAX_FIELD = 64;

/** Refusals of a caller, which are written whatever else is. */
const DENIALS: ReadonlySet<string> = new Set(['PERMISSION_DENIED', 'UNAUTHENTICATED']);

/** What happens all the time and to no key. Commands of operators that change something have records of their own. */
const UNRECORDED: ReadonlySet<string> = new Set(['hello', 'ping', 'cancel', 'admin']);

export interface RequestRecordsOptions {
  readonly log: AuditLog;
  readonly engine: Engine;
  readonly digestKey: KeyHandle;
  /** `none`: denials only; `failures`: whatever failed; `all`: everything. */
  readonly requests: 'none' | 'failures' | 'all';
  /** Share of the requests that got what they asked for, with `all`. */
  readonly sample: number;
  /** What the operator may know of a failure. */
  readonly reasonOf: (incident: string) => string | undefined;
}

export class RequestRecords implements Observer {
  readonly wantsContexts: boolean;
  readonly #options: RequestRecordsOptions;
  /** Requests without a failure to leave out before the next one that is written. */
  #leave: number;

  constructor(options: RequestRecordsOptions) {
    this.#options = options;
    this.#leave = this.#drawn();
    this.wantsContexts = options.requests !== 'none';
  }

  answered(observation: Observation): void {
    if (this.#isWanted(observation)) {
      this.#options.log.append(this.#bodyOf(observation), observation.outcome === 'ok');
    }
  }

  /** Nothing to do: records of a moment share a block anyway. */
  left(): void {}

  /**
   * How many to leave out: of a sequence in which each is written with the chance `sample`, whatever came of the others, the length
   * of a run of those that are not (geometric distribution).
   */
  #drawn(): number {
    const { requests, sample } = this.#options;
    if (requests !== 'all' || sample === 0) {
      return Number.POSITIVE_INFINITY;
    }
    return sample === 1 ? 0 : Math.floor(Math.log(1 - Math.random()) / Math.log1p(-sample));
  }

  #isWanted(observation: Observation): boolean {
    const { outcome, failed } = observation;
    if (outcome === 'ok' && failed === 0) {
      // Nearly all of what is told ends here, so this is all that it costs.
      this.#leave -= 1;
      if (this.#leave >= 0 || UNRECORDED.has(observation.operation)) {
        return false;
      }
      this.#leave = this.#drawn();
      return true;
    }
    const { failure } = observation;
    const { requests } = this.#options;
    return requests !== 'none' || DENIALS.has(outcome) || (failure !== undefined && DENIALS.has(failure));
  }

  #bodyOf(observation: Observation): string {
    const { engine, digestKey, reasonOf } = this.#options;
    const { operation, form, caller, gid, socket, client, key, partition, used, outcome, items, failed, failure } =
      observation;
    const { incident, bytes, context, traceparent, arrived } = observation;
    // Put together by hand: this is on the way of every request that is written.
    let body = `"time":"${isoTime(Date.now())}","event":"request","operation":"${operation}","form":"${form}","caller":${quoted(caller)}`;
    if (gid !== undefined) {
      body += `,"gid":${gid}`;
    }
    if (socket !== undefined) {
      body += `,"socket":"${socket}"`;
    }
    if (client !== '') {
      body += `,"client":${quoted(client)}`;
    }
    if (key !== '') {
      body += `,"key":${quoted(key)}`;
    }
    if (partition !== '') {
      body += `,"partition":${quoted(partition)}`;
    }
    if (used !== undefined) {
      if (key === '') {
        body += `,"key":${quoted(used.name)}`;
      }
      if (partition === '' && used.partition !== '') {
        body += `,"partition":${quoted(used.partition)}`;
      }
      body += `,"version":${used.version},"kid":"${hex(used.kid)}"`;
    }
    if (context.length > 0) {
      body += `,"context":"${contextDigest(engine, digestKey, context)}","fields":${JSON.stringify(fieldNames(context))}`;
    }
    body += `,"outcome":"${outcome}"`;
    if (form === 'batch') {
      body += `,"items":${items}`;
    }
    if (failed > 0) {
      body += `,"failed":${failed},"failure":"${failure}"`;
    }
    if (incident !== '') {
      body += `,"incident":"${incident}"`;
      const reason = reasonOf(incident);
      if (reason !== undefined) {
        body += `,"reason":${JSON.stringify(reason.slice(0, MAX_REASON))}`;
      }
    }
    if (bytes > 0) {
      body += `,"bytes":${bytes}`;
    }
    if (arrived > 0) {
      body += `,"ms":${Math.round((performance.now() - arrived) * 1000) / 1000}`;
    }
    const trace = traceIdOf(traceparent);
    return trace === undefined ? body : `${body},"trace":"${trace}"`;
  }
}

const PLAIN = /^[\x20\x21\x23-\x5b\x5d-\x7e]*$/;

/** JSON of a text; quickly, where it needs no escapes. */
function quoted(text: string): string {
  const short = text.length > MAX_NAME ? text.slice(0, MAX_NAME) : text;
  return PLAIN.test(short) ? `"${short}"` : JSON.stringify(short);
}

/**
 * The names in the canonical bytes of a context (src/envelope/context-encoding.ts), without a value. Bytes that are not canonical,
 * in a request that failed for it, have the names up to there.
 */
export function fieldNames(context: Uint8Array): string[] {
  const bytes = Buffer.from(context.buffer, context.byteOffset, context.length);
  const names: string[] = [];
  const count = bytes.length < 2 ? 0 : bytes.readUInt16BE(0);
  let at = 2;
  for (let i = 0; i < count && names.length < MAX_FIELDS && at + 2 <= bytes.length; i++) {
    const nameLength = bytes.readUInt16BE(at);
    const end = at + 2 + nameLength;
    if (end + 2 > bytes.length) {
      break;
    }
    names.push(bytes.toString('utf8', at + 2, Math.min(end, at + 2 + MAX_FIELD)));
    at = end + 2 + bytes.readUInt16BE(end);
  }
  return names;
}
