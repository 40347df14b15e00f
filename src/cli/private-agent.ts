import { spawnAgent } from '../client/spawn.ts';
import { DekdError } from '../errors.ts';
import { type OpenedClient, openClient } from './agent-client.ts';
import { type CommandLine, warn } from './terminal.ts';

/** A client, and the command line that names its agent. */
export interface Stage extends OpenedClient {
  readonly line: CommandLine;
  /** Whether the agent was started for this command, and ends with it. */
  readonly isPrivate: boolean;
}

/**
 * The agent that is there, or, where none is named and none answers, one for the occasion.
 * @param notice what is said on standard error when one is started
 * @throws AGENT_UNAVAILABLE when the named one does not answer, or none starts
 */
export async function openStage(line: CommandLine, notice: string): Promise<Stage> {
  try {
    return { ...staged(await openClient(line), line), isPrivate: false };
  } catch (error) {
    const named = line.socket ?? process.env.DEKD_SOCKET;
    if (named || !DekdError.is(error, 'AGENT_UNAVAILABLE')) {
      throw error;
    }
  }
  warn(notice);
  return openPrivateStage(line);
}

/** An agent for the occasion, whichever others there are: nothing is kept of it. */
export async function openPrivateStage(line: CommandLine): Promise<Stage> {
  const agent = await spawnAgent();
  const own = { ...line, socket: agent.socket };
  const opened = await openClient(own).catch(async (error: unknown) => {
    await agent.stop();
    throw error;
  });
  return {
    ...staged(opened, own),
    isPrivate: true,
    [Symbol.asyncDispose]: async () => {
      await opened[Symbol.asyncDispose]();
      await agent.stop();
    },
  };
}

function staged(opened: OpenedClient, line: CommandLine): Omit<Stage, 'isPrivate'> {
  return {
    client: opened.client,
    limits: opened.limits,
    line,
    [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose](),
  };
}
