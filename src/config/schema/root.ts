/** One root of the file. */
import * as v from 'valibot';
import { absolutePath, duration, flag, integer, list, oneOf, text } from '../readers.ts';
import { type KeyMetadata, key, leaf, optionalKey, requiredKey, section } from './key.ts';
import { serviceKeys, vaultKeys } from './servers.ts';

export const root = v.pipe(
  v.strictObject({
    provider: requiredKey(oneOf('local', 'aws-kms', 'vault-transit', 'pkcs11'), {
      meaning:
        'What holds the root key: aws-kms, vault-transit (Vault or OpenBao), pkcs11 (an HSM), or local, a key in a file that the agent reads itself.',
      example: 'aws-kms',
    }),
    formerly: key(list(text('a key id', 2048)), [], {
      meaning:
        'Ids that this root had before, as `dekd status` shows them: records that name them still open. A record naming any other id is refused.',
    }),
    keyFile: optionalKey(absolutePath, {
      meaning:
        'For local: file with the root key, 32 bytes as one base64 line, mode 0600, owned by the agent. `dekd keygen` makes one.',
      danger: 'who has this file and the keystore has every data key; who loses it loses every token.',
      example: '/etc/dekd/root.key',
    }),
    keyDescriptor: optionalKey(integer(3, 1023), {
      meaning: 'Instead of keyFile: number of an inherited descriptor to read the same line from, once.',
      example: '3',
    }),
    allowLocalRoot: key(flag, false, {
      meaning: 'Needed for a local root outside `dekd dev`.',
      danger:
        'a local root protects nothing from who can read the node: it is for development and for hosts without a KMS.',
    }),
    aws: section(
      {
        key: optionalKey(text('a key id, ARN or alias', 2048), {
          meaning:
            'Key id, key ARN, alias/NAME or alias ARN. Records keep the ARN it resolves to, so an alias may be moved.',
          example: 'alias/dekd',
        }),
        region: v.optional(
          leaf(text('a Region', 64), {
            meaning: 'Region of the key.',
            computed: 'AWS_REGION, else that of the profile',
            example: 'eu-central-1',
          }),
        ),
        endpoint: optionalKey(text('a URL', 512), {
          meaning:
            "URL to call instead of the Region's own; https, or http to a loopback address. Not together with fips.",
          example: 'https://vpce-0123.kms.eu-central-1.vpce.amazonaws.com',
        }),
        fips: key(flag, false, { meaning: 'Use the FIPS 140 endpoint of the Region.' }),
        ...serviceKeys,
      },
      { meaning: 'For aws-kms. Credentials come from the standard chain of the AWS SDK.' },
    ),
    vault: section(vaultKeys, { meaning: 'For vault-transit: the server.' }),
    transit: section(
      {
        mount: key(text('a path', 128), 'transit', { meaning: 'Mount of the Transit engine.' }),
        key: optionalKey(text('a key name', 128), {
          meaning: 'Name of the Transit key. It must exist: it is never made by the agent.',
          example: 'dekd',
        }),
      },
      { meaning: 'For vault-transit: the key.' },
    ),
    pkcs11: section(
      {
        module: optionalKey(absolutePath, {
          meaning: 'Shared library of the device.',
          example: '/usr/lib/softhsm/libsofthsm2.so',
        }),
        slot: optionalKey(integer(0, 0xffffffff), {
          meaning: 'Number of the slot that the token is in. Either this or token.',
          example: '0',
        }),
        token: optionalKey(text('a label', 32), { meaning: 'Label of the token.', example: 'dekd' }),
        pinFile: optionalKey(absolutePath, {
          meaning: 'File with the PIN, mode 0600. A PIN that was refused is not tried again until the file changes.',
          example: '/etc/dekd/pin',
        }),
        key: optionalKey(text('a label', 128), {
          meaning: 'CKA_LABEL of the AES-256 key. Either this or keyId.',
          example: 'dekd',
        }),
        keyId: optionalKey(text('a key id in hex', 128), {
          meaning: 'CKA_ID of the key, in hex.',
          example: '"01"',
        }),
        mechanism: key(oneOf('aes-gcm', 'aes-kwp'), 'aes-gcm', {
          meaning: 'aes-gcm binds the key context; aes-kwp (RFC 5649) is for devices that wrap keys only.',
        }),
        mechanismNumber: optionalKey(integer(1, 0xffffffff), {
          meaning: 'Number of the mechanism (CKM), where the device has another than the standard gives.',
          example: '8458',
        }),
        sessions: key(integer(1, 64), 4, { meaning: 'Sessions, and so calls, at once.' }),
        timeout: key(duration('100ms', '1m'), '3s', { meaning: 'Time for one call.' }),
      },
      { meaning: 'For pkcs11. It needs the package pkcs11js.' },
    ),
  }),
  v.metadata({ meaning: '' } as KeyMetadata),
);
