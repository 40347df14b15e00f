/** What callers see of an agent: the keyring, what is done with its keys, and the sockets. */
import type { Config } from '../config/config.ts';
import { keyringDefinitions } from '../config/key-definitions.ts';
import { type Engine, MESSAGE_KEY_USE } from '../crypto/engine.ts';
import type * as nativeHost from '../crypto/host.ts';
import type { Custody } from '../custody/custody.ts';
import { DekdError } from '../errors.ts';
import type { Keyring } from '../keyring/keyring.ts';
import type { KeyringEvent } from '../keyring/keyring-event.ts';
import { createKeyring } from '../keyring/open-keyring.ts';
import type { Denials } from '../policy/denials.ts';
import type { LivePolicy } from '../policy/live-policy.ts';
import { WorkPool } from '../pool/pool.ts';
import { FRAME_ALLOWANCE } from '../protocol/frame.ts';
import { Counters } from '../telemetry/counters.ts';
import { Incidents } from '../telemetry/incidents.ts';
import { type Log, limitedLog } from '../telemetry/log.ts';
import { type Observer, observers } from '../telemetry/observation.ts';
import { Admin } from './admin.ts';
import type { AgentAudit } from './audit.ts';
import { Backup } from './backup.ts';
import { CallerChoice } from './caller-choice.ts';
import type { CallerTokens } from './caller-tokens.ts';
import { PROTOCOL } from './connection.ts';
import { Dispatcher } from './dispatcher.ts';
import { Health } from './health.ts';
import { kekImporter } from './kek-file.ts';
import type { Lane } from './lane.ts';
import { LegacyKeyring } from './legacy.ts';
import { type Measured, Metrics } from './metrics.ts';
import { placementOf } from './placement.ts';
import { Readiness } from './readiness.ts';
import { recipientSpecs } from './recipients.ts';
import { type ConfigSource, type LimitsInForce, Reload, type ReloadReport } from './reload.ts';
import { Reporter } from './reporter.ts';
import { Roots } from './roots.ts';
import { SelfScan } from './self-scan.ts';
import { Server } from './server.ts';
import { VERSION } from './version.ts';
import { watchLimits } from './watch-limits.ts';
import { workerCount } from './worker-count.ts';

/** Lines a second that callers can cause in the log. */
const CALLER_LINES_PER_SECOND = 20;

export interface FrontEndOptions {
  readonly config: Config;
  /** Where the configuration is read again; undefined where it is not. */
  readonly source: ConfigSource | undefined;
  readonly log: Log;
  readonly engine: Engine;
  /** Why `auto` did not choose the native engine. */
  readonly fallback: string | undefined;
  /** What the kernel says of callers; undefined without the addon. */
  readonly host: typeof nativeHost | undefined;
  /** What was done against readers of this process. */
  readonly hardening: readonly string[];
  readonly policy: LivePolicy;
  /** What the policy denied. */
  readonly denials: Denials;
  readonly tokens: CallerTokens;
  /** Stays the caller's to close. */
  readonly custody: Custody;
  /** What a person should know at start; may grow until it has started. */
  readonly warnings: readonly string[];
  /** Takes the socket over from a live agent. */
  readonly replace: boolean;
  /** Undefined when metrics are switched off. */
  readonly measured: Measured | undefined;
  /** Are told of every request, beside those that the configuration asks for. */
  readonly observers: readonly Observer[];
  /** Stays the caller's to close. */
  readonly audit: AgentAudit | undefined;
}

export class FrontEnd {
  readonly readiness: Readiness;
  readonly metrics: Metrics;
  readonly #server: Server;
  readonly #keyring: Keyring;
  readonly #pool: WorkPool;
  readonly #limits: LimitsInForce;
  readonly #reload: Reload;

  private constructor(
    { server, metrics }: Served,
    keyring: Keyring,
    pool: WorkPool,
    readiness: Readiness,
    limits: LimitsInForce,
    reload: Reload,
  ) {
    this.#server = server;
    this.metrics = metrics;
    this.#keyring = keyring;
    this.#pool = pool;
    this.readiness = readiness;
    this.#limits = limits;
    this.#reload = reload;
  }

  /** When this resolves, both sockets answer. @throws DekdError with the remedy; nothing is left open then */
  static async open(given: FrontEndOptions): Promise<FrontEnd> {
    // One object for all who read limits, so that reading the configuration again reaches all.
    const limits: LimitsInForce = { ...given.config.limits };
    const options = { ...given, config: { ...given.config, limits } };
    const { config, log, engine, custody, source } = options;
    const keyring = await createKeyring({
      engine,
      custody,
      service: config.service,
      node: config.node,
      definitions: keyringDefinitions(config),
      placement: placementOf(config),
      recipients: recipientSpecs(config, engine),
      ...(config.state === undefined ? {} : { stateFolder: config.state }),
      watch: watchLimits(config),
      prewarm: config.prewarm,
      log: (event) => {
        logKeyring(log, event);
        options.audit?.keyring(event);
      },
    });
    const pool = new WorkPool({
      engine,
      workers: workerCount(config.workers),
      maxPayload: config.limits.maxPayload,
      warn: (warning) => log.warn('warning', { warning }),
    });
    try {
      const readiness = new Readiness({
        custody,
        keyring,
        isUnrecordable: () => options.audit?.isBlocked ?? false,
      });
      const lane = await laneOf(options);
      let reload: Reload | undefined;
      const served = serverOver(keyring, pool, readiness, lane, (dryRun) => reload!.run({ dryRun }), options);
      reload = new Reload({
        source,
        config: given.config,
        limits,
        custody,
        keyring,
        policy: options.policy,
        log,
        audit: options.audit,
      });
      await served.server.open();
      return new FrontEnd(served, keyring, pool, readiness, limits, reload);
    } catch (error) {
      await keyring.close();
      throw error;
    }
  }

