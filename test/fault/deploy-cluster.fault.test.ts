/**
 * Manifests, charts and the policies of deploy/ before the code of the Kubernetes API server and of Helm, without a cluster: support/cluster
 * is a program in Go that links their libraries, which is built here from the Go module proxy. Needs Go, and kubectl for kustomizations.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { parseConfig } from '../../src/config/load.ts';
import {
  type Document,
  documentsOf,
  KUSTOMIZE,
  kustomized,
  podOf,
  restrictedProblems,
  schemaProblems,
} from '../support/kubernetes.ts';
import { onPath, ROOT } from '../support/source-copy.ts';

const DEPLOY = join(ROOT, 'deploy');
const FOLDERS = [
  'kubernetes/base',
  'kubernetes/vault',
  'kubernetes/sqlite',
  'kubernetes/injection',
  'kustomize/sample',
];

const work = mkdtempSync(join(tmpdir(), 'dekd-cluster-'));
const program = join(work, 'cluster');
let unable: string | undefined;

beforeAll(() => {
  if (onPath('go').length === 0) {
    unable = 'go is not installed';
    return;
  }
  const folder = join(ROOT, 'test/fault/support/cluster');
  const built = spawnSync('go', ['build', '-o', program, '.'], { cwd: folder, encoding: 'utf8' });
  if (built.status !== 0 && /dial tcp|lookup |proxy/.test(built.stderr)) {
    unable = 'the module proxy of Go cannot be reached';
    return;
  }
  expect(built.status, built.stderr).toBe(0);
  // A chart finds those that it depends on in its own folder.
  cpSync(join(DEPLOY, 'helm/app'), join(work, 'app'), { recursive: true });
  cpSync(join(DEPLOY, 'helm/dekd'), join(work, 'app/charts/dekd'), { recursive: true });
});

afterAll(() => rmSync(work, { recursive: true, force: true }));

beforeEach(({ skip }) => {
  if (unable !== undefined) {
    skip(unable);
  }
});

interface Answer {
  readonly documents: readonly { readonly error?: string; readonly forbidden?: readonly string[] }[];
  readonly pods: readonly {
    readonly matched: boolean;
    readonly pod: Document;
    readonly refused?: readonly string[];
    readonly forbidden?: readonly string[];
    readonly error?: string;
  }[];
  readonly charts: readonly { readonly files?: Readonly<Record<string, string>>; readonly error?: string }[];
}

/** What the program says to a question. */
function ask(question: object): Answer {
  const done = spawnSync(program, { input: JSON.stringify(question), encoding: 'utf8', maxBuffer: 1 << 26 });
  expect(done.status, done.stderr).toBe(0);
  return JSON.parse(done.stdout) as Answer;
}

const read = (file: string): Document[] => documentsOf(readFileSync(join(DEPLOY, file), 'utf8'));
const base = podOf(read('kubernetes/base/deployment.yaml').find(({ kind }) => kind === 'Deployment'));

function chart(values: object): Answer['charts'][number] {
  return ask({ charts: [{ folder: join(work, 'app'), values }] }).charts[0]!;
}

/** A pod that asks for an agent, and is restricted itself. */
function asking(change: (pod: Document) => void = () => {}): Document {
  const pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'app', labels: { 'dekd-inject': 'true' } },
    spec: {
      securityContext: { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } },
      containers: [structuredClone(base.containers[0])] as Document[],
    } as Document,
  };
  delete pod.spec.containers[0].env;
  delete pod.spec.containers[0].volumeMounts;
  change(pod);
  return pod;
}

function inject(...pods: Document[]): Answer['pods'] {
  const [policy] = read('kubernetes/injection/policy.yaml');
  const [parameters] = read('kubernetes/injection/parameters.yaml');
  const [guard] = read('kubernetes/injection/guard.yaml');
  return ask({ injection: { policy, parameters, guard, pods } }).pods;
}

