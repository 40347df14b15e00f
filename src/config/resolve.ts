/**
 * From what a file, variables and flags say (each over the one before) to a Config, or to one ConfigError with everything
 * that is wrong. Knows nothing of YAML, which `dekd dev` then need not load.
 */
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { type BaseIssue, safeParse } from 'valibot';
import { agentSocketPath } from '../protocol/socket-paths.ts';
import { findings, hasServices } from './checks.ts';
import type { Config, KeyDefinition, PolicyRule } from './config.ts';
import {
  type EntryNames,
  type Environment,
  type Override,
  readEnvironment,
  settableKeys,
  valueOfText,
} from './environment.ts';
import { keystoresOf, misplacedKeystoreKeys } from './keystores.ts';
import { legacyKeysOf } from './legacy.ts';
import { adminSocketPath, laneSocketPath, surroundings } from './paths.ts';
import { ConfigError, type ConfigProblem, isMapping, nearestName, shownValue } from './problems.ts';
import { recipientOf } from './recipients.ts';
import { misplacedRootKeys, rootOf } from './roots.ts';
import { type FileConfig, fileSchema } from './schema.ts';
import { keysBelow } from './schema-walk.ts';

/** Position of a key: names of keys and indexes of lists. */
export type KeyPath = readonly (string | number)[];

/** Flags by the dotted path of the key they set: `{ 'socket.path': './agent.sock' }`. */
export type Flags = Readonly<Record<string, string | number | boolean | undefined>>;

export interface LoadedConfig {
  readonly config: Config;
  /** The file read; undefined when there was none. */
  readonly file: string | undefined;
  /** What a person should hear of and that stops nothing. */
  readonly warnings: readonly string[];
}

/** A configuration before its checks, and where each of its keys was said. */
export interface RawSource {
  readonly raw: Record<string, unknown>;
  locate(path: KeyPath): string;
}

/**
 * The finished configuration.
 * @param dev absent for `dekd run`
 * @throws ConfigError with everything that is wrong
 */
export function configOf(source: RawSource, env: Environment, flags: Flags, dev: DevMarks | undefined) {
  const problems: ConfigProblem[] = [];
  const warnings: string[] = [];
  const { raw } = source;
  const entries = {
    roots: namesIn(raw.roots),
    keystores: namesIn(raw.keystores),
    recipients: namesIn(raw.recipients),
    sockets: namesIn(raw.sockets),
    tokens: namesIn(raw.tokens),
  };
  const overrides = [...readEnvironment(env, entries, problems, warnings), ...readFlags(flags, entries, problems)];
  const said = new Map<string, string>();
  for (const override of overrides) {
    lay(raw, override);
    said.set(override.path.join('.'), override.source);
  }
  const whereSaid = (path: KeyPath): string => saidAt(path, said) ?? source.locate(path);

  const parsed = safeParse(fileSchema, raw);
  if (!parsed.success) {
    problems.push(...distinct(parsed.issues.map((issue) => problemOf(issue, whereSaid))));
    throw new ConfigError(problems);
  }
  const config = resolveConfig(parsed.output, isMapping(raw.keystore), env, dev, problems);
  const misplaced = [...misplacedRootKeys(raw, config.roots), ...misplacedKeystoreKeys(raw, config.keystores)];
  problems.push(
    ...misplaced.map(({ path, message }) => ({
      path: dotted(path),
      source: saidBelow(path, said) ?? whereSaid(path),
      message,
    })),
    ...findings(config, env).map(({ path, message }) => ({ path: dotted(path), source: whereSaid(path), message })),
  );
  if (problems.length > 0) {
    throw new ConfigError(problems);
  }
  return { config, warnings };
}

/** The variable or flag that set the key at `path`, or the list or mapping that it is in. */
function saidAt(path: KeyPath, said: ReadonlyMap<string, string>): string | undefined {
  const above = path.map((_, index) => path.slice(0, path.length - index).join('.'));
  return above.map((key) => said.get(key)).find((name) => name !== undefined);
}

/** The variable or flag that made the section at `path` be there at all. */
function saidBelow(path: KeyPath, said: ReadonlyMap<string, string>): string | undefined {
  const start = `${path.join('.')}.`;
  return [...said].find(([key]) => key.startsWith(start))?.[1];
}

