import { createReadStream, statSync } from 'node:fs';
import { type Anchor, anchorOf } from '../../audit/anchors.ts';
import { findIncident } from '../../audit/find-incident.ts';
import { contextDigest, firstDigestKey } from '../../audit/key-state.ts';
import { linesOf } from '../../audit/lines.ts';
import { type AuditVerdict, Verifier } from '../../audit/verifier.ts';
import type { Engine, KeyHandle } from '../../crypto/engine.ts';
import { loadEngine } from '../../crypto/load.ts';
import { encodeContext } from '../../envelope/context-encoding.ts';
import { readKeyFile } from '../../providers/key-file.ts';
import { ByteProgress } from '../byte-progress.ts';
import { CommandError, EXIT, type ExitCode, usageError } from '../exit.ts';
import { type CommandLine, coloured, count, outline, plural, printResult } from '../terminal.ts';
import { parseContext } from './value-options.ts';

/** @returns the exit code: 1 when anything is not as it was written */
export async function verify(
  line: CommandLine,
  options: Record<string, unknown>,
  files: readonly string[],
): Promise<ExitCode> {
  const verdict = await withKey(options, async (engine, key) => {
    const anchorFile = options.anchors as string | undefined;
    const anchors = anchorFile === undefined ? [] : await anchorsIn(anchorFile);
    const verifier = new Verifier({ engine, key, anchors, isMixed: options.mixed === true });
    const progress = new ByteProgress(sizeOf(files));
    for (const file of files) {
      verifier.begin(file);
      for await (const each of linesOf(progress.counting()(opened(file)))) {
        verifier.take(each);
      }
    }
    progress.clear();
    return { ...verifier.end(), anchors: anchors.length };
  });
  printResult(line, verdict, shown(verdict));
  return verdict.ok ? EXIT.ok : EXIT.failed;
}

export async function find(line: CommandLine, incident: string, files: readonly string[]): Promise<void> {
  const record = await findIncident(files, incident);
  if (record === undefined) {
    throw new CommandError(
      EXIT.failed,
      'INVALID_ARGUMENT',
      `no record of incident '${incident}' in ${plural(files.length, 'file')}`,
    );
  }
  printResult(line, record, outline(record));
}

export async function digest(line: CommandLine, options: Record<string, unknown>): Promise<void> {
  const context = parseContext(options.context as readonly string[]);
  const text = await withKey(options, async (engine, key) =>
    contextDigest(engine, firstDigestKey(engine, key), encodeContext(context)),
  );
  printResult(line, { context: text }, text);
}

async function withKey<T>(
  options: Record<string, unknown>,
  work: (engine: Engine, key: KeyHandle) => Promise<T>,
): Promise<T> {
  const path = (options.keyFile as string | undefined) ?? process.env.DEKD_AUDIT_KEY_FILE;
  if (!path) {
    throw usageError('no audit key is named', 'add --key-file FILE: the copy of the key that audit.keyFile had');
  }
  const { engine } = await loadEngine({ engine: 'auto', minimumLockLevel: 'heap', snapshotSafe: false });
  try {
    return await work(engine, readKeyFile(engine, path, 'audit key file'));
  } finally {
    engine.close();
  }
}

async function* opened(file: string): AsyncGenerator<Uint8Array> {
  try {
    yield* file === '-' ? process.stdin : createReadStream(file);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new CommandError(EXIT.failed, 'INVALID_ARGUMENT', `${file} cannot be read (${code})`);
  }
}

async function anchorsIn(file: string): Promise<Anchor[]> {
  const anchors: Anchor[] = [];
  for await (const { bytes } of linesOf(opened(file))) {
    const anchor = anchorOf(bytes.toString('utf8'));
    if (anchor !== undefined) {
      anchors.push(anchor);
    }
  }
  if (anchors.length === 0) {
    // As it stands it would prove nothing, and look as if it had.
    throw new CommandError(EXIT.failed, 'INVALID_ARGUMENT', `there are no anchors in ${file}`);
  }
  return anchors;
}

function sizeOf(files: readonly string[]): number | undefined {
  const sizes = files.map((file) => statSync(file, { throwIfNoEntry: false })?.size ?? Number.NaN);
  const size = sizes.reduce((sum, each) => sum + each, 0);
  return Number.isNaN(size) ? undefined : size;
}

function shown(verdict: AuditVerdict & { readonly anchors: number }): string {
  const { ok, lines, blocks, runs, anchored, anchors, lost, from, to, problems, notes } = verdict;
  const what = `${plural(lines, 'line')} in ${plural(blocks, 'block')} of ${plural(runs, 'run')}, ${from} to ${to}`;
  const ends =
    anchors === 0
      ? 'no anchors were given: an end that was cut off is not found'
      : `${count(anchored)} of ${plural(anchors, 'anchor')} found`;
  return [
    ok ? `${coloured('as written', 'green')}  ${what}` : `${coloured('CHANGED', 'red')}  ${what}`,
    `  ${ends}`,
    ...(lost > 0 ? [`  ${plural(lost, 'record')} were never written, by the agent's own word`] : []),
    ...problems.map(({ file, line, message }) => `  ${line > 0 ? `${file}:${line}: ` : ''}${message}`),
    ...notes.map((note) => `  note: ${note}`),
  ].join('\n');
}
