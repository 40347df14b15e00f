/** `dekd rewrap message`: what the data keys of messages are encrypted under becomes what is configured now. */

import { openOperator } from '../agent-client.ts';
import { runMessages } from '../reencrypt/message-run.ts';
import type { CommandLine } from '../terminal.ts';
import { parseContext } from './value-options.ts';

/** Over the admin socket, where it takes no right of the policy. @returns exit code 1 when a file failed */
export async function rewrapMessages(
  line: CommandLine,
  options: Record<string, unknown>,
  paths: readonly string[],
): Promise<number> {
  const binding = {
    key: options.key as string,
    partition: options.partition as string | undefined,
    context: parseContext(options.context as string[]),
  };
  await using agent = await openOperator(line);
  return await runMessages(line, {
    paths,
    isRecursive: options.recursive === true,
    force: options.force === true,
    through: () => agent.client.reencryptStream(binding),
  });
}
