/**
 * The image and the sidecar of deploy/kubernetes/base, without a container engine. The Dockerfile's own steps are carried out in
 * clean Debian roots; what a registry of images would give (Debian's image of Node, the distroless one) is stood in for by
 * debootstrap and by this repository's Node, which is the same official executable: see support/image-root.ts. What comes of it
 * runs as Kubernetes would run it: read-only root, the uid, group and flags of the manifest, its configuration with other addresses,
 * a folder in memory for the socket, and an application of another uid that sees that folder read-only. KMS is a stand-in, PostgreSQL
 * is real. Needs root; `DEKD_FAULT_IMAGE` names a folder with an image that was built before.
 */

import { spawnSync } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { parse, parseAllDocuments, stringify } from 'yaml';
import { freePort } from '../support/free-port.ts';
import { KmsServer } from '../support/kms-server/kms-server.ts';
import { PostgresServer } from '../support/postgres.ts';
import { childrenOf } from '../support/processes.ts';
import { ROOT } from '../support/source-copy.ts';
import { report } from './support/agent-process.ts';
import { Container, type ContainerOptions, type Mount } from './support/container.ts';
import { buildImage, type ImageRoot, imageIn, Unreachable, unableToBuild } from './support/image-root.ts';

const MIB = 1024 * 1024;

// biome-ignore lint/suspicious/noExplicitAny: a document of Kubernetes
type Document = any;

const [, deployment] = parseAllDocuments(
  readFileSync(join(ROOT, 'deploy/kubernetes/base/deployment.yaml'), 'utf8'),
).map((document) => document.toJS() as Document);
const { spec } = deployment.spec.template;
const [sidecar] = spec.initContainers;
const AGENT_UID = sidecar.securityContext.runAsUser as number;
const APP_UID = spec.containers[0].securityContext.runAsUser as number;
const FS_GROUP = spec.securityContext.fsGroup as number;
const SOCKET = spec.containers[0].env[0].value as string;
const MEMORY_LIMIT = Number.parseInt(sidecar.resources.limits.memory, 10) * MIB;

const work = mkdtempSync(join(tmpdir(), 'dekd-image-'));
chmodSync(work, 0o755);
/** The emptyDir of medium Memory, as the kubelet makes it: root's, 2777, of the group of the pod. */
const run = join(work, 'run');
const settings = join(work, 'settings');
const application = join(work, 'application');

let unable: string | undefined;
let image: ImageRoot;
let kms: KmsServer;
let postgres: PostgresServer;
let port: number;
let buildMs = 0;

beforeAll(async () => {
  unable = unableToBuild();
  if (unable !== undefined) {
    return;
  }
  const begun = performance.now();
  try {
    const { DEKD_FAULT_IMAGE } = process.env;
    image = DEKD_FAULT_IMAGE === undefined ? await buildImage(work) : imageIn(DEKD_FAULT_IMAGE);
  } catch (error) {
    if (!(error instanceof Unreachable)) {
      throw error;
    }
    unable = error.message;
    return;
  }
  buildMs = performance.now() - begun;
  kms = await KmsServer.start();
  postgres = await PostgresServer.start();
  await postgres.sql("ALTER USER postgres PASSWORD 'not-a-secret'");
  port = await freePort();
  for (const folder of [run, settings, join(settings, 'postgres'), application]) {
    mkdirSync(folder, { recursive: true });
  }
  spawnSync('mount', ['-t', 'tmpfs', '-o', `size=1m,mode=2777,gid=${FS_GROUP}`, 'tmpfs', run]);
  writeFileSync(join(settings, 'config.yaml'), configuration());
  // As a Secret is mounted: root's, open to the group of the pod.
  const password = join(settings, 'postgres/password');
  writeFileSync(password, 'not-a-secret\n', { mode: 0o440 });
  chownSync(password, 0, FS_GROUP);
  writeFileSync(join(application, 'app.mjs'), APPLICATION);
});

afterAll(async () => {
  spawnSync('umount', [run]);
  await postgres?.stop();
  await kms?.stop();
  rmSync(work, { recursive: true, force: true });
});

beforeEach(({ skip }) => {
  if (unable !== undefined) {
    skip(unable);
  }
});

