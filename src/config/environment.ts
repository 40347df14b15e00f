/** Variables that override the file: DEKD_ and the path of the key in capitals, `limits.maxPayload` → DEKD_LIMITS_MAX_PAYLOAD. */
import { resolve } from 'node:path';
import type { RootConfig } from './config.ts';
import { type ConfigProblem, looksLikeKeyMaterial, nearestName } from './problems.ts';
import type { TextKind } from './readers.ts';
import { type SchemaNode, schemaTree } from './schema-walk.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** One value from a variable or a flag, to be laid over the file. */
export interface Override {
  readonly path: readonly string[];
  readonly value: unknown;
  /** Name of the variable or flag. */
  readonly source: string;
}

/** Variables that are not keys of the file. */
const OTHER_VARIABLES = new Set(['DEKD_CONFIG', 'DEKD_NATIVE_PATH', 'DEKD_VECTORS']);

/** Kubernetes sets these for every Service, one called dekd included. */
const SERVICE_LINK = /_SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)$|_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$/;

const KEY_MATERIAL_NAME = /(ROOT_?KEY|KEY_MATERIAL|KEY_BYTES|KEY_BASE64|SECRET)$/;

/** `limits.maxPayload` → DEKD_LIMITS_MAX_PAYLOAD. */
export function variableName(path: readonly string[]): string {
  return [
    'DEKD',
    ...path.map((name) =>
      name
        .replace(/([a-z])([A-Z])/g, '$1_$2')
        .replaceAll('-', '_')
        .toUpperCase(),
    ),
  ].join('_');
}

/** Every key that one variable can set: those with a single value, outside lists. `roots` are the names known so far. */
export function settableKeys(
  roots: Iterable<string>,
): { readonly path: readonly string[]; readonly node: SchemaNode }[] {
  const found: { path: readonly string[]; node: SchemaNode }[] = [];
  const visit = (keys: ReadonlyMap<string, SchemaNode>, prefix: readonly string[]): void => {
    for (const [name, node] of keys) {
      const path = [...prefix, name];
      if (node.shape === 'section') {
        visit(node.children, path);
      } else if (node.shape === 'names') {
        for (const root of roots) {
          visit(node.children, [...path, root]);
        }
      } else if (node.shape === 'leaf' && node.doc.reader!.kind !== 'none') {
        found.push({ path, node });
      }
    }
  };
  visit(schemaTree, []);
  return found;
}

/** The YAML value that a text of a variable or flag stands for; a relative path counts from the working directory. */
export function valueOfText(textValue: string, kind: TextKind): unknown {
  switch (kind) {
    case 'number':
      return /^\d{1,15}$/.test(textValue) ? Number(textValue) : textValue;
    case 'boolean':
      return textValue === 'true' ? true : textValue === 'false' ? false : textValue;
    case 'path':
      return textValue === '' ? textValue : resolve(textValue);
    default:
      return textValue;
  }
}

/**
 * The overrides in `env`. Key material in a variable is refused: a variable is inherited by children, shown by `/proc`
 * and kept in manifests.
 */
export function readEnvironment(
  env: Environment,
  roots: readonly string[],
  problems: ConfigProblem[],
  warnings: string[],
): Override[] {
  const overrides = providerShortcut(env, roots, problems);
  const allRoots = [...roots, ...overrides.flatMap(({ path }) => (path[0] === 'roots' ? [path[1]!] : []))];
  const names = new Map(settableKeys(new Set(allRoots)).map((key) => [variableName(key.path), key]));
  const socket = names.get('DEKD_SOCKET_PATH')!;
  names.set('DEKD_SOCKET', socket);
  if (env.DEKD_SOCKET && env.DEKD_SOCKET_PATH && env.DEKD_SOCKET !== env.DEKD_SOCKET_PATH) {
    problems.push({
      path: 'socket.path',
      source: 'DEKD_SOCKET',
      message: 'differs from DEKD_SOCKET_PATH; set one of them',
    });
  }
  for (const [name, value] of Object.entries(env)) {
    if (!name.startsWith('DEKD_') || value === undefined) {
      continue;
    }
    const key = names.get(name);
    if (looksLikeKeyMaterial(value) || (!key && KEY_MATERIAL_NAME.test(name))) {
      problems.push({
        path: '',
        source: name,
        message:
          'key material in a variable is refused; put it in a 0600 file and name that in roots.NAME.keyFile (DEKD_ROOTS_NAME_KEY_FILE)',
      });
    } else if (key) {
      overrides.push({ path: key.path, value: valueOfText(value, key.node.doc.reader!.kind), source: name });
    } else if (!OTHER_VARIABLES.has(name) && !SERVICE_LINK.test(name)) {
      unknownVariable(name, names.keys(), problems, warnings);
    }
  }
  return overrides;
}

