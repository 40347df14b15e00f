/** Manifests as Kubernetes takes them: its schema, and what Pod Security calls restricted. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv, type ValidateFunction } from 'ajv';
import { parseAllDocuments } from 'yaml';
import { onPath, ROOT } from './source-copy.ts';

// biome-ignore lint/suspicious/noExplicitAny: documents of other programs, whose shape is what is tested
export type Document = any;

/** As Kubernetes reads YAML, where 0440 is octal. @throws Error for errors and warnings alike */
export function documentsOf(text: string): Document[] {
  return parseAllDocuments(text, { version: '1.1' }).flatMap((document) => {
    const [problem] = [...document.errors, ...document.warnings];
    if (problem !== undefined) {
      throw problem;
    }
    const value = document.toJS() as Document;
    return value === null ? [] : [value];
  });
}

interface Schemas {
  /** `apps/v1/Deployment` to the name of its definition. */
  readonly kinds: Readonly<Record<string, string>>;
  readonly $defs: object;
}

const schemas = JSON.parse(readFileSync(join(ROOT, 'test/support/kubernetes-1.36.json'), 'utf8')) as Schemas;
const validators = new Map<string, ValidateFunction>();

/** What the schema of its kind has against a document, unknown fields included; a kind without a schema is a problem too. */
export function schemaProblems(document: Document): string[] {
  const kind = `${document.apiVersion}/${document.kind}`;
  const definition = schemas.kinds[kind];
  if (definition === undefined) {
    return [`${kind}: there is no schema of it`];
  }
  let validate = validators.get(kind);
  if (validate === undefined) {
    // Formats are int32 and the like, which say less than the types.
    const ajv = new Ajv({ strict: false, allErrors: true, validateFormats: false });
    validate = ajv.compile({ $defs: schemas.$defs, $ref: `#/$defs/${definition}` });
    validators.set(kind, validate);
  }
  validate(document);
  return (validate.errors ?? []).map(
    ({ instancePath, message, params }) => `${kind}${instancePath} ${message} ${JSON.stringify(params)}`,
  );
}

/** The pod in a document that has one. */
export function podOf(document: Document): Document | undefined {
  return document.kind === 'Pod' ? document.spec : document.spec?.template?.spec;
}

const VOLUMES = [
  'configMap',
  'csi',
  'downwardAPI',
  'emptyDir',
  'ephemeral',
  'persistentVolumeClaim',
  'projected',
  'secret',
];

/** What the level "restricted" of the Pod Security Standards forbids in a pod. */
export function restrictedProblems(spec: Document): string[] {
  const problems: string[] = [];
  const say = (holds: boolean, what: string): void => {
    if (!holds) {
      problems.push(what);
    }
  };
  for (const name of ['hostPID', 'hostIPC', 'hostNetwork']) {
    say(!spec[name], name);
  }
  for (const { name, ...volume } of spec.volumes ?? []) {
    say(
      Object.keys(volume).every((kind) => VOLUMES.includes(kind)),
      `volume ${name}`,
    );
  }
  for (const container of [...(spec.initContainers ?? []), ...spec.containers]) {
    const own = container.securityContext ?? {};
    const of = (field: string): Document => own[field] ?? spec.securityContext?.[field];
    const { name } = container;
    say(own.allowPrivilegeEscalation === false, `${name}: allowPrivilegeEscalation`);
    say(own.privileged !== true, `${name}: privileged`);
    say((own.capabilities?.drop ?? []).includes('ALL'), `${name}: capabilities.drop`);
    say(
      (own.capabilities?.add ?? []).every((each: string) => each === 'NET_BIND_SERVICE'),
      `${name}: capabilities.add`,
    );
    say(of('runAsNonRoot') === true, `${name}: runAsNonRoot`);
    say(of('runAsUser') !== 0, `${name}: runAsUser`);
    say(['RuntimeDefault', 'Localhost'].includes(of('seccompProfile')?.type), `${name}: seccompProfile`);
    say(
      (container.ports ?? []).every((port: Document) => port.hostPort === undefined),
      `${name}: hostPort`,
    );
  }
  return problems;
}

/** The command that renders kustomizations; undefined where there is none. */
export const KUSTOMIZE: readonly string[] | undefined = [
  ['kubectl', 'kustomize'],
  ['kustomize', 'build'],
].find(([command]) => onPath(command!).length > 0);

/** The documents of a folder with a kustomization. @throws Error with what kustomize said, warnings included */
export function kustomized(folder: string): Document[] {
  const [command, ...args] = KUSTOMIZE!;
  const built = spawnSync(command!, [...args, folder], { encoding: 'utf8' });
  if (built.status !== 0 || built.stderr !== '') {
    throw new Error(`${command}: ${built.stderr}`);
  }
  return documentsOf(built.stdout);
}
