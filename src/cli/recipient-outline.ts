import { hex } from '../bytes.ts';
import { RAW_AES_INFO_TAIL, WRAPPED_KEY_LENGTH } from '../crypto/engine.ts';
import { type EncryptedDataKey, KEYSTORE_PROVIDER } from '../envelope/message-header.ts';

const TEXT = /^[\x20-\x7e]*$/;
const TRANSIT_VERSION = /^vault:v(\d{1,9}):/;

/** Whose an encrypted data key is, as far as that can be told, and which key of theirs opens it. Nothing of it is verified. */
export function recipientOutline({ providerId, providerInfo, ciphertext }: EncryptedDataKey): object {
  const bytes = ciphertext.length;
  const text = Buffer.from(providerInfo).toString('latin1');
  switch (providerId) {
    case KEYSTORE_PROVIDER:
      return { recipient: 'keystore', providerId, key: keyNameOf(providerInfo), bytes };
    case 'aws-kms':
      return { recipient: 'AWS KMS', providerId, key: shown(text, providerInfo), bytes };
    case 'vault-transit': {
      const version = TRANSIT_VERSION.exec(
        Buffer.from(ciphertext.subarray(WRAPPED_KEY_LENGTH)).toString('latin1'),
      )?.[1];
      const keyVersion = version === undefined ? {} : { keyVersion: Number(version) };
      return { recipient: 'Vault Transit', providerId, key: shown(text, providerInfo), ...keyVersion, bytes };
    }
    default:
      return isRawAes(providerInfo)
        ? { recipient: 'raw AES key', providerId, key: keyNameOf(providerInfo), bytes }
        : { recipient: 'unknown', providerId, key: shown(text, providerInfo), bytes };
  }
}

/** A raw AES key is named before bits of the tag (128), bytes of the nonce (12), and nonce. */
function isRawAes(info: Uint8Array): boolean {
  const lengths = hex(info.subarray(-RAW_AES_INFO_TAIL, -12));
  return info.length > RAW_AES_INFO_TAIL && lengths === '000000800000000c';
}

function keyNameOf(info: Uint8Array): string {
  const name = Buffer.from(info.subarray(0, -RAW_AES_INFO_TAIL));
  return isRawAes(info) ? shown(name.toString('latin1'), name) : shown('', info);
}

/** Text as it is where it has nothing that could play with a terminal. */
function shown(text: string, bytes: Uint8Array): string {
  return TEXT.test(text) && text !== '' ? text : `0x${hex(bytes)}`;
}
