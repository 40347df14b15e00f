/** What the operator may know of a failed call and the caller may not: kept for a while under a short name. */

export interface Incident {
  readonly code: string;
  /** Operator-only detail; what the caller was told where there is none. */
  readonly reason: string;
  readonly operation: string;
  readonly key: string;
  readonly partition: string;
  /** E.g. `uid:1000`. */
  readonly caller: string;
}

export interface RecordedIncident extends Incident {
  readonly id: string;
  /** Milliseconds since the epoch. */
  readonly time: number;
}

/** Crockford's base 32, in lower case: no letter that reads like a digit. */
const DIGITS = '0123456789abcdefghjkmnpqrstvwxyz';

const MAX_NAME = 256;
const MAX_REASON = 2048;

function base32(number: number): string {
  let rest = number;
  let digits = '';
  do {
    digits = DIGITS[rest % 32]! + digits;
    rest = Math.floor(rest / 32);
  } while (rest > 0);
  return digits;
}

/** Five random digits, so that the name of an incident does not fit another run of the agent. */
function randomPrefix(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(5)), (byte) => DIGITS[byte % 32]!).join('');
}

/** The latest incidents; older ones are forgotten. */
export class Incidents {
  readonly #prefix = randomPrefix();
  readonly #capacity: number;
  readonly #kept: RecordedIncident[] = [];
  #count = 0;

  /** @param capacity incidents kept */
  constructor(capacity = 10_000) {
    this.#capacity = capacity;
  }

  /** Keeps an incident. @returns its name, e.g. `h3k9x-2f` */
  record(incident: Incident): string {
    const id = `${this.#prefix}-${base32(this.#count)}`;
    this.#kept[this.#count % this.#capacity] = {
      id,
      time: Date.now(),
      code: incident.code,
      reason: incident.reason.slice(0, MAX_REASON),
      operation: incident.operation,
      key: incident.key.slice(0, MAX_NAME),
      partition: incident.partition.slice(0, MAX_NAME),
      caller: incident.caller,
    };
    this.#count++;
    return id;
  }

  /** The incident of that name, when it is of this run and not forgotten. Case and surrounding space do not matter. */
  lookup(name: string): RecordedIncident | undefined {
    const id = name.trim().toLowerCase();
    let number = 0;
    for (const digit of id.slice(this.#prefix.length + 1)) {
      number = number * 32 + DIGITS.indexOf(digit);
    }
    const found = this.#kept[number % this.#capacity];
    return found?.id === id ? found : undefined;
  }

  /** Incidents since start. */
  get count(): number {
    return this.#count;
  }
}
