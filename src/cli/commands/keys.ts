import { resolve } from 'node:path';
import { DekdError } from '../../errors.ts';
import type { KeyInfo } from '../../keyring/keyring.ts';
import { parseExport, writeExport } from '../../keystores/export-document.ts';
import type { RecordJson } from '../../keystores/record-codec.ts';
import { AdminClient, administer } from '../admin.ts';
import { CommandError, EXIT } from '../exit.ts';
import { openTarget } from '../target-file.ts';
import { type CommandLine, confirm, outline, plural, printResult, table, warn } from '../terminal.ts';
import { openSource, readWhole } from './value-options.ts';

const PAGE = 500;
/** Records in one message of an import, well below the largest frame. */
const IMPORT_BATCH = 200;
const MAX_EXPORT_BYTES = 1024 * 1024 * 1024;
/** Wrapped, but whoever has them and the root key has everything. */
const EXPORT_MODE = 0o600;

type Options = Record<string, unknown>;

export async function list(line: CommandLine, options: Options): Promise<void> {
  using admin = await AdminClient.open(line);
  const filter = { name: text(options, 'name'), partition: text(options, 'partition') };
  const keys: KeyInfo[] = [];
  let cursor = '';
  do {
    const page = (await admin.send({ list: { ...filter, cursor, limit: PAGE } })) as KeyPage;
    keys.push(...page.keys);
    cursor = page.cursor ?? '';
  } while (cursor !== '');
  keys.sort(
    (a, b) =>
      compare(a.name, b.name) ||
      compare(a.partition, b.partition) ||
      compare(a.purpose, b.purpose) ||
      a.version - b.version,
  );
  printResult(line, { keys }, keys.length === 0 ? 'no keys' : keyTable(keys));
}

export async function show(line: CommandLine, options: Options, name: string): Promise<void> {
  const { keys } = keyPage(await administer(line, { show: keyCommand(options, name) }));
  if (keys.length === 0) {
    throw new CommandError(
      EXIT.failed,
      'KEY_NOT_FOUND',
      `no key '${name}'${inPartition(options)}`,
      `${line.self} keys list`,
    );
  }
  printResult(line, { keys }, keys.map((key) => outline(key)).join('\n\n'));
}

export async function change(
  line: CommandLine,
  verb: 'create' | 'rotate' | 'disable' | 'enable',
  options: Options,
  name: string,
): Promise<void> {
  const { keys } = keyPage(await administer(line, { [verb]: keyCommand(options, name) }));
  printResult(line, { keys }, keyTable(keys) + afterwards(line, options, name));
}

/** What is left to do after an emergency. */
function afterwards(line: CommandLine, options: Options, name: string): string {
  if (options.emergency !== true) {
    return '';
  }
  return name.startsWith('.')
    ? `\n\nkeys below it still hang under the version that is compromised: ${line.self} rewrap moves them, and whoever has ` +
        'that version and the old rows has those keys: rotate them as well'
    : `\n\ntokens of the version that is compromised still decrypt: move them with ${line.self} reencrypt, then ${line.self} keys destroy ${name} --version N`;
}

export async function importKek(line: CommandLine, options: Options): Promise<void> {
  const command = {
    file: resolve(text(options, 'file')),
    tenant: text(options, 'tenant'),
    service: options.service === true,
    expectKid: text(options, 'expectKid'),
  };
  const { keys } = keyPage(await administer(line, { importKek: command }));
  printResult(line, { keys }, keyTable(keys));
}

export async function destroy(line: CommandLine, options: Options, name: string): Promise<void> {
  const version = options.version as number | undefined;
  const purpose = text(options, 'purpose');
  const versions = version === undefined ? 'every version' : `version ${version}`;
  const what = `${versions}${purpose === '' ? '' : ` for ${purpose}`} of key '${name}'${inPartition(options)}`;
  const action = `destroy ${what} for good, so that what it encrypted never opens again`;
  if (!(await confirm(action, options.yes === true))) {
    throw new CommandError(EXIT.failed, 'CANCELLED', 'nothing was destroyed');
  }
  const { keys } = keyPage(await administer(line, { destroy: keyCommand(options, name) }));
  printResult(line, { keys }, keyTable(keys));
}

export async function freeze(
  line: CommandLine,
  verb: 'freeze' | 'thaw',
  options: Options,
  name: string | undefined,
): Promise<void> {
  const partition = text(options, 'partition');
  if (name === undefined && partition === '' && options.all !== true && options.list !== true) {
    throw new CommandError(EXIT.usage, 'USAGE', 'which keys is not said', `name a key, a --partition, or --all`);
  }
  const command = { name: name ?? '', partition, thaw: verb === 'thaw', list: options.list === true };
  const { frozen } = (await administer(line, { freeze: command })) as { frozen: readonly Frozen[] };
  printResult(
    line,
    { frozen },
    frozen.length === 0
      ? 'nothing is frozen'
      : table([
          ['FROZEN KEY', 'PARTITION'],
          ...frozen.map((each) => [each.name || 'every key', each.partition || 'any']),
        ]),
  );
}

