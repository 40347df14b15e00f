/**
 * The image of the Dockerfile without a container engine: every step of the file is carried out, in its order and as it is
 * written there, in roots made by debootstrap. Two things are stood in for, because they come out of a registry of images:
 *
 * - `node:VERSION-SUITE-slim` is a debootstrap of SUITE with the Node of this repository (the same official executable, with its
 *   headers) and the npm of this machine in /usr/local, where that image has them;
 * - `gcr.io/distroless/cc-debian12` is the files of the packages which that image is made of, out of the same debootstrap. It has
 *   no shell.
 *
 * Network settings of this machine (apt's mirror, npm's settings, certificates, resolver) are handed to the steps; none is written
 * anywhere but into the roots.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, matchesGlob, resolve } from 'node:path';
import { NODE } from '../../support/agent.ts';
import { environmentOf, type Instruction, readDockerfile, type Stage, theOnly } from '../../support/dockerfile.ts';
import { copySources, onPath, ROOT } from '../../support/source-copy.ts';

/** What the image below the one that runs is made of. */
const RUNTIME_PACKAGES = [
  'base-files',
  'ca-certificates',
  'libc6',
  'libgcc-s1',
  'libgomp1',
  'libstdc++6',
  'netbase',
  'tzdata',
];
const STEP_MS = 10 * 60_000;

export interface ImageRoot {
  /** The file system of the image. */
  readonly folder: string;
  readonly env: Readonly<Record<string, string>>;
  /** `uid:gid`. */
  readonly user: string;
  readonly entrypoint: readonly string[];
  readonly command: readonly string[];
  readonly healthcheck: readonly string[];
}

