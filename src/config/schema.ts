/**
 * Every key of the configuration file with its default, unit, meaning and danger. The commented sample, the page
 * docs/configuration.md, the names of environment variables and the checks all come from here.
 */
import * as v from 'valibot';
import {
  absolutePath,
  creation,
  cronExpression,
  duration,
  flag,
  group,
  integer,
  list,
  oneOf,
  oneOrMany,
  orAuto,
  orNever,
  type Reader,
  size,
  socketMode,
  text,
  textMapping,
} from './readers.ts';

/** What a person must know of one key. */
export interface KeyDoc {
  readonly meaning: string;
  /** What can go wrong when it is set carelessly. */
  readonly danger?: string;
  /** Where the value comes from when the key is absent and has no fixed default. */
  readonly computed?: string;
  /** YAML to show for a key without a default, or for a section that is like another. */
  readonly example?: string;
  /** The section is for some of what its siblings choose; the sample then shows it switched off. */
  readonly isForSome?: boolean;
  /** Path of the section whose keys these are too; sample and page then show them there only, and here `example`. */
  readonly like?: string;
}

/** What the loader and the sample read back from a schema. */
export interface KeyMetadata extends KeyDoc {
  readonly reader?: Reader<unknown>;
  readonly [name: string]: unknown;
}

function leaf<T>(reader: Reader<T>, doc: KeyDoc) {
  return v.pipe(
    v.unknown(),
    v.rawTransform(({ dataset, addIssue, NEVER }): T => {
      const value = reader.read(dataset.value);
      if (value === undefined) {
        addIssue({ message: `expected ${reader.expected}` });
        return NEVER;
      }
      return value;
    }),
    v.metadata({ ...doc, reader } as KeyMetadata),
  );
}

/** A key with a default, written as in the file. */
function key<T>(reader: Reader<T>, fallback: string | number | boolean | object, doc: KeyDoc) {
  return v.optional(leaf(reader, doc), fallback);
}

/** A key that may be absent. */
function optionalKey<T>(reader: Reader<T>, doc: KeyDoc & { readonly example: string }) {
  return v.optional(leaf(reader, doc));
}

/** A key that must be given. */
function requiredKey<T>(reader: Reader<T>, doc: KeyDoc & { readonly example: string }) {
  return leaf(reader, doc);
}

/** A section; one that is absent or empty has all its defaults. */
function section<const E extends v.ObjectEntries>(entries: E, doc: KeyDoc) {
  return v.nullish(v.pipe(v.strictObject(entries), v.metadata({ ...doc } as KeyMetadata)), {} as never);
}

const glob = text('a name in which * stands for any run of characters');
/** The empty text is for what has no partition. */
const partitionGlob: Reader<string> = { ...glob, read: (raw) => (raw === '' ? '' : glob.read(raw)) };
const id = integer(0, 0xfffffffe);
const entryName = v.pipe(
  v.string(),
  v.regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'expected a name of lower-case letters, digits and -'),
);
const furtherName = v.pipe(
  entryName,
  v.check((name) => name !== 'default', 'expected another name: default is the section keystore'),
);
const recipientName = v.pipe(
  entryName,
  v.check((name) => name !== 'keystore', 'expected another name: keystore is the keystore itself'),
);
const hierarchyLevels: Reader<readonly ('tenant' | 'service')[]> = {
  expected: 'one of [tenant, service], [service], [tenant]',
  kind: 'json',
  read: (raw) =>
    ([['tenant', 'service'], ['service'], ['tenant']] as const).find((levels) => levels.join() === String(raw)),
};

const rotationKeys = {
  age: key(orNever(duration('1m', '36500d')), '90d', {
    meaning: 'Age at which a sealing version is replaced.',
    example: '30d',
  }),
  messages: key(orNever(integer(1, Number.MAX_SAFE_INTEGER)), 4_294_967_296, {
    meaning:
      'Messages after which it is replaced. Nonces are safe for 2^80 messages a key: this bounds what one lost key opens.',
    example: '1000000000',
  }),
  bytes: key(orNever(size('1MiB', '4PiB')), '1PiB', {
    meaning: 'Plaintext sealed after which it is replaced.',
    example: '1TiB',
  }),
  schedule: optionalKey(cronExpression, {
    meaning:
      'Times in UTC, as cron writes them (minute, hour, day of month, month, day of week): a sealing version made before the last of them is replaced.',
    example: '"0 3 1 * *"',
  }),
  keep: key(orNever(integer(1, 1_000_000)), 'never', {
    meaning:
      'Versions that stopped sealing and still open. Older ones are disabled when grace is over; none is destroyed.',
    danger: 'what is still encrypted under a version that is disabled does not open until it is enabled again.',
    example: '5',
  }),
  grace: key(duration('0ms', '36500d'), '7d', {
    meaning: 'Time for which a version opens after it stopped sealing, whatever keep says.',
    example: '30d',
  }),
};

