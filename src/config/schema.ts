/**
 * Every key of the configuration file with its default, unit, meaning and danger. The commented sample, the page
 * docs/configuration.md, the names of environment variables and the checks all come from here.
 */
import * as v from 'valibot';
import {
  absolutePath,
  creation,
  duration,
  flag,
  group,
  integer,
  list,
  oneOf,
  oneOrMany,
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
  /** YAML to show for a key without a default. */
  readonly example?: string;
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
const id = integer(0, 0xfffffffe);

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
};

const root = v.pipe(
  v.strictObject({
    provider: requiredKey(oneOf('local'), {
      meaning: 'What holds the root key: local, a key in a file that the agent reads itself.',
      example: 'local',
    }),
    keyFile: optionalKey(absolutePath, {
      meaning:
        'File with the root key: 32 bytes as one base64 line, mode 0600, owned by the agent. `dekd keygen` makes one.',
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
    formerly: key(list(text('a key id')), [], {
      meaning: 'Resolved ids of this root that stored records may still name. A record naming any other is refused.',
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
    rotation: v.nullish(
      v.pipe(
        v.strictObject({
          age: v.optional(rotationKeys.age.wrapped),
          messages: v.optional(rotationKeys.messages.wrapped),
          bytes: v.optional(rotationKeys.bytes.wrapped),
        }),
        v.metadata({
          meaning: 'As the section rotation, for these keys; what is absent comes from there.',
        } as KeyMetadata),
      ),
      {},
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
    partitions: key(oneOrMany({ ...glob, read: (raw) => (raw === '' ? '' : glob.read(raw)) }), ['*'], {
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
    },
    { meaning: 'The admin socket.' },
  ),
  limits: section(
    {
      maxPayload: key(size('4KiB', '16MiB'), '1MiB', {
        meaning: 'Largest plaintext of one request; a batch counts its items, 80 bytes for each, and their contexts.',
        danger: 'a connection can make the agent hold several times this.',
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
  roots: v.optional(
    v.pipe(
      v.record(
        v.pipe(v.string(), v.regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'expected a name of lower-case letters, digits and -')),
        root,
      ),
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
  keystore: section(
    {
      kind: key(oneOf('memory', 'sqlite', 'bundle'), 'sqlite', {
        meaning: 'Where wrapped keys are kept: sqlite (a file), memory (nowhere), bundle (an export, read only).',
        danger: 'with memory every token dies with the agent.',
      }),
      path: v.optional(
        leaf(absolutePath, {
          meaning: 'The database file, or the export of a bundle.',
          computed: 'keystore.sqlite in the state folder',
          example: '/var/lib/dekd/keystore.sqlite',
        }),
      ),
      acceptLoss: key(flag, false, {
        meaning:
          'Under Kubernetes, accepts a keystore that dies with the pod: memory, or sqlite on an emptyDir or the image.',
        danger: 'with the pod, every token made by it becomes unreadable.',
      }),
    },
    { meaning: 'Persistence of wrapped keys.' },
  ),
  rotation: section(rotationKeys, {
    meaning: 'When a key gets a new version; older ones go on opening what they sealed.',
  }),
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