/** Why no image can be built here; undefined when one can. */
export function unableToBuild(): string | undefined {
  if (process.platform !== 'linux' || process.getuid!() !== 0) {
    return 'only root can make a root file system';
  }
  for (const tool of ['debootstrap', 'unshare', 'chroot', 'setpriv', 'npm', 'git']) {
    if (onPath(tool).length === 0) {
      return `${tool} is not installed`;
    }
  }
  const mounts = spawnSync('unshare', ['--mount', '--pid', '--fork', 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt']);
  return mounts.status === 0 ? undefined : 'nothing may be mounted here';
}

/** Carries out the Dockerfile in `work`. @throws Error with what a step said; `Unreachable` when the mirror is not there */
export async function buildImage(work: string): Promise<ImageRoot> {
  const stages = readDockerfile(readFileSync(join(ROOT, 'Dockerfile'), 'utf8'));
  const context = join(work, 'context');
  await copySources(context);
  applyIgnoreFile(context);
  const roots = new Map<string, string>();
  let bootstrapped: string | undefined;
  for (const [index, stage] of stages.entries()) {
    const root = join(work, `stage-${index}`);
    if (stage.image.startsWith('node:')) {
      bootstrap(stage.image, root, work);
      bootstrapped = root;
    } else if (stage.image.startsWith('gcr.io/distroless/cc-')) {
      copyRuntime(bootstrapped!, root);
    } else {
      throw new Error(`there is no stand-in for ${stage.image}`);
    }
    roots.set(stage.name ?? String(index), root);
    carryOut(stage, { root, context, roots, cache: npmCache() });
  }
  return imageIn(roots.get(stages.at(-1)!.name ?? String(stages.length - 1))!);
}

/** The image whose file system is in a folder: the rest of it is in the Dockerfile. */
export function imageIn(folder: string): ImageRoot {
  const last = readDockerfile(readFileSync(join(ROOT, 'Dockerfile'), 'utf8')).at(-1)!;
  return {
    folder,
    env: environmentOf(last),
    user: theOnly(last, 'USER').text,
    entrypoint: theOnly(last, 'ENTRYPOINT').words,
    command: theOnly(last, 'CMD').words,
    healthcheck: theOnly(last, 'HEALTHCHECK').words,
  };
}

/** The mirror of this machine cannot be reached: nothing is wrong with the Dockerfile. */
export class Unreachable extends Error {}

interface Building {
  readonly root: string;
  readonly context: string;
  readonly roots: ReadonlyMap<string, string>;
  readonly cache: string;
}

function carryOut(stage: Stage, building: Building): void {
  let folder = '/';
  for (const step of stage.instructions) {
    switch (step.name) {
      case 'WORKDIR':
        folder = resolve(folder, step.text);
        mkdirSync(join(building.root, folder), { recursive: true });
        break;
      case 'COPY':
        copy(step, folder, building);
        break;
      case 'RUN':
        runStep(step, folder, building);
        break;
      default:
      // Of the finished image, not of its file system.
    }
  }
}

function runStep(step: Instruction, folder: string, { root, cache }: Building): void {
  const words = step.isExec ? step.words : ['/bin/sh', '-c', step.text];
  const mounts = `
    mount -t proc proc "$1/proc"
    mount --rbind /dev "$1/dev"
    mkdir -p "$1/root/.npm" && mount --bind "$2" "$1/root/.npm"
    root="$1" folder="$3"; shift 3
    exec chroot "$root" /usr/bin/env --chdir="$folder" "$@"`;
  const args = ['--mount', '--pid', '--fork', '--kill-child', 'sh', '-ec', mounts, 'sh', root, cache, folder, ...words];
  const done = spawnSync('unshare', args, {
    env: stepEnvironment(),
    encoding: 'utf8',
    timeout: STEP_MS,
    maxBuffer: 1 << 26,
  });
  if (done.status !== 0) {
    throw new Error(`RUN ${step.text}\n${done.stdout.slice(-4_000)}\n${done.stderr.slice(-4_000)}`);
  }
}

/** As an engine does: contents of a folder, into a folder that is made. */
function copy({ flags, words }: Instruction, folder: string, { root, context, roots }: Building): void {
  const from = flags.get('from');
  const base = from === undefined ? context : roots.get(from)!;
  const sources = words.slice(0, -1);
  const last = words.at(-1)!;
  const target = join(root, resolve(folder, last));
  const isFolder = last.endsWith('/') || sources.length > 1;
  for (const source of sources) {
    const path = join(base, source);
    const isTree = statSync(path).isDirectory();
    mkdirSync(isTree || isFolder ? target : dirname(target), { recursive: true });
    execFileSync('cp', ['-a', '--no-preserve=ownership', isTree ? `${path}/.` : path, target]);
  }
  if (flags.has('chown')) {
    execFileSync('chown', ['-R', flags.get('chown')!, target]);
  }
}

function applyIgnoreFile(context: string): void {
  const patterns = readFileSync(join(ROOT, '.dockerignore'), 'utf8').split('\n').filter(Boolean);
  for (const name of readdirSync(context)) {
    if (patterns.some((pattern) => matchesGlob(name, pattern))) {
      rmSync(join(context, name), { recursive: true });
    }
  }
}

/** `node:24.21.0-bookworm-slim@sha256:…` */
function bootstrap(image: string, root: string, work: string): void {
  const suite = /-([a-z]+)-slim(?:@|$)/.exec(image)?.[1];
  if (suite === undefined) {
    throw new Error(`of which suite is ${image}?`);
  }
  const mirror = mirrorOf(suite);
  const args = ['--variant=minbase', '--include=ca-certificates,netbase,tzdata,libgomp1', suite, root];
  const done = spawnSync('debootstrap', mirror === undefined ? args : [...args, mirror], {
    cwd: work,
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  if (done.status !== 0) {
    throw new Unreachable(`debootstrap failed: ${`${done.stdout}${done.stderr}`.trim().split('\n').at(-1)}`);
  }
  const local = join(root, 'usr/local');
  const node = realpathSync(NODE);
  cpSync(node, join(local, 'bin/node'));
  const headers = join(dirname(node), '../include');
  cpSync(headers, join(local, 'include'), { recursive: true });
  cpSync(join(dirname(node), '../LICENSE'), join(local, 'LICENSE'));
  const npm = dirname(dirname(onPath('npm')[0]!));
  cpSync(npm, join(local, 'lib/node_modules/npm'), { recursive: true });
  symlinkSync('../lib/node_modules/npm/bin/npm-cli.js', join(local, 'bin/npm'));
  handOverNetwork(root);
}

/** Where this machine gets the packages of a suite from; undefined leaves it to debootstrap. */
function mirrorOf(suite: string): string | undefined {
  const format = '$(CODENAME) $(COMPONENT) $(REPO_URI)';
  const { stdout } = spawnSync('apt-get', ['indextargets', '--format', format, 'Created-By: Packages'], {
    encoding: 'utf8',
  });
  const line = (stdout ?? '').split('\n').find((each) => each.startsWith(`${suite} main `));
  return line?.split(' ')[2];
}

function handOverNetwork(root: string): void {
  for (const file of ['/etc/resolv.conf', '/etc/hosts', '/etc/ssl/certs/ca-certificates.crt']) {
    if (existsSync(file)) {
      cpSync(file, join(root, file), { dereference: true });
    }
  }
  for (const name of readdirSync('/etc/apt/apt.conf.d').filter((each) => /proxy/i.test(each))) {
    cpSync(join('/etc/apt/apt.conf.d', name), join(root, 'etc/apt/apt.conf.d', name));
  }
  const { HOME = '/root' } = process.env;
  const settings = process.env.NPM_CONFIG_USERCONFIG ?? join(HOME, '.npmrc');
  const lines = existsSync(settings) ? readFileSync(settings, 'utf8').split('\n') : [];
  // Paths of this machine mean nothing in there.
  const kept = lines.filter((line) => !/^\s*(nodedir|prefix|cache|cafile)\s*=/.test(line));
  writeFileSync(join(root, 'root/.npmrc'), `${kept.join('\n')}\nregistry=${registry()}\n`, { mode: 0o600 });
}

function registry(): string {
  return execFileSync('npm', ['config', 'get', 'registry'], { cwd: ROOT, encoding: 'utf8' }).trim();
}

/** npm's cache of this machine saves the download of what the lockfile names by hash. */
function npmCache(): string {
  const folder = execFileSync('npm', ['config', 'get', 'cache'], { cwd: ROOT, encoding: 'utf8' }).trim();
  mkdirSync(folder, { recursive: true });
  return folder;
}

function stepEnvironment(): NodeJS.ProcessEnv {
  const proxies = Object.entries(process.env).filter(([name]) => /^(https?|no)_proxy$/i.test(name));
  return {
    ...Object.fromEntries(proxies),
    PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    HOME: '/root',
    DEBIAN_FRONTEND: 'noninteractive',
    LC_ALL: 'C',
    npm_config_prefer_offline: 'true',
    npm_config_update_notifier: 'false',
    ...(process.env.NODE_EXTRA_CA_CERTS === undefined
      ? {}
      : { NODE_EXTRA_CA_CERTS: '/etc/ssl/certs/ca-certificates.crt' }),
  };
}

/** The files of a few packages, and nothing else: no shell, no coreutils. */
function copyRuntime(bootstrapped: string, root: string): void {
  mkdirSync(root, { recursive: true });
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) {
    mkdirSync(join(root, 'usr', name), { recursive: true });
    symlinkSync(`usr/${name}`, join(root, name));
  }
  const listed = RUNTIME_PACKAGES.flatMap((name) => filesOfPackage(bootstrapped, name));
  // Maintainer scripts make this one.
  listed.push('/etc/ssl/certs/ca-certificates.crt');
  const wanted = listed.filter((file) => !/^\/(usr\/)?s?bin\/|^\/usr\/share\/(doc|man|lintian)\//.test(file));
  execFileSync('tar', ['--extract', '--file=-', '--directory', root, '--keep-directory-symlink'], {
    input: execFileSync(
      'tar',
      ['--create', '--file=-', '--no-recursion', '--directory', bootstrapped, '--ignore-failed-read', '--files-from=-'],
      { input: wanted.map((file) => `.${file}`).join('\n'), maxBuffer: 1 << 28, stdio: ['pipe', 'pipe', 'ignore'] },
    ),
  });
  for (const name of ['proc', 'dev', 'sys', 'tmp', 'home/nonroot']) {
    mkdirSync(join(root, name), { recursive: true });
  }
  chmodSync(join(root, 'tmp'), 0o1777);
  writeFileSync(
    join(root, 'etc/passwd'),
    'root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n',
  );
  writeFileSync(join(root, 'etc/group'), 'root:x:0:\nnonroot:x:65532:\n');
}

function filesOfPackage(root: string, name: string): string[] {
  const folder = join(root, 'var/lib/dpkg/info');
  const list = readdirSync(folder).find(
    (file) => file === `${name}.list` || (file.startsWith(`${name}:`) && file.endsWith('.list')),
  );
  if (list === undefined) {
    throw new Error(`package ${name} is not in the root`);
  }
  return readFileSync(join(folder, list), 'utf8')
    .split('\n')
    .filter((file) => file.length > 2 && !/^\/(bin|sbin|lib|lib64)$/.test(file));
}