/** That of the sample, with the addresses of this machine. */
function configuration(): string {
  const sample = readFileSync(join(ROOT, 'deploy/kubernetes/base/config.yaml'), 'utf8');
  const config = parse((parse(sample) as Document).data['config.yaml']) as Document;
  config.admin.port = port;
  config.admin.host = '127.0.0.1';
  config.roots.main.aws = { key: kms.createKey().arn, endpoint: kms.endpoint };
  config.keystore.postgres.url = `postgres://postgres@127.0.0.1:${postgres.port}/postgres`;
  config.keystore.postgres.tls = 'disable';
  delete config.keystore.postgres.caFile;
  return stringify(config);
}

const settingsMount: Mount = { folder: settings, at: '/etc/dekd', readOnly: true };
const runMount: Mount = { folder: run, at: '/run/dekd', readOnly: false };

function agentOptions(changes: Partial<ContainerOptions> = {}): ContainerOptions {
  return {
    root: image.folder,
    uid: AGENT_UID,
    gid: sidecar.securityContext.runAsGroup,
    groups: [FS_GROUP],
    mounts: [settingsMount, runMount],
    env: {
      ...image.env,
      DEKD_SOCKET: sidecar.env[0].value,
      ...kms.environment(),
      KUBERNETES_SERVICE_HOST: '10.96.0.1',
      KUBERNETES_SERVICE_PORT: '443',
    },
    argv: [...image.entrypoint, ...sidecar.args],
    ...changes,
  };
}

/** An application in a container of its own, which sees the folder of the socket read-only. */
function appOptions(argv: readonly string[], changes: Partial<ContainerOptions> = {}): ContainerOptions {
  return {
    root: image.folder,
    uid: APP_UID,
    gid: APP_UID,
    groups: [FS_GROUP],
    mounts: [
      { ...runMount, readOnly: true },
      { folder: application, at: '/tmp', readOnly: true },
    ],
    env: { DEKD_SOCKET: SOCKET },
    argv: [image.entrypoint[0]!, '/tmp/app.mjs', ...argv],
    ...changes,
  };
}

const APPLICATION = `
import { writeFileSync } from 'node:fs';
import { connect } from '/app/dist/client/index.js';
const [act, token] = process.argv.slice(2);
const said = {};
const attempt = async (name, work) => {
  try {
    said[name] = await work();
  } catch (error) {
    said[name] = error.code;
  }
};
if (act === 'intrude') {
  await attempt('root', () => writeFileSync('/app/x', ''));
  await attempt('folder', () => writeFileSync('/run/dekd/x', ''));
  await attempt('socketFolder', () => writeFileSync('/run/dekd/pod/x', ''));
} else {
  const client = connect();
  const options = { key: 'app-values', partition: 'acme', context: { field: 'email' }, timeoutMs: 5000 };
  if (token === undefined) {
    await attempt('token', () => client.encryptText('ada@example.org', options));
  }
  await attempt('text', () => client.decryptText(token ?? said.token, options));
  await attempt('otherKey', () => client.encryptText('x', { ...options, key: 'others' }));
  await client.close();
}
process.stdout.write(JSON.stringify(said));
`;

async function app(argv: readonly string[], changes?: Partial<ContainerOptions>): Promise<Record<string, string>> {
  const { code, said } = await Container.run(appOptions(argv, changes));
  expect(code, said).toBe(0);
  return JSON.parse(said) as Record<string, string>;
}

const readyz = async (): Promise<number> => (await fetch(`http://127.0.0.1:${port}/readyz`)).status;

describe('the image', () => {
  it('is what the steps of the Dockerfile make, with neither shell nor compiler nor package manager', () => {
    const { stdout } = spawnSync('du', ['-sm', image.folder, join(image.folder, 'app')], { encoding: 'utf8' });
    report('image', {
      buildSeconds: Math.round(buildMs / 1000),
      mib: stdout.match(/^\d+/gm)!.join(', of which /app '),
    });
    for (const path of [
      '/bin/sh',
      '/usr/bin/env',
      '/usr/bin/apt',
      '/usr/local/bin/npm',
      '/app/node_modules/typescript',
    ]) {
      expect(() => statSync(join(image.folder, path)), path).toThrow('ENOENT');
    }
    expect(
      spawnSync('find', [join(image.folder, 'app'), '-perm', '/022', '-not', '-type', 'l']).stdout.toString(),
    ).toBe('');
    expect(spawnSync('find', [join(image.folder, 'app'), '-not', '-uid', '0']).stdout.toString()).toBe('');
  });

  it('has the native engine and every library that a sample needs, and loads them without eval', async () => {
    const script = `
      import { createRequire } from 'node:module';
      import assert from 'node:assert';
      assert.throws(() => eval('1'), EvalError);
      const require = createRequire('/app/package.json');
      const [{ KMSClient }, vault, pg] = ['@aws-sdk/client-kms', 'node-vault', 'pg'].map((name) => require(name));
      new KMSClient({ region: 'x' }); vault({ endpoint: 'http://127.0.0.1:1' }); new pg.Client();
      process.stdout.write('loaded');`;
    const flags = image.entrypoint.slice(1, -1);
    const argv = [image.entrypoint[0]!, ...flags, '--input-type=module', '--eval', script];
    const { code, said } = await Container.run(agentOptions({ argv, env: { HOME: '/nonexistent' } }));
    expect([code, said]).toEqual([0, 'loaded']);
  });
});

