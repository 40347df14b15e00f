/** Keystores and routes of the configuration, and what does not go together. */
import { join } from 'node:path';
import { isLoopback } from '../loopback.ts';
import type { Finding } from './checks.ts';
import type { Config, EmbeddedKeystoreConfig, KeystoreConfig, PostgresSettings, Route } from './config.ts';
import { lossWithPod } from './durability.ts';
import type { Environment } from './environment.ts';
import { misplaced, misplacedAuthKeys, vaultFindings, vaultOf } from './roots.ts';
import type { FileConfig } from './schema.ts';

/** Name of the keystore that the section `keystore` is. */
export const DEFAULT_KEYSTORE = 'default';

/**
 * Every keystore by name.
 * @param isSaid whether the file has the section `keystore`; without it the default is there only when a route leads to it
 */
export function keystoresOf(file: FileConfig, isSaid: boolean): ReadonlyMap<string, KeystoreConfig> {
  const { state, routes } = file;
  const inState = (name: string): string | undefined => (state === undefined ? undefined : join(state, name));
  const found = new Map<string, KeystoreConfig>();
  if (isSaid || routes.length === 0 || routes.some((route) => leadsTo(route, DEFAULT_KEYSTORE))) {
    found.set(DEFAULT_KEYSTORE, keystoreOf(file.keystore, inState('keystore.sqlite')));
  }
  for (const [name, keystore] of Object.entries(file.keystores)) {
    found.set(name, keystoreOf(keystore, inState(`keystore-${name}.sqlite`)));
  }
  return found;
}

function leadsTo({ keystore, formerKeystores }: FileConfig['routes'][number], name: string): boolean {
  return keystore === name || formerKeystores.includes(name);
}

function keystoreOf(keystore: FileConfig['keystore'], defaultPath: string | undefined): KeystoreConfig {
  const { kind, path, acceptLoss } = keystore;
  switch (kind) {
    case 'postgres': {
      const { url, passwordFile, caFile, ...rest } = keystore.postgres;
      return { kind, postgres: { ...rest, url, passwordFile, caFile } };
    }
    case 'openbao-kv':
      return { kind, vault: vaultOf(keystore.vault), kv: keystore.kv };
    default:
      return { kind, acceptLoss, path: path ?? (kind === 'sqlite' ? defaultPath : undefined) };
  }
}

/** Keys of a keystore that are for another kind than it is. */
const KEYS_OF: Readonly<Record<KeystoreConfig['kind'], readonly string[]>> = {
  memory: ['acceptLoss'],
  sqlite: ['path', 'acceptLoss'],
  bundle: ['path', 'acceptLoss'],
  postgres: ['postgres'],
  'openbao-kv': ['vault', 'kv'],
};

/** What was said of a keystore and is for another kind. */
export function misplacedKeystoreKeys(
  raw: Readonly<Record<string, unknown>>,
  keystores: ReadonlyMap<string, KeystoreConfig>,
): Finding[] {
  const named = (raw.keystores ?? {}) as Readonly<Record<string, unknown>>;
  return [...keystores].flatMap(([name, keystore]) => {
    const path = pathOf(name);
    const said = name === DEFAULT_KEYSTORE ? raw.keystore : named[name];
    return [
      ...misplaced(path, said, KEYS_OF, keystore.kind, 'kind'),
      ...(keystore.kind === 'openbao-kv' ? misplacedAuthKeys(path, said, keystore.vault) : []),
    ];
  });
}

/** Everything wrong with keystores and routes. */
export function keystoreFindings(config: Config, env: Environment): Finding[] {
  const { keystores, routes } = config;
  const found: Finding[] = [];
  for (const [name, keystore] of keystores) {
    found.push(...oneKeystoreFindings(keystore, pathOf(name), config.dev, env));
  }
  return [...found, ...sharedFileFindings(keystores), ...routes.flatMap((_, index) => routeFindings(config, index))];
}

function pathOf(name: string): readonly string[] {
  return name === DEFAULT_KEYSTORE ? ['keystore'] : ['keystores', name];
}

/** Two keystores on one file would be one keystore with two names, and a record in both of them. */
function sharedFileFindings(keystores: Config['keystores']): Finding[] {
  const seen = new Map<string, string>();
  const found: Finding[] = [];
  for (const [name, keystore] of keystores) {
    const file = 'path' in keystore ? keystore.path : undefined;
    const other = file === undefined ? undefined : seen.get(file);
    if (other !== undefined) {
      found.push({ path: [...pathOf(name), 'path'], message: `is that of keystore ${other} too; each needs its own` });
    } else if (file !== undefined) {
      seen.set(file, name);
    }
  }
  return found;
}

