/** Keystores and routes of the configuration, and what does not go together. */
import { join } from 'node:path';
import type { Finding } from './checks.ts';
import type { Config, EmbeddedKeystoreConfig, KeystoreConfig } from './config.ts';
import { lossWithPod } from './durability.ts';
import type { Environment } from './environment.ts';
import { misplaced, vaultFindings, vaultOf } from './roots.ts';
import type { FileConfig } from './schema.ts';

/** Name of the keystore that the section `keystore` is. */
export const DEFAULT_KEYSTORE = 'default';

/** Every keystore by name. */
export function keystoresOf(file: FileConfig): ReadonlyMap<string, KeystoreConfig> {
  const { state } = file;
  return new Map([
    [DEFAULT_KEYSTORE, keystoreOf(file.keystore, state === undefined ? undefined : join(state, 'keystore.sqlite'))],
    ...Object.entries(file.keystores).map(
      ([name, keystore]) =>
        [name, keystoreOf(keystore, state === undefined ? undefined : join(state, `keystore-${name}.sqlite`))] as const,
    ),
  ]);
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
  return [...keystores].flatMap(([name, { kind }]) =>
    name === DEFAULT_KEYSTORE
      ? misplaced(['keystore'], raw.keystore, KEYS_OF, kind, 'kind')
      : misplaced(['keystores', name], named[name], KEYS_OF, kind, 'kind'),
  );
}

/** Everything wrong with keystores and routes. */
export function keystoreFindings(config: Config, env: Environment): Finding[] {
  const { keystores, routes } = config;
  const found: Finding[] = [];
  for (const [name, keystore] of keystores) {
    const path = name === DEFAULT_KEYSTORE ? ['keystore'] : ['keystores', name];
    found.push(...oneKeystoreFindings(keystore, path, config.dev, env));
  }
  for (const [index, route] of routes.entries()) {
    const at = ['routes', index] as const;
    for (const name of [route.keystore ?? DEFAULT_KEYSTORE, ...route.formerKeystores]) {
      if (!keystores.has(name)) {
        const known = [...keystores.keys()].join(', ');
        found.push({ path: [...at, 'keystore'], message: `no keystore ${JSON.stringify(name)}; there are ${known}` });
      }
    }
    if (route.root !== undefined && !config.roots.some(({ name }) => name === route.root)) {
      const known = config.roots.map(({ name }) => name).join(', ');
      found.push({ path: [...at, 'root'], message: `no root ${JSON.stringify(route.root)}; the roots are ${known}` });
    }
  }
  return found;
}

function oneKeystoreFindings(
  keystore: KeystoreConfig,
  at: readonly string[],
  dev: boolean,
  env: Environment,
): Finding[] {
  switch (keystore.kind) {
    case 'postgres':
      return postgresFindings([...at, 'postgres'], keystore.postgres);
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

function postgresFindings(at: readonly string[], { url, tls }: { url: string | undefined; tls: string }): Finding[] {
  if (url === undefined) {
    return [];
  }
  const path = [...at, 'url'];
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (parsed === undefined || !/^postgres(ql)?:$/.test(parsed.protocol)) {
    return [{ path, message: 'must be a URL such as postgres://dekd@db.example/dekd' }];
  }
  if (parsed.password !== '' || parsed.searchParams.has('password')) {
    return [{ path, message: 'must not hold the password; put that into a file and name it in passwordFile' }];
  }
  const local =
    parsed.searchParams.get('host')?.startsWith('/') ||
    parsed.hostname === '' ||
    /^(localhost|127(\.\d+){3}|\[::1\])$/.test(parsed.hostname);
  return tls === 'disable' && !local
    ? [{ path: [...at, 'tls'], message: 'disable is for Unix sockets and loopback addresses' }]
    : [];
}
