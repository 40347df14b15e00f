/** An agent as a process: its log, its signals, its exit code. */
import { constants } from 'node:os';
import type { Config } from '../config/config.ts';
import type { LoadedConfig } from '../config/resolve.ts';
import { DekdError } from '../errors.ts';
import { createLog, type LogSettings } from '../telemetry/log.ts';
import { type AssembledAgent, assembleAgent } from './assembly.ts';
import { watchConfig } from './config-watch.ts';
import { hardenAgentProcess } from './process-hardening.ts';

export interface AgentOptions {
  readonly config: Config;
  /** What loading the configuration found worth saying. */
  readonly warnings?: readonly string[];
  /** Takes the socket over from a live agent, which keeps its connections until it is told to stop. */
  readonly replace?: boolean;
  /** Reads the configuration again, as it was read for `config`; undefined where it is read at start only. */
  readonly reread?: (() => LoadedConfig) | undefined;
  /** The file that it is read from, if there is one; looked at where `reload.watch` says so. */
  readonly file?: string | undefined;
}

export interface Agent {
  readonly info: AssembledAgent['engine'];
  readonly socketPath: string;
  readonly adminPath: string;
  /** Resolves with the exit code once the agent has stopped. */
  readonly closed: Promise<number>;
  /** Stops as the first signal does. */
  close(): void;
}

/**
 * Starts the agent of this process. SIGHUP has it read its configuration again. The first SIGTERM or SIGINT drains and stops it, the second ends the process.
 * @throws DekdError with the remedy when it cannot start
 */
export async function startAgent({
  config,
  warnings = [],
  replace = false,
  reread,
  file,
}: AgentOptions): Promise<Agent> {
  // Before anything of this process is worth reading.
  const hardening = hardenAgentProcess(namedDescriptors(config));
  const log = createLog(config.log);
  for (const warning of warnings) {
    log.warn('warning', { warning });
  }
  let agent: AssembledAgent | undefined;
  const stopped = Promise.withResolvers<number>();
  let stopping = false;
  const stop = (signal: string): void => {
    stopping = true;
    log.info('stopping', { signal });
    agent!.close().then(
      () => stopped.resolve(0),
      (error: unknown) => {
        log.error('stopping failed', { reason: String(error) });
        stopped.resolve(1);
      },
    );
  };
  const onSignal = (signal: NodeJS.Signals): void => {
    if (agent === undefined) {
      // Nobody has been served. Process 1 of a container has no default action: unheard, the signal would be lost, and the
      // container be killed when its time is over.
      log.info('stopping', { signal });
      log.flush();
      process.exit(128 + constants.signals[signal]);
    }
    if (stopping) {
      log.flush();
      process.exit(1);
    }
    stop(signal);
  };
  process.on('SIGTERM', onSignal);
  process.on('SIGINT', onSignal);
  const reload = (signal?: string): void => {
    // Before there is an agent, what is being read is the newest there is. What came of it is in the log.
    agent?.reload().catch((error: unknown) => {
      log.warn('warning', { warning: DekdError.from(error).message, signal });
    });
  };
  process.on('SIGHUP', reload);
  const source = reread && { read: reread, adjustLog: (settings: LogSettings) => log.adjust(settings) };
  agent = await assembleAgent({ config, log, replace, source, hardening });
  if (config.reload.watch && file !== undefined && reread !== undefined) {
    watchConfig(file, () => reload());
  }
  return {
    info: agent.engine,
    socketPath: agent.socketPath,
    adminPath: agent.adminPath,
    closed: stopped.promise,
    close: () => stop('close'),
  };
}

/** Descriptors that the configuration says the agent is started with. */
function namedDescriptors({ roots }: Config): number[] {
  return roots.flatMap((root) =>
    'keyDescriptor' in root && root.keyDescriptor !== undefined ? [root.keyDescriptor] : [],
  );
}