function readFlags(flags: Flags, entries: EntryNames, problems: ConfigProblem[]): Override[] {
  const known = new Map(settableKeys(entries).map((key) => [key.path.join('.'), key]));
  const overrides: Override[] = [];
  for (const [name, value] of Object.entries(flags)) {
    const key = known.get(name);
    if (value === undefined) {
      continue;
    }
    if (!key) {
      const near = nearestName(name, known.keys());
      problems.push({ path: name, source: 'flag', message: `unknown key${near ? `; did you mean ${near}?` : ''}` });
      continue;
    }
    const read = typeof value === 'string' ? valueOfText(value, key.kind) : value;
    overrides.push({ path: key.path, value: read, source: 'flag' });
  }
  return overrides;
}

function namesIn(mapping: unknown): string[] {
  return isMapping(mapping) ? Object.keys(mapping) : [];
}

function lay(raw: Record<string, unknown>, { path, value }: Override): void {
  let target = raw;
  for (const step of path.slice(0, -1)) {
    const next = target[step];
    if (isMapping(next)) {
      target = next;
    } else if (next === undefined || next === null) {
      const made: Record<string, unknown> = {};
      target[step] = made;
      target = made;
    } else {
      // The file has something that is no section here: the check of its type reports that.
      return;
    }
  }
  target[path.at(-1)!] = value;
}

function dotted(path: KeyPath): string {
  return path.reduce<string>(
    (text, step) => (typeof step === 'number' ? `${text}[${step}]` : text === '' ? step : `${text}.${step}`),
    '',
  );
}

/** In the order of the lines, each said once. */
function distinct(problems: ConfigProblem[]): ConfigProblem[] {
  const line = ({ source }: ConfigProblem): number => Number(/:(\d+)$/.exec(source)?.[1] ?? 0);
  const byText = new Map(problems.map((problem) => [`${problem.path} ${problem.message}`, problem]));
  return [...byText.values()].sort((a, b) => line(a) - line(b));
}

function problemOf(issue: BaseIssue<unknown>, whereSaid: (path: KeyPath) => string): ConfigProblem {
  const path = (issue.path ?? []).map((step) => step.key as string | number);
  const problem = { path: dotted(path), source: whereSaid(path) };
  const name = String(path.at(-1));
  const holder = issue.path?.at(-1)?.input;
  if (issue.expected === 'never' && Array.isArray(holder)) {
    const at = path.slice(0, -1);
    return { path: dotted(at), source: whereSaid(at), message: 'expected a mapping of keys, found a list' };
  }
  if (issue.type === 'strict_object' && issue.expected === 'never') {
    const near = nearestName(name, keysBelow(path.slice(0, -1))?.keys() ?? []);
    return { ...problem, message: `unknown key${near ? `; did you mean ${near}?` : ''}` };
  }
  if (issue.received === 'undefined' && issue.type === 'strict_object') {
    return { ...problem, message: 'is missing' };
  }
  const expected = issue.message.startsWith('expected ')
    ? issue.message
    : `expected ${issue.type === 'array' ? 'a list' : 'a mapping of keys'}`;
  return { ...problem, message: `${expected}, found ${shownValue(issue.input)}` };
}

/** What marks the configuration of `dekd dev`. */
export interface DevMarks {
  /** Root key file that is made when it is absent; any other must be there. */
  readonly ownKeyFile: string | undefined;
  /** The only rule; undefined where the policy says them. */
  readonly rule: PolicyRule | undefined;
}