export async function exportKeys(line: CommandLine, options: Options): Promise<void> {
  const output = options.output as string | undefined;
  using admin = await AdminClient.open(line);
  const target = await openTarget(output, EXPORT_MODE);
  let records = 0;
  try {
    const counted = exportedRecords(admin, (count) => {
      records += count;
    });
    for await (const piece of writeExport(counted)) {
      await target.write(Buffer.from(piece));
    }
    await target.commit();
  } catch (error) {
    await target.discard();
    throw error;
  }
  if (!target.isStandardOutput) {
    printResult(line, { output, records }, `${plural(records, 'record')} written to ${output}`);
  }
}

async function* exportedRecords(admin: AdminClient, onPage: (records: number) => void): AsyncGenerator<RecordJson> {
  let cursor = '';
  do {
    const page = (await admin.send({ export: { cursor, limit: PAGE } })) as RecordPage;
    onPage(page.records.length);
    yield* page.records;
    cursor = page.cursor ?? '';
  } while (cursor !== '');
}

export async function importKeys(line: CommandLine, options: Options, file: string | undefined): Promise<number> {
  const source = await openSource(file);
  const records = recordsOf((await readWhole(source, MAX_EXPORT_BYTES)).toString('utf8'), source.name);
  using admin = await AdminClient.open(line);
  const total = { imported: 0, unchanged: 0, refused: [] as { kid: string; reason: string }[] };
  for (let at = 0; at < records.length; at += IMPORT_BATCH) {
    const batch = Buffer.from(JSON.stringify(records.slice(at, at + IMPORT_BATCH)));
    const report = (await admin.send({
      import: { records: batch, acceptRollback: options.acceptRollback === true },
    })) as typeof total;
    total.imported += report.imported;
    total.unchanged += report.unchanged;
    total.refused.push(...report.refused);
  }
  if (!line.json) {
    for (const { kid, reason } of total.refused) {
      warn(`refused ${kid}: ${reason}`);
    }
  }
  printResult(
    line,
    total,
    `${plural(total.imported, 'record')} imported, ${total.unchanged} there already, ${total.refused.length} refused`,
  );
  return total.refused.length === 0 ? EXIT.ok : EXIT.failed;
}

/**
 * The records of an export as they are written there, parents first: a record is checked under its parent, which must
 * have been imported by then.
 */
function recordsOf(document: string, name: string): readonly unknown[] {
  try {
    return parseExport(document).toSorted((a, b) => levelOf(a) - levelOf(b));
  } catch (error) {
    const { code, message } = DekdError.from(error);
    throw new CommandError(EXIT.failed, code, `${name}: ${message}`, 'dekd keys export makes such a file');
  }
}

function levelOf(record: unknown): number {
  const { level } = (record ?? {}) as { level?: unknown };
  return typeof level === 'number' ? level : 0;
}

interface Frozen {
  readonly name: string;
  readonly partition: string;
}

interface KeyPage {
  readonly keys: readonly KeyInfo[];
  readonly cursor?: string | null;
}

interface RecordPage {
  readonly records: readonly RecordJson[];
  readonly cursor?: string | null;
}

function keyPage(document: unknown): KeyPage {
  return document as KeyPage;
}

function keyCommand(options: Options, name: string) {
  return {
    name,
    partition: text(options, 'partition'),
    version: (options.version as number | undefined) ?? 0,
    // A KEK has one purpose, which its name says.
    purpose: name.startsWith('.') ? '' : text(options, 'purpose'),
    emergency: options.emergency === true,
  };
}

function text(options: Options, name: string): string {
  return (options[name] as string | undefined) ?? '';
}

function inPartition(options: Options): string {
  const partition = text(options, 'partition');
  return partition === '' ? '' : ` of partition '${partition}'`;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function keyTable(keys: readonly KeyInfo[]): string {
  const heading = ['NAME', 'PARTITION', 'PURPOSE', 'VERSION', 'STATE', 'CREATED', 'MESSAGES', 'KID'];
  return table([
    heading,
    ...keys.map((key) => [
      key.name,
      key.partition === '' ? '-' : key.partition,
      key.purpose,
      String(key.version),
      key.state,
      key.created,
      key.messages,
      key.kid,
    ]),
  ]);
}
