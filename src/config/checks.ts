/** What no single key shows: values that do not go together. */
import type { Config } from './config.ts';
import { lossWithPod } from './durability.ts';
import type { Environment } from './environment.ts';
import { socketPathProblem } from './paths.ts';

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
    ...ruleFindings(config),
  ];
}

function socketFindings(config: Config): Finding[] {
  const found: Finding[] = [];
  for (const [section, path] of [
    ['socket', config.socket.path],
    ['admin', config.admin.path],
  ] as const) {
    const problem = socketPathProblem(path);
    if (problem) {
      found.push({ path: [section, 'path'], message: problem });
    }
  }
  if (config.socket.path === config.admin.path) {
    found.push({ path: ['admin', 'path'], message: 'is the data socket; the two sockets need different paths' });
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

function rootFindings({ dev, roots, defaultRoot }: Config): Finding[] {
  const found: Finding[] = [];
  if (roots.length === 0) {
    found.push({
      path: ['roots'],
      message: 'at least one root key is needed; `dekd config sample` shows how to name one',
    });
  } else if (defaultRoot === '') {
    found.push({
      path: ['defaultRoot'],
      message: `there are several roots; name one of ${roots.map(({ name }) => name).join(', ')}`,
    });
  } else if (!roots.some(({ name }) => name === defaultRoot)) {
    found.push({
      path: ['defaultRoot'],
      message: `no such root; the roots are ${roots.map(({ name }) => name).join(', ')}`,
    });
  }
  for (const root of roots) {
    if (!root.ephemeral && (root.keyFile === undefined) === (root.keyDescriptor === undefined)) {
      found.push({ path: ['roots', root.name], message: 'needs either keyFile or keyDescriptor' });
    }
    if (!dev && !root.allowLocalRoot) {
      const message =
        'a local root protects nothing from who can read this node; set allowLocalRoot: true to accept that';
      found.push({ path: ['roots', root.name], message });
    }
  }
  return found;
}

function keystoreFindings({ dev, keystore }: Config, env: Environment): Finding[] {
  const found: Finding[] = [];
  if (keystore.kind === 'memory' && keystore.path !== undefined) {
    found.push({ path: ['keystore', 'path'], message: 'has no effect with kind memory; remove it' });
  }
  if (keystore.kind !== 'memory' && keystore.path === undefined) {
    found.push({
      path: ['keystore', 'path'],
      message: `kind ${keystore.kind} needs a path${keystore.kind === 'sqlite' ? ', or a state folder' : ''}`,
    });
  }
  if (!dev && env.KUBERNETES_SERVICE_HOST && !keystore.acceptLoss) {
    const loss = podLoss(keystore);
    if (loss !== undefined) {
      const message = `dies with the pod, and every token with it: ${loss}; use a volume that stays, or set keystore.acceptLoss: true`;
      found.push({ path: ['keystore', keystore.kind === 'memory' ? 'kind' : 'path'], message });
    }
  }
  return found;
}

function podLoss({ kind, path }: Config['keystore']): string | undefined {
  if (kind === 'memory') {
    return 'kind memory keeps nothing';
  }
  return kind === 'sqlite' && path !== undefined ? lossWithPod(path) : undefined;
}

function ruleFindings({ policy }: Config): Finding[] {
  const seen = new Set<string>();
  const found: Finding[] = [];
  for (const [index, rule] of policy.rules.entries()) {
    const at = ['policy', 'rules', index] as const;
    if (seen.has(rule.name)) {
      found.push({ path: [...at, 'name'], message: `the name ${JSON.stringify(rule.name)} is used twice` });
    }
    seen.add(rule.name);
    if (rule.operations.includes('anyKey') && !rule.operations.includes('decrypt')) {
      found.push({ path: [...at, 'operations'], message: 'anyKey adds to decrypt; name both' });
    }
    if (rule.create !== false && !rule.operations.includes('encrypt')) {
      found.push({ path: [...at, 'create'], message: 'creation happens on encrypt; name that operation too' });
    }
  }
  return found;
}
