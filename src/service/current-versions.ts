/** Which version encrypts now, as far as answers of the agent have shown it. */

/** Milliseconds for which an answer counts: a rotation is noticed after that, as in the agent itself. */
const FRESH_MS = 30_000;
/** Keys, partitions and roots of which it is remembered; all are forgotten when there are more. */
const MAX_KNOWN = 4_096;

export type CiphertextKind = 'token' | 'message';

/** What a ciphertext was made for. */
export interface Place {
  readonly kind: CiphertextKind;
  readonly key: string;
  readonly partition: string;
  readonly root: string | undefined;
}

export class CurrentVersions {
  readonly #known = new Map<string, { readonly keyId: string | undefined; readonly until: number }>();

  /** Id of the version; undefined when it is not known, or not any more. */
  of(place: Place): string | undefined {
    const known = this.#known.get(idOf(place));
    return known !== undefined && performance.now() < known.until ? known.keyId : undefined;
  }

  /** Notes what the agent has just encrypted with. */
  saw(place: Place, keyId: string | undefined): void {
    if (this.#known.size >= MAX_KNOWN) {
      this.#known.clear();
    }
    this.#known.set(idOf(place), { keyId, until: performance.now() + FRESH_MS });
  }

  clear(): void {
    this.#known.clear();
  }
}

function idOf({ kind, key, partition, root }: Place): string {
  return JSON.stringify([kind, key, partition, root ?? '']);
}
