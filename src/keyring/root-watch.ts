import type { Root } from '../custody/custody.ts';
import { verdictOf } from '../custody/provider-failure.ts';
import { DekdError } from '../errors.ts';
import type { KeyringLog } from './keyring-event.ts';
import { type Kek, NO_SLOT } from './loaded-key.ts';
import { Turns } from './turns.ts';

/** How long keys live on without an answer of the provider of their root, and how soon a refusal counts. */
export interface WatchLimits {
  /** Milliseconds after the last proof in which keys below a KEK still seal, and still open. */
  readonly coastEncryptMs: number;
  readonly coastDecryptMs: number;
  /** Milliseconds in which a refusal stops a key. */
  readonly withinMs: number;
  /** Caps both coasts at `withinMs`. */
  readonly strict: boolean;
}

export const DEFAULT_WATCH: WatchLimits = {
  coastEncryptMs: 3_600_000,
  coastDecryptMs: 86_400_000,
  withinMs: 300_000,
  strict: false,
};

/** What the limits come to, in milliseconds. */
export interface WatchTimes {
  /** After an answer the provider is asked again in so long. */
  readonly intervalMs: number;
  readonly withinMs: number;
  readonly deniedTwiceMs: number;
  readonly coastEncryptMs: number;
  readonly coastDecryptMs: number;
}

export function watchTimes({ withinMs, strict, coastEncryptMs, coastDecryptMs }: WatchLimits): WatchTimes {
  const deniedTwiceMs = Math.min(DENIED_TWICE_MS, withinMs / 3);
  return {
    intervalMs: Math.max(SHORTEST_INTERVAL_MS, (withinMs - deniedTwiceMs - MARGIN_MS) / 2),
    withinMs,
    deniedTwiceMs,
    coastEncryptMs: strict ? Math.min(coastEncryptMs, withinMs) : coastEncryptMs,
    coastDecryptMs: strict ? Math.min(coastDecryptMs, withinMs) : coastDecryptMs,
  };
}

/** A denial counts when it is said twice, this far apart: policies take a moment to spread. */
const DENIED_TWICE_MS = 30_000;
/** Room for the tick, the deadline of the call and the custodian's start, within `withinMs`. */
const MARGIN_MS = 6_000;
const SHORTEST_INTERVAL_MS = 2_000;
/** How often a provider that did not answer is asked again; its breaker keeps most of these calls from it. */
const SILENT_RETRY_MS = 10_000;
const TICK_MS = 1_000;
/** Proofs in progress at once: the return of a provider must not be met with a storm. */
const MAX_PROOFS = 8;

export interface RootWatchParts {
  readonly limits: WatchLimits;
  /** CLOCK_BOOTTIME in milliseconds. */
  readonly elapsedMs: () => number;
  readonly log: KeyringLog;
  /** Unwraps the secret of `kek` again, under the same root and context, and checks its row. */
  readonly prove: (kek: Kek) => Promise<void>;
  /** Whether a key below `kek` was used in the last `ms` milliseconds, or is to stay loaded. */
  readonly isUsed: (kek: Kek, ms: number) => boolean;
  /** Stops sealing below `kek`. */
  readonly stopSealing: (kek: Kek) => void;
  /** Takes `kek` and everything below it out of the table. */
  readonly stop: (kek: Kek) => void;
}

interface Watched {
  readonly kek: Kek;
  /** When the provider last unwrapped its secret. */
  provedAt: number;
  /** Share of the interval after which it is proved again, drawn anew each time: agents do not come together. */
  jitter: number;
  triedAt: number;
  deniedAt: number | undefined;
  proving: Promise<Outcome> | undefined;
  sealStopped: boolean;
}

type Outcome = 'proved' | ReturnType<typeof verdictOf>;

/**
 * Watches every KEK that hangs directly under the root of a provider, for as long as it is in the table.
 *
 * A loaded key needs no provider, so the provider has to be asked whether the key may still be used. Its answer is looked
 * for with a canary, the wrapped secret of the KEK itself: it has the same root and the same context. An answer starts both
 * coasts again, and nothing else does. A refusal of the key stops everything below the KEK at once, a denial when it is said
 * twice. Silence is never a refusal: the keys go on until their coast ends, first sealing and then opening.
 *
 * Time is CLOCK_BOOTTIME, so that a machine that slept knows how long. Keys that nobody used for as long as sealing coasts
 * are put back into wrapped form instead of being proved for ever.
 */
