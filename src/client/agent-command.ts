/** How a private agent is started, whoever starts it and waits for it. */
import { join } from 'node:path';
import { DekdError } from '../errors.ts';
import { commandFile, PACKAGE_MISSING } from '../package/own-package.ts';

/** A child that cannot start ends long before. */
export const START_TIMEOUT_MS = 20_000;

/** A command that is an agent, and ends when its standard input does. */
export interface AgentCommand {
  readonly file: string;
  readonly args: readonly string[];
  readonly env: NodeJS.ProcessEnv;
}

/** The agent of which nothing is left when it ends, the folder of its socket included. */
export function privateAgent(folder: string): AgentCommand {
  return agentCommand(folder, ['--ephemeral']);
}

/**
 * A development agent whose socket is `agent.sock` in `folder`, which it removes when it ends because this process has.
 * @param options of `dekd dev`
 * @throws UNSUPPORTED where only the client is installed
 */
export function agentCommand(
  folder: string,
  options: readonly string[],
  env: NodeJS.ProcessEnv = process.env,
): AgentCommand {
  const entry = commandFile();
  if (entry === undefined) {
    throw new DekdError('UNSUPPORTED', `no agent can be started: ${PACKAGE_MISSING}`);
  }
  // A Node too old to know the option is too old for the agent, which says so better than Node would.
  const flags = process.allowedNodeEnvironmentFlags.has('--disable-sigusr1') ? ['--disable-sigusr1'] : [];
  const place = ['--socket', socketIn(folder), '--until-stdin-ends', folder];
  return {
    file: process.execPath,
    args: [...flags, entry, 'dev', ...options, ...place],
    env: { ...env, NODE_OPTIONS: '' },
  };
}

/** Where the agent of a private folder listens. */
export function socketIn(folder: string): string {
  return join(folder, 'agent.sock');
}