/** Fills in what depends on the surroundings. */
function resolveConfig(
  file: FileConfig,
  saysKeystore: boolean,
  env: Environment,
  dev: DevMarks | undefined,
  problems: ConfigProblem[],
): Config {
  const socketPath = file.socket.path ?? agentSocketPath(surroundings(env), 'run');
  const roots = Object.entries(file.roots).map(([name, root]) => rootOf(name, root, dev));
  const keystores = keystoresOf(file, saysKeystore);
  const networked = hasServices({ roots, keystores });
  return {
    dev: dev !== undefined,
    service: file.service,
    node: file.node ?? hostname(),
    state: file.state,
    engine: file.engine,
    memory: file.memory,
    randomness: file.randomness,
    socket: {
      path: socketPath,
      group: file.socket.group === undefined ? undefined : groupNumber(file.socket.group, problems),
      mode: file.socket.mode,
      allowOwnUid: file.socket.allowOwnUid,
    },
    sockets: Object.entries(file.sockets).map(([name, { path, group, mode }]) => ({
      name,
      path,
      group: group === undefined ? undefined : groupNumber(group, problems, `sockets.${name}.group`),
      mode,
    })),
    tokens: Object.entries(file.tokens).map(([name, { file: path }]) => ({ name, file: path })),
    admin: {
      path: file.admin.path ?? adminSocketPath(socketPath),
      port: file.admin.port,
      host: file.admin.host,
      metrics: file.admin.metrics,
      page: file.admin.page,
    },
    metrics: file.metrics,
    workers: file.workers,
    limits: file.limits,
    lane: {
      enabled: file.lane.enabled,
      path: laneSocketPath(socketPath),
      maxPayload: file.lane.maxPayload,
      budget: file.lane.budget,
      callerBudget: file.lane.callerBudget,
    },
    roots,
    defaultRoot: file.defaultRoot ?? (roots.length === 1 ? roots[0]!.name : ''),
    keystores,
    custody: file.custody === 'auto' ? custodyFor(networked, file.engine) : file.custody,
    hierarchy: file.hierarchy,
    region: file.region,
    routes: file.routes.map(({ level, tenant, service, key, region, root, ...rest }) => ({
      ...rest,
      level,
      tenant,
      service,
      key,
      region,
      root,
    })),
    coast: file.coast,
    revocation: file.revocation,
    prewarm: file.prewarm.map(({ key, partition }) => ({ key, partition: partition ?? '' })),
    keys: file.keys.map((definition) => ({
      name: definition.name,
      keyContext: definition.keyContext,
      requiredContext: definition.requiredContext,
      rotation: rotationOf(definition.rotation, file.rotation),
      direct: definition.direct ?? file.direct,
      recipients: definition.recipients ?? file.message.recipients,
      formerRecipients: definition.formerRecipients ?? file.message.formerRecipients,
    })),
    rotation: rotationOf({}, file.rotation),
    direct: file.direct,
    recipients: Object.entries(file.recipients).map(([name, recipient]) => recipientOf(name, recipient)),
    message: file.message,
    legacy: { keys: legacyKeysOf(file.legacy.keys, env, dev !== undefined, problems) },
    policy: {
      rules: dev?.rule
        ? [dev.rule]
        : file.policy.rules.map((rule) => ({
            ...rule,
            callers: {
              uid: rule.callers.uid,
              gid: rule.callers.gid,
              groups: rule.callers.groups,
              socket: rule.callers.socket,
              token: rule.callers.token,
            },
            quota: {
              requestsPerSecond: rule.quota.requestsPerSecond,
              bytesPerSecond: rule.quota.bytesPerSecond,
              inFlight: rule.quota.inFlight,
            },
          })),
    },
    audit: {
      ...file.audit,
      file: file.audit.file,
      keyFile: file.audit.keyFile,
      anchors: { ...file.audit.anchors, file: file.audit.anchors.file },
    },
    reload: file.reload,
    log: file.log,
  };
}

/** The JavaScript engines keep keys on the heap anyway, and hand over nothing in native code. */
function custodyFor(networked: boolean, engine: Config['engine']): Config['custody'] {
  return networked && (engine === 'native' || engine === 'auto') ? 'process' : 'inline';
}

function rotationOf(
  own: FileConfig['keys'][number]['rotation'],
  common: FileConfig['rotation'],
): KeyDefinition['rotation'] {
  return {
    age: own.age ?? common.age,
    messages: own.messages ?? common.messages,
    bytes: own.bytes ?? common.bytes,
    schedule: own.schedule ?? common.schedule,
    keep: own.keep ?? common.keep,
    grace: own.grace ?? common.grace,
  };
}

/** The number of a group, from /etc/group where it is named. */
function groupNumber(group: string | number, problems: ConfigProblem[], path = 'socket.group'): number | undefined {
  if (typeof group === 'number') {
    return group;
  }
  let lines: string[] = [];
  try {
    lines = readFileSync('/etc/group', 'utf8').split('\n');
  } catch {
    // Without the file no name is known; the problem below says so.
  }
  const line = lines.find((entry) => entry.startsWith(`${group}:`));
  const number = Number(line?.split(':')[2]);
  if (!Number.isSafeInteger(number)) {
    problems.push({
      path,
      source: '/etc/group',
      message: `no group ${JSON.stringify(group)}; give its number`,
    });
    return undefined;
  }
  return number;
}
