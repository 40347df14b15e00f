/** What the agent says of itself: `status`, `health` and Ping. */
import type { Config } from '../config/config.ts';
import type { Engine } from '../crypto/engine.ts';
import type { Custody } from '../custody/custody.ts';
import type { Keyring } from '../keyring/keyring.ts';
import type { Policy } from '../policy/policy.ts';
import type { WorkPool } from '../pool/pool.ts';
import type { Counters } from '../telemetry/counters.ts';
import type { AgentAudit } from './audit.ts';
import { PROTOCOL } from './connection.ts';
import type { Lane } from './lane.ts';
import type { LegacyKeyring } from './legacy.ts';
import { isServing, type Readiness } from './readiness.ts';
import { VERSION } from './version.ts';

export interface HealthOptions {
  readonly config: Config;
  readonly engine: Engine;
  readonly fallback: string | undefined;
  readonly hardening: readonly string[];
  readonly custody: Custody;
  readonly keyring: Keyring;
  readonly pool: Pick<WorkPool, 'stats'>;
  /** Undefined where there can be none. */
  readonly lane: Pick<Lane, 'standing'> | undefined;
  readonly legacy: Pick<LegacyKeyring, 'standing'>;
  readonly readiness: Pick<Readiness, 'verdict'>;
  readonly counters: Counters;
  /** The one in force. */
  readonly policy: () => Pick<Policy, 'sameUid'>;
  readonly warnings: readonly string[];
  readonly audit: Pick<AgentAudit, 'standing' | 'isBlocked'> | undefined;
}

export class Health {
  readonly #options: HealthOptions;
  readonly #started = Date.now();

  constructor(options: HealthOptions) {
    this.#options = options;
  }

  identity(): { agent: string; engine: string; lockLevel: string; protocol: number } {
    const { name, lockLevel } = this.#options.engine.info;
    return { agent: `dekd/${VERSION}`, engine: name, lockLevel, protocol: PROTOCOL.max };
  }

  /** What `dekd health` says beside Ping: it asks back ends as seldom as a probe, so that none keeps a custodian alive. */
  async brief(): Promise<unknown> {
    const { engine, keyring, policy, readiness } = this.#options;
    const { ready, reasons } = await readiness.verdict();
    const { keysInJs } = engine.info;
    return { ready, reasons, keysInJs, sameUid: policy().sameUid, rollback: keyring.stats().rollback };
  }

  /** The document of `dekd status --json`; every back end is asked. */
  async status(): Promise<unknown> {
    const {
      config,
      engine,
      fallback,
      hardening,
      custody,
      keyring,
      pool,
      lane,
      legacy,
      counters,
      policy,
      warnings,
      audit,
    } = this.#options;
    const keystore = await custody.keystore.health();
    const roots = await Promise.all(
      [...custody.roots.values()].map(async (root) => ({
        name: root.name,
        provider: root.description.kind,
        resolvedId: root.description.resolvedId,
        default: root === custody.defaultRoot,
        materialVersion: root.description.materialVersion,
        ...root.standing(),
        ...(await root.health('cheap')),
      })),
    );
    const keys = keyring.stats();
    return {
      ready:
        !(audit?.isBlocked ?? false) &&
        isServing({
          keystoreOk: keystore.ok,
          rootOk: roots.some((root) => root.default && root.ok),
          loadedKeys: keys.loaded,
        }),
      agent: `dekd/${VERSION}`,
      pid: process.pid,
      node: process.version,
      dev: config.dev,
      started: new Date(this.#started).toISOString(),
      uptimeSeconds: Math.round((Date.now() - this.#started) / 1000),
      engine: { ...engine.info, fallback: fallback ?? null },
      memory: {
        level: engine.info.lockLevel,
        slots: keys.table.capacity,
        used: keys.table.used,
        residentBytes: process.memoryUsage.rss(),
      },
      workers: pool.stats(),
      lane: lane?.standing() ?? null,
      keysInJs: engine.info.keysInJs,
      sameUid: policy().sameUid,
      rollback: keys.rollback,
      keys: { known: keys.known, loaded: keys.loaded, evictions: keys.evictions, reloads: keys.reloads },
      keystore: { kind: custody.keystore.kind, ...custody.keystore.capabilities(), ...keystore },
      roots,
      custodians: custody.custodians(),
      watched: { keks: keys.watched, oldestProofMs: keys.oldestProofMs ?? null },
      frozen: keyring.freezes(),
      audit: audit?.standing() ?? null,
      legacy: legacy.standing(),
      sockets: { data: config.socket.path, admin: config.admin.path },
      state: config.state ?? null,
      limits: config.limits,
      hardening,
      warnings,
      counters: counters.snapshot(),
    };
  }
}
