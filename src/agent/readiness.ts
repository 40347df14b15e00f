import type { Custody } from '../custody/custody.ts';
import type { Keyring } from '../keyring/keyring.ts';

/** What readiness is decided on. */
export interface ServingFacts {
  readonly keystoreOk: boolean;
  /** Whether the provider of the default root answers, and does not refuse. */
  readonly rootOk: boolean;
  /** Data keys in the table. */
  readonly loadedKeys: number;
}

/**
 * Whether requests can be served: any key can be loaded, or some are. A key that is loaded needs neither keystore nor
 * provider, and is taken out of the table at the end of its coast, so that `loadedKeys` counts no key whose time is over.
 */
export function isServing({ keystoreOk, rootOk, loadedKeys }: ServingFacts): boolean {
  return loadedKeys > 0 || (keystoreOk && rootOk);
}

export interface Verdict {
  readonly ready: boolean;
  /** Fixed sentences for people: no name, address or identifier of anything. */
  readonly reasons: readonly string[];
}

export const STOPPING: Verdict = { ready: false, reasons: ['the agent is stopping'] };
const UNRECORDABLE: Verdict = {
  ready: false,
  reasons: ['the audit log takes no records, and nothing is done without them'],
};
const NO_ANSWER_YET: Verdict = { ready: false, reasons: ['keystore and provider have not answered yet'] };

/**
 * How long a good answer counts. A question starts a custodian where there is none, so that asking more often would keep one
 * alive beside an agent that has nothing to do; what breaks meanwhile is told by the first call.
 */
const GOOD_FOR_MS = 120_000;
/** How long a bad one does: an agent is ready again within two of these. */
const BAD_FOR_MS = 2_000;
/** How long a probe waits for the first answer; kubelets wait a second. */
const PATIENCE_MS = 700;

export interface ReadinessParts {
  readonly custody: Pick<Custody, 'defaultRoot' | 'keystore'>;
  readonly keyring: { stats(): Pick<ReturnType<Keyring['stats']>, 'loaded'> };
  /** Whether every request is refused, because none can be recorded. */
  readonly isUnrecordable?: () => boolean;
  /** Milliseconds that never go back. */
  readonly elapsedMs?: () => number;
}

interface Answer {
  readonly at: number;
  /** The default root that was asked; another may have taken its place. */
  readonly root: string;
  readonly verdict: Verdict;
}

/**
 * Whether requests can be served now, for those who ask often. An agent with loaded keys asks nobody. Without any, keystore and
 * provider are asked for their health, never for more than that, by one question at a time for all who want to know.
 */
export class Readiness {
  readonly #custody: ReadinessParts['custody'];
  readonly #keyring: ReadinessParts['keyring'];
  readonly #isUnrecordable: () => boolean;
  readonly #elapsedMs: () => number;
  #answer: Answer | undefined;
  #asking: Promise<Verdict> | undefined;

  constructor(parts: ReadinessParts) {
    const { custody, keyring, isUnrecordable = () => false, elapsedMs = () => performance.now() } = parts;
    this.#custody = custody;
    this.#keyring = keyring;
    this.#isUnrecordable = isUnrecordable;
    this.#elapsedMs = elapsedMs;
  }

  /** Answers within a second, whatever the back ends do. */
  async verdict(): Promise<Verdict> {
    if (this.#isUnrecordable()) {
      return UNRECORDABLE;
    }
    if (this.#keyring.stats().loaded > 0) {
      return this.#warm();
    }
    const known = this.#known();
    if (known !== undefined && this.#isFresh(known)) {
      return known.verdict;
    }
    this.#asking ??= this.#ask();
    // Nobody waits to hear again what was good a moment ago.
    return known?.verdict.ready ? known.verdict : inTime(this.#asking, known?.verdict ?? NO_ANSWER_YET);
  }

  #warm(): Verdict {
    const isDown = this.#custody.defaultRoot.standing().breaker !== 'closed';
    return {
      ready: true,
      reasons: isDown ? ['the provider of the default root does not answer; loaded keys serve'] : [],
    };
  }

  #known(): Answer | undefined {
    return this.#answer?.root === this.#custody.defaultRoot.name ? this.#answer : undefined;
  }

  #isFresh({ at, verdict }: Answer): boolean {
    return this.#elapsedMs() - at < (verdict.ready ? GOOD_FOR_MS : BAD_FOR_MS);
  }

  async #ask(): Promise<Verdict> {
    const { defaultRoot: root, keystore } = this.#custody;
    try {
      const [stored, rooted] = await Promise.all([keystore.health(), root.health('cheap')]);
      const reasons = [
        ...(stored.ok ? [] : ['the keystore does not answer']),
        ...(rooted.ok ? [] : ['the provider of the default root does not answer, or refuses']),
      ];
      return this.#keep(root.name, { ready: reasons.length === 0, reasons });
    } catch {
      // Contracts say that health does not throw; an agent that is being closed is no place to insist.
      return this.#keep(root.name, { ready: false, reasons: ['keystore and provider cannot be asked'] });
    } finally {
      this.#asking = undefined;
    }
  }

  #keep(root: string, verdict: Verdict): Verdict {
    this.#answer = { at: this.#elapsedMs(), root, verdict };
    return verdict;
  }
}

/** What `asked` comes to, or `otherwise` when that takes too long. */
async function inTime(asked: Promise<Verdict>, otherwise: Verdict): Promise<Verdict> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<Verdict>((resolve) => {
    timer = setTimeout(() => resolve(otherwise), PATIENCE_MS);
  });
  const verdict = await Promise.race([asked, late]);
  clearTimeout(timer);
  return verdict;
}
