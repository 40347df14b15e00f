/** Gathers what is measured: for Prometheus, and as the live figures of `dekd status --watch` and of the page. */
import type { Config } from '../config/config.ts';
import type { Engine } from '../crypto/engine.ts';
import type { Custody, Root } from '../custody/custody.ts';
import { DekdError } from '../errors.ts';
import type { Keyring } from '../keyring/keyring.ts';
import type { WorkPool } from '../pool/pool.ts';
import type { CallTime, CallTimes } from '../telemetry/call-times.ts';
import type { Counters } from '../telemetry/counters.ts';
import { Exposition, type ExpositionFormat, type Labels } from '../telemetry/exposition.ts';
import { BUCKETS } from '../telemetry/histogram.ts';
import type { LiveCall, LiveFigures } from '../telemetry/live-figures.ts';
import type { MetricOf } from '../telemetry/metrics.ts';
import type { RequestTimes } from '../telemetry/request-times.ts';
import type { AgentAudit } from './audit.ts';
import type { BackEndCalls } from './back-ends.ts';
import type { Lane } from './lane.ts';
import type { LegacyKeyring } from './legacy.ts';
import { LoopDelay, processFacts } from './process-facts.ts';
import type { Readiness } from './readiness.ts';
import type { Traffic } from './server.ts';
import { VERSION } from './version.ts';

/** Names of keys that become labels at most. */
const MAX_KEY_NAMES = 1_000;
/** How long what was written is given to others who ask: a stranger at the port costs one writing a second. */
const GOOD_FOR_MS = 1_000;
const BREAKER = { closed: 0, 'half-open': 0.5, open: 1 } as const;

/** What is measured only while `metrics.enabled`. */
export interface Measured {
  readonly requests: RequestTimes;
  readonly calls: BackEndCalls;
}

export interface MetricsParts {
  readonly config: Pick<Config, 'metrics'>;
  readonly engine: Engine;
  readonly custody: Custody;
  readonly keyring: Keyring;
  readonly pool: Pick<WorkPool, 'stats'>;
  readonly lane: Pick<Lane, 'standing'> | undefined;
  readonly legacy: Pick<LegacyKeyring, 'standing'>;
  readonly readiness: Pick<Readiness, 'verdict'>;
  readonly counters: Counters;
  /** Undefined when metrics are switched off. */
  readonly measured: Measured | undefined;
  /** What the sockets have at the moment. */
  readonly traffic: () => Traffic;
  /** Undefined where there is no audit log. */
  readonly audit: Pick<AgentAudit, 'standing'> | undefined;
}

export class Metrics {
  readonly #parts: MetricsParts;
  readonly #delay = new LoopDelay();
  readonly #written = new Map<ExpositionFormat, { readonly at: number; readonly text: Promise<string> }>();

  constructor(parts: MetricsParts) {
    this.#parts = parts;
  }

  /** The exposition; of this moment, or of one less than a second ago. @throws UNSUPPORTED when metrics are switched off */
  text(format: ExpositionFormat): Promise<string> {
    const { measured } = this.#parts;
    if (measured === undefined) {
      throw new DekdError('UNSUPPORTED', 'metrics are switched off: set metrics.enabled: true');
    }
    const now = performance.now();
    const known = this.#written.get(format);
    if (known !== undefined && now - known.at < GOOD_FOR_MS) {
      return known.text;
    }
    const text = this.#write(format, measured);
    this.#written.set(format, { at: now, text });
    return text;
  }

