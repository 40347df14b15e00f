import { administer } from '../admin.ts';
import { usageError } from '../exit.ts';
import { type CommandLine, outline, printResult } from '../terminal.ts';

export interface StatusOptions {
  /** Again each second, until it is left. */
  readonly watch?: boolean;
  /** With `watch`: so many times. */
  readonly count?: number;
}

export async function status(line: CommandLine, options: StatusOptions): Promise<void> {
  if (options.watch === true) {
    const { watch } = await import('../watch/watch.ts');
    await watch(line, { count: options.count });
    return;
  }
  if (options.count !== undefined) {
    throw usageError('--count says how often --watch looks', 'add --watch');
  }
  const document = await administer(line, { status: {} });
  printResult(line, document, outline(document));
}