export class RootWatch {
  readonly #parts: RootWatchParts;
  readonly #watched = new Map<Kek, Watched>();
  readonly #turns = new Turns(MAX_PROOFS);
  /** Roots whose silence was reported. */
  readonly #silent = new Set<unknown>();
  #times: WatchTimes;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(parts: RootWatchParts) {
    this.#parts = parts;
    this.#times = watchTimes(parts.limits);
  }

  /** From the next look on; a coast that was over is over until the provider answers. */
  limit(limits: WatchLimits): void {
    this.#times = watchTimes(limits);
  }

  /** Begins to watch a KEK whose secret the provider has just unwrapped. */
  proved(kek: Kek): void {
    const now = this.#parts.elapsedMs();
    this.#watched.set(kek, {
      kek,
      provedAt: now,
      jitter: newJitter(),
      triedAt: now,
      deniedAt: undefined,
      proving: undefined,
      sealStopped: false,
    });
    this.#timer ??= setInterval(() => this.tick(), TICK_MS).unref();
  }

  /** Forgets a KEK that has left the table. */
  forget(kek: Kek): void {
    this.#watched.delete(kek);
  }

  /**
   * Makes sure that keys below `kek` may seal: when their coast has ended, the provider is asked first.
   * @throws KMS_UNAVAILABLE when it does not answer, KMS_DENIED when it refuses.
   */
  async ensureSealing(kek: Kek): Promise<void> {
    const watched = this.#watched.get(kek);
    if (watched === undefined || !this.#isSealingOver(watched)) {
      return;
    }
    const verdict = await this.#prove(watched);
    if (verdict !== 'proved') {
      throw verdict === 'silent'
        ? new DekdError('KMS_UNAVAILABLE', 'the provider of the root key does not answer', {
            reason: 'keys under this root may no longer encrypt without an answer of the provider (coast.encrypt)',
          })
        : new DekdError('KMS_DENIED', 'the provider of the root key refuses');
    }
  }

  /** Whether keys below `kek` may seal without asking. */
  maySeal(kek: Kek): boolean {
    const watched = this.#watched.get(kek);
    return watched === undefined || !this.#isSealingOver(watched);
  }

  /** Milliseconds since the KEK proved longest ago was proved; undefined when none is watched. */
  get oldestProofMs(): number | undefined {
    const now = this.#parts.elapsedMs();
    let oldest: number | undefined;
    for (const { provedAt } of this.#watched.values()) {
      oldest = Math.max(oldest ?? 0, now - provedAt);
    }
    return oldest;
  }

  /** The same for each root, by its name. */
  proofAges(): Map<string, number> {
    const now = this.#parts.elapsedMs();
    const ages = new Map<string, number>();
    for (const { kek, provedAt } of this.#watched.values()) {
      const { name } = kek.parent as Root;
      ages.set(name, Math.max(ages.get(name) ?? 0, now - provedAt));
    }
    return ages;
  }

  get size(): number {
    return this.#watched.size;
  }

  /** A provider answers again: what has not been proved for an interval is proved now. */
  returned(root: unknown): void {
    for (const watched of [...this.#watched.values()]) {
      if (watched.kek.parent === root && this.#ageOf(watched) > SHORTEST_INTERVAL_MS) {
        void this.#prove(watched);
      }
    }
  }

  /** Proves, stops and drops what is due. Called once a second. */
  tick(): void {
    for (const watched of [...this.#watched.values()]) {
      this.#look(watched);
    }
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#timer);
    this.#watched.clear();
  }

  #look(watched: Watched): void {
    const { kek } = watched;
    if (kek.slot === NO_SLOT) {
      // It gave up its slot; the provider is asked when it is next needed.
      this.#watched.delete(kek);
      return;
    }
    const age = this.#ageOf(watched);
    if (age >= this.#times.coastDecryptMs) {
      this.#end(watched, 'coast-ended', 'its provider has not answered for coast.decrypt');
      return;
    }
    if (age >= this.#times.coastEncryptMs && !watched.sealStopped) {
      watched.sealStopped = true;
      this.#parts.stopSealing(kek);
      this.#report('coast-ended', kek, 'its provider has not answered for coast.encrypt: it opens, and seals no more');
    }
    const idleMs = this.#times.coastEncryptMs;
    const sinceTry = this.#parts.elapsedMs() - watched.triedAt;
    if (sinceTry < this.#nextTryMs(watched)) {
      return;
    }
    const isAnswered = watched.provedAt >= watched.triedAt;
    if (isAnswered && watched.deniedAt === undefined && !this.#parts.isUsed(kek, idleMs)) {
      this.#drop(watched);
      return;
    }
    void this.#prove(watched);
  }

  /** After a denial the second answer is wanted in time, and after silence any. */
  #nextTryMs({ deniedAt, jitter, provedAt, triedAt }: Watched): number {
    if (deniedAt !== undefined) {
      return this.#times.deniedTwiceMs;
    }
    return (provedAt < triedAt ? Math.min(SILENT_RETRY_MS, this.#times.intervalMs) : this.#times.intervalMs) * jitter;
  }

  #prove(watched: Watched): Promise<Outcome> {
    watched.proving ??= this.#turns
      .run(() => this.#ask(watched))
      .finally(() => {
        watched.proving = undefined;
      });
    return watched.proving;
  }

  async #ask(watched: Watched): Promise<Outcome> {
    const { kek } = watched;
    watched.triedAt = this.#parts.elapsedMs();
    watched.jitter = newJitter();
    try {
      await this.#parts.prove(kek);
      watched.provedAt = this.#parts.elapsedMs();
      watched.deniedAt = undefined;
      watched.sealStopped = false;
      this.#silent.delete(kek.parent);
      return 'proved';
    } catch (error) {
      const verdict = verdictOf(error);
      if (!this.#closed && this.#watched.get(kek) === watched) {
        this.#judge(watched, verdict, error);
      }
      return verdict;
    }
  }

  #judge(watched: Watched, verdict: ReturnType<typeof verdictOf>, error: unknown): void {
    const { reason, message } = DekdError.from(error);
    const said = reason ?? message;
    const now = this.#parts.elapsedMs();
    if (verdict === 'refused' || (watched.deniedAt !== undefined && verdict === 'denied' && this.#isSecond(watched))) {
      this.#end(watched, 'root-refused', said);
    } else if (verdict === 'denied') {
      if (watched.deniedAt === undefined) {
        watched.deniedAt = now;
        this.#report('root-denied', watched.kek, `${said}; if it is said again, every key below is stopped`);
      }
    } else if (!this.#silent.has(watched.kek.parent)) {
      // Once for each root, not for every key below it and every attempt.
      this.#silent.add(watched.kek.parent);
      this.#report('root-unavailable', watched.kek, said);
    }
  }

  #isSecond({ deniedAt }: Watched): boolean {
    return this.#parts.elapsedMs() - deniedAt! >= this.#times.deniedTwiceMs;
  }

  #isSealingOver(watched: Watched): boolean {
    return watched.sealStopped || this.#ageOf(watched) >= this.#times.coastEncryptMs;
  }

  #ageOf({ provedAt }: Watched): number {
    return this.#parts.elapsedMs() - provedAt;
  }

  #end(watched: Watched, event: 'coast-ended' | 'root-refused', reason: string): void {
    this.#report(event, watched.kek, `${reason}; every key below it is stopped`);
    this.#drop(watched);
  }

  #drop(watched: Watched): void {
    this.#watched.delete(watched.kek);
    this.#parts.stop(watched.kek);
  }

  #report(event: 'coast-ended' | 'root-refused' | 'root-denied' | 'root-unavailable', kek: Kek, reason: string): void {
    const { name, partition, version } = kek.record;
    this.#parts.log({ event, level: 'warn', key: name, partition, version, kid: kek.id, reason });
  }
}

function newJitter(): number {
  return 0.8 + Math.random() * 0.2;
}
