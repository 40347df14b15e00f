/**
 * Every key of the configuration file with its default, unit, meaning and danger. The commented sample, the page
 * docs/configuration.md, the names of environment variables and the checks all come from here.
 */
import * as v from 'valibot';
import {
  absolutePath,
  duration,
  flag,
  fraction,
  group,
  integer,
  list,
  oneOf,
  orAuto,
  type Reader,
  size,
  socketMode,
  text,
} from './readers.ts';
import { callerToken, furtherSocket, keyDefinition, legacyKey, recipient, route, rule } from './schema/entries.ts';
import { type KeyMetadata, key, leaf, optionalKey, requiredKey, section } from './schema/key.ts';
import { keystoreKeys } from './schema/keystore.ts';
import { entryName, furtherName, recipientName, socketName } from './schema/names.ts';
import { root } from './schema/root.ts';
import { rotationKeys } from './schema/rotation.ts';

const hierarchyLevels: Reader<readonly ('tenant' | 'service')[]> = {
  expected: 'one of [tenant, service], [service], [tenant]',
  kind: 'json',
  read: (raw) =>
    ([['tenant', 'service'], ['service'], ['tenant']] as const).find((levels) => levels.join() === String(raw)),
};

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
  sockets: v.optional(
    v.pipe(
      v.record(socketName, furtherSocket),
      v.metadata({
        meaning: 'Further data sockets by name, for rules: whoever can open one is a caller of it.',
        example: 'web',
      } as KeyMetadata),
    ),
    {},
  ),
  tokens: v.optional(
    v.pipe(
      v.record(entryName, callerToken),
      v.metadata({
        meaning: 'What callers show that the kernel cannot tell apart, by name, for rules.',
        example: 'web',
      } as KeyMetadata),
    ),
    {},
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
          'TCP port that answers /livez, /readyz and /startupz for probes, /metrics for Prometheus, and shows a page at /. Without it the agent listens on no network.',
        example: '9465',
      }),
      host: key(text('an address', 64), '127.0.0.1', {
        meaning: 'Address that the port is on; a kubelet reaches 0.0.0.0 or ::.',
        danger:
          'on any address but a loopback one, whoever reaches it learns whether the agent can serve, in general words why not, and, unless they are switched off, its figures.',
      }),
      metrics: key(flag, true, { meaning: 'Whether the port answers /metrics.' }),
      page: key(flag, true, {
        meaning: 'Whether the port shows the page of figures at /, which reads /status.json.',
      }),
    },
    { meaning: 'The admin socket, and a port for probes, metrics and the page.' },
  ),
  metrics: section(
    {
      enabled: key(flag, true, {
        meaning:
          'Whether the agent measures how long requests and calls behind it take. Without, there is no /metrics, and counters are those of dekd status.',
      }),
      keys: key(flag, false, {
        meaning:
          'Whether /metrics has the age of each key by its name, of 1,000 names at most. Partitions are never named.',
        danger: 'whoever reads the metrics learns the names of keys.',
      }),
    },
    { meaning: 'What is measured. docs/observability.md says what each metric means.' },
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
  legacy: section(
    {
      keys: v.optional(
        v.pipe(
          v.array(legacyKey),
          v.metadata({
            meaning:
              'AES-256 keys under which an application sealed envelopes itself: { "__enc": 1, "kid", "iv", "ct" }. Callers with a right to it have them opened or migrated; nothing is sealed with these keys.',
          } as KeyMetadata),
        ),
        [],
      ),
    },
    { meaning: 'What applications encrypted before, which is read and never written.' },
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
  audit: section(
    {
      to: key(oneOf('off', 'file', 'stdout'), 'off', {
        meaning:
          'Where the audit log goes: file, stdout (between the lines of the log), off. One JSON object a line, chained by MACs under keys that evolve; docs/audit.md.',
      }),
      file: optionalKey(absolutePath, {
        meaning:
          'For file: the file that is written. Those before it stand beside it, with their time in their names; the agent removes none.',
        example: '/var/log/dekd/audit.jsonl',
      }),
      keyFile: optionalKey(absolutePath, {
        meaning:
          'File with the audit key, 32 bytes as one base64 line, mode 0600, which `dekd keygen` makes; the auditor keeps a copy, which verifies the log. With a state folder it is read once, and can be taken away then.',
        danger: 'who has this key can make up a whole log under it: where it stays, only anchors protect the past.',
        example: '/etc/dekd/audit.key',
      }),
      requests: key(oneOf('none', 'failures', 'all'), 'failures', {
        meaning:
          'Which requests are written: none but denials, failures, or all. Denials, and what happens to keys and to the agent, are always written.',
      }),
      sample: key(fraction, 1, {
        meaning: 'With all: share of the requests that got what they asked for that is written, by chance.',
      }),
      strict: key(flag, false, {
        meaning:
          'Refuses requests (RESOURCE_EXHAUSTED) while records cannot be written, and keeps answers back whose records could not be.',
        danger:
          'a full disk, or a reader of standard output that stops, then stops the agent from serving. There is no bulk lane: what lies in shared memory cannot be kept back.',
      }),
      fsync: key(oneOf('never', 'interval', 'always'), 'interval', {
        meaning:
          'When a file reaches the disk: never (when the kernel likes), interval (every second), always (with strict: before an answer leaves).',
        danger: 'always costs each answer the time of the disk.',
      }),
      rotate: section(
        {
          size: key(size('64KiB', '1TiB'), '64MiB', { meaning: 'Size of a file after which another is begun.' }),
          age: key(duration('1s', '365d'), '1d', { meaning: 'Age of a file after which another is begun.' }),
        },
        { meaning: 'When another file is begun.' },
      ),
      anchors: section(
        {
          file: optionalKey(absolutePath, {
            meaning:
              'File that anchors are appended to, on another machine or volume than the log. They are in the log of the agent too, in the field anchor.',
            example: '/mnt/anchors/dekd.jsonl',
          }),
          lines: key(integer(1, 1_000_000_000), 10_000, { meaning: 'Lines after which there is an anchor.' }),
          interval: key(duration('1s', '1d'), '1m', {
            meaning: 'Time after which there is one, where lines were written.',
          }),
        },
        {
          meaning:
            'From time to time number and MAC of the last line are told elsewhere, so that a log cut before that is noticed.',
        },
      ),
    },
    { meaning: 'Who did what: a log that shows when it was changed.' },
  ),
  reload: section(
    {
      watch: key(flag, false, {
        meaning:
          'Reads the file again when it has changed, as dekd reload and SIGHUP do; for mounted ConfigMaps, which are swapped. Looked at every 2 s.',
        danger: 'whoever can write the file then changes the policy without a word to the agent.',
      }),
    },
    { meaning: 'Reading the configuration while the agent runs.' },
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