const serviceKeys = {
  timeout: key(duration('100ms', '1m'), '3s', {
    meaning: 'Time for one call, waiting for a connection and retries included.',
  }),
  retries: key(integer(0, 10), 2, { meaning: 'Attempts after the first, within timeout; 0 is exactly one request.' }),
  connections: key(integer(1, 256), 8, { meaning: 'Connections at once.' }),
  idleTimeout: key(duration('1s', '10m'), '30s', { meaning: 'Time for which an unused connection is kept.' }),
};

/** A Vault or OpenBao server, and how to log in. */
const vaultKeys = {
  address: optionalKey(text('a URL', 512), {
    meaning:
      'URL of the server. http is for loopback addresses only. VAULT_ADDR sets it for ENCRYPTION_PROVIDER=vault.',
    example: 'https://vault.example:8200',
  }),
  namespace: optionalKey(text('a namespace'), {
    meaning: 'Namespace that mounts and login are in.',
    example: 'team-a',
  }),
  caFile: optionalKey(absolutePath, {
    meaning: 'Certificates (PEM) that sign the server, instead of those of the system.',
    example: '/etc/dekd/vault-ca.pem',
  }),
  serverName: optionalKey(text('a host name'), {
    meaning: 'Name that the certificate must have, where it is not that of the address.',
    example: 'vault.internal',
  }),
  ...serviceKeys,
  auth: section(
    {
      method: key(oneOf('token', 'approle', 'kubernetes', 'jwt'), 'token', {
        meaning: 'Auth method. Files are read again at every login.',
      }),
      mount: optionalKey(text('a path'), {
        meaning: 'For approle, kubernetes and jwt: path at which the method is mounted.',
        computed: 'the name of the method',
        example: 'approle',
      }),
      tokenFile: optionalKey(absolutePath, {
        meaning: 'For token: the file with the token.',
        computed: 'the variable VAULT_TOKEN',
        example: '/var/run/secrets/vault-token',
      }),
      roleId: optionalKey(text('a role id'), {
        meaning: 'For approle: the role id. Either this or roleIdFile.',
        example: '3f1c9a52-7c1e-4a5b-9c0e-2f7d1b6a8e44',
      }),
      roleIdFile: optionalKey(absolutePath, {
        meaning: 'For approle: the file with the role id.',
        example: '/etc/dekd/role-id',
      }),
      secretIdFile: optionalKey(absolutePath, {
        meaning: 'For approle: the file with the secret id. Either this or secretIdAws.',
        computed: 'the variable VAULT_SECRET_ID',
        example: '/var/run/secrets/secret-id',
      }),
      secretIdWrapped: key(flag, false, {
        meaning:
          'For approle: the file or variable holds a response-wrapping token instead, which is unwrapped at the first login.',
      }),
      secretIdAws: optionalKey(text('a name or ARN'), {
        meaning: 'For approle: name or ARN of the secret in AWS Secrets Manager that is the secret id.',
        example: 'dekd/secret-id',
      }),
      role: optionalKey(text('a role'), { meaning: 'For kubernetes and jwt: the role to log in as.', example: 'dekd' }),
      jwtFile: v.optional(
        leaf(absolutePath, {
          meaning: 'For kubernetes and jwt: the file with the token to present.',
          computed: '/var/run/secrets/kubernetes.io/serviceaccount/token',
          example: '/var/run/secrets/tokens/vault',
        }),
      ),
    },
    { meaning: 'The login.' },
  ),
};

