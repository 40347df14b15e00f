import { verdictOf } from '../../custody/provider-failure.ts';
import { DekdError } from '../../errors.ts';

/** How long a key goes on without an answer of its provider, in milliseconds. */
export interface VouchLimits {
  /** After an answer the provider is not asked again for so long. */
  readonly intervalMs: number;
  /** In which a refusal counts. */
  readonly withinMs: number;
  /** For which silence is no refusal. */
  readonly coastMs: number;
  /** A denial counts when it is said twice, this far apart. */
  readonly deniedTwiceMs: number;
}

/** How often a provider that did not answer is asked again. */
const SILENT_RETRY_MS = 10_000;

/**
 * A provider's word that a key which it wrapped or unwrapped may still be used. It is asked for when the key is used, in the
 * background while the last answer is fresh enough, so that a key in use is proved again well within the time in which a
 * refusal has to count, and one that nobody uses costs no calls. Time is CLOCK_BOOTTIME.
 */
export class Vouch {
  readonly #elapsedMs: () => number;
  readonly #limits: VouchLimits;
  #provedAt: number;
  /** When an attempt last ended, whatever came of it. */
  #heardAt: number;
  #deniedAt: number | undefined;
  #asking: Promise<Outcome> | undefined;

  /** The provider has just given its word. */
  constructor(elapsedMs: () => number, limits: VouchLimits) {
    this.#elapsedMs = elapsedMs;
    this.#limits = limits;
    this.#provedAt = elapsedMs();
    this.#heardAt = this.#provedAt;
  }

  /** Whether the provider has been silent for so long that the key is used no more. */
  get isOver(): boolean {
    return this.#ageMs >= this.#limits.coastMs;
  }

  /**
   * Makes sure of the word; it may be asked for meanwhile.
   * @param prove does the call again that was made first; throws what the provider says
   * @param refused told when the provider takes its word back, also after this has returned
   * @returns undefined when the key may be used right now
   * @throws KMS_DENIED when it was refused; KMS_UNAVAILABLE when the provider has been silent for too long
   */
  ensure(prove: () => Promise<void>, refused: (error: unknown) => void): Promise<void> | undefined {
    const { intervalMs, withinMs } = this.#limits;
    const age = this.#ageMs;
    if (age < intervalMs && this.#deniedAt === undefined) {
      return undefined;
    }
    const sinceHeard = this.#elapsedMs() - this.#heardAt;
    const failedLast = this.#heardAt > this.#provedAt;
    if (this.#asking === undefined && failedLast && sinceHeard < this.#retryMs) {
      return this.isOver ? Promise.reject(silent()) : undefined;
    }
    const asking = this.#ask(prove, refused);
    // A key that nobody used for so long is not used before the provider was asked; one of which it is known to be silent is.
    if (!this.isOver && sinceHeard < withinMs) {
      return undefined;
    }
    return asking.then((outcome) => {
      if (outcome === 'refused') {
        throw new DekdError('KMS_DENIED', 'the provider of the root key refuses');
      }
      if (outcome !== 'proved' && this.isOver) {
        throw silent();
      }
    });
  }

  get #ageMs(): number {
    return this.#elapsedMs() - this.#provedAt;
  }

  get #retryMs(): number {
    const { deniedTwiceMs, intervalMs } = this.#limits;
    return this.#deniedAt === undefined ? Math.min(SILENT_RETRY_MS, intervalMs) : deniedTwiceMs;
  }

  #ask(prove: () => Promise<void>, refused: (error: unknown) => void): Promise<Outcome> {
    this.#asking ??= this.#judged(prove, refused).finally(() => {
      this.#asking = undefined;
    });
    return this.#asking;
  }

  async #judged(prove: () => Promise<void>, refused: (error: unknown) => void): Promise<Outcome> {
    try {
      await prove();
      this.#provedAt = this.#elapsedMs();
      this.#heardAt = this.#provedAt;
      this.#deniedAt = undefined;
      return 'proved';
    } catch (error) {
      const verdict = verdictOf(error);
      const now = this.#elapsedMs();
      this.#heardAt = now;
      if (verdict === 'denied' && this.#deniedAt === undefined) {
        this.#deniedAt = now;
        return 'denied';
      }
      if (verdict === 'refused' || (verdict === 'denied' && now - this.#deniedAt! >= this.#limits.deniedTwiceMs)) {
        refused(error);
        return 'refused';
      }
      return verdict;
    }
  }
}

type Outcome = 'proved' | ReturnType<typeof verdictOf>;

function silent(): DekdError {
  return new DekdError('KMS_UNAVAILABLE', 'the provider of the root key does not answer', {
    reason: 'a data key that this provider wrapped may no longer be used without an answer of it (coast)',
  });
}