  /** Figures for people. @param named with the names of keys: only for the agent's own user and root */
  async live(named: boolean): Promise<LiveFigures> {
    const { engine, custody, keyring, pool, lane, counters, measured, traffic, readiness } = this.#parts;
    const { ready, reasons } = await readiness.verdict();
    const stats = keyring.stats();
    const proofs = keyring.proofAges();
    const facts = processFacts();
    const ages = [...keyring.sealingAges()].sort(([, a], [, b]) => b - a);
    return {
      agent: `dekd/${VERSION}`,
      pid: process.pid,
      time: Date.now(),
      uptimeSeconds: Math.round(performance.now() / 1000),
      ready,
      reasons,
      engine: engine.info.name,
      lockLevel: engine.info.lockLevel,
      bounds: BUCKETS,
      requests: (measured?.requests.all() ?? []).map(({ operation, form, histogram }) => ({
        operation,
        form,
        counts: [...histogram.counts],
      })),
      counters: counters.snapshot(),
      traffic: traffic(),
      arena: {
        slots: stats.table.capacity,
        used: stats.table.used,
        evictions: stats.evictions,
        reloads: stats.reloads,
      },
      keys: {
        known: stats.known,
        loaded: stats.loaded,
        hits: stats.hits,
        misses: stats.misses,
        loads: stats.loads,
        frozen: keyring.freezes().length,
        oldestAgeMs: ages[0]?.[1] ?? null,
        ...(named ? { names: ages.slice(0, MAX_KEY_NAMES).map(([name, ageMs]) => ({ name, ageMs })) } : {}),
      },
      roots: [...custody.roots.values()].map((root) => ({
        name: root.name,
        provider: root.description.kind,
        default: root === custody.defaultRoot,
        breaker: root.standing().breaker,
        answerAgeMs: answerAge(root) ?? null,
        proofAgeMs: proofs.get(root.name) ?? null,
      })),
      calls: {
        providers: liveCalls(measured?.calls.providers),
        keystores: liveCalls(measured?.calls.keystores),
      },
      custodians: custody.custodians().map(({ role, pid, crashes }) => ({ role, up: pid > 0, crashes })),
      pool: pool.stats(),
      lane: lane?.standing() ?? null,
      loopDelay: [...this.#delay.histogram().counts],
      process: {
        cpuSeconds: facts.cpuSeconds,
        residentBytes: facts.residentBytes,
        openFiles: facts.openFiles ?? null,
        activeSeconds: facts.activeSeconds,
      },
    };
  }

  close(): void {
    this.#delay.close();
  }

  async #write(format: ExpositionFormat, { requests, calls }: Measured): Promise<string> {
    const { readiness } = this.#parts;
    const { ready } = await readiness.verdict();
    const to = new Exposition(format);
    this.#writeAgent(to, ready);
    this.#writeRequests(to, requests);
    this.#writeKeys(to);
    this.#writeRoots(to);
    writeCalls(to, calls.providers, 'root', 'dekd_provider_calls_total', 'dekd_provider_call_duration_seconds');
    writeCalls(to, calls.keystores, 'keystore', 'dekd_keystore_calls_total', 'dekd_keystore_call_duration_seconds');
    this.#writeWork(to);
    this.#writeProcess(to);
    this.#writeAudit(to);
    return to.text();
  }

