// Puts the command line, agent included, into a few files: an agent starts a quarter faster when Node does not have to
// find and link some 140 modules one by one, and another fifth when the libraries that every start reads are among them.
// What an application imports (the client) stays as it is.
//
//   node native/bundle.mjs DIST
//
// What is started by its path (a custodian, a thread) stays at its place, and shares the chunks. Those lie beside
// dist/cli/main.js, as deep as the modules they are made of, so that paths relative to a module (the addon, package.json,
// such an entry) lead to the same places from both.
import { mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { rolldown } from 'rolldown';

const [dist] = process.argv.slice(2);
const { dependencies, peerDependencies, exports } = JSON.parse(
  readFileSync(new URL('../package.json', import.meta.url), 'utf8'),
);
/** What a start reads before it can do anything: command line, configuration file, schema. */
const INCLUDED = ['commander', 'valibot', 'yaml'];
const packages = Object.keys({ ...dependencies, ...peerDependencies }).filter((name) => !INCLUDED.includes(name));
const external = [/^node:/, ...packages.map((name) => new RegExp(`^${name}(/|$)`))];
const entries = ['cli/main', 'custody/custodian', 'pool/worker', 'providers/pkcs11/thread'];

const input = Object.fromEntries(entries.map((name) => [name, join(dist, `${name}.js`)]));
const bundle = await rolldown({ input, platform: 'node', external });
const { output } = await bundle.generate({
  format: 'esm',
  entryFileNames: '[name].js',
  chunkFileNames: 'cli/[name]-[hash].js',
  // Comments and white space are a third of what Node would have to parse at each start; names stay, for stacks.
  minify: { compress: false, mangle: false, codegen: { removeWhitespace: true } },
});
await bundle.close();

const doors = Object.values(exports).flatMap((door) =>
  door.default === undefined ? [] : [relative('dist', door.default)],
);
const kept = reachable(doors.map((file) => join(dist, file)));
for (const file of readdirSync(dist, { recursive: true }).map((name) => join(dist, name))) {
  if (file.endsWith('.js') && statSync(file).isFile() && !kept.has(file)) {
    rmSync(file);
  }
}
for (const folder of foldersDeepestFirst(dist)) {
  if (readdirSync(folder).length === 0) {
    rmdirSync(folder);
  }
}
for (const chunk of output) {
  const file = join(dist, chunk.fileName);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, chunk.type === 'chunk' ? chunk.code : chunk.source);
}
writeFileSync(join(dist, 'cli', 'LICENSES.txt'), INCLUDED.map(licenceOf).join('\n'));

/** The terms of what is in the chunks and is not ours. */
function licenceOf(name) {
  const folder = new URL(`../node_modules/${name}/`, import.meta.url);
  const { version } = JSON.parse(readFileSync(new URL('package.json', folder), 'utf8'));
  const file = readdirSync(folder).find((each) => /^licen[cs]e(\.|$)/i.test(each));
  return `${name} ${version}\n\n${readFileSync(new URL(file, folder), 'utf8')}`;
}

function foldersDeepestFirst(folder) {
  const names = readdirSync(folder, { recursive: true }).map((name) => join(folder, name));
  return names.filter((name) => statSync(name).isDirectory()).toSorted((a, b) => b.length - a.length);
}

/** The files that `entries` lead to by imports of any kind, themselves included. */
function reachable(entries) {
  const found = new Set(entries);
  for (const file of found) {
    for (const [, specifier] of readFileSync(file, 'utf8').matchAll(/(?:from|import\(?) ?['"](\.[^'"]+)['"]/g)) {
      found.add(join(dirname(file), specifier));
    }
  }
  return found;
}
