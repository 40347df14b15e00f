import { hex } from '../bytes.ts';
import { DekdError } from '../errors.ts';
import type { Keystore } from '../keystores/keystore.ts';
import type { SteadyClock } from './clock.ts';
import type { KeyringLog } from './keyring-event.ts';
import type { LoadedKey } from './loaded-key.ts';
import type { UsageLease } from './record.ts';

/** What one lease sets aside: a crash forgets no use, and costs at most one lease of budget. */
export const LEASE_MESSAGES = 2 ** 20;
/** 64 KiB for each message of a lease. */
export const LEASE_BYTES = 2 ** 36;
/** The next lease is taken when a quarter of this one is left. */
const RENEW_AT = 0.75;
/** After a lease could not be stored. */
const RETRY_MS = 1000;

export interface Usage {
  readonly messages: bigint;
  readonly bytes: bigint;
}

/**
 * How much each key has been used, by every agent on the keystore. An agent sets use aside in a row of its own before it
 * seals, so operations count in memory only. A limit is compared with what this agent used and the others set aside.
 */
export class UsageLedger {
  /** Name of this agent in the rows it writes. */
  readonly holder: string;
  readonly #keystore: Keystore;
  readonly #clock: SteadyClock;
  readonly #log: KeyringLog;
  /** What was set aside beside this process, by kid: by other holders, and by this one before the process began. */
  #others = new Map<string, Usage>();
  /** What this holder had set aside when the process began: used up for all anybody knows, and part of its rows. */
  #before: ReadonlyMap<string, Usage> | undefined;
  /** Use by this process of keys that it has forgotten since. */
  readonly #forgotten = new Map<string, { readonly messages: number; readonly bytes: number }>();
  #closed = false;

  constructor(holder: string, keystore: Keystore, clock: SteadyClock, log: KeyringLog) {
    this.holder = holder;
    this.#keystore = keystore;
    this.#clock = clock;
    this.#log = log;
  }

  /** Reads what has been set aside. @throws KEYSTORE_UNAVAILABLE. */
  async refresh(): Promise<void> {
    const leases = await this.#keystore.leases();
    this.#before ??= new Map(
      leases.filter(({ holder }) => holder === this.holder).map((lease) => [hex(lease.kid), lease]),
    );
    const others = new Map<string, Usage>(this.#before);
    for (const lease of leases) {
      if (lease.holder !== this.holder) {
        const kid = hex(lease.kid);
        const sum = others.get(kid);
        others.set(kid, {
          messages: lease.messages + (sum?.messages ?? 0n),
          bytes: lease.bytes + (sum?.bytes ?? 0n),
        });
      }
    }
    this.#others = others;
  }

  /** Set aside beside this process, and really used by it when it has the key. */
  usage(kid: Uint8Array, key: LoadedKey | undefined): Usage {
    const others = this.#others.get(hex(kid));
    return {
      messages: (others?.messages ?? 0n) + BigInt(key?.messages ?? 0),
      bytes: (others?.bytes ?? 0n) + BigInt(key?.bytes ?? 0),
    };
  }

  /** Whether a limit of the key's rules is reached. An index is equal values under one key, so that its key is never due. */
  isDue(key: LoadedKey): boolean {
    if (key.purpose === 'index') {
      return false;
    }
    const { rotation, schedule } = key.family.rules;
    const { activated } = key.record.dates;
    const others = this.#others.get(hex(key.kid));
    const now = this.#clock.now();
    return (
      now - activated >= rotation.maxAgeMs ||
      (schedule !== undefined && activated < schedule.last(now)) ||
      reached(key.messages, others?.messages, rotation.maxMessages) ||
      reached(key.bytes, others?.bytes, rotation.maxBytes)
    );
  }

