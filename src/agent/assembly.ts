/** Puts an agent together from a configuration, and takes it apart again; the only place that knows every part. */

import { loadBinding } from '../addon/binding.ts';
import type { Config } from '../config/config.ts';
import type { Engine } from '../crypto/engine.ts';
import * as nativeHost from '../crypto/host.ts';
import { loadEngine } from '../crypto/load.ts';
import { DekdError } from '../errors.ts';
import { Denials } from '../policy/denials.ts';
import { LivePolicy } from '../policy/live-policy.ts';
import { compilePolicy } from '../policy/policy.ts';
import { CallTimes } from '../telemetry/call-times.ts';
import type { Log } from '../telemetry/log.ts';
import type { Observer } from '../telemetry/observation.ts';
import { RequestTimes } from '../telemetry/request-times.ts';
import { BackEnds } from './back-ends.ts';
import { CallerTokens } from './caller-tokens.ts';
import type { Measured } from './metrics.ts';
import { keystoreRoutes } from './placement.ts';
import type { ConfigSource, ReloadReport } from './reload.ts';
import { holdState } from './state-folder.ts';
import { readSwapSources, SWAP_REMEDY, swapAreas } from './swap.ts';
import { VERSION } from './version.ts';
import { workerCount } from './worker-count.ts';

export interface AssemblyOptions {
  readonly config: Config;
  readonly log: Log;
  /** Where the configuration is read again; undefined where it is not. */
  readonly source?: ConfigSource | undefined;
  /** Takes the socket over from a live agent. */
  readonly replace?: boolean;
  /** What has been done to the process already; unless given it is made unreadable for others here. */
  readonly hardening?: readonly string[] | undefined;
  /** Milliseconds of the clock that quotas go by, which never goes back; `performance.now` unless given. */
  readonly quotaClock?: (() => number) | undefined;
  /** Are told of every request, beside those that the configuration asks for. */
  readonly observers?: readonly Observer[];
}

export interface AssembledAgent {
  readonly socketPath: string;
  readonly adminPath: string;
  readonly engine: Engine['info'];
  /** Why `auto` did not choose the native engine. */
  readonly fallback: string | undefined;
  /** What a person should know at start. */
  readonly warnings: readonly string[];
  /** Reads the configuration again, and takes all of it over or nothing. @throws UNSUPPORTED without a source */
  reload(dryRun?: boolean): Promise<ReloadReport>;
  /** Answers what has arrived, closes connections and wipes every key. Resolves when all is done. */
  close(): Promise<void>;
}

/**
 * Starts an agent; when this resolves, both sockets answer.
 * @throws DekdError with the remedy for everything that stands in the way; nothing is left behind then
 */
export async function assembleAgent(options: AssemblyOptions): Promise<AssembledAgent> {
  const undo: (() => unknown)[] = [];
  try {
    return await assemble(options, undo);
  } catch (error) {
    for (const step of undo.reverse()) {
      await step();
    }
    throw DekdError.from(error);
  }
}

