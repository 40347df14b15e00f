/** What a caller may know of the roots: those that it may choose when it encrypts. */
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

export class RootChoice {
  readonly #custody: Pick<Custody, 'roots' | 'defaultRoot'>;
  readonly #keyring: Pick<Keyring, 'rootOf'>;

  constructor(custody: Pick<Custody, 'roots' | 'defaultRoot'>, keyring: Pick<Keyring, 'rootOf'>) {
    this.#custody = custody;
    this.#keyring = keyring;
  }

  /**
   * @param key empty for the roots that may be chosen for any key at all
   * @throws PERMISSION_DENIED for a key that the caller can neither encrypt nor re-encrypt with
   */
  of(caller: Caller, key: string, partition: string): { readonly roots: readonly ChoosableRoot[] } {
    if (key !== '' && !caller.allows('reencrypt', key, partition)) {
      caller.authorize('encrypt', key, partition);
    }
    const usual = key === '' ? this.#custody.defaultRoot.name : this.#keyring.rootOf(key, partition);
    const roots = [...this.#custody.roots.values()].filter(({ name }) =>
      key === ''
        ? caller.maySomewhere(name)
        : caller.allowsRoot('encrypt', key, partition, name) || caller.allowsRoot('reencrypt', key, partition, name),
    );
    return {
      roots: roots.map(({ name, description }) => ({ name, provider: description.kind, isDefault: name === usual })),
    };
  }
}
