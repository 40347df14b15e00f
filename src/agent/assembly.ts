/** Puts an agent together from a configuration, and takes it apart again; the only place that knows every part. */
import type { Config } from '../config/config.ts';
import { keyringDefinitions } from '../config/key-definitions.ts';
import { loadBinding } from '../crypto/binding.ts';
import type { Engine } from '../crypto/engine.ts';
import * as nativeHost from '../crypto/host.ts';
import { loadEngine } from '../crypto/load.ts';
import { DekdError } from '../errors.ts';
import type { KeyringEvent } from '../keyring/keyring-event.ts';
import { createKeyring } from '../keyring/open-keyring.ts';
import type { WatchLimits } from '../keyring/root-watch.ts';
import { compilePolicy } from '../policy/policy.ts';
import { FRAME_ALLOWANCE } from '../protocol/frame.ts';
import { Counters } from '../telemetry/counters.ts';
import { Incidents } from '../telemetry/incidents.ts';
import { type Log, limitedLog } from '../telemetry/log.ts';
import { Admin } from './admin.ts';
import { openCustody } from './back-ends.ts';
import { Backup } from './backup.ts';
import { PROTOCOL } from './connection.ts';
import { Dispatcher } from './dispatcher.ts';
import { Health } from './health.ts';
import { kekImporter } from './kek-file.ts';
import { keystoreRoutes, placementOf } from './placement.ts';
import { Readiness } from './readiness.ts';
import { Reporter } from './reporter.ts';
import { Roots } from './roots.ts';
import { SelfScan } from './self-scan.ts';
import { Server } from './server.ts';
import { holdState } from './state-folder.ts';
import { VERSION } from './version.ts';

/** Lines a second that callers can cause in the log. */
const CALLER_LINES_PER_SECOND = 20;

export interface AssemblyOptions {
  readonly config: Config;
  readonly log: Log;
  /** Takes the socket over from a live agent. */
  readonly replace?: boolean;
}

export interface AssembledAgent {
  readonly socketPath: string;
  readonly adminPath: string;
  readonly engine: Engine['info'];
  /** Why `auto` did not choose the native engine. */
  readonly fallback: string | undefined;
  /** What a person should know at start. */
  readonly warnings: readonly string[];
  /** Answers what has arrived, closes connections and wipes every key. Resolves when all is done. */
  close(): Promise<void>;
}

/**
 * Starts an agent; when this resolves, both sockets answer.
 * @throws DekdError with the remedy for everything that stands in the way; nothing is left behind then
 */
export async function assembleAgent({ config, log, replace = false }: AssemblyOptions): Promise<AssembledAgent> {
  const undo: (() => unknown)[] = [];
  try {
    return await assemble(config, log, replace, undo);
  } catch (error) {
    for (const step of undo.reverse()) {
      await step();
    }
    throw DekdError.from(error);
  }
}