  /** Connections there may be. */
  get maxConnections(): number {
    return this.#server.maxConnections;
  }

  /** Reads the configuration again. @throws UNSUPPORTED where there is none to read */
  reload(dryRun: boolean): Promise<ReloadReport> {
    return this.#reload.run({ dryRun });
  }

  /** Answers what has arrived, closes connections, ends workers and wipes the keys of the keyring. */
  async close(): Promise<void> {
    await this.#server.drain(this.#limits.drain);
    this.metrics.close();
    await this.#pool.close();
    await this.#keyring.close();
  }
}

interface Served {
  readonly server: Server;
  readonly metrics: Metrics;
}

function serverOver(
  keyring: Keyring,
  pool: WorkPool,
  readiness: Readiness,
  lane: Lane | undefined,
  reload: (dryRun: boolean) => Promise<ReloadReport>,
  options: FrontEndOptions,
): Served {
  const { config, log, engine, fallback, host, hardening, policy, custody, warnings, replace, measured, audit } =
    options;
  const legacy = new LegacyKeyring(config, engine);
  const counters = new Counters();
  counters.engineFallbacks = fallback === undefined ? 0 : 1;
  const incidents = new Incidents();
  const callerLog = limitedLog(log, CALLER_LINES_PER_SECOND);
  const health = new Health({
    config,
    engine,
    fallback,
    hardening,
    custody,
    keyring,
    pool,
    lane,
    legacy,
    readiness,
    counters,
    policy: () => policy,
    warnings,
    audit,
  });
  const metrics = new Metrics({
    config,
    engine,
    custody,
    keyring,
    pool,
    lane,
    legacy,
    readiness,
    counters,
    measured,
    traffic: () => server.traffic(),
    audit,
  });
  const admin = new Admin({
    keyring,
    backup: new Backup(custody.keystore, keyring),
    keystore: custody.keystore,
    incidents,
    selfScan: new SelfScan(engine),
    roots: new Roots({ custody, keyring, log }),
    reload,
    importKek: kekImporter(engine, keyring, config.service),
    policy,
    denials: options.denials,
    log,
    audit,
    health,
    metrics,
  });
  const decoy = engine.generateKey({ algorithm: 'xaes-256-gcm', purpose: 'seal' });
  const messageDecoy = engine.generateKey(MESSAGE_KEY_USE);
  const macDecoy = engine.generateKey({ algorithm: 'hmac-sha-256', purpose: 'mac' });
  const watching = audit === undefined ? options.observers : [...options.observers, audit.observer(incidents)];
  const dispatcher = new Dispatcher({
    env: {
      engine,
      keyring,
      pool,
      maxPayload: config.limits.maxPayload,
      get maxExpanded() {
        return config.limits.maxExpanded;
      },
      decoy,
      messageDecoy,
      macDecoy,
      legacy,
      exposeRecordContext: config.message.exposeRecordContext,
      volume: counters,
    },
    keyring,
    choice: new CallerChoice(custody, keyring),
    admin,
    audit,
    lane,
    identity: () => health.identity(),
  });
  const observer = observers([...(measured === undefined ? [] : [measured.requests]), ...watching]);
  const server = new Server({
    config,
    policy,
    tokens: options.tokens,
    dispatcher,
    reporter: new Reporter({ log: callerLog, incidents, counters, observer }),
    counters,
    log: callerLog,
    hello: {
      version: PROTOCOL.max,
      maxPayload: config.limits.maxPayload,
      maxFrame: config.limits.maxPayload + FRAME_ALLOWANCE,
      get maxInFlight() {
        return config.limits.maxInFlight;
      },
      engine: engine.info.name,
      lockLevel: engine.info.lockLevel,
      agent: `dekd/${VERSION}`,
      choosesRoots: true,
    },
    audit,
    credentials: host === undefined ? undefined : (fd) => host.peerCredentials(fd),
    lane,
    lock: (fd) => host?.lockFile(fd),
    replace,
  });
  return { server, metrics };
}

/** Its code is read only where there is one. */
async function laneOf({ config, engine, host, log }: FrontEndOptions): Promise<Lane | undefined> {
  // A result in shared memory is there before its answer leaves, which strict audit must be able to keep back.
  if (!config.lane.enabled || config.audit.strict || host === undefined || engine.info.name !== 'native') {
    return undefined;
  }
  const [{ Lane }, { LaneMemory }] = await Promise.all([import('./lane.ts'), import('../crypto/lane.ts')]);
  const memory = LaneMemory.of(engine);
  const credentials = (fd: number) => host.peerCredentials(fd);
  return memory && new Lane({ config, memory, credentials, log: limitedLog(log, CALLER_LINES_PER_SECOND) });
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
