import { ENCRYPTED_DATA_KEY_LENGTH, type KeyHandle, RAW_AES_INFO_TAIL } from '../../crypto/engine.ts';
import type { EncryptedDataKey } from '../../envelope/message-header.ts';
import { DekdError } from '../../errors.ts';
import type { Recipient, RecipientSpec, Table, WholeContext } from './recipient.ts';

/** Random nonces under one key (NIST SP 800-38D 8.3). Others may have the key too, so this is the most, not a safe count. */
const MAX_WRAPS = 2 ** 32;
const utf8 = new TextEncoder();

/** Who has a certain AES-256 key: raw AES keyrings of the AWS Encryption SDK open what is sealed for it. */
export class RawAesRecipient implements Recipient {
  readonly name: string;
  readonly root = undefined;
  readonly #namespace: string;
  readonly #keyName: Uint8Array;
  readonly #key: KeyHandle;
  readonly #table: Table;
  #wraps = 0;

  constructor(spec: RecipientSpec & { kind: 'raw-aes' }, table: Table) {
    this.name = spec.name;
    this.#namespace = spec.namespace;
    this.#keyName = utf8.encode(spec.keyName);
    this.#key = spec.key;
    this.#table = table;
  }

  /** By the whole name: the info of key `k1` is a prefix of none of key `k10`. */
  matches({ providerId, providerInfo }: EncryptedDataKey): boolean {
    const { length } = this.#keyName;
    return (
      providerId === this.#namespace &&
      providerInfo.length === length + RAW_AES_INFO_TAIL &&
      Buffer.compare(providerInfo.subarray(0, length), this.#keyName) === 0
    );
  }

  async wrap(dataKey: KeyHandle, { bytes }: WholeContext): Promise<EncryptedDataKey> {
    if (this.#wraps >= MAX_WRAPS) {
      throw new DekdError(
        'RESOURCE_EXHAUSTED',
        `recipient ${this.name} has had all messages that one AES key is good for`,
        {
          reason: 'configure another key for it under another name, and the one before as a former recipient',
        },
      );
    }
    this.#wraps++;
    const wrapped = this.#table.engine.wrapDataKeyUnder(this.#key, this.#keyName, dataKey, bytes);
    const end = wrapped.length - ENCRYPTED_DATA_KEY_LENGTH;
    return { providerId: this.#namespace, providerInfo: wrapped.subarray(0, end), ciphertext: wrapped.subarray(end) };
  }

  async unwrap({ providerInfo, ciphertext }: EncryptedDataKey, { bytes }: WholeContext): Promise<KeyHandle> {
    const { engine } = this.#table;
    return this.#table.room(() => engine.unwrapDataKeyUnder(this.#key, this.#keyName, providerInfo, ciphertext, bytes));
  }
}
