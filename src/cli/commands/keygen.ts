import { closeSync, fsyncSync, openSync, unlinkSync } from 'node:fs';
import { loadEngine } from '../../crypto/load.ts';
import { CommandError, EXIT, usageError } from '../exit.ts';
import { type CommandLine, printResult, warn } from '../terminal.ts';

const STANDARD_OUTPUT = 1;

/** Never replaces a file: the old key may be the only one that opens something. */
export async function keygen(line: CommandLine, options: Record<string, unknown>): Promise<void> {
  const output = options.output as string | undefined;
  if (output === undefined) {
    throw usageError('no file is named', 'add -o FILE, or -o - for standard output');
  }
  const { engine } = await loadEngine({ engine: 'auto', minimumLockLevel: 'heap', snapshotSafe: false });
  try {
    if (output === '-') {
      engine.writeRootKey(STANDARD_OUTPUT);
      return;
    }
    const fd = create(output);
    try {
      engine.writeRootKey(fd);
      fsyncSync(fd);
    } catch (error) {
      unlinkSync(output);
      throw error;
    } finally {
      closeSync(fd);
    }
  } finally {
    engine.close();
  }
  if (process.stderr.isTTY && !line.json) {
    warn('keep a copy where the agent cannot reach it: without this key, nothing encrypted under it opens');
  }
  printResult(line, { output, mode: '0600' }, `root key written to ${output} (mode 0600)`);
}

function create(path: string): number {
  try {
    return openSync(path, 'wx', 0o600);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') {
      throw new CommandError(
        EXIT.failed,
        'INVALID_ARGUMENT',
        `${path} exists and is not replaced: it may hold the only key that opens something`,
        'name another file, or move that one away',
      );
    }
    throw error;
  }
}