const root = v.pipe(
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

const keystoreKeys = {
  kind: key(oneOf('memory', 'sqlite', 'bundle', 'postgres', 'openbao-kv'), 'sqlite', {
    meaning:
      'Where wrapped keys are kept: sqlite (a file), postgres, openbao-kv (KV version 2 of OpenBao or Vault), bundle (an export, read only), memory (nowhere).',
    danger: 'with memory every token dies with the agent.',
  }),
  path: v.optional(
    leaf(absolutePath, {
      meaning: 'For sqlite and bundle: the database file, or the export.',
      computed: 'for sqlite: keystore.sqlite in the state folder',
      example: '/var/lib/dekd/keystore.sqlite',
    }),
  ),
  acceptLoss: key(flag, false, {
    meaning:
      'Under Kubernetes, accepts a keystore that dies with the pod: memory, or sqlite on an emptyDir or the image.',
    danger: 'with the pod, every token made by it becomes unreadable.',
  }),
  postgres: section(
    {
      url: v.optional(
        leaf(text('a URL', 1024), {
          meaning: 'postgres://USER@HOST:PORT/DATABASE without a password, or with ?host=/FOLDER for a Unix socket.',
          computed: 'the variables of libpq (PGHOST, PGDATABASE, …)',
          example: 'postgres://dekd@db.example/dekd',
        }),
      ),
      passwordFile: optionalKey(absolutePath, {
        meaning: 'File with the password, read for each new connection.',
        example: '/var/run/secrets/db-password',
      }),
      schema: key(text('a name', 63), 'dekd', { meaning: 'Schema that the tables are in.' }),
      caFile: optionalKey(absolutePath, {
        meaning: 'Certificates (PEM) that sign the server, instead of those of the system.',
        example: '/etc/dekd/db-ca.pem',
      }),
      tls: key(oneOf('verify-full', 'disable'), 'verify-full', {
        meaning:
          'verify-full takes only a server whose certificate is signed and has its name; disable is for Unix sockets and loopback addresses.',
      }),
      connections: key(integer(1, 64), 4, { meaning: 'Connections at once.' }),
      timeout: key(duration('100ms', '1m'), '5s', { meaning: 'Time for one operation.' }),
      migrate: key(flag, true, {
        meaning: 'Make and upgrade the tables at start. With false the role needs no right to change the schema.',
      }),
    },
    { meaning: 'For postgres. It needs the package pg.', isForSome: true },
  ),
  vault: section(vaultKeys, {
    meaning: 'For openbao-kv: the server.',
    like: 'roots.NAME.vault',
    example: '{ address: https://vault.example:8200, auth: { method: kubernetes, role: dekd } }',
  }),
  kv: section(
    {
      mount: key(text('a path', 128), 'secret', { meaning: 'Mount of the engine, KV version 2.' }),
      prefix: key(text('a path', 128), 'dekd', { meaning: 'Path below the mount that is the keystore.' }),
    },
    { meaning: 'For openbao-kv: where in it.', isForSome: true },
  ),
};

const levels = (raw: unknown): 2 | 3 | 4 | undefined => ([2, 3, 4] as const).find((level) => level === raw);

const route = v.pipe(
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

const keyDefinition = v.pipe(
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

const recipient = v.pipe(
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

const rule = v.pipe(
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
        socket: key(oneOrMany(oneOf('data', 'admin')), 'data', { meaning: 'Socket the caller came through.' }),
      },
      {
        meaning: 'Who the rule is for, as the kernel says. Each field given must match, by any of its values.',
        danger: 'without uid, gid and groups it is everybody who can open the socket.',
      },
    ),
    keys: requiredKey(oneOrMany(glob), {
      meaning: 'Names of keys; * stands for any run of characters.',
      example: '[customers, orders-*]',
    }),
    partitions: key(oneOrMany(partitionGlob), ['*'], {
      meaning: 'Partitions, in the same way; * includes calls without one, "" is only those.',
    }),
    operations: requiredKey(oneOrMany(oneOf('encrypt', 'decrypt', 'reencrypt', 'anyKey', 'keyInfo')), {
      meaning: 'Any of encrypt, decrypt, reencrypt, keyInfo, and anyKey: to decrypt without naming the key.',
      example: '[encrypt, decrypt]',
    }),
    create: key(creation, false, {
      meaning:
        'Whether encrypting makes a key that is not there: false, or { max: N } for at most N of them while the agent runs.',
      danger: 'a caller that may create can fill the keystore up to N.',
    }),
  }),
  v.metadata({ meaning: '' } as KeyMetadata),
);

