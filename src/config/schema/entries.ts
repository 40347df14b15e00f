/** Entries of lists and mappings: routes, what holds for keys, recipients, rules of the policy. */
import * as v from 'valibot';
import type { Operation } from '../config.ts';
import {
  absolutePath,
  creation,
  flag,
  group,
  integer,
  list,
  oneOf,
  oneOrMany,
  size,
  socketMode,
  text,
  textMapping,
} from '../readers.ts';
import { type KeyMetadata, key, leaf, optionalKey, requiredKey, section } from './key.ts';
import { glob, id, kid, partitionGlob } from './names.ts';
import { rotationKeys } from './rotation.ts';

const levels = (raw: unknown): 2 | 3 | 4 | undefined => ([2, 3, 4] as const).find((level) => level === raw);

export const route = v.pipe(
  v.strictObject({
    level: optionalKey(oneOrMany({ expected: 'a level: 2, 3 or 4', kind: 'json', read: levels }), {
      meaning: 'Levels: 2 keys of tenants, 3 keys of services, 4 data keys.',
      computed: 'every level',
      example: '[2, 3]',
    }),
    tenant: optionalKey(partitionGlob, {
      meaning: 'Partitions; * stands for any run of characters and includes none, "" is only what has none.',
      computed: 'any',
      example: 'eu-*',
    }),
    service: optionalKey(glob, {
      meaning: 'Names of services, in the same way: of a key of level 3 its own, else that of the agent.',
      computed: 'any',
      example: 'billing',
    }),
    key: optionalKey(glob, {
      meaning:
        'Names of data keys. It chooses their keystore and the root above them; the keystore of levels 2 and 3 is chosen by entries without it.',
      computed: 'any',
      example: 'customers*',
    }),
    region: optionalKey(glob, {
      meaning: 'The key region of this agent: lets one file serve agents in many places.',
      computed: 'any',
      example: 'eu-*',
    }),
    root: optionalKey(text('a name', 63), {
      meaning: 'Root for the outermost of the keys; those below hang under it and are not asked.',
      computed: 'as defaultRoot',
      example: 'main',
    }),
    keystore: key(text('a name', 63), 'default', { meaning: 'Keystore in which they are kept.', example: 'eu' }),
    formerKeystores: key(list(text('a name', 63)), [], {
      meaning:
        'Keystores in which they may still lie from before: read as well; a record moves to keystore when it is next written.',
      example: '[default]',
    }),
  }),
  v.metadata({ meaning: '' } as KeyMetadata),
);

export const keyDefinition = v.pipe(
  v.strictObject({
    name: requiredKey(glob, {
      meaning: 'Which keys this entry is for; the first entry that matches counts.',
      example: 'customers*',
    }),
    keyContext: key(
      textMapping,
      {},
      {
        meaning:
          'Names and texts bound when such a key is wrapped, and shown to the KMS. A version keeps those it was made with.',
        example: '{ purpose: customer-data }',
      },
    ),
    requiredContext: key(list(text('a context name', 128)), [], {
      meaning: 'Context names that every call with such a key must carry.',
      example: '[field]',
    }),
    direct: v.optional(
      leaf(flag, {
        meaning: 'As direct above, for these keys.',
        computed: 'as direct above',
        example: 'true',
      }),
    ),
    recipients: v.optional(
      leaf(list(text('a name', 63)), {
        meaning: 'As message.recipients, for these keys.',
        computed: 'as message.recipients',
        example: '[keystore, escrow]',
      }),
    ),
    formerRecipients: v.optional(
      leaf(list(text('a name', 63)), {
        meaning: 'As message.formerRecipients, for these keys.',
        computed: 'as message.formerRecipients',
        example: '[]',
      }),
    ),
    rotation: v.nullish(
      v.pipe(
        v.strictObject({
          age: v.optional(rotationKeys.age.wrapped),
          messages: v.optional(rotationKeys.messages.wrapped),
          bytes: v.optional(rotationKeys.bytes.wrapped),
          schedule: rotationKeys.schedule,
          keep: v.optional(rotationKeys.keep.wrapped),
          grace: v.optional(rotationKeys.grace.wrapped),
        }),
        v.metadata({
          meaning: 'For these keys, instead of those of rotation; what is absent comes from there.',
          like: 'rotation',
          example: '{ age: 30d, schedule: "0 3 1 * *", keep: 5 }',
        } as KeyMetadata),
      ),
      {},
    ),
  }),
  v.metadata({ meaning: '' } as KeyMetadata),
);

