/**
 * Variables that override the file: DEKD_ and the path of the key in capitals, `limits.maxPayload` → DEKD_LIMITS_MAX_PAYLOAD. What
 * is a list, or a mapping of names, is one variable with JSON in it: DEKD_ROUTES.
 */
import { resolve } from 'node:path';
import type { RootConfig } from './config.ts';
import { type ConfigProblem, isMapping, isNameOfJavaScript, looksLikeKeyMaterial, nearestName } from './problems.ts';
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

/** Names known so far of the entries of a mapping, by the key of the file that it is. */
export type EntryNames = Readonly<
  Record<'roots' | 'keystores' | 'recipients' | 'sockets' | 'tokens', readonly string[]>
>;

interface SettableKey {
  readonly path: readonly string[];
  readonly kind: TextKind;
}

/** How the text of a variable for a key is read; undefined for a section, which no variable sets as a whole. */
export function textKindOf({ shape, doc }: SchemaNode): TextKind | undefined {
  switch (shape) {
    case 'section':
      return undefined;
    case 'leaf':
      return doc.reader!.kind;
    default:
      return 'json';
  }
}

/** Every key that a variable can set: all but sections, and what is inside of a list. */
export function settableKeys(names: EntryNames): SettableKey[] {
  const found: SettableKey[] = [];
  const visit = (keys: ReadonlyMap<string, SchemaNode>, prefix: readonly string[]): void => {
    for (const [name, node] of keys) {
      const path = [...prefix, name];
      const kind = textKindOf(node);
      if (kind === undefined) {
        visit(node.children, path);
        continue;
      }
      found.push({ path, kind });
      if (node.shape === 'names') {
        for (const entry of names[name as keyof EntryNames]) {
          visit(node.children, [...path, entry]);
        }
      }
    }
  };
  visit(schemaTree, []);
  return found;
}

/**
 * The value that a text of a variable or flag stands for; a relative path counts from the working directory. What is no value
 * of its kind comes back as the text, which the check of the key then refuses.
 */
export function valueOfText(textValue: string, kind: TextKind): unknown {
  switch (kind) {
    case 'number':
      return /^\d{1,15}$/.test(textValue) ? Number(textValue) : textValue;
    case 'boolean':
      return textValue === 'true' ? true : textValue === 'false' ? false : textValue;
    case 'path':
      return textValue === '' ? textValue : resolve(textValue);
    case 'json':
      return jsonOf(textValue);
    default:
      return textValue;
  }
}

function jsonOf(textValue: string): unknown {
  try {
    return JSON.parse(textValue);
  } catch {
    return textValue;
  }
}

/**
 * The overrides in `env`, what sets a whole list or mapping before what sets one key in it. Key material in a variable is
 * refused: a variable is inherited by children, shown by `/proc` and kept in manifests.
 */
export function readEnvironment(
  env: Environment,
  entries: EntryNames,
  problems: ConfigProblem[],
  warnings: string[],
): Override[] {
  const said = {
    roots: namesIn(env.DEKD_ROOTS) ?? entries.roots,
    keystores: namesIn(env.DEKD_KEYSTORES) ?? entries.keystores,
    recipients: namesIn(env.DEKD_RECIPIENTS) ?? entries.recipients,
    sockets: namesIn(env.DEKD_SOCKETS) ?? entries.sockets,
    tokens: namesIn(env.DEKD_TOKENS) ?? entries.tokens,
  };
  const added = addedRoot(env, said.roots, problems, warnings);
  const keys = settableKeys(added === undefined ? said : { ...said, roots: [added.provider] });
  const names = new Map(keys.map((key) => [variableName(key.path), key]));
  const overrides = added === undefined ? [] : shortcutOverrides(added, env, keys);
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
      const read = valueOfText(value, key.kind);
      const problem = key.kind === 'json' ? jsonProblem(read) : undefined;
      if (problem === undefined) {
        overrides.push({ path: key.path, value: read, source: name });
      } else {
        problems.push({ path: key.path.join('.'), source: name, message: problem });
      }
    } else if (!OTHER_VARIABLES.has(name) && !SERVICE_LINK.test(name)) {
      unknownVariable(name, names.keys(), problems, warnings);
    }
  }
  return overrides.sort((a, b) => a.path.length - b.path.length);
}

/** Names of the entries of a mapping that a variable gives as a whole; undefined when it gives none. */
function namesIn(textValue: string | undefined): string[] | undefined {
  const read = textValue === undefined ? undefined : jsonOf(textValue);
  return isMapping(read) ? Object.keys(read) : undefined;
}