/** The file. */
export const fileSchema = v.strictObject({
  service: key(text('a name', 64), 'default', {
    meaning: 'Name of the service this agent is for; its key-encryption key is named after it, .l3/SERVICE.',
    danger: 'an agent with another name wraps new keys under another key-encryption key.',
  }),
  node: v.optional(
    leaf(text('a name', 128), {
      meaning: 'Name of the node or pod, recorded with the keys made here.',
      computed: 'the host name',
      example: 'node-1',
    }),
  ),
  state: optionalKey(absolutePath, {
    meaning:
      'Folder (0700) for what must outlive the agent beside the keystore: the highest sequence numbers seen, by which a keystore restored from an old copy is noticed.',
    danger: 'without it such a rollback is not noticed, and health says rollback: undetected.',
    example: '/var/lib/dekd',
  }),
  engine: key(oneOf('auto', 'native', 'node', 'noble'), 'native', {
    meaning:
      'What computes: native (locked memory, fastest), node (node:crypto), noble (pure JavaScript), auto (native, else node).',
    danger: 'node and noble keep keys on the JavaScript heap, and need memory.allowInsecureMemory.',
  }),
  memory: section(
    {
      level: key(oneOf('secret', 'locked', 'heap'), 'locked', {
        meaning:
          'Lowest protection the agent starts with: secret (memfd_secret, which no other process can read), locked (never swapped, never dumped), heap (ordinary memory).',
      }),
      allowInsecureMemory: key(flag, false, {
        meaning: 'Lets the agent start with keys in ordinary memory.',
        danger: 'keys can then reach swap and core dumps.',
      }),
      slots: key(integer(16, 65_536), 1024, {
        meaning:
          'Keys in locked memory at once, 64 bytes each. More keys than slots work, but are unwrapped again when their turn comes.',
        danger: 'containers may often lock no more than 64KiB, which is 1024.',
      }),
    },
    { meaning: 'Where keys lie.' },
  ),
  randomness: key(oneOf('buffered', 'snapshot-safe'), 'buffered', {
    meaning:
      'snapshot-safe draws from the kernel at every seal, for virtual machines and functions that may be resumed twice from one image.',
    danger: 'with buffered, two copies resumed from one image can repeat nonces.',
  }),
  socket: section(
    {
      path: v.optional(
        leaf(absolutePath, {
          meaning:
            'Data socket, where applications connect; at most 107 bytes. DEKD_SOCKET is the short name of its variable.',
          computed: '$XDG_RUNTIME_DIR/dekd/agent.sock, else /run/dekd/agent.sock',
          example: '/run/dekd/agent.sock',
        }),
      ),
      group: optionalKey(group, { meaning: 'Group that may connect, by name or number.', example: 'dekd' }),
      mode: key(socketMode, '0660', { meaning: 'Permission bits of the socket: 0600 or 0660.' }),
      allowOwnUid: key(flag, false, {
        meaning: "Lets rules admit callers that run under the agent's own uid.",
        danger: "such a caller can read the agent's files, the root key file among them.",
      }),
    },
    { meaning: 'The data socket.' },
  ),
  admin: section(
    {
      path: v.optional(
        leaf(absolutePath, {
          meaning: "Admin socket (0600; the agent's own uid or root), where the command line connects.",
          computed: 'admin.sock beside the data socket',
          example: '/run/dekd/admin.sock',
        }),
      ),
      port: optionalKey(integer(1, 65_535), {
        meaning:
          'TCP port that answers /livez, /readyz and /startupz, for probes. Without it the agent listens on no network.',
        example: '9465',
      }),
      host: key(text('an address', 64), '127.0.0.1', {
        meaning: 'Address that the port is on; a kubelet reaches 0.0.0.0 or ::.',
        danger:
          'on any address but a loopback one, whoever reaches it learns whether the agent can serve, and in general words why not.',
      }),
    },
    { meaning: 'The admin socket, and a port for probes.' },
  ),
  workers: key(orAuto(integer(0, 64)), 'auto', {
    meaning:
      'Threads for large work: compression, batches, and what the JavaScript engines do. They start when there is such work and end when there is none. auto: one less than there are processor cores for the agent (a quota of the cgroup counts), 2 at most: none on one core, one on two.',
    danger:
      'each adds some 20 MiB while it runs; beside a JavaScript engine, keys then lie in memory that all threads share.',
  }),
  limits: section(
    {
      maxPayload: key(size('4KiB', '16MiB'), '1MiB', {
        meaning: 'Largest plaintext of one request; a batch counts its items, 80 bytes for each, and their contexts.',
        danger: 'a connection can make the agent hold several times this.',
      }),
      maxExpanded: key(size('1MiB', '1TiB'), '1GiB', {
        meaning: 'What a compressed value may become when it is decrypted; memory is bounded whatever it is.',
      }),
      maxInFlight: key(integer(1, 65_536), 1024, {
        meaning: 'Requests in flight on one connection; beyond it the agent stops reading until some are answered.',
      }),
      connections: key(integer(1, 65_536), 8192, {
        meaning: 'Open connections. Lowered at start where the limit of open files is smaller.',
      }),
      headerTimeout: key(duration('100ms', '5m'), '10s', {
        meaning: 'Time for the first message after connecting, and for the rest of a message once begun.',
      }),
      drain: key(duration('0ms', '5m'), '5s', { meaning: 'Time a stopping agent gives the requests in flight.' }),
    },
    { meaning: 'What one caller, and all together, may ask of the agent.' },
  ),
  lane: section(
    {
      enabled: key(flag, true, {
        meaning:
          'Lets clients share memory with the agent (lane.sock beside the data socket), so that large values are not sent. Only with the native engine; a client without its own native part, or without a lane, uses the data socket.',
      }),
      maxPayload: key(size('64KiB', '64MiB'), '16MiB', {
        meaning: 'Largest plaintext of one request whose bytes lie in shared memory.',
        danger: 'requests are worked on one after the other: the time for one of this size is what others may wait.',
      }),
      budget: optionalKey(size('1MiB', '1TiB'), {
        meaning:
          'Shared memory of all clients together. Never more than a quarter of the memory that the agent may have, which is what it is without this.',
        example: '64MiB',
      }),
      callerBudget: optionalKey(size('1MiB', '1TiB'), {
        meaning: 'The same for all connections of one caller; half of the budget without this.',
        example: '32MiB',
      }),
    },
    { meaning: 'The bulk lane: memory that clients share with the agent.' },
  ),
  roots: v.optional(
    v.pipe(
      v.record(entryName, root),
      v.metadata({
        meaning: 'Root keys by name: what wraps every other key. At least one is needed.',
        example: 'main',
      } as KeyMetadata),
    ),
    {},
  ),
  defaultRoot: optionalKey(text('a name', 63), {
    meaning: 'Name of the root that wraps new records; needed when there are several.',
    example: 'main',
  }),
  routes: v.optional(
    v.pipe(
      v.array(route),
      v.metadata({
        meaning:
          'Which root keys hang under and which keystore they are kept in: that of the first entry whose level, tenant, service, key and region all match. Where there are entries, a key that none matches is an error; without any, everything goes to defaultRoot and the keystore default. `dekd config explain` shows the way of one key.',
      } as KeyMetadata),
    ),
    [],
  ),
  keystore: section(keystoreKeys, { meaning: 'Persistence of wrapped keys: the keystore called default.' }),
  keystores: v.optional(
    v.pipe(
      v.record(furtherName, v.pipe(v.strictObject(keystoreKeys), v.metadata({ meaning: '' } as KeyMetadata))),
      v.metadata({
        meaning: 'Further keystores by name, for routes.',
        like: 'keystore',
        example: 'eu: { kind: postgres, postgres: { url: postgres://dekd@db.eu.example/dekd } }',
      } as KeyMetadata),
    ),
    {},
  ),
  custody: key(oneOf('auto', 'process', 'inline'), 'auto', {
    meaning:
      'Where providers and networked keystores run: process, in processes of their own that are started when needed; inline, in the agent; auto, process where there is any.',
    danger:
      'inline loads their libraries into the agent, leaves unwrapped secrets on its heap and lets it open connections; it needs memory.allowInsecureMemory.',
  }),
  hierarchy: section(
    {
      levels: key(hierarchyLevels, ['tenant', 'service'], {
        meaning:
          'Keys between a root and the data keys, outermost first. tenant (level 2) is one for each partition; what has no partition does without. service (level 3) is one for each service, in each partition where there is tenant.',
        danger: 'changing it moves nothing: new keys are made under the new order, old ones stay where they are.',
      }),
    },
    { meaning: 'How deep keys hang: a root is level 1, data keys are level 4.' },
  ),
  region: optionalKey(text('a name', 64), {
    meaning: 'Name of where this agent is, for routes.',
    example: 'eu-central-1',
  }),
  coast: section(
    {
      encrypt: key(duration('0ms', '30d'), '1h', {
        meaning: 'Time for which loaded keys go on encrypting while the provider of their root does not answer.',
      }),
      decrypt: key(duration('0ms', '30d'), '24h', {
        meaning: 'The same for decrypting; when it is over they are wiped.',
        danger: 'a key that is disabled only at a provider that does not answer decrypts for as long.',
      }),
    },
    { meaning: 'What loaded keys do while a provider does not answer. Only an answer ends it; nothing extends it.' },
  ),
  revocation: section(
    {
      within: key(duration('1m', '1d'), '5m', {
        meaning:
          'Time in which a refusal stops a key everywhere, counted from when the provider, the keystore or the admin socket tells it to whoever asks.',
        danger: 'each loaded key under a provider is proved again twice in this time: short means more calls.',
      }),
      strict: key(flag, false, {
        meaning:
          'Caps both coasts at within, so that a key that was disabled while its provider does not answer stops by then.',
        danger: 'an outage of the provider longer than within then stops every key under it.',
      }),
    },
    { meaning: 'How soon a refusal counts.' },
  ),
  prewarm: v.optional(
    v.pipe(
      v.array(
        v.pipe(
          v.strictObject({
            key: requiredKey(text('a key name', 128), { meaning: 'Its name.', example: 'customers' }),
            partition: v.optional(
              leaf(
                { ...text('a partition', 128), read: (raw) => (raw === '' ? '' : text('a partition', 128).read(raw)) },
                {
                  meaning: 'Its partition.',
                  computed: 'none',
                  example: 'acme',
                },
              ),
            ),
          }),
          v.metadata({ meaning: '' } as KeyMetadata),
        ),
      ),
      v.metadata({ meaning: 'Keys that are loaded at start, so that the first call finds them warm.' } as KeyMetadata),
    ),
    [],
  ),
  direct: key(flag, false, {
    meaning:
      'Has the provider of the root itself encrypt each value, with no data key: at most 4,064 bytes with AWS KMS. For keys without a word on it in keys.',
    danger: 'every value costs a call to the provider, and its plaintext passes the heap of the custodian.',
  }),
  rotation: section(rotationKeys, {
    meaning: 'When a key gets a new version; older ones go on opening what they sealed.',
  }),
  recipients: v.optional(
    v.pipe(
      v.record(recipientName, recipient),
      v.metadata({
        meaning:
          'Who can open messages (files, streams) beside the keystore, by name. Each message is sealed for all recipients of its key; no message chooses one that is not here.',
        example: 'escrow',
      } as KeyMetadata),
    ),
    {},
  ),
  message: section(
    {
      recipients: key(list(text('a name', 63)), ['keystore'], {
        meaning:
          'Recipients of messages, for keys without a word on it in keys: keystore, and names from recipients. At most 8.',
        danger:
          'who can use a recipient opens the messages without the agent, and can make some that the agent opens. Without keystore a key has no versions: it is not rotated, and freezing or the recipient itself stops it.',
        example: '[keystore, escrow]',
      }),
      formerRecipients: key(list(text('a name', 63)), [], {
        meaning: 'Recipients that messages may still be sealed for: they open, and are not sealed for any more.',
        example: '[partner]',
      }),
      exposeRecordContext: key(flag, false, {
        meaning:
          'Lets messages with a recipient at a provider take the context of a call. It is then stored in the message and sent to the provider, as the AWS Encryption SDK does.',
        danger: 'the context is then in the clear in every such message and in the trail of the provider.',
      }),
    },
    { meaning: 'Messages: files and streams.' },
  ),
  keys: v.optional(
    v.pipe(v.array(keyDefinition), v.metadata({ meaning: 'What holds for keys of certain names.' } as KeyMetadata)),
    [],
  ),
  policy: section(
    {
      rules: v.optional(
        v.pipe(
          v.array(rule),
          v.metadata({
            meaning: 'What is not allowed by a rule is denied; each denial logs the rule that would allow it.',
          } as KeyMetadata),
        ),
        [],
      ),
    },
    { meaning: 'Who may do what.' },
  ),
  log: section(
    {
      level: key(oneOf('debug', 'info', 'warn', 'error', 'silent'), 'info', {
        meaning: 'Least severity that is written.',
      }),
      format: key(oneOf('json', 'text'), 'json', { meaning: 'json, one object a line; text, for people.' }),
    },
    { meaning: 'The log, on standard output. It never has keys, plaintexts or context values.' },
  ),
});

export type FileConfig = v.InferOutput<typeof fileSchema>;