export const recipient = v.pipe(
  v.strictObject({
    root: optionalKey(text('a name', 63), {
      meaning:
        'Name of a root of aws-kms or vault-transit: whoever may use its key opens the messages. With aws-kms the AWS Encryption SDK does, with that key and nothing else. Either this or rawAes.',
      example: 'main',
    }),
    rawAes: section(
      {
        namespace: optionalKey(text('a namespace', 128), {
          meaning: 'Namespace that raw AES keyrings of the AWS Encryption SDK are given.',
          example: 'acme',
        }),
        name: optionalKey(text('a key name', 256), {
          meaning: 'Name that they are given for the key.',
          example: 'files-2026',
        }),
        keyFile: optionalKey(absolutePath, {
          meaning:
            'File with the key, 32 bytes as one base64 line, mode 0600, owned by the agent. `dekd keygen` makes one.',
          danger:
            'who has this file opens and makes messages of every key that names the recipient. One key is good for 2^32 data keys, of all who have it.',
          example: '/etc/dekd/partner.key',
        }),
      },
      { meaning: 'An AES-256 key that somebody else has too.', isForSome: true },
    ),
  }),
  v.metadata({ meaning: '' } as KeyMetadata),
);

/** A fast index is a machine for guessing: this is what a busy page needs, and not what a dictionary does. */
export const BLIND_INDEX_PER_SECOND = 1000;

/** What a rule can grant. */
export const OPERATIONS = [
  'encrypt',
  'decrypt',
  'reencrypt',
  'anyKey',
  'keyInfo',
  'hmac',
  'verifyHmac',
  'blindIndex',
  'openLegacy',
  'migrateLegacy',
] as const satisfies readonly Operation[];

export const furtherSocket = v.pipe(
  v.strictObject({
    path: requiredKey(absolutePath, {
      meaning: 'Where it is; at most 107 bytes. A folder of its own can be mounted into one container alone.',
      example: '/run/dekd/web/agent.sock',
    }),
    group: optionalKey(group, { meaning: 'Group that may connect, by name or number.', example: '2001' }),
    mode: key(socketMode, '0660', { meaning: 'Permission bits of the socket: 0600 or 0660.' }),
  }),
  v.metadata({ meaning: '' } as KeyMetadata),
);

export const callerToken = v.pipe(
  v.strictObject({
    file: requiredKey(absolutePath, {
      meaning: 'File with 32 random bytes as one base64 line, mode 0600, owned by the agent. `dekd keygen` makes one.',
      danger: 'who has a copy of it, and can open the socket, is such a caller.',
      example: '/etc/dekd/web.token',
    }),
  }),
  v.metadata({ meaning: '' } as KeyMetadata),
);

export const legacyKey = v.pipe(
  v.strictObject({
    kid: requiredKey(kid, { meaning: 'What envelopes call the key.', example: 'v1' }),
    keyFile: requiredKey(absolutePath, {
      meaning: 'File with the key, 32 bytes or their base64 as one line, mode 0600, owned by the agent.',
      danger: 'who has this file opens every envelope of the kid, and can make some.',
      example: '/etc/dekd/legacy-v1.key',
    }),
  }),
  v.metadata({ meaning: '' } as KeyMetadata),
);

