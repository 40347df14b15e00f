/** The configuration read again while the agent runs: all of what changed is taken over, or nothing. */
import { type ConfigChange, changesBetween } from '../config/changes.ts';
import type { Config } from '../config/config.ts';
import { keyringDefinitions } from '../config/key-definitions.ts';
import { ConfigError, type ConfigProblem } from '../config/problems.ts';
import type { LoadedConfig } from '../config/resolve.ts';
import type { Custody } from '../custody/custody.ts';
import { DekdError } from '../errors.ts';
import { KeyDefinitions } from '../keyring/key-definition.ts';
import type { Keyring } from '../keyring/keyring.ts';
import type { LivePolicy } from '../policy/live-policy.ts';
import type { Log, LogSettings } from '../telemetry/log.ts';
import type { AgentAudit } from './audit.ts';
import { watchLimits } from './watch-limits.ts';

/** Where a configuration comes from, and what of it is not the agent's own. */
export interface ConfigSource {
  /** Reads file, variables and flags again, as at start. @throws ConfigError */
  read(): LoadedConfig;
  /** Makes the log follow its settings. */
  adjustLog(settings: LogSettings): void;
}

/** Of a change, in the audit log. */
const MAX_RECORDED = 100;
const MAX_REASON = 1024;

export interface ReloadOptions {
  /** Undefined where there is no configuration to read again, as in `dekd dev`. */
  readonly source: ConfigSource | undefined;
  /** What the agent was started with. */
  readonly config: Config;
  /** Read by everybody at each use, so that a change of them is a change of this object. */
  readonly limits: LimitsInForce;
  readonly custody: Custody;
  readonly keyring: Keyring;
  readonly policy: LivePolicy;
  readonly log: Log;
  /** Undefined where there is no audit log. */
  readonly audit: Pick<AgentAudit, 'event'> | undefined;
}

export type LimitsInForce = { -readonly [Name in keyof Config['limits']]: Config['limits'][Name] };

/** What reading the configuration again came to. */
export interface ReloadReport {
  /** The configuration that was read is in force; false for a dry run, and where there are problems. */
  readonly applied: boolean;
  readonly dryRun: boolean;
  /** The file; null where variables say everything. */
  readonly file: string | null;
  readonly changed: readonly Omit<ConfigChange, 'live'>[];
  /** Why nothing was changed; empty when it was, or would be. */
  readonly problems: readonly ConfigProblem[];
  /** What the configuration says that is worth a word. */
  readonly warnings: readonly string[];
}

export class Reload {
  readonly #options: ReloadOptions;
  #config: Config;
  /** One after the other: each compares with what the one before left. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(options: ReloadOptions) {
    this.#options = options;
    this.#config = options.config;
  }

  /**
   * Reads and checks the whole configuration, and takes it over unless something in it is wrong, cannot be reached, or needs a
   * restart. What stands in the way is in the report, and what was in force stays so.
   * @throws UNSUPPORTED where there is no configuration to read again
   */
  run({ dryRun }: { readonly dryRun: boolean }): Promise<ReloadReport> {
    const running = this.#last.then(() => this.#run(dryRun));
    this.#last = running.catch(() => undefined);
    return running;
  }

  async #run(dryRun: boolean): Promise<ReloadReport> {
    const { source } = this.#options;
    if (source === undefined) {
      throw new DekdError(
        'UNSUPPORTED',
        'this agent has no configuration to read again: dekd dev is configured at start',
      );
    }
    let file: string | null = null;
    let warnings: readonly string[] = [];
    let changes: ConfigChange[] = [];
    let prepared: Prepared | undefined;
    try {
      const loaded = source.read();
      file = loaded.file ?? null;
      warnings = loaded.warnings;
      changes = changesBetween(this.#config, loaded.config);
      refuseFixed(changes);
      prepared = await this.#prepare(loaded.config, changes);
    } catch (error) {
      return this.#refused({ dryRun, file, changed: told(changes), warnings }, error);
    }
    if (dryRun) {
      await prepared.abandon();
    } else {
      prepared.commit();
      this.#say(changes, file);
    }
    return { applied: !dryRun, dryRun, file, changed: told(changes), problems: [], warnings };
  }

