/** Roots of the configuration: from what the file says to what a provider takes, and what does not go together. */

import { isLoopback } from '../loopback.ts';
import type { Finding } from './checks.ts';
import type { Config, RootConfig, VaultAuth, VaultSettings } from './config.ts';
import type { DevMarks } from './resolve.ts';
import type { FileConfig } from './schema.ts';

type FileRoot = FileConfig['roots'][string];
type FileVault = FileRoot['vault'];

const SERVICE_ACCOUNT_TOKEN = '/var/run/secrets/kubernetes.io/serviceaccount/token';

/** A root as its provider takes it. What is missing reads as empty here, and is found by `rootFindings`. */
export function rootOf(name: string, root: FileRoot, dev: DevMarks | undefined): RootConfig {
  const { provider, formerly } = root;
  switch (provider) {
    case 'local':
      return {
        name,
        provider,
        formerly,
        keyFile: root.keyFile,
        keyDescriptor: root.keyDescriptor,
        allowLocalRoot: root.allowLocalRoot,
        createKeyFile: root.keyFile !== undefined && root.keyFile === dev?.ownKeyFile,
        ephemeral: dev !== undefined && root.keyFile === undefined && root.keyDescriptor === undefined,
      };
    case 'aws-kms':
      return {
        name,
        provider,
        formerly,
        aws: { ...root.aws, key: root.aws.key ?? '', region: root.aws.region, endpoint: root.aws.endpoint },
      };
    case 'vault-transit':
      return {
        name,
        provider,
        formerly,
        vault: vaultOf(root.vault),
        transit: { mount: root.transit.mount, key: root.transit.key ?? '' },
      };
    case 'pkcs11': {
      const { module, pinFile, slot, token, key, keyId, mechanismNumber, ...rest } = root.pkcs11;
      return {
        name,
        provider,
        formerly,
        pkcs11: { ...rest, module: module ?? '', pinFile: pinFile ?? '', slot, token, key, keyId, mechanismNumber },
      };
    }
  }
}

export function vaultOf({ address, namespace, caFile, serverName, auth, ...rest }: FileVault): VaultSettings {
  return { ...rest, address: address ?? '', namespace, caFile, serverName, auth: authOf(auth) };
}

function authOf(auth: FileVault['auth']): VaultAuth {
  const { method } = auth;
  switch (method) {
    case 'token':
      return { method, tokenFile: auth.tokenFile };
    case 'approle': {
      const { roleId, roleIdFile, secretIdFile, secretIdWrapped, secretIdAws } = auth;
      return { method, mount: auth.mount ?? method, roleId, roleIdFile, secretIdFile, secretIdWrapped, secretIdAws };
    }
    case 'kubernetes':
    case 'jwt':
      return {
        method,
        mount: auth.mount ?? method,
        role: auth.role ?? '',
        jwtFile: auth.jwtFile ?? SERVICE_ACCOUNT_TOKEN,
      };
  }
}

/** Keys of a root that are for one provider. */
const KEYS_OF: Readonly<Record<RootConfig['provider'], readonly string[]>> = {
  local: ['keyFile', 'keyDescriptor', 'allowLocalRoot'],
  'aws-kms': ['aws'],
  'vault-transit': ['vault', 'transit'],
  pkcs11: ['pkcs11'],
};

/** What was said of a root and is for another provider: it would be ignored, which is not what was meant. */
export function misplacedRootKeys(raw: Readonly<Record<string, unknown>>, roots: readonly RootConfig[]): Finding[] {
  return roots.flatMap((root) => {
    const path = ['roots', root.name];
    const said = (raw.roots as Record<string, unknown>)[root.name];
    return [
      ...misplaced(path, said, KEYS_OF, root.provider, 'provider'),
      ...(root.provider === 'vault-transit' ? misplacedAuthKeys(path, said, root.vault) : []),
    ];
  });
}

/** Keys of a login that are for another method. */
const KEYS_OF_METHOD: Readonly<Record<VaultAuth['method'], readonly string[]>> = {
  token: ['tokenFile'],
  approle: ['mount', 'roleId', 'roleIdFile', 'secretIdFile', 'secretIdWrapped', 'secretIdAws'],
  kubernetes: ['mount', 'role', 'jwtFile'],
  jwt: ['mount', 'role', 'jwtFile'],
};

/** What was said of the login to the Vault in the section at `path`, and is for another method. */
export function misplacedAuthKeys(path: readonly string[], section: unknown, { auth }: VaultSettings): Finding[] {
  const { vault } = section as { vault?: { auth?: unknown } | null };
  return misplaced([...path, 'vault', 'auth'], vault?.auth, KEYS_OF_METHOD, auth.method, 'method');
}

/** Those of the keys in `said` that are for others than `chosen`. */
export function misplaced(
  path: readonly string[],
  said: unknown,
  keysOf: Readonly<Record<string, readonly string[]>>,
  chosen: string,
  what: string,
): Finding[] {
  const others = new Set(Object.values(keysOf).flat());
  for (const key of keysOf[chosen] ?? []) {
    others.delete(key);
  }
  return Object.entries((said ?? {}) as Record<string, unknown>)
    .filter(([key, value]) => others.has(key) && value !== null && value !== undefined && value !== false)
    .map(([key]) => ({ path: [...path, key], message: `has no effect with ${what} ${chosen}; remove it` }));
}

