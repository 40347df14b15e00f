/** Recipients of messages: from what the file says to what the agent opens, and what does not go together. */
import type { Finding } from './checks.ts';
import type { Config, KeyDefinition, RecipientConfig } from './config.ts';
import { missing } from './roots.ts';
import type { FileConfig } from './schema.ts';

/** What the keystore is called among recipients. */
export const KEYSTORE = 'keystore';
/** Encrypted data keys in one header. */
const MAX_RECIPIENTS = 8;
/** Provider ids that stand for something else than a raw AES key. */
const TAKEN = /^(aws-kms.*|dekd|vault-transit|raw-ecdh)$/;
/** What a message says of its key and value, and a direct value of itself, begins like this; no call could use such a key. */
const RESERVED = 'dekd-';

/** The recipient as the file has it; what is missing reads as empty here, and is found by `recipientFindings`. */
export function recipientOf(name: string, { root, rawAes }: FileConfig['recipients'][string]): RecipientConfig {
  const { namespace = '', name: keyName = '', keyFile = '' } = rawAes;
  return { name, root, rawAes: isRawAes(rawAes) ? { namespace, name: keyName, keyFile } : undefined };
}

function isRawAes({ namespace, name, keyFile }: FileConfig['recipients'][string]['rawAes']): boolean {
  return [namespace, name, keyFile].some((each) => each !== undefined);
}

/** What keeps `run` from starting with these recipients. */
export function recipientFindings(config: Config): Finding[] {
  const { recipients, keys, message } = config;
  const raw = recipients.map(({ rawAes }) => rawAes && `${rawAes.namespace}\0${rawAes.name}`);
  return [
    ...recipients.flatMap((recipient, index) => [
      ...oneFindings(config, recipient),
      ...(raw[index] !== undefined && raw.indexOf(raw[index]) < index
        ? [
            {
              path: ['recipients', recipient.name, 'rawAes', 'name'],
              message: 'is that of another recipient, in the same namespace',
            },
          ]
        : []),
    ]),
    ...listFindings(config, ['message'], message),
    ...keys.flatMap((definition, index) => [
      ...listFindings(config, ['keys', index], definition),
      ...contextFindings(config, ['keys', index], definition),
    ]),
  ];
}

function oneFindings({ roots }: Config, { name, root, rawAes }: RecipientConfig): Finding[] {
  const at = ['recipients', name];
  if ((root === undefined) === (rawAes === undefined)) {
    return [{ path: at, message: 'needs either root or rawAes' }];
  }
  if (rawAes !== undefined) {
    const path = [...at, 'rawAes'];
    return [
      ...missing([...path, 'namespace'], rawAes.namespace, 'the namespace that raw AES keyrings are given'),
      ...missing([...path, 'name'], rawAes.name, 'the name that raw AES keyrings are given for the key'),
      ...missing([...path, 'keyFile'], rawAes.keyFile, 'the file with the key; dekd keygen makes one'),
      ...(TAKEN.test(rawAes.namespace)
        ? [{ path: [...path, 'namespace'], message: `${rawAes.namespace} stands for another kind of recipient` }]
        : []),
    ];
  }
  const found = roots.find((each) => each.name === root);
  if (found === undefined) {
    const known = roots.map((each) => each.name).join(', ');
    return [{ path: [...at, 'root'], message: `no root ${JSON.stringify(root)}; the roots are ${known}` }];
  }
  return found.provider === 'aws-kms' || found.provider === 'vault-transit'
    ? []
    : [
        {
          path: [...at, 'root'],
          message: `is a root of ${found.provider}; a recipient is one of aws-kms or vault-transit, or a rawAes key`,
        },
      ];
}

function listFindings(
  { recipients }: Config,
  at: Finding['path'],
  lists: Pick<KeyDefinition, 'recipients' | 'formerRecipients'>,
): Finding[] {
  const known = new Set([KEYSTORE, ...recipients.map(({ name }) => name)]);
  const found: Finding[] = [];
  for (const field of ['recipients', 'formerRecipients'] as const) {
    const path = [...at, field];
    const names = lists[field];
    for (const name of names.filter((each) => !known.has(each))) {
      found.push({ path, message: `no recipient ${JSON.stringify(name)}; there are ${[...known].join(', ')}` });
    }
    if (new Set(names).size < names.length) {
      found.push({ path, message: 'names a recipient twice' });
    }
  }
  if (lists.recipients.length === 0 || lists.recipients.length > MAX_RECIPIENTS) {
    found.push({ path: [...at, 'recipients'], message: `needs 1 to ${MAX_RECIPIENTS} recipients` });
  }
  return found;
}

function contextFindings({ recipients, message }: Config, at: Finding['path'], definition: KeyDefinition): Finding[] {
  const reserved = Object.keys(definition.keyContext).filter((name) => name.startsWith(RESERVED));
  const remote = recipients.find(({ name, root }) => root !== undefined && definition.recipients.includes(name));
  return [
    ...reserved.map((name) => ({ path: [...at, 'keyContext'], message: `${name} is a name of dekd's own` })),
    ...(remote !== undefined && definition.requiredContext.length > 0 && !message.exposeRecordContext
      ? [
          {
            path: [...at, 'requiredContext'],
            message:
              `cannot be given together with recipient ${remote.name}, whose provider would be shown it: ` +
              'set message.exposeRecordContext, or require nothing',
          },
        ]
      : []),
  ];
}