export const rule = v.pipe(
  v.strictObject({
    name: requiredKey(text('a name', 64), { meaning: 'Name of the rule, for the log.', example: 'shop' }),
    callers: section(
      {
        uid: optionalKey(oneOrMany(id), {
          meaning: "User ids. Absent: any but the agent's own, which must be named and needs socket.allowOwnUid.",
          example: '1000',
        }),
        gid: optionalKey(oneOrMany(id), { meaning: 'Primary group ids.', example: '1000' }),
        groups: optionalKey(oneOrMany(id), { meaning: 'Supplementary group ids.', example: '[2000, 2001]' }),
        socket: key(oneOrMany(text('a name', 63)), 'data', {
          meaning: 'Socket the caller came through: data, admin, or a name of sockets.',
          example: '[data, web]',
        }),
        token: optionalKey(oneOrMany(text('a name', 63)), {
          meaning: 'Names of tokens, one of which the caller must show.',
          example: 'web',
        }),
      },
      {
        meaning:
          'Who the rule is for, as the kernel says, and by the token that it shows. Each field given must match, by any of its values.',
        danger: 'without uid, gid, groups and token it is everybody who can open the socket.',
      },
    ),
    keys: requiredKey(oneOrMany(glob), {
      meaning: 'Names of keys; * stands for any run of characters.',
      example: '[customers, orders-*]',
    }),
    partitions: key(oneOrMany(partitionGlob), ['*'], {
      meaning: 'Partitions, in the same way; * includes calls without one, "" is only those.',
    }),
    operations: requiredKey(oneOrMany(oneOf(...OPERATIONS)), {
      meaning:
        'Any of encrypt, decrypt, reencrypt, keyInfo; hmac, verifyHmac; blindIndex, which fingerprints need too; anyKey: to decrypt without naming the key; openLegacy, migrateLegacy: to have envelopes of legacy.keys opened, or made tokens of these keys.',
      danger: 'a caller that may blindIndex can try a dictionary against each indexed column that it can read.',
      example: '[encrypt, decrypt]',
    }),
    legacyKids: key(oneOrMany(glob), ['*'], {
      meaning: 'Kids of legacy.keys that openLegacy and migrateLegacy are for, in the same way.',
      example: 'v1',
    }),
    create: key(creation, false, {
      meaning:
        'Whether encrypting, hmac and blindIndex make a key that is not there: false, or { max: N } for at most N of them while the agent runs.',
      danger: 'a caller that may create can fill the keystore up to N.',
    }),
    blindIndexPerSecond: key(integer(1, 1_000_000_000), BLIND_INDEX_PER_SECOND, {
      meaning:
        'Values that each caller may have blindIndex and fingerprint compute in a second, items of batches included.',
      danger: 'it is how fast a caller can guess the values behind an index.',
    }),
    requireContext: key(list(text('a context name', 128)), [], {
      meaning: 'Context names that every call with a context must carry for this rule to allow it.',
      example: '[table, id]',
    }),
    quota: section(
      {
        requestsPerSecond: optionalKey(integer(1, 1_000_000_000), {
          meaning: 'Values a second, items of batches counted one by one. A second is saved up at most.',
          computed: 'any number',
          example: '5000',
        }),
        bytesPerSecond: optionalKey(size('1KiB', '1TiB'), {
          meaning: 'Bytes a second. Streams are slowed down to it; other calls over it are refused.',
          computed: 'any number',
          example: '64MiB',
        }),
        inFlight: optionalKey(integer(1, 1_000_000), {
          meaning: 'Requests in work at once, over all connections; a stream is one as long as it lasts.',
          computed: 'any number',
          example: '64',
        }),
      },
      {
        meaning:
          'What each caller of the rule may have. Over it the answer is RESOURCE_EXHAUSTED, and when to come again. Where several rules allow a call, any one of them may pay for it.',
      },
    ),
    roots: key(list(glob), [], {
      meaning:
        'Names of roots, in the same way, that callers may choose with a call: the key has a version of its own under each. Empty: they choose none, and routes and defaultRoot say it.',
      example: '[main]',
    }),
  }),
  v.metadata({ meaning: '' } as KeyMetadata),
);