describe('the API server', () => {
  it.for(FOLDERS)(
    'decodes every document of %s strictly, and admits its pods to a restricted namespace',
    (folder, { skip }) => {
      if (KUSTOMIZE === undefined) {
        return skip('kubectl is not installed');
      }
      const documents = kustomized(join(DEPLOY, folder));
      const said = ask({ documents }).documents;
      expect(said).toHaveLength(documents.length);
      expect(
        said.flatMap(({ error, forbidden }) => [...(error === undefined ? [] : [error]), ...(forbidden ?? [])]),
      ).toEqual([]);
    },
  );

  it('refuses a field that no pod has, and what is not restricted, as the checks of npm test do', () => {
    const [, deployment] = read('kubernetes/base/deployment.yaml');
    const spoilt = structuredClone(deployment);
    podOf(spoilt).initContainers[0].startupProb = {};
    const open = structuredClone(deployment);
    podOf(open).containers[0].securityContext.capabilities.drop = [];
    podOf(open).volumes.push({ name: 'host', hostPath: { path: '/' } });
    const said = ask({ documents: [spoilt, open] }).documents;
    expect(said[0]!.error).toContain('startupProb');
    expect(schemaProblems(spoilt)).toHaveLength(1);
    expect(said[1]!.forbidden).toHaveLength(restrictedProblems(podOf(open)).length);
  });
});

describe('helm', () => {
  it('renders the charts to the sidecar of kubernetes/base, with a configuration that dekd takes', () => {
    const { files = {}, error } = chart({});
    expect(error).toBeUndefined();
    const documents = Object.values(files).flatMap(documentsOf);
    expect(documents.map(({ kind }) => kind).sort()).toEqual([
      'ConfigMap',
      'Deployment',
      'NetworkPolicy',
      'ServiceAccount',
    ]);
    const said = ask({ documents }).documents;
    expect(said.flatMap(({ error: why, forbidden }) => [why ?? [], forbidden ?? []].flat())).toEqual([]);
    const pod = podOf(documents.find(({ kind }) => kind === 'Deployment'));
    const { image: _ours, imagePullPolicy: _policy, ...agent } = pod.initContainers[0];
    const { image: _its, ...expected } = base.initContainers[0];
    expect(agent).toEqual(expected);
    expect(pod.securityContext).toEqual(base.securityContext);
    const config = documents.find(({ kind }) => kind === 'ConfigMap').data['config.yaml'];
    expect(parseConfig(config, { env: {} }).config.admin).toMatchObject({ host: '0.0.0.0', port: 9465 });
  });

  it.for([
    ['a uid that the agent refuses', { uid: 65_534 }, 'uid'],
    [
      'a limit of CPU',
      { resources: { requests: { memory: '128Mi' }, limits: { memory: '320Mi', cpu: '1' } } },
      'limits',
    ],
    ['a digest that is none', { image: { digest: 'latest' } }, 'digest'],
    ['a value that the library does not have', { replica: 2 }, 'replica'],
    ['a configuration without a root', { config: { roots: null } }, 'roots'],
    ['an admin port of the configuration’s own', { config: { admin: { port: 1 } } }, 'admin'],
  ] as const)('refuses %s by the schema of values', ([, dekd, named]) => {
    const values = parse(readFileSync(join(DEPLOY, 'helm/app/values.yaml'), 'utf8')).dekd;
    const merged = { ...values, ...dekd, config: { ...values.config, ...('config' in dekd ? dekd.config : {}) } };
    expect(chart({ dekd: merged }).error).toContain(named);
  });

  it('takes an image by digest, and makes no network policy where no namespace collects metrics', () => {
    const digest = `sha256:${'a'.repeat(64)}`;
    const documents = Object.values(chart({ dekd: { image: { digest }, metricsNamespace: '' } }).files!).flatMap(
      documentsOf,
    );
    expect(documents.map(({ kind }) => kind)).not.toContain('NetworkPolicy');
    const pod = podOf(documents.find(({ kind }) => kind === 'Deployment'));
    expect(pod.initContainers[0].image).toBe(`registry.example/dekd@${digest}`);
  });
});