async function assemble(config: Config, log: Log, replace: boolean, undo: (() => unknown)[]): Promise<AssembledAgent> {
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
  });
  undo.push(() => engine.close());
  // The addon may load although another engine was asked for; what the kernel says of callers is used all the same.
  const host = loadBinding().binding === undefined ? undefined : nativeHost;
  const hardening = host?.hardenProcess() ?? [];
  if (fallback !== undefined) {
    warn(
      `the native engine is not in use (${fallback}): the ${engine.info.name} engine keeps keys in the JavaScript heap`,
    );
  } else if (engine.info.keysInJs) {
    warn(`the ${engine.info.name} engine keeps keys in the JavaScript heap`);
  }

  const probes = await openProbes(config, replace, warn);
  undo.push(() => probes?.close());

  const state = holdState(config.state, (fd) => host?.lockFile(fd), replace);
  undo.push(() => state.release());

  const policy = compilePolicy(config.policy.rules, {
    native: host !== undefined,
    ownUid: process.getuid!(),
    dev: config.dev,
    allowOwnUid: config.socket.allowOwnUid,
  });

  const custody = await openCustody(config, engine, warn, keystoreRoutes(config));
  undo.push(() => custody.close());
  const keyring = await createKeyring({
    engine,
    custody,
    service: config.service,
    node: config.node,
    definitions: keyringDefinitions(config),
    placement: placementOf(config),
    ...(config.state === undefined ? {} : { stateFolder: config.state }),
    watch: watchLimits(config),
    prewarm: config.prewarm,
    log: (event) => logKeyring(log, event),
  });
  undo.push(() => keyring.close());

  const counters = new Counters();
  counters.engineFallbacks = fallback === undefined ? 0 : 1;
  const incidents = new Incidents();
  const callerLog = limitedLog(log, CALLER_LINES_PER_SECOND);
  const reporter = new Reporter(callerLog, incidents, counters);
  const decoy = engine.generateKey({ algorithm: 'xaes-256-gcm', purpose: 'seal' });
  const health = new Health({ config, engine, fallback, hardening, custody, keyring, counters, policy, warnings });
  const admin = new Admin({
    keyring,
    backup: new Backup(custody.keystore, keyring),
    keystore: custody.keystore,
    incidents,
    selfScan: new SelfScan(engine),
    roots: new Roots({ custody, keyring, log }),
    importKek: kekImporter(engine, keyring, config.service),
    log,
    status: () => health.status(),
  });
  const dispatcher = new Dispatcher({
    env: { engine, keyring, maxPayload: config.limits.maxPayload, decoy, volume: counters },
    keyring,
    counters,
    admin,
    identity: () => health.identity(),
  });
  const server = new Server({
    config,
    policy,
    dispatcher,
    reporter,
    counters,
    log: callerLog,
    hello: {
      version: PROTOCOL.max,
      maxPayload: config.limits.maxPayload,
      maxFrame: config.limits.maxPayload + FRAME_ALLOWANCE,
      maxInFlight: config.limits.maxInFlight,
      engine: engine.info.name,
      lockLevel: engine.info.lockLevel,
      agent: `dekd/${VERSION}`,
    },
    credentials: host === undefined ? undefined : (fd) => host.peerCredentials(fd),
    lock: (fd) => host?.lockFile(fd),
    replace,
  });
  await server.open();
  isStarting = false;
  probes?.serving(new Readiness({ custody, keyring }));
  log.info('agent ready', {
    socket: config.socket.path,
    engine: engine.info.name,
    library: engine.info.library,
    lockLevel: engine.info.lockLevel,
    keystore: custody.keystore.kind,
    root: custody.defaultRoot.name,
    resolvedId: custody.defaultRoot.description.resolvedId,
    connections: server.maxConnections,
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
    close() {
      closing ??= (async () => {
        probes?.stopping();
        await server.drain(config.limits.drain);
        await keyring.close();
        await custody.close();
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

/** Loaded only where there is a port: no other agent needs Node's HTTP. */
async function openProbes({ admin }: Config, replace: boolean, warn: (warning: string) => void) {
  if (admin.port === undefined) {
    return undefined;
  }
  const { Probes } = await import('./probes.ts');
  return Probes.open({ host: admin.host, port: admin.port, replace, warn });
}

function watchLimits({ coast, revocation }: Config): WatchLimits {
  return {
    coastEncryptMs: coast.encrypt,
    coastDecryptMs: coast.decrypt,
    withinMs: revocation.within,
    strict: revocation.strict,
  };
}

function logKeyring(log: Log, event: KeyringEvent): void {
  const { key, partition, version, kid } = event;
  const reason = event.reason ?? (event.error === undefined ? undefined : reasonOf(event.error));
  log[event.level](event.event, { key, partition, version, kid, reason });
}

function reasonOf(error: unknown): string {
  const { reason, message } = DekdError.from(error);
  return reason ?? message;
}