  /** After its rules changed: it stops sealing as soon as a limit of the new ones is reached. */
  relimit(key: LoadedKey): void {
    if (key.leasedMessages > 0) {
      key.renewAtMessages = renewAt(key.messages, key.leasedMessages, this.#messagesLeft(key));
      key.renewAtBytes = renewAt(key.bytes, key.leasedBytes, this.#bytesLeft(key));
    }
    if (key.sealable && this.isDue(key)) {
      key.sealable = false;
    }
  }

  /** Whether what the key was used for is covered by what is set aside for it. */
  covers(key: LoadedKey): boolean {
    return key.messages < key.leasedMessages && key.bytes < key.leasedBytes;
  }

  /** Sets use aside until the key is covered; single-flight for each key. @throws KEYSTORE_UNAVAILABLE. */
  async cover(key: LoadedKey): Promise<void> {
    while (!this.covers(key)) {
      await this.#renew(key);
    }
  }

  /** Takes the next lease in the background; the key stops sealing while it is used beyond what is set aside. */
  renewSoon(key: LoadedKey): void {
    if (this.isDue(key) || !this.covers(key)) {
      key.sealable = false;
    }
    if (key.renewing !== undefined || this.#closed || key.state !== 'active') {
      return;
    }
    this.#renew(key).then(
      () => undefined,
      (error: unknown) => {
        this.#log({ event: 'lease-failed', level: 'warn', key: key.name, version: key.version, error });
        const timer = setTimeout(() => this.renewSoon(key), RETRY_MS);
        timer.unref();
      },
    );
  }

  /** Keeps the count of a key that is dropped from memory. */
  remember(key: LoadedKey): void {
    if (key.messages > 0) {
      this.#forgotten.set(hex(key.kid), { messages: key.messages, bytes: key.bytes });
    }
  }

  /** Goes on where `remember` stopped. */
  resume(key: LoadedKey): void {
    const totals = this.#forgotten.get(hex(key.kid));
    if (totals !== undefined) {
      key.messages = totals.messages;
      key.bytes = totals.bytes;
    }
  }

  close(): void {
    this.#closed = true;
  }

  #renew(key: LoadedKey): Promise<void> {
    key.renewing ??= this.#storeNext(key).finally(() => {
      key.renewing = undefined;
    });
    return key.renewing;
  }

  async #storeNext(key: LoadedKey): Promise<void> {
    const { maxMessages, maxBytes } = key.family.rules.rotation;
    // A lease never sets aside more than the limit itself, else small limits would never be met exactly.
    const messages = nextLease(key.messages, Math.min(LEASE_MESSAGES, maxMessages));
    const bytes = nextLease(key.bytes, Math.min(LEASE_BYTES, maxBytes));
    const before = this.#before?.get(hex(key.kid));
    const lease: UsageLease = {
      kid: key.kid,
      holder: this.holder,
      messages: BigInt(messages) + (before?.messages ?? 0n),
      bytes: BigInt(bytes) + (before?.bytes ?? 0n),
    };
    try {
      if (this.#keystore.capabilities().writable) {
        await this.#keystore.storeLease(lease);
      }
    } catch (error) {
      // A warm key goes on through an outage of the keystore. Leases are totals, so the next one makes up for this one;
      // only a crash before that loses the count.
      if (key.leasedMessages === 0 || !DekdError.is(error, 'KEYSTORE_UNAVAILABLE')) {
        throw error;
      }
      this.#log({ event: 'lease-failed', level: 'warn', key: key.name, version: key.version, error });
    }
    key.leasedMessages = Math.max(messages, key.leasedMessages);
    key.leasedBytes = Math.max(bytes, key.leasedBytes);
    key.renewAtMessages = renewAt(key.messages, key.leasedMessages, this.#messagesLeft(key));
    key.renewAtBytes = renewAt(key.bytes, key.leasedBytes, this.#bytesLeft(key));
  }

  #messagesLeft(key: LoadedKey): number {
    const others = Number(this.#others.get(hex(key.kid))?.messages ?? 0n);
    return key.family.rules.rotation.maxMessages - others;
  }

  #bytesLeft(key: LoadedKey): number {
    const others = Number(this.#others.get(hex(key.kid))?.bytes ?? 0n);
    return key.family.rules.rotation.maxBytes - others;
  }
}

/** The end of a lease that begins at `used`: whole leases, and room for at least half a one. */
function nextLease(used: number, size: number): number {
  return (Math.floor((used + size / 2) / size) + 1) * size;
}

/** Use at which the ledger is asked again: when the lease runs low, or exactly at the limit. */
function renewAt(used: number, leased: number, limit: number): number {
  const low = used + Math.max(1, Math.floor((leased - used) * RENEW_AT));
  return used < limit ? Math.min(low, limit) : low;
}

function reached(own: number, others: bigint | undefined, limit: number): boolean {
  return own + Number(others ?? 0n) >= limit;
}
