// Writes what the package consists of, as CycloneDX, from the lockfile alone: the runtime dependencies and theirs, each with its hash.
//
//   node native/sbom.mjs [FILE]     sbom.cdx.json beside package.json unless a file is given
//
// The entries are npm's own. Which of them belong is found here, by the way from each dependency to the next: npm's --omit=peer also
// leaves out what is a peer of somebody and needed all the same. Without what differs from run to run (the time, a random serial
// number, the name of the folder), two builds of one lockfile have the same file.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const output = process.argv[2] ?? join(root, 'sbom.cdx.json');

const listed = spawnSync('npm', ['sbom', '--sbom-format=cyclonedx', '--package-lock-only'], {
  cwd: root,
  encoding: 'utf8',
  maxBuffer: 1 << 26,
});
if (listed.status !== 0) {
  console.error(listed.error?.message ?? listed.stderr);
  process.exit(1);
}
const bom = JSON.parse(listed.stdout);
const lockfile = readFileSync(join(root, 'package-lock.json'), 'utf8');
const { packages } = JSON.parse(lockfile);

/** The place in the lockfile of what a package there gets by a name; undefined for a peer that nobody installed. */
function placeOf(name, from) {
  for (let folder = from; ; folder = folder.slice(0, Math.max(0, folder.lastIndexOf('node_modules/') - 1))) {
    const place = `${folder === '' ? '' : `${folder}/`}node_modules/${name}`;
    if (place in packages || folder === '') {
      return place in packages ? place : undefined;
    }
  }
}

/** `name@version` of what a package needs to run, and so on: what `npm ci --omit=dev --omit=optional --omit=peer` installs. */
const needed = new Set();
const places = [''];
for (const from of places) {
  for (const name of Object.keys(packages[from].dependencies ?? {})) {
    const place = placeOf(name, from);
    if (place !== undefined && !places.includes(place)) {
      places.push(place);
      needed.add(`${name}@${packages[place].version}`);
    }
  }
}

bom.components = bom.components.filter((each) => needed.has(each['bom-ref']));
const kept = new Set([bom.metadata.component, ...bom.components].map((each) => each['bom-ref']));
bom.dependencies = bom.dependencies
  .filter(({ ref }) => kept.has(ref))
  .map((each) => ({ ...each, dependsOn: (each.dependsOn ?? []).filter((ref) => kept.has(ref)) }));
const hash = createHash('sha256').update(lockfile).digest('hex');
// A name-based UUID of the lockfile: version 8 of RFC 9562, which leaves the rest to its maker.
const digits = `${hash.slice(0, 12)}8${hash.slice(13, 16)}8${hash.slice(17, 32)}`;
bom.serialNumber = `urn:uuid:${digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')}`;
delete bom.metadata.timestamp;
bom.metadata.component.name = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).name;
bom.metadata.component.type = 'application';
writeFileSync(output, `${JSON.stringify(bom, undefined, 2)}\n`);