/** What keeps `run` from starting with these roots. */
export function rootFindings({ dev, roots, defaultRoot }: Config): Finding[] {
  return [...choiceFindings(roots, defaultRoot), ...roots.flatMap((root) => oneRootFindings(root, dev))];
}

function choiceFindings(roots: readonly RootConfig[], defaultRoot: string): Finding[] {
  const names = roots.map(({ name }) => name).join(', ');
  if (roots.length === 0) {
    return [
      { path: ['roots'], message: 'at least one root key is needed; `dekd config sample` shows how to name one' },
    ];
  }
  if (defaultRoot === '') {
    return [{ path: ['defaultRoot'], message: `there are several roots; name one of ${names}` }];
  }
  return roots.some(({ name }) => name === defaultRoot)
    ? []
    : [{ path: ['defaultRoot'], message: `no such root; the roots are ${names}` }];
}

function oneRootFindings(root: RootConfig, dev: boolean): Finding[] {
  const at = ['roots', root.name];
  switch (root.provider) {
    case 'local':
      return localFindings(root, dev);
    case 'aws-kms': {
      const { key, fips, endpoint } = root.aws;
      return [
        ...missing(
          [...at, 'aws', 'key'],
          key,
          'the key id, ARN or alias; AWS_KMS_KEY_ID sets it for ENCRYPTION_PROVIDER',
        ),
        ...(fips && endpoint !== undefined
          ? [{ path: [...at, 'aws', 'fips'], message: 'cannot be had together with an endpoint; remove one of them' }]
          : []),
        ...(endpoint === undefined ? [] : addressFindings([...at, 'aws', 'endpoint'], endpoint)),
      ];
    }
    case 'vault-transit':
      return [
        ...vaultFindings([...at, 'vault'], root.vault),
        ...missing([...at, 'transit', 'key'], root.transit.key, 'the name of the Transit key'),
      ];
    case 'pkcs11': {
      const { module, pinFile, slot, token, key, keyId } = root.pkcs11;
      return [
        ...missing([...at, 'pkcs11', 'module'], module, 'the shared library of the device'),
        ...missing([...at, 'pkcs11', 'pinFile'], pinFile, 'the file with the PIN'),
        ...oneOfTwo([...at, 'pkcs11'], { slot, token }),
        ...oneOfTwo([...at, 'pkcs11'], { key, keyId }),
      ];
    }
  }
}

function localFindings(root: RootConfig & { provider: 'local' }, dev: boolean): Finding[] {
  const path = ['roots', root.name];
  const found: Finding[] = root.ephemeral
    ? []
    : oneOfTwo(path, { keyFile: root.keyFile, keyDescriptor: root.keyDescriptor });
  if (!dev && !root.allowLocalRoot) {
    const message =
      'a local root protects nothing from who can read this node; set allowLocalRoot: true to accept that';
    found.push({ path, message });
  }
  return found;
}

/** What is wrong with the settings of a Vault at `path`. */
export function vaultFindings(path: readonly string[], { address, auth }: VaultSettings): Finding[] {
  const found = missing(
    [...path, 'address'],
    address,
    'the URL of the server; VAULT_ADDR sets it for ENCRYPTION_PROVIDER',
  );
  if (address !== '') {
    found.push(...addressFindings([...path, 'address'], address));
  }
  const at = [...path, 'auth'];
  switch (auth.method) {
    case 'token':
      break;
    case 'approle':
      found.push(...oneOfTwo(at, { roleId: auth.roleId, roleIdFile: auth.roleIdFile }));
      if (auth.secretIdFile !== undefined && auth.secretIdAws !== undefined) {
        found.push({ path: at, message: 'takes secretIdFile or secretIdAws, not both' });
      }
      if (auth.secretIdWrapped && auth.secretIdAws !== undefined) {
        const message = 'is for secretIdFile and VAULT_SECRET_ID: AWS Secrets Manager holds the secret id bare';
        found.push({ path: [...at, 'secretIdWrapped'], message });
      }
      break;
    case 'kubernetes':
    case 'jwt':
      found.push(...missing([...at, 'role'], auth.role, `the role of the method ${auth.method}`));
  }
  return found;
}

/** https anywhere, http on this machine only: tokens and secrets cross the connection. */
function addressFindings(path: readonly string[], address: string): Finding[] {
  if (URL.canParse(address)) {
    const { protocol, hostname, username, password, search, hash } = new URL(address);
    const isPlain = [username, password, search, hash].every((part) => part === '');
    if (isPlain && (protocol === 'https:' || (protocol === 'http:' && isLoopback(hostname)))) {
      return [];
    }
  }
  return [{ path, message: 'must be an https URL without credentials or query; http is for loopback addresses' }];
}

export function missing(path: readonly string[], value: string, what: string): Finding[] {
  return value === '' ? [{ path, message: `is missing: ${what}` }] : [];
}

/** Exactly one of two keys. */
function oneOfTwo(path: readonly string[], values: Readonly<Record<string, unknown>>): Finding[] {
  const said = Object.values(values).filter((value) => value !== undefined).length;
  return said === 1 ? [] : [{ path, message: `needs either ${Object.keys(values).join(' or ')}` }];
}
