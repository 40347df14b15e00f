import { DATA_KEY_USE, type KeyHandle } from '../../crypto/engine.ts';
import type { Root } from '../../custody/custody.ts';
import type { EncryptedDataKey } from '../../envelope/message-header.ts';
import type { Recipient, Table, WholeContext } from './recipient.ts';
import { hasId, referenceTo } from './root-id.ts';

/** What the AWS Encryption SDK calls it. */
export const AWS_KMS_PROVIDER = 'aws-kms';

/**
 * Whoever may use a key in AWS KMS. The service encrypts the data key itself, with the whole context of the message for its
 * encryption context: the AWS Encryption SDK opens such a message with the KMS key and nothing else.
 */
export class AwsKmsRecipient implements Recipient {
  readonly name: string;
  readonly root: Root;
  readonly #table: Table;

  constructor(name: string, root: Root, table: Table) {
    this.name = name;
    this.root = root;
    this.#table = table;
  }

  matches({ providerId, providerInfo }: EncryptedDataKey): boolean {
    return providerId === AWS_KMS_PROVIDER && hasId(this.root, providerInfo);
  }

  async wrap(dataKey: KeyHandle, { pairs }: WholeContext): Promise<EncryptedDataKey> {
    const { wrapped, reference } = await this.root.wrap(dataKey, pairs);
    return {
      providerId: AWS_KMS_PROVIDER,
      providerInfo: new Uint8Array(Buffer.from(reference.resolvedId)),
      ciphertext: wrapped,
    };
  }

  unwrap({ providerInfo, ciphertext }: EncryptedDataKey, { pairs }: WholeContext): Promise<KeyHandle> {
    const reference = referenceTo(this.root, providerInfo);
    return this.#table.roomAsync(() => this.root.unwrap(ciphertext, reference, pairs, DATA_KEY_USE));
  }
}