async function assemble(options: AssemblyOptions, undo: (() => unknown)[]): Promise<AssembledAgent> {
  const { config, log, replace = false, quotaClock, observers = [], source } = options;
  const warnings: string[] = [];
  let isStarting = true;
  const warn = (warning: string): void => {
    // What happens later is for the log: health shows what a person had to hear at start.
    if (isStarting) {
      warnings.push(warning);
    }
    log.warn('warning', { warning });
  };

  const { engine, fallback } = await loadEngine({
    engine: config.engine,
    minimumLockLevel: config.memory.allowInsecureMemory ? 'heap' : config.memory.level,
    snapshotSafe: config.randomness === 'snapshot-safe',
    capacity: config.memory.slots,
    isShared: workerCount(config.workers) > 0,
  });
  undo.push(() => engine.close());
  // The addon may load although another engine was asked for; what the kernel says of callers is used all the same.
  const host = loadBinding().binding === undefined ? undefined : nativeHost;
  const hardening = options.hardening ?? host?.hardenProcess() ?? [];
  if (fallback !== undefined) {
    warn(
      `the native engine is not in use (${fallback}): the ${engine.info.name} engine keeps keys in the JavaScript heap`,
    );
  } else if (engine.info.keysInJs) {
    warn(`the ${engine.info.name} engine keeps keys in the JavaScript heap`);
  }
  const areas = config.dev ? [] : swapAreas(readSwapSources());
  if (areas.length > 0) {
    warn(`what is encrypted and decrypted can be swapped to ${areas.join(', ')}: ${SWAP_REMEDY}`);
  }

  const probes = await openProbes(config, replace, warn);
  undo.push(() => probes?.close());

  const state = holdState(config.state, (fd) => host?.lockFile(fd), replace);
  undo.push(() => state.release());

  const tokens = new CallerTokens(config.tokens);
  const denials = new Denials();
  const policy = new LivePolicy(
    compilePolicy(config.policy.rules, {
      native: host !== undefined,
      ownUid: process.getuid!(),
      dev: config.dev,
      allowOwnUid: config.socket.allowOwnUid,
      now: quotaClock,
      roots: config.roots.map(({ name }) => name),
      denials,
    }),
  );

  const audit = await openAudit(config, engine, log, warn);
  undo.push(() => audit?.close());

  const measured = config.metrics.enabled ? beginMeasuring() : undefined;
  const backEnds = await BackEnds.start({
    config,
    engine,
    warn,
    route: keystoreRoutes(config),
    calls: measured?.calls,
  });
  undo.push(() => backEnds.close());
  const opening = backEnds.open();
  undo.push(() =>
    opening.then(
      (custody) => custody.close(),
      () => {},
    ),
  );
  // The rest of the code is read while processes start and services are reached.
  const [custody, { FrontEnd }] = await Promise.all([opening, import('./front-end.ts')]);
  const parts = {
    ...{ config, source, log, engine, fallback, host, hardening, policy, denials, tokens, custody, warnings, replace },
    ...{ measured, observers, audit },
  };
  const frontEnd = await FrontEnd.open(parts);
  isStarting = false;
  probes?.serving(frontEnd);
  log.info('agent ready', {
    socket: config.socket.path,
    engine: engine.info.name,
    library: engine.info.library,
    lockLevel: engine.info.lockLevel,
    keystore: custody.keystore.kind,
    root: custody.defaultRoot.name,
    resolvedId: custody.defaultRoot.description.resolvedId,
    connections: frontEnd.maxConnections,
    agent: VERSION,
    pid: process.pid,
  });

  let closing: Promise<void> | undefined;
  return {
    socketPath: config.socket.path,
    adminPath: config.admin.path,
    engine: engine.info,
    fallback,
    warnings,
    reload: (dryRun = false) => frontEnd.reload(dryRun),
    close() {
      closing ??= (async () => {
        probes?.stopping();
        await frontEnd.close();
        await custody.close();
        audit?.close();
        state.release();
        engine.close();
        await probes?.close();
        log.info('agent stopped', { pid: process.pid });
        log.flush();
      })();
      return closing;
    },
  };
}

/** Its code is read only where there is one. */
async function openAudit(config: Config, engine: Engine, log: Log, warn: (warning: string) => void) {
  return config.audit.to === 'off'
    ? undefined
    : (await import('./audit.ts')).AgentAudit.open({ config, engine, log, warn });
}

/** Loaded only where there is a port: no other agent needs Node's HTTP. */
async function openProbes({ admin, metrics }: Config, replace: boolean, warn: (warning: string) => void) {
  if (admin.port === undefined) {
    return undefined;
  }
  const { Probes } = await import('./probes.ts');
  const { host, port, page } = admin;
  return Probes.open({ host, port, metrics: metrics.enabled && admin.metrics, page, replace, warn });
}

function beginMeasuring(): Measured {
  return { requests: new RequestTimes(), calls: { providers: new CallTimes(), keystores: new CallTimes() } };
}