/** What makes a value of a variable none for a list or mapping, as far as its schema does not see it. */
function jsonProblem(read: unknown): string | undefined {
  if (typeof read === 'string') {
    return 'expected JSON, such as [{"tenant":"eu-*","keystore":"eu"}] for routes';
  }
  return namesDeep(read).some(isNameOfJavaScript) ? 'has a key that no configuration has' : undefined;
}

/** Names of all keys in `value` but for those of key contexts, where any name is a name. */
function namesDeep(value: unknown): string[] {
  if (typeof value !== 'object' || value === null) {
    return [];
  }
  return Object.entries(value).flatMap(([name, inner]) => (name === 'keyContext' ? [] : [name, ...namesDeep(inner)]));
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

/** Variables that people have for these services already, and the key of the root that each sets; the first one set counts. */
const SERVICE_VARIABLES: Readonly<Record<RootConfig['provider'], Readonly<Record<string, readonly string[]>>>> = {
  local: {},
  // Region, profile and credentials are read by the SDK itself.
  'aws-kms': { 'aws.key': ['AWS_KMS_KEY_ID', 'KMS_KEY_ID'] },
  'vault-transit': {
    'vault.address': ['VAULT_ADDR'],
    'vault.namespace': ['VAULT_NAMESPACE'],
    'vault.caFile': ['VAULT_CACERT'],
    'vault.serverName': ['VAULT_TLS_SERVER_NAME'],
    'vault.auth.roleId': ['VAULT_ROLE_ID'],
    'transit.mount': ['VAULT_TRANSIT_MOUNT'],
    'transit.key': ['VAULT_TRANSIT_KEY'],
  },
  pkcs11: {
    'pkcs11.module': ['PKCS11_MODULE'],
    'pkcs11.slot': ['PKCS11_SLOT'],
    'pkcs11.token': ['PKCS11_TOKEN_LABEL'],
    'pkcs11.key': ['PKCS11_KEY_LABEL'],
    'pkcs11.pinFile': ['PKCS11_PIN_FILE'],
  },
};

/** ENCRYPTION_PROVIDER adds a root with that provider, named after it, when none is configured. */
function addedRoot(
  env: Environment,
  roots: readonly string[],
  problems: ConfigProblem[],
  warnings: string[],
): ProviderShortcut | undefined {
  const name = env.ENCRYPTION_PROVIDER;
  if (name === undefined || name === '') {
    return undefined;
  }
  const shortcut = Object.hasOwn(SHORTCUTS, name) ? SHORTCUTS[name] : undefined;
  if (shortcut === undefined) {
    const message = `unknown provider ${JSON.stringify(name.slice(0, 40))}; it is one of ${Object.keys(SHORTCUTS).join(', ')}`;
    problems.push({ path: 'roots', source: 'ENCRYPTION_PROVIDER', message });
    return undefined;
  }
  if (roots.length > 0) {
    warnings.push(`ENCRYPTION_PROVIDER: adds a root only where none is configured, ignored beside ${roots.join(', ')}`);
    return undefined;
  }
  return shortcut;
}

function shortcutOverrides(
  { provider, direct }: ProviderShortcut,
  env: Environment,
  keys: readonly SettableKey[],
): Override[] {
  const source = 'ENCRYPTION_PROVIDER';
  const overrides: Override[] = [{ path: ['roots', provider, 'provider'], value: provider, source }];
  if (direct === true) {
    overrides.push({ path: ['direct'], value: true, source });
  }
  const kinds = new Map(keys.map(({ path, kind }) => [path.join('.'), kind]));
  for (const [key, variables] of Object.entries(SERVICE_VARIABLES[provider])) {
    const variable = variables.find((each) => env[each] !== undefined && env[each] !== '');
    const path = ['roots', provider, ...key.split('.')];
    if (variable === undefined || (variable === 'VAULT_ROLE_ID' && !isByRole(provider, env))) {
      continue;
    }
    overrides.push({ path, value: valueOfText(env[variable]!, kinds.get(path.join('.'))!), source: variable });
    if (variable === 'VAULT_ROLE_ID') {
      overrides.push({ path: authMethod(provider), value: 'approle', source: variable });
    }
  }
  return overrides;
}

function authMethod(provider: string): readonly string[] {
  return ['roots', provider, 'vault', 'auth', 'method'];
}

/** A role id that is in the environment for somebody else does not stand in the way of another method. */
function isByRole(provider: string, env: Environment): boolean {
  return (env[variableName(authMethod(provider))] || 'approle') === 'approle';
}
