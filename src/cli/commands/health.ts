import { administer } from '../admin.ts';
import { openClient } from '../agent-client.ts';
import { EXIT } from '../exit.ts';
import { type CommandLine, outline, printResult } from '../terminal.ts';

/** Short, because a probe that waits is one that fails. */
const PROBE_TIMEOUT_MS = 2_000;

/**
 * Whether the agent answers and, where the admin socket lets us ask, whether root and keystore are in order.
 *
 * @returns 0, or 1 when it answers and is not ready
 */
export async function health(line: CommandLine): Promise<number> {
  await using agent = await openClient(line);
  const reply = await agent.client.ping({ timeoutMs: PROBE_TIMEOUT_MS });
  const status = await adminView(line);
  const document = { ready: true, ...reply, ...status };
  printResult(line, document, outline(document));
  return document.ready ? EXIT.ok : EXIT.failed;
}

/** Whether it is ready and how it keeps keys; empty for anybody but the agent's own user and root. */
async function adminView(line: CommandLine): Promise<{ readonly ready?: boolean }> {
  try {
    return (await administer(line, { status: { brief: true } })) as { readonly ready: boolean };
  } catch {
    return {};
  }
}
