/** The configuration of `dekd dev`. */
import { join, resolve } from 'node:path';
import { agentSocketPath } from '../protocol/socket-paths.ts';
import type { PolicyRule } from './config.ts';
import type { Environment } from './environment.ts';
import { devStateFolder, surroundings } from './paths.ts';
import { configOf, type LoadedConfig, type RawSource } from './resolve.ts';
import { BLIND_INDEX_PER_SECOND, OPERATIONS } from './schema/entries.ts';

/** Without uid: whoever can open the socket, also where the kernel's word on callers cannot be had. */
const DEV_RULE: PolicyRule = {
  name: 'dev',
  callers: { uid: undefined, gid: undefined, groups: undefined, socket: ['data'], token: undefined },
  keys: ['*'],
  partitions: ['*'],
  operations: [...OPERATIONS],
  create: { max: Number.POSITIVE_INFINITY },
  blindIndexPerSecond: BLIND_INDEX_PER_SECOND,
  requireContext: [],
  quota: { requestsPerSecond: undefined, bytesPerSecond: undefined, inFlight: undefined },
  roots: ['*'],
};

/** What `dekd dev` was asked for. */
export interface DevOptions {
  /** Path of the data socket; default the first place a client looks. */
  readonly socket?: string | undefined;
  /** Folder that keeps root key and keystore. */
  readonly state?: string | undefined;
  /** Keep nothing: a root key drawn at start, keys in memory. */
  readonly ephemeral?: boolean | undefined;
  /** Root key file to use instead of the one in the state folder; must be there. */
  readonly rootKeyFile?: string | undefined;
  /** Default process.env. */
  readonly env?: Environment;
  /** Whether the log goes to a person at a terminal. */
  readonly terminal?: boolean | undefined;
  /** Sections of a configuration file in place of those here: for an agent of a test. Its policy then is the policy. */
  readonly sections?: RawSource | undefined;
}

/**
 * What `dekd dev` uses: one person's agent, reachable by that person only (0600 in a 0700 folder), which may do
 * everything and creates keys on first use. Variables apply, a file does not. @throws ConfigError
 */
export function devConfig(options: DevOptions = {}): LoadedConfig {
  const ephemeral = options.ephemeral ?? false;
  const { DEKD_STATE: namedState, ...others } = options.env ?? process.env;
  const env: Environment = ephemeral || namedState === undefined ? others : { ...others, DEKD_STATE: namedState };
  const state = ephemeral ? undefined : resolve(options.state ?? (namedState || devStateFolder(env)));
  const socket = resolve(options.socket ?? agentSocketPath(surroundings(env), 'dev'));
  const ownKeyFile = options.rootKeyFile === undefined && state !== undefined ? join(state, 'root.key') : undefined;
  const keyFile = options.rootKeyFile ?? ownKeyFile;
  const raw = {
    ...(state === undefined ? {} : { state }),
    engine: 'auto',
    memory: { level: 'heap', allowInsecureMemory: true },
    socket: { path: socket, mode: '0600', allowOwnUid: true },
    roots: {
      dev: { provider: 'local', allowLocalRoot: true, ...(keyFile === undefined ? {} : { keyFile: resolve(keyFile) }) },
    },
    keystore: { kind: ephemeral ? 'memory' : 'sqlite' },
    log: { format: options.terminal ? 'text' : 'json' },
    ...options.sections?.raw,
  };
  const { sections } = options;
  // The socket option says where, over what the variables say.
  const flags = {
    ...(options.socket === undefined ? {} : { 'socket.path': socket }),
    ...(options.state === undefined || ephemeral ? {} : { state }),
  };
  const source: RawSource = {
    raw,
    locate: (path) => (sections !== undefined && String(path[0]) in sections.raw ? sections.locate(path) : 'dekd dev'),
  };
  const rule = sections !== undefined && 'policy' in sections.raw ? undefined : DEV_RULE;
  const { config, warnings } = configOf(source, env, flags, { ownKeyFile, rule });
  return { config, warnings, file: undefined };
}
