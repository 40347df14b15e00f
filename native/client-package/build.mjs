// Makes the light client, which is published on its own: every entry of the package that needs no agent in it.
//
//   node native/client-package/build.mjs DIST TARGET
//
// DIST is what tsc has made of src/. TARGET becomes the package, README.md and types with it. It has no dependency but those that
// an entry has for a library of its user's: what it needs of protobufjs is in it.
//
// `package.json` of the repository decides: an entry is an export of dekd, without those of AGENT_ENTRIES.
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { rolldown } from 'rolldown';
import { parseAst } from 'rolldown/parseAst';
import { messageTables } from '../../proto/message-tables.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, '../..');
const [dist, target] = process.argv.slice(2);
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

/** Exports of dekd that are about the agent or start one. */
const AGENT_ENTRIES = ['.', './testkit', './package.json'];
/** Libraries that the client takes with it. */
const INCLUDED = ['protobufjs'];

/** What a declaration imports, in every form that one has. */
const SPECIFIER = /(?:from|import|import\() ?['"]([^'"]+)['"]/g;

const entries = Object.entries(manifest.exports)
  .filter(([name]) => !AGENT_ENTRIES.includes(name))
  .map(([name, { types, default: file }]) => ({
    /** As it is imported, and the name of its file. */
    name: name === './client' ? '.' : name,
    file: name === './client' ? 'index' : name.slice(2),
    module: join(dist, relative('dist', file)),
    types: relative('dist', types),
  }));

const libraryModule = (id) => INCLUDED.some((name) => id.includes(`/node_modules/${name}/`));

/** What our messages have no use for: numbers of 64 bits, bytes given as base64, services, platforms without Buffer. */
const LESS = {
  'util/longbits.js': 'module.exports = {};',
  'util/base64.js': 'module.exports = {};',
  'util/pool.js': 'module.exports = null;',
  'index-minimal.js': `
    const BufferWriter = require('./writer_buffer');
    exports.Writer = { create: () => new BufferWriter() };
    exports.BufferReader = require('./reader_buffer');
  `,
};
/**
 * The same of statements: what chooses between classes or gives them numbers of 64 bits; what those that work with Buffer have of
 * their own; and text that need not be UTF-8.
 */
const NEVER_USED = [
  ...['Reader._configure', 'Reader.create', 'Reader.prototype.string', 'BufferReader.prototype.string', 'utf8.read'],
  ...['Writer._configure', 'Writer.create', 'Writer.alloc', 'Writer.prototype.string', 'Writer.prototype.bytes'],
];

/** What stands in the place of modules: the tables instead of generated code, and what is looked for beside the package. */
function replaced(id) {
  switch (relative(dist, id)) {
    case 'protocol/generated/dekd.js': {
      const tables = JSON.stringify(messageTables(join(root, 'proto/dekd.proto')));
      return `import { codecsOf } from '../table-codec.js';\nexport const dekd = { v1: codecsOf(${tables}) };\n`;
    }
    case 'package/own-package.js':
      return readFileSync(join(dist, 'package/package-beside.js'), 'utf8');
  }
  // protobufjs takes `long` where it finds it, and works with numbers where not.
  if (/\/node_modules\/long\//.test(id)) {
    return 'module.exports = null;';
  }
  return libraryModule(id) ? LESS[/src\/(.*)$/.exec(id)?.[1]] : undefined;
}

const external = (id) => {
  const name = packageOf(id);
  return name !== undefined && !INCLUDED.includes(name) && name !== 'long';
};

/** The package of a specifier; undefined for a file. */
function packageOf(id) {
  if (/^[./\0]/.test(id)) {
    return undefined;
  }
  return id.startsWith('node:')
    ? id
    : id
        .split('/')
        .slice(0, id.startsWith('@') ? 2 : 1)
        .join('/');
}

let { kept, atOnce, beside } = await surveyed(() => true);
// What is left out needs nothing any more, so that more can be left out.
for (let size; size !== kept.size; ) {
  size = kept.size;
  ({ kept, atOnce, beside } = await surveyed((name) => kept.has(name)));
}
const bundle = await rolldown({
  input: Object.fromEntries(entries.map(({ file, module }) => [file, module])),
  platform: 'node',
  external,
  treeshake: { moduleSideEffects: (id) => libraryModule(id) },
  plugins: [
    {
      name: 'client-package',
      load: (id) => replaced(id),
      transform: (code, id) => (libraryModule(id) ? onlyUsed(code, (name) => kept.has(name)) : undefined),
    },
  ],
  transform: { define: { DEKD_VERSION: JSON.stringify(manifest.version) } },
});
const { output } = await bundle.generate({
  format: 'esm',
  entryFileNames: '[name].js',
  chunkFileNames: 'parts/[name].js',
  comments: false,
  // What `connect` needs at once is one file, and what else the entry has is another, which bundlers leave out where it is not
  // used; what is needed late lies apart from both.
  codeSplitting: {
    groups: [
      { name: 'client', test: (id) => atOnce.has(id) },
      { name: 'beside', test: (id) => beside.has(id) },
    ],
  },
});
await bundle.close();

rmSync(target, { recursive: true, force: true });
for (const chunk of output) {
  put(chunk.fileName, chunk.code ?? chunk.source);
}
for (const file of declarations()) {
  put(join('types', file), readFileSync(join(dist, file), 'utf8'));
}
put('package.json', `${JSON.stringify(packageManifest(), null, 2)}\n`);
put('README.md', readFileSync(join(here, 'README.md'), 'utf8'));
put('LICENSES.txt', INCLUDED.map(licenceOf).join('\n'));
copyFileSync(join(root, 'LICENSE'), join(target, 'LICENSE'));

function put(name, text) {
  const file = join(target, name);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
}

function packageManifest() {
  const { version, license, engines } = manifest;
  const used = new Set(output.flatMap(({ imports = [], dynamicImports = [] }) => [...imports, ...dynamicImports]));
  const files = output.map(({ fileName }) => fileName);
  const packages = [...used].filter((id) => !files.includes(id) && !id.startsWith('node:')).map(packageOf);
  // A peer may be of the types only.
  const typed = declarations().flatMap((file) =>
    [...readFileSync(join(dist, file), 'utf8').matchAll(SPECIFIER)].flatMap(([, id]) => packageOf(id) ?? []),
  );
  const named = (all) => Object.entries(all ?? {}).filter(([name]) => [...packages, ...typed].includes(name));
  const dependencies = Object.fromEntries(named(manifest.dependencies));
  const peerDependencies = Object.fromEntries(named(manifest.peerDependencies));
  const peerDependenciesMeta = Object.fromEntries(named(manifest.peerDependenciesMeta));
  const unknown = packages.filter((name) => !(name in dependencies) && !(name in peerDependencies));
  if (unknown.length > 0) {
    throw new Error(
      `the light client imports ${unknown.join(', ')}, which package.json does not offer to applications`,
    );
  }
  return {
    name: 'dekd-client',
    version,
    description: 'The client of dekd, a per-pod encryption agent: no native code, no SDK, one Unix socket.',
    license,
    type: 'module',
    engines,
    sideEffects: false,
    exports: {
      ...Object.fromEntries(
        entries.map(({ name, file, types }) => [name, { types: `./types/${types}`, default: `./${file}.js` }]),
      ),
      './package.json': './package.json',
    },
    ...(Object.keys(dependencies).length > 0 ? { dependencies } : {}),
    ...(Object.keys(peerDependencies).length > 0 ? { peerDependencies, peerDependenciesMeta } : {}),
  };
}

/** The declarations that entries lead to, relative to DIST. */
function declarations() {
  const found = new Set(entries.map(({ types }) => types));
  for (const file of found) {
    for (const [, specifier] of readFileSync(join(dist, file), 'utf8').matchAll(SPECIFIER)) {
      if (specifier.startsWith('.')) {
        found.add(join(dirname(file), specifier.replace(/\.[jt]s$/, '.d.ts')));
      }
    }
  }
  return [...found].filter((file) => existsSync(join(dist, file)));
}

/** The terms of what is in the package and is not ours. */
function licenceOf(name) {
  const folder = join(root, 'node_modules', name);
  const { version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  const file = readdirSync(folder).find((each) => /^licen[cs]e(\.|$)/i.test(each));
  return `${name} ${version}, in part\n\n${readFileSync(join(folder, file), 'utf8')}`;
}

/**
 * A CommonJS library as it would be if bundlers could leave out what nobody uses of one: without the statements that give a
 * prototype, `util` or `exports` a property whose name is kept nowhere, and without those of NEVER_USED.
 */
function onlyUsed(code, isKept) {
  let rest = code;
  for (const { type, expression, start, end } of parseAst(code).body.toReversed()) {
    const { left } = expression ?? {};
    if (type === 'ExpressionStatement' && left && NEVER_USED.includes(code.slice(left.start, left.end))) {
      rest = rest.slice(0, start) + rest.slice(end);
    }
  }
  for (const { start, end, names } of assignments(rest).toReversed()) {
    if (!names.some(isKept)) {
      rest = rest.slice(0, start) + rest.slice(end);
    }
  }
  return rest;
}

/** Statements `X.prototype.name = …;`, `util.name = …;` and `exports.name = …;`, in order. */
function assignments(code) {
  const found = [];
  for (const { type, expression, start, end } of parseAst(code).body) {
    const names = [];
    let value = expression;
    while (type === 'ExpressionStatement' && value?.type === 'AssignmentExpression') {
      const { object, property, computed } = value.left;
      const owner = object?.property?.name ?? object?.name;
      if (computed || !['prototype', 'util', 'exports'].includes(owner)) {
        names.length = 0;
        break;
      }
      names.push(property.name);
      value = value.right;
    }
    if (names.length > 0) {
      found.push({ start, end, names, value });
    }
  }
  return found;
}

/** Puts the names of properties that are read, or taken out of an object, anywhere in a tree, into `names`. */
function namesIn(node, names) {
  if (node === null || typeof node !== 'object') {
    return;
  }
  if (node.type === 'MemberExpression' && !node.computed) {
    names.add(node.property.name);
  } else if (node.type === 'ObjectPattern') {
    for (const { key } of node.properties) {
      names.add(key?.name);
    }
  }
  for (const child of Object.values(node)) {
    namesIn(child, names);
  }
}

/**
 * Looks at all that would be bundled.
 * @param isKept whether a property of the libraries of this name is kept
 * @returns kept: names of properties that our code uses, and that code of the libraries uses which is kept for it; atOnce: modules that
 * `connect` needs at once; beside: others that the entry of the client loads
 */
async function surveyed(isKept) {
  const ours = [];
  const imports = new Map();
  const libraries = new Map();
  const all = await rolldown({
    input: entries.map(({ module }) => module),
    platform: 'node',
    external,
    plugins: [
      {
        name: 'collect',
        load: (id) => replaced(id),
        moduleParsed: ({ id, importedIds }) => void imports.set(id, importedIds),
        transform: (code, id) => {
          if (libraryModule(id)) {
            const less = onlyUsed(code, isKept);
            libraries.set(id, less);
            return less;
          }
          ours.push(code);
          return undefined;
        },
      },
    ],
  });
  await all.generate({ format: 'esm' });
  await all.close();
  const names = new Set();
  const open = [];
  for (const code of libraries.values()) {
    open.push(...assignments(code));
    namesIn(parseAst(onlyUsed(code, () => false)), names);
  }
  for (const code of ours) {
    namesIn(parseAst(code), names);
  }
  for (let size = -1; size !== names.size; ) {
    size = names.size;
    for (const { names: own, value } of open) {
      if (own.some((name) => names.has(name))) {
        namesIn(value, names);
      }
    }
  }
  const [{ module }] = entries.filter(({ name }) => name === '.');
  const atOnce = reachedFrom(join(dist, 'client/client.js'), imports);
  const beside = reachedFrom(module, imports);
  beside.delete(module);
  return { kept: names, atOnce, beside: beside.difference(atOnce) };
}

/** Modules that `start` loads with it, itself included. */
function reachedFrom(start, imports) {
  const reached = new Set([start]);
  for (const id of reached) {
    for (const imported of imports.get(id) ?? []) {
      reached.add(imported);
    }
  }
  return reached;
}
