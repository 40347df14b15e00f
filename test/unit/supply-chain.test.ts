/** What dekd is made of and how it is released: few dependencies, exact, by hash; no script of anybody at install; no moving reference. */
import { spawnSync } from 'node:child_process';
import { globSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { readDockerfile } from '../support/dockerfile.ts';
import { ROOT, readJson } from '../support/source-copy.ts';

interface Manifest {
  readonly version: string;
  readonly scripts: Readonly<Record<string, string>>;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
  readonly allowScripts: Readonly<Record<string, boolean>>;
}

interface Locked {
  readonly version?: string;
  readonly resolved?: string;
  readonly integrity?: string;
  readonly link?: boolean;
  readonly hasInstallScript?: boolean;
  readonly dependencies?: Readonly<Record<string, string>>;
}

const manifest = readJson(join(ROOT, 'package.json')) as unknown as Manifest;
const { packages } = readJson(join(ROOT, 'package-lock.json')) as unknown as { packages: Record<string, Locked> };
const installed = Object.entries(packages).filter(([place, { link }]) => place.includes('node_modules/') && !link);
const nameOf = (place: string): string => place.slice(place.lastIndexOf('node_modules/') + 'node_modules/'.length);

/** Everything that runs in production, as the list of contents has it. */
const work = mkdtempSync(join(tmpdir(), 'dekd-sbom-'));
afterAll(() => rmSync(work, { recursive: true, force: true }));

interface Component {
  readonly name: string;
  readonly version: string;
  readonly purl: string;
  readonly hashes: readonly { readonly alg: string; readonly content: string }[];
  readonly licenses?: readonly object[];
}

interface Bom {
  readonly bomFormat: string;
  readonly serialNumber: string;
  readonly metadata: {
    readonly component: { readonly name: string; readonly version: string };
    readonly timestamp?: string;
  };
  readonly components: readonly Component[];
  readonly dependencies: readonly { readonly ref: string; readonly dependsOn: readonly string[] }[];
}

let made: Bom | undefined;
function bom(): Bom {
  if (made === undefined) {
    const file = join(work, 'sbom.cdx.json');
    const done = spawnSync(process.execPath, [join(ROOT, 'native/sbom.mjs'), file], { encoding: 'utf8' });
    expect(done.status, done.stderr).toBe(0);
    made = JSON.parse(readFileSync(file, 'utf8')) as Bom;
  }
  return made;
}

describe('dependencies', () => {
  it('are at most twelve at run time, each with its reason on the page', () => {
    const names = Object.keys(manifest.dependencies);
    expect(names.length).toBeLessThanOrEqual(12);
    const page = readFileSync(join(ROOT, 'docs/dependencies.md'), 'utf8');
    expect(names.filter((name) => !new RegExp(`^\\|[^|]*\`${name}\``, 'm').test(page))).toEqual([]);
  });

  it('are exact, here and in every part of the repository that has its own', () => {
    const manifests = ['package.json', ...globSync(['native/*/package.json', 'tools/*/package.json'], { cwd: ROOT })];
    expect(manifests.length).toBeGreaterThanOrEqual(4);
    for (const file of manifests) {
      const { dependencies, devDependencies, optionalDependencies } = readJson(join(ROOT, file)) as unknown as Manifest;
      const all = Object.entries({ ...dependencies, ...devDependencies, ...optionalDependencies });
      expect(
        all.filter(([, version]) => !/^(npm:.*@)?\d+\.\d+\.\d+$|^file:/.test(version)),
        file,
      ).toEqual([]);
    }
  });

  it('come from the registry of npm, each with its hash', () => {
    expect(installed.length).toBeGreaterThan(300);
    expect(installed.filter(([, { integrity }]) => !/^sha512-/.test(integrity ?? '')).map(([place]) => place)).toEqual(
      [],
    );
    // None says an address, so that a mirror may serve it: the hash decides.
    const elsewhere = installed.filter(([, { resolved }]) => resolved !== undefined);
    expect(elsewhere.map(([place]) => place)).toEqual([]);
  });

  it('run no script at install but one that is allowed by name, and what is published has none', () => {
    expect(manifest.allowScripts).toEqual({ pkcs11js: true });
    // classic-level comes with prebuilt files, and is for the emulator of DynamoDB only.
    const scripted = installed.filter(([, { hasInstallScript }]) => hasInstallScript).map(([place]) => nameOf(place));
    expect(scripted.sort()).toEqual(['classic-level', 'pkcs11js']);
    expect(bom().components.filter(({ name }) => scripted.includes(name))).toEqual([]);
    expect(Object.keys(manifest.scripts).filter((name) => /^(pre|post)?install$/.test(name))).toEqual([]);
  });

  it('are none of those that parse keys from tokens, do their own curves, or read formats by reflection', () => {
    // Curves and JOSE: invalid points, decompression bombs, algorithms chosen by the attacker. Protobuf at run time: code made of schemas.
    const banned =
      /^(jose|node-jose|jsonwebtoken|jwa|jws|elliptic|secp256k1|eccrypto|@noble\/curves|node-forge|sjcl|crypto-js|tweetnacl|libsodium.*|asn1\.js|protobufjs-cli|@protobufjs\/.*|@grpc\/.*|google-protobuf|node-gyp-build|bindings|prebuild-install|node-pre-gyp|@mapbox\/node-pre-gyp)$/;
    expect(
      bom()
        .components.map(({ name }) => name)
        .filter((name) => banned.test(name)),
    ).toEqual([]);
    expect(['jose', '@grpc/grpc-js', 'elliptic'].every((name) => banned.test(name))).toBe(true);
  });
});

describe('the list of contents', () => {
  it('names every package of a production install once, with version, address, hash and licence', () => {
    const { bomFormat, metadata, components } = bom();
    expect([bomFormat, metadata.component.name, metadata.component.version]).toEqual([
      'CycloneDX',
      'dekd',
      manifest.version,
    ]);
    for (const [name, version] of Object.entries(manifest.dependencies)) {
      expect(components, name).toContainEqual(expect.objectContaining({ name, version }));
    }
    for (const { name, version, purl, hashes, licenses } of components) {
      const places = installed.filter(([place, locked]) => nameOf(place) === name && locked.version === version);
      const known = places.map(([, { integrity }]) =>
        Buffer.from(integrity!.slice('sha512-'.length), 'base64').toString('hex'),
      );
      expect(known, name).toContain(hashes.find(({ alg }) => alg === 'SHA-512')?.content);
      expect(purl).toContain(`@${version}`);
      // tv4 says its licence (public domain or MIT) in a form of its own that npm does not read.
      expect(licenses?.length ?? 0, `${name} says no licence`).toBeGreaterThanOrEqual(name === 'tv4' ? 0 : 1);
    }
    expect(new Set(components.map(({ purl }) => purl)).size).toBe(components.length);
  });

  it('is closed: what anything in it depends on is in it, and nothing of the tools is', () => {
    const { components, dependencies, metadata } = bom();
    const refs = new Set([
      `${metadata.component.name}@${metadata.component.version}`,
      ...components.map(({ name, version }) => `${name}@${version}`),
    ]);
    expect(dependencies.flatMap(({ ref, dependsOn }) => [ref, ...dependsOn]).filter((ref) => !refs.has(ref))).toEqual(
      [],
    );
    const names = components.map(({ name }) => name);
    expect(names.filter((name) => ['vitest', 'typescript', 'ajv', 'mongoose', 'pkcs11js'].includes(name))).toEqual([]);
    expect(names.length).toBeLessThanOrEqual(80);
  });

  it('is the same for the same lockfile', () => {
    expect(bom().metadata.timestamp).toBeUndefined();
    expect(bom().serialNumber).toMatch(/^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$/);
  });
});

interface Workflow {
  readonly permissions: Readonly<Record<string, string>>;
  readonly jobs: Readonly<
    Record<
      string,
      {
        readonly container?: string;
        readonly permissions?: Readonly<Record<string, string>>;
        readonly 'timeout-minutes'?: number;
        readonly steps: readonly {
          readonly uses?: string;
          readonly run?: string;
          readonly with?: Record<string, unknown>;
        }[];
      }
    >
  >;
}

describe.for(['ci', 'release'])('the workflow %s', (name) => {
  const text = readFileSync(join(ROOT, `.github/workflows/${name}.yml`), 'utf8');
  const workflow = parse(text) as Workflow;
  const jobs = Object.entries(workflow.jobs);
  const steps = jobs.flatMap(([, job]) => job.steps);

  it('uses actions by commit, with the release beside it, and images by digest', () => {
    const used = Array.from(text.matchAll(/uses: (\S+)(.*)$/gm));
    expect(used.length).toBe(steps.filter(({ uses }) => uses !== undefined).length);
    for (const [line, action, rest] of used) {
      expect(action, line).toMatch(/^[\w-]+\/[\w-]+@[0-9a-f]{40}$/);
      expect(rest, line).toMatch(/^ # v\d+\.\d+\.\d+$/);
    }
    const [build] = readDockerfile(readFileSync(join(ROOT, 'Dockerfile'), 'utf8'));
    for (const [, { container }] of jobs) {
      expect([undefined, build!.image]).toContain(container);
    }
  });

  it('may read the sources and no more, but where it publishes, holds no secret, and ends', () => {
    expect(workflow.permissions).toEqual({ contents: 'read' });
    const more = jobs.filter(([, { permissions }]) => permissions !== undefined).map(([job]) => job);
    expect(more).toEqual(name === 'release' ? ['package', 'image'] : []);
    expect(text).not.toMatch(/secrets\./);
    expect(jobs.filter(([, job]) => job['timeout-minutes'] === undefined)).toEqual([]);
    for (const { uses, with: given } of steps.filter((step) => step.uses?.startsWith('actions/checkout@'))) {
      expect(given, uses).toMatchObject({ 'persist-credentials': false });
    }
  });

  it('never lets text of others into a shell', () => {
    expect(steps.filter(({ run }) => run?.includes('${{')).map(({ run }) => run)).toEqual([]);
  });
});

describe('the release', () => {
  const { jobs } = parse(readFileSync(join(ROOT, '.github/workflows/release.yml'), 'utf8')) as Workflow;
  const runs = (job: string): string =>
    jobs[job]!.steps.map(({ run, with: given }) => `${run}\n${JSON.stringify(given)}`).join('\n');

  it('publishes with provenance under the identity of the workflow, after a look at the advisories', () => {
    expect(jobs.package!.permissions).toMatchObject({ 'id-token': 'write' });
    const published = runs('package')
      .split('\n')
      .filter((line) => line.startsWith('npm publish'));
    expect(published.length).toBe(2);
    expect(published.filter((line) => !line.includes('--provenance'))).toEqual([]);
    expect(runs('package')).toContain('npm audit --omit=dev --audit-level=high');
    expect(runs('image')).toMatch(/"platforms":"linux\/amd64,linux\/arm64".*"provenance":"mode=max","sbom":true/);
  });

  it('has an addon for each architecture that the loader looks for', () => {
    const loader = readFileSync(join(ROOT, 'src/addon/binding.ts'), 'utf8');
    // biome-ignore lint/suspicious/noTemplateCurlyInString: as it stands in the source
    expect(loader).toContain('prebuilds/linux-${process.arch}.node');
    for (const arch of ['x64', 'arm64']) {
      expect(runs('package')).toContain(`prebuilds/linux-${arch}.node`);
    }
  });
});