describe('the sidecar in it', () => {
  it('serves an application of another user, and no other, from a read-only root', async () => {
    const begun = performance.now();
    await using agent = Container.start(agentOptions());
    await agent.says('agent ready');
    const readyMs = Math.round(performance.now() - begun);
    const ready = JSON.parse(agent.said.split('\n').find((line) => line.includes('agent ready'))!) as Document;
    expect(ready).toMatchObject({ engine: 'native', keystore: 'postgres', root: 'main', pid: 1, socket: SOCKET });
    expect(await readyz()).toBe(200);

    const said = await app(['use']);
    expect(said).toEqual({
      token: expect.stringMatching(/^dk1\./),
      text: 'ada@example.org',
      otherKey: 'PERMISSION_DENIED',
    });
    expect(await app(['use', said.token!])).toMatchObject({ text: 'ada@example.org' });
    // In the pod, and of no rule; and in no group of the pod, and so not at the socket.
    expect(await app(['use', said.token!], { uid: 10_002 })).toMatchObject({
      text: expect.not.stringContaining('ada'),
    });
    expect(await app(['use', said.token!], { groups: [] })).toMatchObject({ text: 'AGENT_UNAVAILABLE' });
    expect(await app(['intrude'])).toEqual({ root: 'EROFS', folder: 'EROFS', socketFolder: 'EROFS' });

    const socket = statSync(join(run, 'pod/agent.sock'));
    const folder = statSync(join(run, 'pod'));
    expect([socket.uid, socket.gid, socket.mode & 0o7777]).toEqual([AGENT_UID, FS_GROUP, 0o660]);
    expect([folder.uid, folder.gid, folder.mode & 0o7777]).toEqual([AGENT_UID, FS_GROUP, 0o2750]);

    // What somebody types who debugs it, and what Compose asks.
    const node = image.healthcheck.slice(0, -1);
    for (const argv of [image.healthcheck, [...node, 'status'], [...node, 'doctor']]) {
      const { code, said: output } = await Container.run(agentOptions({ argv }));
      expect(code, output).toBe(0);
    }
    const custodians = childrenOf(agent.pid);
    expect(custodians.length).toBeGreaterThan(0);
    const memory = [agent.pid, ...custodians].map((pid) => statusOf(pid, 'VmHWM') / MIB);
    report('sidecar', {
      readyMs,
      lockLevel: ready.lockLevel,
      agentMib: Math.round(memory[0]!),
      custodiansMib: memory.slice(1).map(Math.round).join(' + '),
      sumMib: Math.round(memory.reduce((sum, each) => sum + each, 0)),
    });
    expect(memory.reduce((sum, each) => sum + each, 0) * MIB).toBeLessThan(MEMORY_LIMIT);
    for (const pid of [agent.pid, ...custodians]) {
      expect(statusText(pid, 'Uid')).toBe([AGENT_UID, AGENT_UID, AGENT_UID, AGENT_UID].join('\t'));
      expect(statusText(pid, 'NoNewPrivs')).toBe('1');
      expect(Number.parseInt(statusText(pid, 'CapEff'), 16)).toBe(0);
      expect(readFileSync(`/proc/${pid}/cmdline`, 'utf8')).toContain('--disallow-code-generation-from-strings');
    }

    agent.kill('SIGTERM');
    expect(await agent.ended).toBe(0);
    await expect(readyz()).rejects.toThrow();
  });

  it.for([
    [64, /^(secret|locked)$/],
    [8192, /^(secret|locked)$/],
  ] as const)('locks its keys where %d KiB may be locked, as nodes allow', async ([kib, level]) => {
    await using agent = Container.start(agentOptions({ memlock: kib * 1024 }));
    await agent.says('agent ready');
    const { lockLevel } = JSON.parse(agent.said.split('\n').find((line) => line.includes('agent ready'))!) as Document;
    report(`lock level with ${kib} KiB`, { lockLevel });
    expect(lockLevel).toMatch(level);
    expect((await app(['use'])).text).toBe('ada@example.org');
    agent.kill('SIGTERM');
    expect(await agent.ended).toBe(0);
  });

  it('comes back after a kill on the socket that was left behind', async () => {
    let token: string;
    {
      await using agent = Container.start(agentOptions());
      await agent.says('agent ready');
      token = (await app(['use'])).token!;
      agent.kill('SIGKILL');
      await agent.ended;
    }
    await using agent = Container.start(agentOptions());
    await agent.says('agent ready');
    expect((await app(['use', token])).text).toBe('ada@example.org');
  });

  it('ends when it is told to before it has started, although process 1 has no default for signals', async () => {
    kms.fail(Infinity, 'hang');
    await using agent = Container.start(agentOptions());
    while ((await fetch(`http://127.0.0.1:${port}/livez`).catch(() => undefined))?.status !== 200) {
      await sleep(20);
    }
    const states = ['/startupz', '/readyz'].map(
      async (path) => (await fetch(`http://127.0.0.1:${port}${path}`)).status,
    );
    expect(await Promise.all(states)).toEqual([503, 503]);
    const begun = performance.now();
    agent.kill('SIGTERM');
    expect(await agent.ended).toBe(128 + 15);
    expect(performance.now() - begun).toBeLessThan(2_000);
    kms.recover();
  });

  it('refuses a keystore that dies with the pod, wherever that is, and takes one on a volume', async () => {
    const volume = join(work, 'volume');
    mkdirSync(volume);
    chownSync(volume, 0, FS_GROUP);
    chmodSync(volume, 0o2775);
    for (const [path, loss] of [
      ['/run/dekd/keystore.sqlite', 'it is on a file system in memory'],
      ['/var/lib/dekd/keystore.sqlite', 'it is in the container image'],
      ['/srv/dekd/keystore.sqlite', undefined],
    ] as const) {
      const file = join(settings, 'sqlite.yaml');
      const config = parse(configuration()) as Document;
      config.keystore = { kind: 'sqlite', path };
      writeFileSync(file, stringify(config));
      await using agent = Container.start(
        agentOptions({
          argv: [...image.entrypoint, 'run', '--config=/etc/dekd/sqlite.yaml'],
          mounts: [settingsMount, runMount, { folder: volume, at: '/srv/dekd', readOnly: false }],
        }),
      );
      if (loss === undefined) {
        await agent.says('agent ready');
        agent.kill('SIGTERM');
        expect(await agent.ended).toBe(0);
      } else {
        expect(await agent.ended).toBe(5);
        expect(agent.said).toContain(`dies with the pod, and every token with it: ${loss}`);
      }
    }
  });

  it('rests at next to nothing while it is probed', async () => {
    await using agent = Container.start(agentOptions());
    await agent.says('agent ready');
    await app(['use']);
    await sleep(2_000);
    const before = cpuMs(agent.pid);
    const begun = performance.now();
    for (let round = 0; round < 10; round++) {
      await readyz();
      await sleep(500);
    }
    const share = (cpuMs(agent.pid) - before) / (performance.now() - begun);
    report('at rest, probed twice a second', {
      cpuPercent: (100 * share).toFixed(2),
      agentMib: Math.round(statusOf(agent.pid, 'VmRSS') / MIB),
    });
    expect(share).toBeLessThan(0.02);
    agent.kill('SIGTERM');
    expect(await agent.ended).toBe(0);
  });
});

function statusText(pid: number, name: string): string {
  return new RegExp(`^${name}:\\s+(.*)$`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]!;
}

/** Bytes. */
function statusOf(pid: number, name: string): number {
  return Number.parseInt(statusText(pid, name), 10) * 1024;
}

/** Milliseconds that a process has computed; the kernel counts in hundredths of a second. */
function cpuMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
}
