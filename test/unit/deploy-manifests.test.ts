/** Manifests of deploy/ against Kubernetes itself: its schema, Pod Security, and that every way to the sidecar leads to the same one. */
import { spawnSync } from 'node:child_process';
import { cpSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
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
const NO_KUSTOMIZE = 'kubectl is not installed';
const NO_HELM = 'helm is not installed';
const FOLDERS = [
  'kubernetes/base',
  'kubernetes/vault',
  'kubernetes/sqlite',
  'kubernetes/injection',
  'kustomize/sample',
];
/** Whole documents; what else is there are patches, which are whole once they are applied. */
const WHOLE = [
  'kubernetes/base/{config,deployment,network-policy}.yaml',
  'kubernetes/injection/{policy,binding,guard,parameters}.yaml',
  'kubernetes/sqlite/claim.yaml',
  'kubernetes/namespace.yaml',
  'kustomize/sample/{application,config}.yaml',
];

const work = mkdtempSync(join(tmpdir(), 'dekd-manifests-'));
afterAll(() => rmSync(work, { recursive: true, force: true }));

const read = (file: string): Document[] => documentsOf(readFileSync(join(DEPLOY, file), 'utf8'));
const whole = globSync(WHOLE, { cwd: DEPLOY }).sort();
const deploymentIn = (documents: Document[]): Document => documents.find(({ kind }) => kind === 'Deployment');
const base = podOf(deploymentIn(read('kubernetes/base/deployment.yaml')));

/** Of the sidecar and what it brings, without what is another image or another name in each. */
function sidecarOf(pod: Document): Document {
  const [agent] = pod.initContainers;
  const [app] = pod.containers;
  const { image: _image, imagePullPolicy: _policy, ...container } = agent;
  return {
    container,
    volumes: pod.volumes
      .filter(({ name }: Document) => name.startsWith('dekd-'))
      .map(({ name, ...source }: Document) => [name, Object.keys(source)]),
    run: pod.volumes.find(({ name }: Document) => name === 'dekd-run'),
    security: pod.securityContext,
    shared: pod.shareProcessNamespace,
    variable: app.env.find(({ name }: Document) => name === 'DEKD_SOCKET'),
    mount: app.volumeMounts.find(({ name }: Document) => name === 'dekd-run'),
  };
}

describe('every manifest', () => {
  it('is what the schema of Kubernetes 1.36 says, without an unknown field', () => {
    expect(whole.length).toBe(11);
    expect(whole.flatMap((file) => read(file).flatMap(schemaProblems))).toEqual([]);
  });

  it.for(FOLDERS)('of %s is so when it is rendered, and every pod in it is restricted', (folder, { skip }) => {
    if (KUSTOMIZE === undefined) {
      return skip(NO_KUSTOMIZE);
    }
    const documents = kustomized(join(DEPLOY, folder));
    expect(documents.flatMap(schemaProblems)).toEqual([]);
    expect(documents.flatMap((each) => (podOf(each) === undefined ? [] : restrictedProblems(podOf(each))))).toEqual([]);
  });

  it('would be refused for a field that no pod has, and a pod for one thing that it may not', () => {
    const [, deployment] = read('kubernetes/base/deployment.yaml');
    const pod = podOf(deployment);
    pod.initContainers[0].startupProb = {};
    expect(schemaProblems(deployment)).toEqual([expect.stringContaining('startupProb')]);
    pod.initContainers[0].securityContext.capabilities.drop = [];
    pod.containers[0].securityContext.allowPrivilegeEscalation = true;
    expect(restrictedProblems(pod)).toEqual(['dekd: capabilities.drop', 'app: allowPrivilegeEscalation']);
  });
});

describe('the network policy', () => {
  it('lets everybody to every port but that of the agent, and the collector of metrics to that one', () => {
    const [{ spec }] = read('kubernetes/base/network-policy.yaml');
    const open = spec.ingress
      .filter(({ from }: Document) => from === undefined)
      .flatMap(({ ports }: Document) => ports);
    const tcp = open.filter(({ protocol }: Document) => protocol === 'TCP');
    expect(tcp.map(({ port, endPort }: Document) => [port, endPort])).toEqual([
      [1, 9464],
      [9466, 65_535],
    ]);
    const [{ containerPort }] = base.initContainers[0].ports;
    const [behind] = spec.ingress.filter(({ from }: Document) => from !== undefined);
    expect(behind.ports).toEqual([{ protocol: 'TCP', port: containerPort }]);
  });
});

describe('the component of kustomize', () => {
  it('gives a Deployment that knows nothing of dekd the sidecar of kubernetes/base', ({ skip }) => {
    if (KUSTOMIZE === undefined) {
      return skip(NO_KUSTOMIZE);
    }
    const documents = kustomized(join(DEPLOY, 'kustomize/sample'));
    expect(sidecarOf(podOf(deploymentIn(documents)))).toEqual(sidecarOf(base));
    // What is only there to be copied is not applied.
    expect(documents.map(({ kind }) => kind)).toEqual(['ConfigMap', 'Deployment']);
  });

  it('leaves what a Deployment has: its variables, mounts, volumes and init containers, which come after the agent', ({
    skip,
  }) => {
    if (KUSTOMIZE === undefined) {
      return skip(NO_KUSTOMIZE);
    }
    const folder = join(work, 'kustomize');
    cpSync(join(DEPLOY, 'kustomize'), folder, { recursive: true });
    const [application] = read('kustomize/sample/application.yaml');
    const spec = podOf(application);
    spec.containers[0].env = [{ name: 'LOG', value: 'info' }];
    spec.containers[0].volumeMounts = [{ name: 'data', mountPath: '/data' }];
    spec.containers.push({ name: 'other', image: 'other' });
    spec.initContainers = [{ name: 'migrate', image: 'app' }];
    spec.volumes = [{ name: 'data', emptyDir: {} }];
    writeFileSync(join(folder, 'sample/application.yaml'), JSON.stringify(application));
    const pod = podOf(deploymentIn(kustomized(join(folder, 'sample'))));
    expect(pod.initContainers.map(({ name }: Document) => name)).toEqual(['dekd', 'migrate']);
    expect(pod.containers[0].env.map(({ name }: Document) => name)).toEqual(['LOG', 'DEKD_SOCKET']);
    expect(pod.containers[0].volumeMounts.map(({ name }: Document) => name)).toEqual(['data', 'dekd-run']);
    // Mounting is the credential: nobody gets it unasked.
    expect(pod.containers[1]).toEqual({ name: 'other', image: 'other' });
    expect(pod.volumes.map(({ name }: Document) => name)).toEqual(
      expect.arrayContaining(['data', 'dekd-run', 'dekd-config', 'dekd-postgres']),
    );
  });
});

describe('the charts', () => {
  it('are rendered by helm to the sidecar of kubernetes/base, with a configuration that dekd takes', ({ skip }) => {
    if (onPath('helm').length === 0) {
      return skip(NO_HELM);
    }
    const charts = join(work, 'charts');
    mkdirSync(join(charts, 'app/charts'), { recursive: true });
    cpSync(join(DEPLOY, 'helm/app'), join(charts, 'app'), { recursive: true });
    cpSync(join(DEPLOY, 'helm/dekd'), join(charts, 'app/charts/dekd'), { recursive: true });
    const rendered = spawnSync('helm', ['template', 'app', join(charts, 'app')], { encoding: 'utf8' });
    expect(rendered.stderr).toBe('');
    const documents = documentsOf(rendered.stdout);
    expect(documents.flatMap(schemaProblems)).toEqual([]);
    const pod = podOf(deploymentIn(documents));
    expect(restrictedProblems(pod)).toEqual([]);
    expect(sidecarOf(pod)).toEqual(sidecarOf(base));
    const config = documents.find(({ kind }) => kind === 'ConfigMap').data['config.yaml'];
    expect(parseConfig(config, { env: {} }).config.admin).toMatchObject({ host: '0.0.0.0', port: 9465 });
    const wrong = spawnSync('helm', ['template', 'app', join(charts, 'app'), '--set', 'dekd.uid=65534'], {
      encoding: 'utf8',
    });
    expect([wrong.status, wrong.stderr]).toEqual([1, expect.stringContaining('uid')]);
  });

  it('say in their schema what each value of the library may be, and no value is without', () => {
    const schema = JSON.parse(readFileSync(join(DEPLOY, 'helm/dekd/values.schema.json'), 'utf8')) as Document;
    const [values] = read('helm/dekd/values.yaml');
    expect(Object.keys(schema.properties).filter((name) => name !== 'global')).toEqual(Object.keys(values));
    expect(schema.additionalProperties).toBe(false);
  });
});

describe('the policy of injection', () => {
  it('matches pods with the label, in namespaces with the label, and lets none in without an agent', () => {
    const [policy] = read('kubernetes/injection/policy.yaml');
    expect(policy.spec).toMatchObject({
      failurePolicy: 'Fail',
      matchConstraints: {
        namespaceSelector: {
          matchLabels: { 'dekd-injection': read('kubernetes/namespace.yaml')[0].metadata.labels['dekd-injection'] },
        },
        objectSelector: { matchLabels: { 'dekd-inject': 'true' } },
        resourceRules: [{ operations: ['CREATE'], resources: ['pods'] }],
      },
    });
    const [binding] = read('kubernetes/injection/binding.yaml');
    expect(binding.spec).toEqual({
      policyName: policy.metadata.name,
      paramRef: {
        name: read('kubernetes/injection/parameters.yaml')[0].metadata.name,
        parameterNotFoundAction: 'Deny',
      },
    });
  });
});