  #writeAgent(to: Exposition, ready: boolean): void {
    const { name: engine, lockLevel } = this.#parts.engine.info;
    const build = { version: VERSION, node: process.version, engine, lock_level: lockLevel };
    to.values('dekd_build_info', [[build, 1]]);
    to.value('dekd_ready', ready ? 1 : 0);
  }

  #writeRequests(to: Exposition, requests: RequestTimes): void {
    const { counters, traffic } = this.#parts;
    const { operations, batches, bytesSealed, bytesOpened, framesRefused, ...connections } = counters.snapshot();
    const { inFlight, streams, data, admin, limit } = traffic();
    to.values(
      'dekd_operations_total',
      Object.entries(operations).flatMap(([operation, outcomes]) =>
        Object.entries(outcomes).map(([outcome, times]) => [{ operation, outcome }, times] as const),
      ),
    );
    to.value('dekd_batches_total', batches);
    to.histograms(
      'dekd_request_duration_seconds',
      requests.all().map(({ operation, form, histogram }) => [{ operation, form }, histogram]),
    );
    to.values('dekd_plaintext_bytes_total', [
      [{ direction: 'sealed' }, bytesSealed],
      [{ direction: 'opened' }, bytesOpened],
    ]);
    to.value('dekd_requests_in_flight', inFlight);
    to.value('dekd_streams_open', streams);
    to.values('dekd_connections', [
      [{ socket: 'data' }, data],
      [{ socket: 'admin' }, admin],
    ]);
    to.value('dekd_connections_limit', limit);
    to.value('dekd_connections_accepted_total', connections.connectionsAccepted);
    to.value('dekd_connections_refused_total', connections.connectionsRefused);
    to.value('dekd_frames_refused_total', framesRefused);
  }

  #writeKeys(to: Exposition): void {
    const { config, keyring } = this.#parts;
    const { table, known, loaded, evictions, reloads, loads, hits, misses } = keyring.stats();
    to.value('dekd_arena_slots', table.capacity);
    to.value('dekd_arena_slots_used', table.used);
    to.value('dekd_arena_evictions_total', evictions);
    to.value('dekd_arena_reloads_total', reloads);
    to.value('dekd_keys_known', known);
    to.value('dekd_keys_loaded', loaded);
    to.value('dekd_keys_frozen', keyring.freezes().length);
    to.value('dekd_key_cache_hits_total', hits);
    to.value('dekd_key_cache_misses_total', misses);
    to.value('dekd_key_loads_total', loads);
    const ages = [...keyring.sealingAges()].sort(([, a], [, b]) => b - a);
    to.value('dekd_oldest_key_age_seconds', (ages[0]?.[1] ?? 0) / 1000);
    if (config.metrics.keys) {
      to.values(
        'dekd_key_age_seconds',
        ages.slice(0, MAX_KEY_NAMES).map(([key, age]) => [{ key }, age / 1000]),
      );
    }
  }

  #writeRoots(to: Exposition): void {
    const { custody, keyring } = this.#parts;
    const roots = [...custody.roots.values()].filter(({ remote }) => remote);
    to.values(
      'dekd_provider_breaker_open',
      roots.map((root) => [{ root: root.name }, BREAKER[root.standing().breaker]]),
    );
    to.values(
      'dekd_provider_answer_age_seconds',
      roots.flatMap((root) => {
        const age = answerAge(root);
        return age === undefined ? [] : [[{ root: root.name }, age / 1000] as const];
      }),
    );
    to.values(
      'dekd_root_proof_age_seconds',
      [...keyring.proofAges()].map(([root, age]) => [{ root }, age / 1000]),
    );
    const custodians = custody.custodians();
    to.values(
      'dekd_custodian_up',
      custodians.map(({ role, pid }) => [{ role }, pid > 0 ? 1 : 0]),
    );
    to.values(
      'dekd_custodian_crashes_total',
      custodians.map(({ role, crashes }) => [{ role }, crashes]),
    );
  }

  #writeWork(to: Exposition): void {
    const { pool, lane, legacy } = this.#parts;
    const { workers, threads, inWorkers, inSlices, waiting, heldBytes, deaths } = pool.stats();
    to.value('dekd_pool_workers', workers);
    to.value('dekd_pool_threads', threads);
    to.value('dekd_pool_waiting', waiting);
    to.value('dekd_pool_held_bytes', heldBytes);
    to.values('dekd_pool_requests_total', [
      [{ place: 'worker' }, inWorkers],
      [{ place: 'agent' }, inSlices],
    ]);
    to.value('dekd_pool_deaths_total', deaths);
    const shared = lane?.standing();
    to.value('dekd_lane_held_bytes', shared?.heldBytes ?? 0);
    to.value('dekd_lane_budget_bytes', shared?.budget ?? 0);
    const total = (of: 'opened' | 'migrated' | 'failed') => legacy.standing().reduce((sum, key) => sum + key[of], 0);
    to.values(
      'dekd_legacy_envelopes_total',
      (['opened', 'migrated', 'failed'] as const).map((result) => [{ result }, total(result)]),
    );
  }

  #writeAudit(to: Exposition): void {
    const standing = this.#parts.audit?.standing();
    to.value('dekd_audit_records_total', standing?.lines ?? 0);
    to.value('dekd_audit_records_lost_total', standing?.lost ?? 0);
    to.value('dekd_audit_requests_refused_total', standing?.refused ?? 0);
    to.value('dekd_audit_waiting_bytes', standing?.waitingBytes ?? 0);
    to.value('dekd_audit_failing', (standing?.failure ?? null) === null ? 0 : 1);
  }

  #writeProcess(to: Exposition): void {
    const { cpuSeconds, residentBytes, openFiles, maxFiles, started, activeSeconds } = processFacts();
    to.value('dekd_event_loop_active_seconds_total', activeSeconds);
    to.histograms('dekd_event_loop_delay_seconds', [[{}, this.#delay.histogram()]]);
    to.value('process_cpu_seconds_total', cpuSeconds);
    to.value('process_resident_memory_bytes', residentBytes);
    to.values('process_open_fds', known(openFiles));
    to.values('process_max_fds', known(maxFiles));
    to.value('process_start_time_seconds', started / 1000);
  }
}

function known(value: number | undefined): readonly (readonly [Labels, number])[] {
  return value === undefined ? [] : [[{}, value]];
}

/** Milliseconds; a local root has nobody who could fail to answer. */
function answerAge(root: Root): number | undefined {
  return root.remote ? root.standing().sinceAnswerMs : undefined;
}

function writeCalls(
  to: Exposition,
  calls: CallTimes,
  label: 'root' | 'keystore',
  counter: MetricOf<'counter'>,
  histogram: MetricOf<'histogram'>,
): void {
  const all = calls.all();
  to.values(
    counter,
    all.flatMap(({ target, operation, outcomes }) =>
      [...outcomes].map(([outcome, times]) => [{ [label]: target, operation, outcome }, times] as const),
    ),
  );
  to.histograms(
    histogram,
    all.map((call) => [{ [label]: call.target, operation: call.operation }, call.histogram]),
  );
}

function liveCalls(calls: CallTimes | undefined): LiveCall[] {
  return (calls?.all() ?? []).map(({ target, operation, outcomes, histogram }: CallTime) => ({
    target,
    operation,
    outcomes: Object.fromEntries(outcomes),
    counts: [...histogram.counts],
  }));
}