describe('the policy of injection', () => {
  it('gives a pod that has nothing the sidecar of kubernetes/base, and the pod is restricted', () => {
    const [said] = inject(asking());
    expect(said).toMatchObject({ matched: true });
    expect([said!.error, said!.forbidden, said!.refused].filter((each) => each?.length)).toEqual([]);
    const { spec } = said!.pod;
    const [agent] = spec.initContainers;
    const [{ protocol: _default, ...port }] = agent.ports;
    const { image: _its, ...expected } = base.initContainers[0];
    expect({ ...agent, ports: [port] }).toEqual({ ...expected, image: 'registry.example/dekd:0.1.0' });
    expect(spec.containers[0].env).toEqual(base.containers[0].env);
    expect(spec.containers[0].volumeMounts).toEqual(base.containers[0].volumeMounts);
    expect(spec.volumes.map(({ name }: Document) => name)).toEqual(['dekd-run', 'dekd-config', 'dekd-postgres']);
    expect(spec.securityContext.fsGroup).toBe(base.securityContext.fsGroup);
  });

  it('leaves what a pod has, and puts the agent before its init containers', () => {
    const own = (pod: Document): void => {
      pod.spec.initContainers = [
        { ...structuredClone(base.containers[0]), name: 'migrate', env: [], volumeMounts: [] },
      ];
      pod.spec.volumes = [{ name: 'data', emptyDir: {} }];
      pod.spec.containers[0].env = [{ name: 'LOG', value: 'info' }];
      pod.spec.containers[0].volumeMounts = [{ name: 'data', mountPath: '/data' }];
      pod.spec.containers.push({ ...structuredClone(base.containers[0]), name: 'other', env: [], volumeMounts: [] });
      pod.spec.securityContext.fsGroup = 7000;
    };
    const [said] = inject(asking(own));
    expect(said!.error).toBeUndefined();
    const { spec } = said!.pod;
    expect(spec.initContainers.map(({ name }: Document) => name)).toEqual(['dekd', 'migrate']);
    expect(spec.volumes.map(({ name }: Document) => name)[0]).toBe('data');
    expect(spec.containers[0].env.map(({ name }: Document) => name)).toEqual(['LOG', 'DEKD_SOCKET']);
    expect(spec.containers[0].volumeMounts.map(({ name }: Document) => name)).toEqual(['data', 'dekd-run']);
    expect(spec.containers[1].volumeMounts ?? []).toEqual([]);
    expect(spec.securityContext.fsGroup).toBe(7000);
  });

  it('gives no second agent to a pod that has one', () => {
    const [first] = inject(asking());
    const [again] = inject({ ...first!.pod, status: undefined });
    expect(again).toMatchObject({ matched: false });
    expect(again!.pod.spec.initContainers).toHaveLength(1);
  });

  it('is guarded: no shared processes, no second container of the agent’s user, no socket to write to', () => {
    const refused = inject(
      asking((pod) => {
        pod.spec.shareProcessNamespace = true;
      }),
      asking((pod) => {
        pod.spec.hostPID = true;
      }),
      asking((pod) => {
        pod.spec.containers[0].securityContext.runAsUser = 64_532;
      }),
      asking((pod) => {
        pod.spec.securityContext.runAsUser = 64_532;
      }),
      asking((pod) => {
        pod.spec.containers.push({ name: 'other', image: 'x', volumeMounts: [{ name: 'dekd-run', mountPath: '/x' }] });
      }),
    ).map((each) => each.refused);
    expect(refused).toEqual([
      [expect.stringContaining('process namespace')],
      [expect.stringContaining('process namespace')],
      [expect.stringContaining('64532')],
      [expect.stringContaining('64532')],
      [expect.stringContaining('read-only')],
    ]);
  });
});
