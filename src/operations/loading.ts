/** Keys that are not loaded yet: one for one value, or all that a batch needs. */
import { TOKEN_KID_OFFSET } from '../envelope/token.ts';
import { DekdError } from '../errors.ts';
import type { ChosenRoot, DataKey, DataPurpose } from '../keyring/keyring.ts';
import type { OperationsEnvironment } from './environment.ts';
import type { Caller } from './request.ts';

/** Checks the right to seal with the key, and that to choose the root for it where one was chosen. @throws PERMISSION_DENIED */
export function authorizeSealing(
  caller: Caller,
  operation: 'encrypt' | 'reencrypt',
  key: string,
  partition: string,
  root: ChosenRoot,
): void {
  if (root === '') {
    caller.authorize(operation, key, partition);
  } else {
    caller.authorizeRoot(operation, key, partition, root);
  }
}

/** The sealing version for a purpose, `seal` unless given, creating the key when the caller may. @throws KEY_NOT_FOUND and what the keyring throws */
export function loadSealing(
  env: OperationsEnvironment,
  caller: Caller,
  key: string,
  partition: string,
  purpose?: DataPurpose,
  root?: ChosenRoot,
): Promise<DataKey> {
  const by = purpose === 'mac' ? 'hmac' : purpose === 'index' ? 'blindIndex' : 'encrypt';
  const create = caller.mayCreate(key, partition, by) ? () => caller.authorizeCreate(key, partition, by) : undefined;
  return env.keyring.prepareSealing(key, partition, caller.share, create, purpose, root);
}

export function loadOpening(
  env: OperationsEnvironment,
  caller: Caller,
  frame: Uint8Array,
  tokenOffset: number,
): Promise<DataKey | undefined> {
  // The kid lies at the same place in a token and in a MAC.
  const start = tokenOffset + TOKEN_KID_OFFSET;
  // A copy, which the slice of a Buffer is not: the frame is gone when the keystore answers.
  return env.keyring.prepareOpening(new Uint8Array(frame.subarray(start, start + 16)), caller.share);
}

/** Keys, and values of direct items, that a pass needs and does not have: how to get each. */
export type Missing = Map<string, () => Promise<DataKey | Uint8Array | undefined>>;

/** What earlier passes of one batch got, or failed to: a failure fails the items concerned, not the batch. */
export class Loaded {
  readonly #outcomes = new Map<string, DataKey | Uint8Array | DekdError | undefined>();

  has(id: string): boolean {
    return this.#outcomes.has(id);
  }

  /** @throws what loading threw */
  key(id: string): DataKey | undefined {
    const outcome = this.#outcome(id);
    return outcome instanceof Uint8Array ? undefined : outcome;
  }

  /** @throws what making it threw */
  value(id: string): Uint8Array | undefined {
    const outcome = this.#outcome(id);
    return outcome instanceof Uint8Array ? outcome : undefined;
  }

  #outcome(id: string): DataKey | Uint8Array | undefined {
    const outcome = this.#outcomes.get(id);
    if (outcome instanceof DekdError) {
      throw outcome;
    }
    return outcome;
  }

  async load(missing: Missing): Promise<void> {
    await Promise.all(
      [...missing].map(async ([id, load]) => {
        try {
          this.#outcomes.set(id, await load());
        } catch (error) {
          this.#outcomes.set(id, DekdError.from(error));
        }
      }),
    );
  }
}

/** Names a key to be sealed with, among `Missing`. */
export function sealingId(name: string, partition: string, root: ChosenRoot = ''): string {
  return `${name}\0${partition}\0${root}`;
}
