import type { Custody, Root } from '../custody/custody.ts';
import { providerCodeOf } from '../custody/provider-failure.ts';
import { directReference } from '../envelope/direct-token.ts';
import { USE_NAME } from '../envelope/own-names.ts';
import { DekdError } from '../errors.ts';
import type { Freezes } from './freezes.ts';
import { notConfigured } from './kek-versions.ts';
import type { KeyDefinitions } from './key-definition.ts';
import type { ChosenRoot } from './keyring.ts';

/** Sets direct ciphertexts apart from wrapped secrets, which have no such pair. */
const DIRECT_USE = { [USE_NAME]: 'direct' };

/** A key without material: the provider of a root encrypts each value itself. */
export interface DirectKey {
  readonly name: string;
  readonly partition: string;
  readonly requiredContext: readonly string[];
  /** What tokens of this key carry. */
  readonly reference: Uint8Array;
  /** Most bytes of one `encrypt`. */
  readonly limit: number;
  /** @throws KMS_UNAVAILABLE, KMS_DENIED, UNSUPPORTED when the provider has no direct mode. */
  encrypt(plaintext: Uint8Array): Promise<Uint8Array>;
  /** @throws DECRYPTION_FAILED, KMS_UNAVAILABLE, KMS_DENIED. */
  decrypt(ciphertext: Uint8Array): Promise<Uint8Array>;
}

export interface DirectKeyParts {
  readonly custody: Custody;
  readonly definitions: KeyDefinitions;
  readonly freezes: Freezes;
  /** The root that a key's route names. */
  readonly rootOf: (name: string, partition: string) => Root;
}

/** The keys that configuration says are direct. */
export class DirectKeys {
  readonly #parts: DirectKeyParts;

  constructor(parts: DirectKeyParts) {
    this.#parts = parts;
  }

  /**
   * The key to encrypt with, when it is direct. Costs nothing where no key is.
   * @param chosen name of a root; empty for the one that the key's route names
   * @throws KEY_DISABLED when it is frozen; INVALID_ARGUMENT for a root that is not configured
   */
  sealing(name: string, partition: string, chosen: ChosenRoot): DirectKey | undefined {
    const { definitions, rootOf, custody } = this.#parts;
    if (!definitions.anyDirect || !definitions.rulesFor(name).direct) {
      return undefined;
    }
    const root = chosen === '' ? rootOf(name, partition) : custody.roots.get(chosen);
    if (root === undefined) {
      throw notConfigured(chosen);
    }
    return this.#key(name, partition, root);
  }

  /**
   * The key that a token's reference names, when it is this key under one of the roots there are: also one that is direct no
   * longer. @throws KEY_DISABLED when it is frozen
   */
  opening(reference: Uint8Array, name: string, partition: string): DirectKey | undefined {
    for (const root of this.#parts.custody.roots.values()) {
      const key = this.#key(name, partition, root);
      if (Buffer.compare(key.reference, reference) === 0) {
        return key;
      }
    }
    return undefined;
  }

  #key(name: string, partition: string, root: Root): DirectKey {
    const { definitions, freezes } = this.#parts;
    freezes.check(name, partition);
    const { keyContext, requiredContext } = definitions.rulesFor(name);
    // Without a mark of its own, a value of 32 bytes would be a wrapped secret that its caller knows.
    const context = { ...keyContext, ...(partition === '' ? {} : { tenant: partition }), ...DIRECT_USE };
    return {
      name,
      partition,
      requiredContext,
      reference: directReference(root.name, name, partition),
      limit: root.capabilities.directLimit,
      async encrypt(plaintext) {
        if (root.capabilities.directLimit === 0) {
          throw new DekdError(
            'UNSUPPORTED',
            `root ${root.name}: the provider ${root.description.kind} has no direct mode`,
          );
        }
        return (await root.encrypt(plaintext, context)).wrapped;
      },
      decrypt: (ciphertext) => decryptUnder(root, ciphertext, context),
    };
  }
}

/** A direct ciphertext does not say which key made it, so a root whose alias was moved is asked with each it has had. */
async function decryptUnder(
  root: Root,
  ciphertext: Uint8Array,
  context: Readonly<Record<string, string>>,
): Promise<Uint8Array> {
  const { resolvedId, materialVersion } = root.description;
  const ids = [resolvedId, ...root.earlierIds()];
  for (const [index, id] of ids.entries()) {
    try {
      return await root.decrypt(ciphertext, { root: root.name, resolvedId: id, materialVersion }, context);
    } catch (error) {
      if (providerCodeOf(error) !== 'WRONG_KEY' || index === ids.length - 1) {
        throw error;
      }
    }
  }
  throw new DekdError('INTERNAL', 'a root has no key');
}