/** A near miss is an error; any other name may be somebody else's, and stops nothing. */
function unknownVariable(name: string, known: Iterable<string>, problems: ConfigProblem[], warnings: string[]): void {
  const near = nearestName(name, known);
  if (near) {
    problems.push({ path: '', source: name, message: `unknown variable; did you mean ${near}?` });
  } else {
    warnings.push(`${name}: no such key of the configuration, ignored`);
  }
}

interface ProviderShortcut {
  readonly provider: RootConfig['provider'];
  readonly direct?: true;
}

/** What ENCRYPTION_PROVIDER can say. A provider with two names makes one root: records name it. */
const SHORTCUTS: Readonly<Record<string, ProviderShortcut>> = {
  kms: { provider: 'aws-kms', direct: true },
  'kms-encryption': { provider: 'aws-kms' },
  'aws-kms': { provider: 'aws-kms' },
  vault: { provider: 'vault-transit' },
  'vault-transit': { provider: 'vault-transit' },
  pkcs11: { provider: 'pkcs11' },
  local: { provider: 'local' },
};

/** Variables that people have for these services already, and the key of the root that each sets. */
const SERVICE_VARIABLES: Readonly<Record<RootConfig['provider'], Readonly<Record<string, string>>>> = {
  local: {},
  // Region, endpoint, profile and credentials are read by the SDK itself.
  'aws-kms': { AWS_KMS_KEY_ID: 'aws.key', KMS_KEY_ID: 'aws.key' },
  'vault-transit': {
    VAULT_ADDR: 'vault.address',
    VAULT_NAMESPACE: 'vault.namespace',
    VAULT_CACERT: 'vault.caFile',
    VAULT_TLS_SERVER_NAME: 'vault.serverName',
    VAULT_ROLE_ID: 'vault.auth.roleId',
    VAULT_TRANSIT_MOUNT: 'transit.mount',
    VAULT_TRANSIT_KEY: 'transit.key',
  },
  pkcs11: {
    PKCS11_MODULE: 'pkcs11.module',
    PKCS11_TOKEN_LABEL: 'pkcs11.token',
    PKCS11_KEY_LABEL: 'pkcs11.key',
    PKCS11_PIN_FILE: 'pkcs11.pinFile',
  },
};

/** ENCRYPTION_PROVIDER adds a root with that provider, named after it, when none is configured. */
function providerShortcut(env: Environment, roots: readonly string[], problems: ConfigProblem[]): Override[] {
  const name = env.ENCRYPTION_PROVIDER;
  if (name === undefined || name === '') {
    return [];
  }
  const shortcut = Object.hasOwn(SHORTCUTS, name) ? SHORTCUTS[name] : undefined;
  if (shortcut === undefined) {
    const message = `unknown provider ${JSON.stringify(name.slice(0, 40))}; it is one of ${Object.keys(SHORTCUTS).join(', ')}`;
    problems.push({ path: 'roots', source: 'ENCRYPTION_PROVIDER', message });
    return [];
  }
  if (roots.length > 0) {
    return [];
  }
  const { provider, direct } = shortcut;
  const source = 'ENCRYPTION_PROVIDER';
  const overrides: Override[] = [{ path: ['roots', provider, 'provider'], value: provider, source }];
  if (direct === true) {
    overrides.push({ path: ['direct'], value: true, source });
  }
  for (const [variable, key] of Object.entries(SERVICE_VARIABLES[provider])) {
    const value = env[variable];
    if (value !== undefined && value !== '') {
      overrides.push({ path: ['roots', provider, ...key.split('.')], value, source: variable });
    }
  }
  if (provider === 'vault-transit' && env.VAULT_ROLE_ID) {
    overrides.push({ path: ['roots', provider, 'vault', 'auth', 'method'], value: 'approle', source: 'VAULT_ROLE_ID' });
  }
  return overrides;
}
