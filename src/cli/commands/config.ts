import { type ChosenRoute, type KeyWay, wayOf } from '../../agent/key-way.ts';
import type { KeystoreConfig } from '../../config/config.ts';
import { renderJsonSchema } from '../../config/json-schema.ts';
import { loadConfig } from '../../config/load.ts';
import { renderSample } from '../../config/sample.ts';
import { custodyFinding, probeFindings } from '../doctor/back-ends.ts';
import { type CommandLine, printResult, table, warn } from '../terminal.ts';

/** Exit code 1 with every problem at once. */
export async function check(line: CommandLine, file: string | undefined): Promise<void> {
  const loaded = loadConfig({ file });
  const name = loaded.file ?? 'no file';
  if (!line.json) {
    for (const text of loaded.warnings) {
      warn(`warning: ${text}`);
    }
  }
  const { roots, defaultRoot, keystores, custody, routes, admin } = loaded.config;
  const parts = {
    roots: roots.map((root) => ({ name: root.name, provider: root.provider, default: root.name === defaultRoot })),
    keystores: [...keystores].map(([keystore, of]) => ({ name: keystore, kind: of.kind, place: placeOf(of) })),
    routes: routes.length,
    custody,
    probes: admin.port === undefined ? null : { host: admin.host, port: admin.port },
  };
  const text = [
    `${name}: ok`,
    `  roots      ${parts.roots.map((root) => `${root.name} (${root.provider}${root.default && roots.length > 1 ? ', the default' : ''})`).join(', ')}`,
    `  keystores  ${[...keystores].map(([keystore, of]) => `${keystore} (${of.kind}${whereOf(of)})`).join(', ')}`,
    `  routes     ${routes.length === 0 ? 'none: everything takes the default root and keystore' : routes.length}`,
    `  custody    ${custody} (${custodyFinding(loaded.config).found})`,
    ...probeFindings(loaded.config).map(({ found }) => `  probes     ${found}`),
  ];
  printResult(line, { ok: true, file: loaded.file, warnings: loaded.warnings, ...parts }, text.join('\n'));
}

/** Path or address of a keystore; null for one in memory, and where the variables of the driver say. */
function placeOf(keystore: KeystoreConfig): string | null {
  switch (keystore.kind) {
    case 'postgres':
      return keystore.postgres.url ?? null;
    case 'openbao-kv':
      return keystore.vault.address;
    default:
      return keystore.path ?? null;
  }
}

function whereOf(keystore: KeystoreConfig): string {
  const place = keystore.kind === 'memory' ? 'every token dies with the agent' : placeOf(keystore);
  return place === null ? '' : `: ${place}`;
}

export async function sample(line: CommandLine): Promise<void> {
  const text = renderSample();
  printResult(line, { sample: text }, text.trimEnd());
}

/** For editors that know YAML schemas. */
export async function schema(line: CommandLine): Promise<void> {
  const text = renderJsonSchema();
  // The document is the result, whether or not JSON was asked for.
  printResult({ ...line, json: false }, undefined, text.trimEnd());
}

/** The way of one key through the configuration, without asking an agent. */
export async function explain(
  line: CommandLine,
  options: Record<string, unknown>,
  key: string,
  partition: string,
): Promise<void> {
  const { config } = loadConfig({ file: options.config as string | undefined });
  const way = wayOf(config, key, partition);
  printResult(line, documentOf(way), told(way));
}

/** For scripts: what there is not is null, and a limit that is off is `never`, as in the file. */
function documentOf({ entry, definition, root, steps, ...way }: KeyWay): unknown {
  const rotation = Object.entries(definition.rotation).map(([name, limit]) => [
    name,
    limit === Number.POSITIVE_INFINITY ? 'never' : (limit ?? null),
  ]);
  return {
    ...way,
    entry: entry ?? null,
    definition: { ...definition, rotation: Object.fromEntries(rotation) },
    root: { ...root, route: root.route ?? null },
    steps: steps.map((step) => ({ ...step, route: step.route ?? null })),
  };
}

function told({ key, partition, entry, definition, root, steps }: KeyWay): string {
  const { keyContext, requiredContext, rotation, direct, recipients, formerRecipients } = definition;
  const limits = Object.entries(rotation).filter(([, limit]) => limit !== undefined && limit !== Infinity);
  const settings = [
    `key ${key}${partition === '' ? '' : ` of partition ${partition}`}: ${entry === undefined ? 'the common settings hold' : `keys[${entry}] holds`}`,
    `  key context       ${Object.keys(keyContext).length === 0 ? '-' : JSON.stringify(keyContext)}`,
    `  required context  ${requiredContext.join(', ') || '-'}`,
    `  rotation          ${limits.map(([name, limit]) => `${name} ${spelled(name, limit)}`).join(', ') || '-'}`,
    `  recipients        ${recipients.join(', ')}${formerRecipients.length === 0 ? '' : ` (formerly ${formerRecipients.join(', ')})`}`,
    ...(direct ? [`  direct            root ${root.name} encrypts each value; there is no data key`] : []),
  ];
  const rows = [
    ['L1', root.name, '-', root.provider, '-', '-', routeName(root.route)],
    ...steps.map(({ level, name, under, keystore, formerKeystores, route, ...step }) => [
      `L${level}`,
      name,
      step.partition || '-',
      under,
      keystore,
      formerKeystores.join(', ') || '-',
      routeName(route),
    ]),
  ];
  const heading = ['LEVEL', 'NAME', 'PARTITION', 'UNDER', 'KEYSTORE', 'READ ALSO', 'ROUTE'];
  return `${settings.join('\n')}\n\n${table([heading, ...rows])}`;
}

function routeName(route: ChosenRoute | undefined): string {
  if (route === undefined) {
    return '-';
  }
  const fields = Object.entries(route.match).map(([name, wanted]) => `${name} ${[wanted].flat().join('|') || '""'}`);
  return `routes[${route.index}]: ${fields.join(', ') || 'everything'}`;
}

const DURATIONS = { d: 86_400_000, h: 3_600_000, m: 60_000, s: 1_000, ms: 1 };
const SIZES = { PiB: 2 ** 50, TiB: 2 ** 40, GiB: 2 ** 30, MiB: 2 ** 20, KiB: 2 ** 10, B: 1 };

/** A limit as a configuration would say it. */
function spelled(name: string, limit: number | string): string {
  const units = name === 'age' || name === 'grace' ? DURATIONS : name === 'bytes' ? SIZES : undefined;
  const unit = Object.entries(units ?? {}).find(([, size]) => Number(limit) % size === 0);
  return unit === undefined ? String(limit) : `${Number(limit) / unit[1]}${unit[0]}`;
}
