import { DATA_KEY_USE, type KeyHandle, SECRET_USE, WRAPPED_KEY_LENGTH } from '../../crypto/engine.ts';
import type { Root } from '../../custody/custody.ts';
import type { EncryptedDataKey } from '../../envelope/message-header.ts';
import { decryptionFailed } from '../../errors.ts';
import type { Recipient, Table, WholeContext } from './recipient.ts';
import { hasId, referenceTo } from './root-id.ts';

export const VAULT_TRANSIT_PROVIDER = 'vault-transit';
const LABEL = 'dekd/v1/edk-transit';

/**
 * Whoever may use a key in Transit. As everywhere, Transit wraps a random secret W and nothing else, without associated
 * data, so that it can move W to newer versions; the data key is wrapped under W, and that wrap binds the context.
 */
export class VaultTransitRecipient implements Recipient {
  readonly name: string;
  readonly root: Root;
  readonly #table: Table;

  constructor(name: string, root: Root, table: Table) {
    this.name = name;
    this.root = root;
    this.#table = table;
  }

  matches({ providerId, providerInfo }: EncryptedDataKey): boolean {
    return providerId === VAULT_TRANSIT_PROVIDER && hasId(this.root, providerInfo);
  }

  async wrap(dataKey: KeyHandle, { bytes }: WholeContext): Promise<EncryptedDataKey> {
    const { engine } = this.#table;
    const secret = this.#table.room(() => engine.generateKey(SECRET_USE));
    try {
      const wrapped = engine.wrapKey(secret, LABEL, dataKey, bytes);
      const { wrapped: wrappedSecret, reference } = await this.root.wrap(secret, {});
      return {
        providerId: VAULT_TRANSIT_PROVIDER,
        providerInfo: new Uint8Array(Buffer.from(reference.resolvedId)),
        ciphertext: new Uint8Array(Buffer.concat([wrapped, wrappedSecret])),
      };
    } finally {
      engine.destroyKey(secret);
    }
  }

  async unwrap({ providerInfo, ciphertext }: EncryptedDataKey, { bytes }: WholeContext): Promise<KeyHandle> {
    if (ciphertext.length <= WRAPPED_KEY_LENGTH) {
      throw decryptionFailed('encrypted data key is too short for its provider');
    }
    const { engine } = this.#table;
    const reference = referenceTo(this.root, providerInfo);
    const wrappedSecret = ciphertext.subarray(WRAPPED_KEY_LENGTH);
    const secret = await this.#table.roomAsync(() => this.root.unwrap(wrappedSecret, reference, {}));
    try {
      const wrapped = ciphertext.subarray(0, WRAPPED_KEY_LENGTH);
      return this.#table.room(() => engine.unwrapKey(secret, LABEL, wrapped, bytes, DATA_KEY_USE));
    } finally {
      engine.destroyKey(secret);
    }
  }
}
