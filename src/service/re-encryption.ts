/** Re-encryption of what was read, so that old versions and old roots empty themselves as data is used. */
import { DekdError, keyIdOf } from '../client/index.ts';
import { CurrentVersions, type Place } from './current-versions.ts';
import type { OnAccessOptions, ReencryptFailure } from './types.ts';

/** A ciphertext that was read and opened, and how it is made anew. */
export interface Accessed<Stored> {
  readonly operation: string;
  readonly place: Place;
  readonly stored: Stored;
  /** Under the version that encrypts now. */
  make(): Promise<Stored>;
  /** The ciphertexts in it, which may be several. */
  ciphertexts(stored: Stored): readonly (Uint8Array | string)[];
}

export class ReencryptionOnAccess {
  readonly #current = new CurrentVersions();
  readonly #report: (failure: ReencryptFailure) => void;

  constructor(report: ((failure: ReencryptFailure) => void) | undefined) {
    this.#report = report ?? warning();
  }

  /** Resolves when the new value was stored, was not needed, or could not be had: never rejects, since the plaintext is there. */
  async run<Stored>(accessed: Accessed<Stored>, options: OnAccessOptions<Stored>): Promise<void> {
    const { onReencrypted } = options;
    if (onReencrypted === undefined) {
      return;
    }
    let step: ReencryptFailure['step'] = 'reencrypt';
    try {
      const next = await this.#next(accessed);
      if (next !== undefined) {
        step = 'store';
        await onReencrypted(next, accessed.stored);
      }
    } catch (error) {
      const { operation, place } = accessed;
      this.#tell({ operation, key: place.key, partition: place.partition, step, error }, options.onReencryptFailed);
    }
  }

  /** Forgets which versions were seen to encrypt. */
  clear(): void {
    this.#current.clear();
  }

  /** Undefined when all of it is under the version that encrypts now. */
  async #next<Stored>({ place, stored, make, ciphertexts }: Accessed<Stored>): Promise<Stored | undefined> {
    const ids = new Set(ciphertexts(stored).map(keyIdOf));
    const known = this.#current.of(place);
    if (ids.size === 0 || (known !== undefined && isOnly(ids, known))) {
      return undefined;
    }
    const next = await make();
    const [first] = ciphertexts(next);
    const id = first === undefined ? undefined : keyIdOf(first);
    this.#current.saw(place, id);
    // The agent was asked because the version was not known: what it gave is as new as what there is.
    return isOnly(ids, id) ? undefined : next;
  }

  #tell(failure: ReencryptFailure, tell: ((failure: ReencryptFailure) => void) | undefined): void {
    try {
      (tell ?? this.#report)(failure);
    } catch {
      // Who is told of a failure must not make one of a value that was opened.
    }
  }
}

function isOnly(ids: ReadonlySet<string | undefined>, id: string | undefined): boolean {
  return ids.size === 1 && ids.has(id);
}

/** One process warning for each kind of failure: an application that ignores them reads on all the same. */
function warning(): (failure: ReencryptFailure) => void {
  const told = new Set<string>();
  return ({ operation, key, step, error }) => {
    const code = error instanceof DekdError ? error.code : 'error';
    const kind = `${operation} ${step} ${code}`;
    if (told.has(kind)) {
      return;
    }
    told.add(kind);
    const what = step === 'store' ? 'the callback that stores it failed' : 'the agent did not make it';
    process.emitWarning(`${operation}: a value of key '${key}' was not re-encrypted: ${what}: ${shown(error)}`, {
      type: 'DekdWarning',
      code: 'DEKD_REENCRYPT',
    });
  };
}

/** The callback is the application's, and its messages may hold anything: only the class of what it threw is shown. */
function shown(error: unknown): string {
  return error instanceof DekdError
    ? `${error.code}: ${error.message}`
    : error instanceof Error
      ? error.name
      : typeof error;
}
