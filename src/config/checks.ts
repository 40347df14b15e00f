/** What no single key shows: values that do not go together. */
import { isIP } from 'node:net';
import type {
  Config,
  KeystoreConfig,
  Operation,
  RootConfig,
  ServiceKeystoreConfig,
  ServiceRootConfig,
} from './config.ts';
import type { Environment } from './environment.ts';
import { keystoreFindings } from './keystores.ts';
import { legacyFindings } from './legacy.ts';
import { socketPathProblem } from './paths.ts';
import { recipientFindings } from './recipients.ts';
import { rootFindings } from './roots.ts';

/** A problem of the finished configuration, at a dotted path. */
export interface Finding {
  readonly path: readonly (string | number)[];
  readonly message: string;
}

/** Everything that keeps `run` from starting with this configuration. */
export function findings(config: Config, env: Environment): Finding[] {
  return [
    ...socketFindings(config),
    ...memoryFindings(config),
    ...rootFindings(config),
    ...keystoreFindings(config, env),
    ...custodyFindings(config),
    ...recipientFindings(config),
    ...legacyFindings(config),
    ...portFindings(config),
    ...coastFindings(config),
    ...ruleFindings(config),
    ...auditFindings(config),
  ];
}

function auditFindings({ audit, state }: Config): Finding[] {
  const found: Finding[] = [];
  if (audit.to === 'file' && audit.file === undefined) {
    found.push({ path: ['audit', 'file'], message: 'is missing: audit.to is file' });
  }
  if (audit.to !== 'off' && audit.keyFile === undefined && state === undefined) {
    found.push({
      path: ['audit', 'keyFile'],
      message: 'is missing: without a state folder each run needs the key; dekd keygen -o FILE makes one',
    });
  }
  if (audit.to !== 'file' && audit.fsync === 'always') {
    found.push({ path: ['audit', 'fsync'], message: 'always is for audit.to file' });
  }
  if (audit.strict && audit.to === 'off') {
    found.push({ path: ['audit', 'strict'], message: 'needs a log: audit.to is off' });
  }
  return found;
}

function socketFindings(config: Config): Finding[] {
  const found: Finding[] = [];
  const seen = new Map<string, string>();
  for (const { section, path } of [
    { section: ['socket'], path: config.socket.path },
    { section: ['admin'], path: config.admin.path },
    ...config.sockets.map(({ name, path }) => ({ section: ['sockets', name], path })),
  ]) {
    const problem = socketPathProblem(path);
    const other = seen.get(path);
    if (problem) {
      found.push({ path: [...section, 'path'], message: problem });
    } else if (other !== undefined) {
      found.push({ path: [...section, 'path'], message: `is ${other} as well; sockets need different paths` });
    }
    seen.set(path, `that of ${section.join('.')}`);
  }
  return found;
}

function memoryFindings({ dev, engine, memory }: Config): Finding[] {
  if (dev || memory.allowInsecureMemory) {
    return [];
  }
  const found: Finding[] = [];
  if (memory.level === 'heap') {
    found.push({ path: ['memory', 'level'], message: 'heap needs memory.allowInsecureMemory: true' });
  }
  if (engine === 'node' || engine === 'noble') {
    const message = `${engine} keeps keys on the JavaScript heap; use native, or set memory.allowInsecureMemory: true`;
    found.push({ path: ['engine'], message });
  }
  return found;
}

/** Networked back ends load foreign libraries, which is for a process of their own unless the operator accepts more. */
function custodyFindings(config: Config): Finding[] {
  const { dev, custody, engine, memory } = config;
  const networked = hasServices(config);
  if (custody === 'process' && (engine === 'node' || engine === 'noble')) {
    const message = `process hands keys over in native code, and engine is ${engine}; use engine native, or custody inline`;
    return [{ path: ['custody'], message }];
  }
  if (custody === 'inline' && networked && !dev && !memory.allowInsecureMemory) {
    const message =
      'inline keeps unwrapped secrets on the heap of the agent; use process, or set memory.allowInsecureMemory: true';
    return [{ path: ['custody'], message }];
  }
  return [];
}

/** Whether the back end's library belongs into a custodian. */
export function isService<T extends RootConfig | KeystoreConfig>(
  backEnd: T,
): backEnd is Extract<T, ServiceRootConfig | ServiceKeystoreConfig> {
  return 'provider' in backEnd
    ? backEnd.provider !== 'local'
    : backEnd.kind === 'postgres' || backEnd.kind === 'openbao-kv';
}

/** Whether anything of it loads a foreign library. */
export function hasServices({ roots, keystores }: Pick<Config, 'roots' | 'keystores'>): boolean {
  return [...roots, ...keystores.values()].some(isService);
}

function portFindings({ admin }: Config): Finding[] {
  return admin.port !== undefined && isIP(admin.host) === 0
    ? [{ path: ['admin', 'host'], message: 'must be an IP address of this host, such as 127.0.0.1, 0.0.0.0 or ::' }]
    : [];
}

/** Keys that are wiped can no longer encrypt either. */
function coastFindings({ coast }: Config): Finding[] {
  return coast.encrypt > coast.decrypt
    ? [{ path: ['coast', 'encrypt'], message: 'is longer than coast.decrypt, at the end of which keys are wiped' }]
    : [];
}

/** What makes a key on first use. */
const CREATING: ReadonlySet<Operation> = new Set<Operation>(['encrypt', 'hmac', 'blindIndex']);

function ruleFindings({ policy, roots, sockets, tokens }: Config): Finding[] {
  const places = ['data', 'admin', ...sockets.map(({ name }) => name)];
  const seen = new Set<string>();
  const found: Finding[] = [];
  for (const [index, rule] of policy.rules.entries()) {
    const at = ['policy', 'rules', index] as const;
    if (seen.has(rule.name)) {
      found.push({ path: [...at, 'name'], message: `the name ${JSON.stringify(rule.name)} is used twice` });
    }
    seen.add(rule.name);
    for (const [field, named, known] of [
      ['socket', rule.callers.socket, places],
      ['token', rule.callers.token ?? [], tokens.map(({ name }) => name)],
    ] as const) {
      for (const name of named.filter((each) => !known.includes(each))) {
        const there = known.length === 0 ? 'there is none' : `there are ${known.join(', ')}`;
        found.push({ path: [...at, 'callers', field], message: `no ${field} ${JSON.stringify(name)}; ${there}` });
      }
    }
    if (rule.operations.includes('anyKey') && !rule.operations.includes('decrypt')) {
      found.push({ path: [...at, 'operations'], message: 'anyKey adds to decrypt; name both' });
    }
    if (rule.create !== false && !rule.operations.some((operation) => CREATING.has(operation))) {
      found.push({
        path: [...at, 'create'],
        message: 'creation happens on encrypt, hmac and blindIndex; name one of those operations too',
      });
    }
    if (rule.roots.length > 0 && !rule.operations.some((name) => name === 'encrypt' || name === 'reencrypt')) {
      found.push({
        path: [...at, 'roots'],
        message: 'roots are chosen on encrypt and reencrypt; name one of them too',
      });
    }
    for (const name of rule.roots.filter((each) => !each.includes('*') && !roots.some((root) => root.name === each))) {
      const known = roots.map((root) => root.name).join(', ');
      found.push({ path: [...at, 'roots'], message: `no root ${JSON.stringify(name)}; the roots are ${known}` });
    }
  }
  return found;
}
