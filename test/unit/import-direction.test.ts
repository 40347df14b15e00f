import { readdirSync, readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const SOURCE = fileURLToPath(new URL('../../src', import.meta.url));

/** Files that any module may import. */
const SHARED: ReadonlySet<string> = new Set(['bytes', 'errors', 'glob', 'loopback', 'trace']);

/** What the running code of a module may import beside itself and the files of src itself that are listed as SHARED. Types may go sideways. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  adapters: ['client'],
  addon: ['package'],
  agent: [
    'addon',
    'operations',
    'keyring',
    'custody',
    'pool',
    'providers',
    'keystores',
    'crypto',
    'envelope',
    'protocol',
    'policy',
    'audit',
    'config',
    'telemetry',
  ],
  audit: ['telemetry'],
  cli: [
    'agent',
    'client',
    'operations',
    'keyring',
    'custody',
    'pool',
    'providers',
    'keystores',
    'crypto',
    'envelope',
    'protocol',
    'policy',
    'audit',
    'config',
    'telemetry',
  ],
  client: ['addon', 'package', 'protocol', 'envelope'],
  config: ['protocol'],
  crypto: ['addon'],
  custody: ['providers', 'keystores', 'crypto', 'envelope', 'protocol'],
  envelope: [],
  bytes: [],
  errors: [],
  glob: [],
  helpers: ['client', 'envelope'],
  loopback: [],
  index: ['client'],
  keyring: ['custody', 'crypto', 'envelope'],
  keystores: ['vault'],
  migration: ['client', 'envelope'],
  operations: ['keyring', 'envelope', 'crypto'],
  policy: ['config'],
  package: [],
  pool: ['crypto', 'envelope'],
  protocol: [],
  providers: ['vault', 'envelope'],
  service: ['client'],
  telemetry: [],
  testkit: ['client'],
  trace: [],
  vault: [],
};

/** Each outside dependency has one owner. */
const OWNER: Readonly<Record<string, string>> = {
  protobufjs: 'protocol',
  yaml: 'config',
  valibot: 'config',
  commander: 'cli',
  '@noble/ciphers': 'crypto',
  '@noble/hashes': 'crypto',
  'node:sqlite': 'keystores',
  '@aws-sdk/client-kms': 'providers',
  'node-vault': 'vault',
  pg: 'keystores',
  pkcs11js: 'providers',
  piscina: 'pool',
  fastify: 'adapters',
  '@aws-sdk/lib-dynamodb': 'adapters',
  mongoose: 'adapters',
  'drizzle-orm': 'adapters',
  kysely: 'adapters',
};

/** What node:crypto offers beside ciphers and keys, and any module may use. */
const HARMLESS_CRYPTO = new Set([
  'randomBytes',
  'randomInt',
  'randomUUID',
  'randomFillSync',
  'timingSafeEqual',
  'createHash',
  'hash',
]);

interface Import {
  /** Path of the importing file below src. */
  readonly file: string;
  readonly specifier: string;
  readonly names: string;
  readonly typeOnly: boolean;
  /** Loaded when the code gets there, by `import()`. */
  readonly isLate: boolean;
}

function importsOf(file: string, code: string): Import[] {
  const found: Import[] = [];
  for (const match of code.matchAll(
    /^[ \t]*(?:import|export)\s+(type\s+)?([\w*{][^'";]*?)\s*from\s*['"]([^'"]+)['"]/gm,
  )) {
    found.push({ file, specifier: match[3]!, names: match[2]!, typeOnly: match[1] !== undefined, isLate: false });
  }
  for (const match of code.matchAll(
    /^import\s+['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]|\brequire\(\s*['"]([^'"]+)['"]/gm,
  )) {
    const specifier = (match[1] ?? match[2] ?? match[3])!;
    found.push({ file, specifier, names: '*', typeOnly: false, isLate: match[2] !== undefined });
  }
  return found;
}

function moduleOf(file: string): string {
  return file.split('/')[0]!.replace(/\.[jt]s$/, '');
}

/** The file below src that a relative specifier names; undefined for a package. */
function target({ file, specifier }: Import): string | undefined {
  return specifier.startsWith('.') ? relative(SOURCE, resolve(SOURCE, dirname(file), specifier)) : undefined;
}

function packageOf(specifier: string): string {
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
}

function shown({ file, specifier }: Import): string {
  return `${file} imports ${specifier}`;
}

/** Everything wrong with a set of imports. */
function violations(imports: readonly Import[]): string[] {
  return imports.filter((each) => !isAllowed(each)).map(shown);
}

function isAllowed(each: Import): boolean {
  const from = moduleOf(each.file);
  const path = target(each);
  if (path === undefined) {
    const name = packageOf(each.specifier);
    if (name === 'node:crypto' && from !== 'crypto' && !each.typeOnly) {
      const names = each.names
        .replace(/[{}\s]/g, '')
        .split(',')
        .filter((word) => word !== '');
      return names.every((word) => HARMLESS_CRYPTO.has(word.split(' as ')[0]!));
    }
    return Object.hasOwn(OWNER, name) ? OWNER[name] === from : each.specifier.startsWith('node:');
  }
  const to = moduleOf(path);
  if (to === from || SHARED.has(to)) {
    return true;
  }
  if (to === 'agent' || to === 'cli') {
    return MAY_IMPORT[from]?.includes(to) ?? false;
  }
  return each.typeOnly || (MAY_IMPORT[from]?.includes(to) ?? false);
}

/** Files that run when `start` does, through imports that are not only types. */
function reachedFrom(start: (file: string) => boolean, imports: readonly Import[]): Set<string> {
  const reached = new Set(imports.map(({ file }) => file).filter(start));
  for (const file of reached) {
    for (const each of imports) {
      const path = target(each);
      if (each.file === file && !each.typeOnly && path !== undefined) {
        reached.add(path);
      }
    }
  }
  return reached;
}

const files = readdirSync(SOURCE, { recursive: true, encoding: 'utf8' }).filter(
  (file) => /\.[jt]s$/.test(file) && !file.endsWith('.d.ts'),
);
const code = new Map(files.map((file) => [file, readFileSync(join(SOURCE, file), 'utf8')]));
const imports = [...code].flatMap(([file, text]) => importsOf(file, text));

describe('imports', () => {
  it('go only where the table of modules allows, and to outside packages from their owner', () => {
    expect(violations(imports)).toEqual([]);
  });

  it('leave no module out of the table', () => {
    expect([...new Set(files.map(moduleOf))].filter((name) => !(name in MAY_IMPORT))).toEqual([]);
  });

  it('take the client to nothing but the protocol and, when it gets there, the addon: no key, no configuration', () => {
    const isEntry = (file: string) => file === 'client/index.ts';
    const modulesOf = (some: readonly Import[]) => new Set([...reachedFrom(isEntry, some)].map(moduleOf));
    expect(modulesOf(imports)).toContain('protocol');
    const light = ['client', 'protocol', 'envelope', 'package', 'bytes', 'errors'];
    const atOnce = imports.filter(({ isLate }) => !isLate);
    expect([...modulesOf(atOnce)].filter((name) => !light.includes(name))).toEqual([]);
    expect([...modulesOf(imports)].filter((name) => ![...light, 'addon'].includes(name))).toEqual([]);
  });

  it('name their file with its suffix, and built-in modules with node:', () => {
    const wrong = imports.filter(({ specifier }) =>
      specifier.startsWith('.')
        ? !/\.(ts|js|json)$/.test(specifier)
        : !specifier.startsWith('node:') && builtinModules.includes(specifier),
    );
    expect(wrong.map(shown)).toEqual([]);
  });

  it('load native code in src/addon only', () => {
    const loads = [...code].filter(
      ([file, text]) =>
        moduleOf(file) !== 'addon' &&
        /\bcreateRequire\b|process\.dlopen|['"`][^'"`\s]*\/[^'"`\s]*\.node['"`]/.test(text),
    );
    expect(loads.map(([file]) => file)).toEqual([]);
  });

  it('are seen by this test in every form', () => {
    const sample = `import { a } from '../agent/x.ts';
import type { B } from '../cli/y.ts';
import {
  c,
  type D,
} from '../keystores/z.ts';
export { e } from '../custody/e.ts';
export type { F } from '../custody/f.ts';
const g = await import('yaml');
import 'valibot';
import * as crypto from 'node:crypto';
import { randomUUID } from 'node:crypto';
import express from 'express';
import fs from 'fs';
`;
    expect(new Set(violations(importsOf('keyring/k.ts', sample)))).toEqual(
      new Set([
        'keyring/k.ts imports ../agent/x.ts',
        'keyring/k.ts imports ../cli/y.ts',
        'keyring/k.ts imports ../keystores/z.ts',
        'keyring/k.ts imports node:crypto',
        'keyring/k.ts imports express',
        'keyring/k.ts imports fs',
        'keyring/k.ts imports valibot',
        'keyring/k.ts imports yaml',
      ]),
    );
    const hmac = importsOf('keyring/k.ts', `import { randomBytes, createHmac } from 'node:crypto';`);
    expect(violations(hmac)).toHaveLength(1);
    expect(violations(importsOf('keyring/k.ts', `import { randomBytes } from 'node:crypto';`))).toEqual([]);
    expect(imports.length).toBeGreaterThan(50);
  });
});
