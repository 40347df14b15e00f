/** What a caller may ask about itself: its rights to a key, and the roots that it may choose when it encrypts. */
import type { Custody } from '../custody/custody.ts';
import type { Keyring } from '../keyring/keyring.ts';
import type { Caller } from '../operations/request.ts';

/** One root, as its callers see it. */
export interface ChoosableRoot {
  readonly name: string;
  readonly provider: string;
  /** What a call hangs under that names no root: for the key that was asked about, else where no route says otherwise. */
  readonly isDefault: boolean;
}

/** What rules grant. It says nothing about whether there is such a key. */
export interface CallerRights {
  readonly operations: readonly string[];
  /** Whether encrypting makes the key where there is none. */
  readonly create: boolean;
  /** Names of the roots that may be chosen. */
  readonly roots: readonly string[];
  /** The key has no messages: its provider encrypts each value itself. False where nothing is granted. */
  readonly direct: boolean;
}

export class CallerChoice {
  readonly #custody: Pick<Custody, 'roots' | 'defaultRoot'>;
  readonly #keyring: Pick<Keyring, 'rootOf' | 'isDirect'>;

  constructor(custody: Pick<Custody, 'roots' | 'defaultRoot'>, keyring: Pick<Keyring, 'rootOf' | 'isDirect'>) {
    this.#custody = custody;
    this.#keyring = keyring;
  }

  /**
   * @param key empty for the roots that may be chosen for any key at all
   * @throws PERMISSION_DENIED for a key that the caller can neither encrypt nor re-encrypt with
   */
  roots(caller: Caller, key: string, partition: string): { readonly roots: readonly ChoosableRoot[] } {
    if (key !== '' && !caller.allows('reencrypt', key, partition)) {
      caller.authorize('encrypt', key, partition);
    }
    const usual = key === '' ? this.#custody.defaultRoot.name : this.#keyring.rootOf(key, partition);
    const names = key === '' ? this.#anywhere(caller) : this.#choosable(caller, key, partition);
    return {
      roots: names.map((name) => ({
        name,
        provider: this.#custody.roots.get(name)!.description.kind,
        isDefault: name === usual,
      })),
    };
  }

  /** Everybody may ask, about any name: that nothing is granted is an answer, and the same for a key that does not exist. */
  rights(caller: Caller, key: string, partition: string): CallerRights {
    const operations = caller.rights(key, partition);
    return {
      operations,
      create: caller.mayCreate(key, partition),
      roots: this.#choosable(caller, key, partition),
      direct: operations.length > 0 && this.#keyring.isDirect(key),
    };
  }

  #anywhere(caller: Caller): string[] {
    return [...this.#custody.roots.keys()].filter((name) => caller.maySomewhere(name));
  }

  #choosable(caller: Caller, key: string, partition: string): string[] {
    return [...this.#custody.roots.keys()].filter(
      (name) =>
        caller.allowsRoot('encrypt', key, partition, name) || caller.allowsRoot('reencrypt', key, partition, name),
    );
  }
}
