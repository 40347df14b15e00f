import { rmSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { type Agent, startAgent } from '../../agent/agent.ts';
import { socketCandidates } from '../../client/socket-place.ts';
import type { Config } from '../../config/config.ts';
import { devConfig } from '../../config/dev.ts';
import { DEFAULT_KEYSTORE } from '../../config/keystores.ts';
import type { RawSource } from '../../config/resolve.ts';
import { refusedToStart } from '../exit.ts';
import { foreignCode } from '../host-checks.ts';
import { quote } from '../invocation.ts';
import { type CommandLine, coloured } from '../terminal.ts';

/** Runs until the agent is told to stop. @returns its exit code */
export async function dev(line: CommandLine, options: Record<string, unknown>): Promise<number> {
  try {
    const { config, warnings } = devConfig({
      socket: line.socket,
      state: options.state as string | undefined,
      ephemeral: options.ephemeral === true,
      rootKeyFile: options.rootKeyFile as string | undefined,
      terminal: process.stdout.isTTY === true,
      sections: await sectionsOf(options.config),
    });
    const foreign = foreignCode(process.env, process.execArgv).map(
      (found) => `${found}: code that is not dekd's may run in the agent; dekd run refuses this`,
    );
    const agent = await startAgent({ config, warnings: [...warnings, ...foreign] });
    process.stdout.write(
      line.json ? `${JSON.stringify(readyDocument(config, agent))}\n` : welcome(line, config, agent),
    );
    let isOrphaned = false;
    if (options.untilStdinEnds !== undefined) {
      process.stdin
        .once('end', () => {
          isOrphaned = true;
          agent.close();
        })
        .resume();
    }
    const exitCode = await agent.closed;
    // An open pipe would keep the process alive.
    process.stdin.destroy();
    const folder = options.untilStdinEnds;
    if (isOrphaned && typeof folder === 'string' && isMadeFor(agent, folder)) {
      rmSync(folder, { recursive: true, force: true });
    }
    return exitCode;
  } catch (error) {
    throw refusedToStart(error);
  }
}

/** Whether a client made the folder for this agent's socket: one that was named by mistake is not to be emptied. */
function isMadeFor(agent: Agent, folder: string): boolean {
  return dirname(agent.socketPath) === folder && basename(folder).startsWith('dekd-');
}

/** Read only where there are any: an agent without a file starts without YAML. */
async function sectionsOf(file: unknown): Promise<RawSource | undefined> {
  return file === undefined ? undefined : (await import('../../config/load.ts')).loadSections(file as string);
}

function readyDocument(config: Config, agent: Agent): unknown {
  return {
    ready: true,
    socket: agent.socketPath,
    admin: agent.adminPath,
    state: config.state ?? null,
    keystore: config.keystores.get(DEFAULT_KEYSTORE)!.kind,
    engine: agent.info.name,
    lockLevel: agent.info.lockLevel,
    pid: process.pid,
  };
}

function welcome(line: CommandLine, config: Config, agent: Agent): string {
  const socket = agent.socketPath;
  // A client finds the socket by itself when it is the first of those it tries.
  const where = socketCandidates(undefined)[0] === socket ? '' : ` --socket ${quote(socket)}`;
  const { name, keysInJs, lockLevel } = agent.info;
  const memory = keysInJs ? 'keys on the JavaScript heap, for development only' : `keys in ${lockLevel} memory`;
  return [
    '',
    `${coloured('dekd dev', 'bold')} is ready`,
    `  socket  ${socket}`,
    `  state   ${stateText(config)}`,
    `  engine  ${name}, ${memory}`,
    '',
    'Paste this into another terminal: it encrypts, shows the token, and opens it again.',
    '',
    `  ${line.self} encrypt${where} --key demo --context field=email --show 'ada@example.org'`,
    '',
    '',
  ].join('\n');
}

function stateText(config: Config): string {
  if (config.state === undefined) {
    return 'nothing is kept: tokens die with this agent';
  }
  return config.keystores.get(DEFAULT_KEYSTORE)!.kind === 'memory'
    ? `${config.state} keeps the root key; keys are in memory, and tokens die with this agent`
    : `${config.state} keeps the root key and the keystore`;
}
