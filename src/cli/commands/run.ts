import { resolve } from 'node:path';
import { startAgent } from '../../agent/agent.ts';
import { loadConfig } from '../../config/load.ts';
import { CommandError, EXIT, refusedToStart } from '../exit.ts';
import { foreignCode } from '../host-checks.ts';
import type { CommandLine } from '../terminal.ts';

/** Runs until the agent is told to stop. @returns its exit code */
export async function run(line: CommandLine, options: Record<string, unknown>): Promise<number> {
  refuseForeignCode();
  try {
    const read = () =>
      loadConfig({
        file: options.config as string | undefined,
        flags: { 'socket.path': line.socket === undefined ? undefined : resolve(line.socket) },
      });
    const { config, warnings, file } = read();
    const agent = await startAgent({ config, warnings, replace: options.replace === true, reread: read, file });
    return await agent.closed;
  } catch (error) {
    throw refusedToStart(error);
  }
}

function refuseForeignCode(): void {
  const found = foreignCode(process.env, process.execArgv);
  if (found.length > 0) {
    throw new CommandError(
      EXIT.refusedToStart,
      'INVALID_ARGUMENT',
      `code that is not dekd's could run in the agent: ${found.join(', ')}`,
      'start it without them, for example with env -u NODE_OPTIONS -u LD_PRELOAD; dekd dev only warns',
    );
  }
}