  /** Everything that can fail. @throws ConfigError; what the custody throws for a root that is not reached */
  async #prepare(next: Config, changes: readonly ConfigChange[]): Promise<Prepared> {
    const { custody, keyring, policy, limits, source } = this.#options;
    const before = this.#config;
    const definitions = new KeyDefinitions(keyringDefinitions(next));
    const rootNames = next.roots.map(({ name }) => name);
    const roots = rootsChange(before, next, custody.defaultRoot.name);
    const isPolicyNew = changes.some(({ path }) => /^(policy|roots)\b/.test(path));
    const nextPolicy = isPolicyNew ? policy.current.successor(next.policy.rules, rootNames) : undefined;
    // Last, since it alone has something to undo.
    const prepared = roots && (await custody.prepareRoots(roots));
    return {
      commit: () => {
        prepared?.commit();
        for (const name of roots?.removed ?? []) {
          keyring.wipe(name);
        }
        keyring.reconfigure({ definitions, watch: watchLimits(next) });
        if (nextPolicy !== undefined) {
          policy.replace(nextPolicy);
        }
        Object.assign(limits, next.limits);
        source!.adjustLog(next.log);
        this.#config = next;
      },
      abandon: async () => prepared?.abandon(),
    };
  }

  #say(changes: readonly ConfigChange[], file: string | null): void {
    const { log } = this.#options;
    for (const { path, from, to } of changes) {
      log.info('configuration changed', { path, reason: `was ${from}, is ${to}` });
    }
    log.info('configuration read again', { path: file ?? undefined, count: changes.length });
    this.#options.audit?.event('configuration', {
      file: file ?? undefined,
      outcome: 'ok',
      changed: changes.slice(0, MAX_RECORDED).map(({ path }) => path),
    });
  }

  #refused(report: Pick<ReloadReport, 'dryRun' | 'file' | 'changed' | 'warnings'>, error: unknown): ReloadReport {
    const { reason, message } = DekdError.from(error);
    const problems =
      error instanceof ConfigError ? error.problems : [{ path: '', source: '', message: reason ?? message }];
    for (const problem of problems) {
      this.#options.log.error('configuration not taken over', {
        path: problem.path || undefined,
        reason: [problem.source, problem.message].filter((part) => part !== '').join(': '),
      });
    }
    this.#options.audit?.event('configuration', {
      file: report.file ?? undefined,
      outcome: 'refused',
      reason: problems[0] && `${problems[0].path} ${problems[0].message}`.trim().slice(0, MAX_REASON),
    });
    return { ...report, applied: false, problems };
  }
}

/** What is ready and not in force; exactly one of the two is called. */
interface Prepared {
  /** Synchronous: no request sees half of it. */
  commit(): void;
  abandon(): Promise<unknown>;
}

/** @throws ConfigError naming everything that only a start can change */
function refuseFixed(changes: readonly ConfigChange[]): void {
  const fixed = changes.filter(({ live }) => !live);
  if (fixed.length > 0) {
    throw new ConfigError(
      fixed.map(({ path, from, to }) => ({
        path,
        source: '',
        message: `needs a restart: is ${from}, would be ${to}; start a successor with run --replace, or put it back`,
      })),
    );
  }
}

function told(changes: readonly ConfigChange[]): ReloadReport['changed'] {
  return changes.map(({ path, from, to }) => ({ path, from, to }));
}

/** Undefined when nothing is said anew of roots. A default that was set by command stays, unless its root goes. */
function rootsChange(before: Config, next: Config, inUse: string) {
  const [old, now] = [before, next].map(({ roots }) => new Set(roots.map(({ name }) => name)));
  const added = next.roots.filter(({ name }) => !old!.has(name));
  const removed = [...old!].filter((name) => !now!.has(name));
  const isDefaultNew = before.defaultRoot !== next.defaultRoot || !now!.has(inUse);
  if (added.length === 0 && removed.length === 0 && !isDefaultNew) {
    return undefined;
  }
  return { added, removed, defaultRoot: isDefaultNew ? next.defaultRoot : undefined };
}