function routeFindings({ routes, keystores, roots }: Config, index: number): Finding[] {
  const route = routes[index]!;
  const at = ['routes', index] as const;
  const found: Finding[] = [];
  const home = route.keystore ?? DEFAULT_KEYSTORE;
  for (const [key, names] of [
    ['keystore', [home]],
    ['formerKeystores', route.formerKeystores],
  ] as const) {
    for (const name of names.filter((each) => !keystores.has(each))) {
      const known = [...keystores.keys()].join(', ') || 'none';
      found.push({ path: [...at, key], message: `no keystore ${JSON.stringify(name)}; there are ${known}` });
    }
  }
  if (route.formerKeystores.includes(home)) {
    found.push({ path: [...at, 'formerKeystores'], message: `${home} is the keystore of this entry; remove it` });
  }
  if (route.root !== undefined && !roots.some(({ name }) => name === route.root)) {
    const known = roots.map(({ name }) => name).join(', ');
    found.push({ path: [...at, 'root'], message: `no root ${JSON.stringify(route.root)}; the roots are ${known}` });
  }
  const general = routes.findIndex(matchesEverything);
  if (general >= 0 && general < index) {
    found.push({ path: at, message: `never counts: routes[${general}] before it matches everything` });
  }
  return found;
}

function matchesEverything({ level, tenant, service, key, region }: Route): boolean {
  return level === undefined && [tenant, service, key, region].every((glob) => glob === undefined || glob === '*');
}

function oneKeystoreFindings(
  keystore: KeystoreConfig,
  at: readonly string[],
  dev: boolean,
  env: Environment,
): Finding[] {
  switch (keystore.kind) {
    case 'postgres':
      return postgresFindings([...at, 'postgres'], keystore.postgres, env);
    case 'openbao-kv':
      return vaultFindings([...at, 'vault'], keystore.vault);
    default:
      return embeddedFindings(keystore, at, dev, env);
  }
}

function embeddedFindings(
  { kind, path, acceptLoss }: EmbeddedKeystoreConfig,
  at: readonly string[],
  dev: boolean,
  env: Environment,
): Finding[] {
  const found: Finding[] = [];
  if (kind !== 'memory' && path === undefined) {
    found.push({
      path: [...at, 'path'],
      message: `kind ${kind} needs a path${kind === 'sqlite' ? ', or a state folder' : ''}`,
    });
  }
  const loss = !dev && env.KUBERNETES_SERVICE_HOST && !acceptLoss ? podLoss(kind, path) : undefined;
  if (loss !== undefined) {
    const message = `dies with the pod, and every token with it: ${loss}; use a volume that stays, or set ${at.join('.')}.acceptLoss: true`;
    found.push({ path: [...at, kind === 'memory' ? 'kind' : 'path'], message });
  }
  return found;
}

function podLoss(kind: string, path: string | undefined): string | undefined {
  if (kind === 'memory') {
    return 'kind memory keeps nothing';
  }
  return kind === 'sqlite' && path !== undefined ? lossWithPod(path) : undefined;
}

function postgresFindings(at: readonly string[], { url, tls }: PostgresSettings, env: Environment): Finding[] {
  const path = [...at, 'url'];
  const parsed = url !== undefined && URL.canParse(url) ? new URL(url) : undefined;
  if (url !== undefined && (parsed === undefined || !/^postgres(ql)?:$/.test(parsed.protocol))) {
    return [{ path, message: 'must be a URL such as postgres://dekd@db.example/dekd' }];
  }
  const parameters = [...(parsed?.searchParams.keys() ?? [])];
  if (parsed !== undefined && (parsed.password !== '' || parameters.includes('password'))) {
    return [{ path, message: 'must not hold the password; put that into a file and name it in passwordFile' }];
  }
  if (parameters.some((name) => name !== 'host')) {
    const message = 'takes no parameter but host; tls, timeout and connections are keys of their own';
    return [{ path, message }];
  }
  // As in libpq: the parameter host stands above the host of the URL, a folder is a Unix socket.
  const said = parsed?.searchParams.get('host') || parsed?.hostname.replaceAll(/%2f/gi, '/') || env.PGHOST;
  return tls === 'disable' && said && !said.startsWith('/') && !isLoopback(said)
    ? [{ path: [...at, 'tls'], message: 'disable is for Unix sockets and loopback addresses' }]
    : [];
}
