/** The admin socket's commands: the whole life of keys, and what the agent knows of itself. */

import type { Purpose } from '../crypto/engine.ts';
import { DekdError } from '../errors.ts';
import type { KeyInfo, Keyring } from '../keyring/keyring.ts';
import type { Keystore } from '../keystores/keystore.ts';
import type { Denials } from '../policy/denials.ts';
import type { Policy } from '../policy/policy.ts';
import { suggestRules } from '../policy/suggestion.ts';
import type { AdminFields } from '../protocol/messages.ts';
import type { Incidents } from '../telemetry/incidents.ts';
import type { Log } from '../telemetry/log.ts';
import type { AgentAudit } from './audit.ts';
import type { Backup } from './backup.ts';
import type { Health } from './health.ts';
import { bringHome } from './homing.ts';
import type { ImportKek } from './kek-file.ts';
import type { Metrics } from './metrics.ts';
import type { ReloadReport } from './reload.ts';
import type { Roots } from './roots.ts';
import type { SelfScan } from './self-scan.ts';

const PURPOSES: ReadonlySet<string> = new Set<Purpose>(['seal', 'wrap', 'message', 'mac', 'index']);
const LIST_LIMIT = 1_000;

export interface AdminOptions {
  readonly keyring: Keyring;
  readonly backup: Backup;
  readonly keystore: Keystore;
  readonly incidents: Incidents;
  readonly selfScan: SelfScan;
  readonly roots: Roots;
  readonly importKek: ImportKek;
  readonly reload: (dryRun: boolean) => Promise<ReloadReport>;
  readonly policy: Omit<Policy, 'successor'>;
  readonly denials: Denials;
  readonly log: Log;
  /** Where incidents are looked up that memory has forgotten. */
  readonly audit: Pick<AgentAudit, 'lookUp'> | undefined;
  readonly health: Pick<Health, 'brief' | 'status'>;
  readonly metrics: Pick<Metrics, 'text' | 'live'>;
}

interface TenantFields {
  readonly action?: string | null;
  readonly tenant?: string | null;
}

interface FreezeFields {
  readonly name?: string | null;
  readonly partition?: string | null;
  readonly thaw?: boolean | null;
  readonly list?: boolean | null;
}

interface KeyCommand {
  readonly name?: string | null;
  readonly partition?: string | null;
  readonly version?: number | null;
  readonly purpose?: string | null;
}

export class Admin {
  readonly #options: AdminOptions;

  constructor(options: AdminOptions) {
    this.#options = options;
  }

  /** Runs one command; resolves with the document that answers it (proto/README.md). */
  async run(command: AdminFields): Promise<unknown> {
    const { keyring, backup, selfScan } = this.#options;
    if (command.status) {
      return command.status.brief ? this.#options.health.brief() : this.#options.health.status();
    }
    if (command.metrics) {
      const { live, openmetrics } = command.metrics;
      return live ? this.#options.metrics.live(true) : this.#options.metrics.text(openmetrics ? 'openmetrics' : 'text');
    }
    if (command.why) {
      return await this.#why(command.why.incident ?? '');
    }
    if (command.list) {
      const { name, partition, cursor, limit } = command.list;
      const filter = { ...(name ? { name } : {}), ...(partition ? { partition } : {}) };
      return keyring.list(filter, cursor || undefined, Math.min(limit || LIST_LIMIT, LIST_LIMIT));
    }
    if (command.show) {
      const keys = await keyring.describe(nameOf(command.show), command.show.partition ?? '');
      if (keys.length === 0) {
        throw new DekdError('KEY_NOT_FOUND', `no key '${command.show.name}'`);
      }
      return { keys };
    }
    if (command.create) {
      return this.#changed('created', [await keyring.create(keyOf(command.create))]);
    }
    if (command.rotate) {
      const key = keyOf(command.rotate);
      return this.#changed('rotated', [
        await (command.rotate.emergency ? keyring.rotateCompromised(key) : keyring.rotate(key)),
      ]);
    }
    if (command.disable) {
      const { name, partition, version, purpose } = versionOf(command.disable);
      return this.#changed('disabled', await keyring.disable(name, partition, version, purpose));
    }
    if (command.enable) {
      const { name, partition, version, purpose } = versionOf(command.enable);
      return this.#changed('enabled', await keyring.enable(name, partition, version, purpose));
    }
    if (command.compromise) {
      const { name, partition, version, purpose } = versionOf(command.compromise);
      if (version === undefined) {
        throw new DekdError('INVALID_ARGUMENT', 'which version is compromised has to be said');
      }
      return this.#changed('marked compromised', await keyring.markCompromised(name, partition, version, purpose));
    }
    if (command.destroy) {
      const { name, partition, version, purpose } = versionOf(command.destroy);
      return this.#changed('destroyed', await keyring.destroy(name, partition, version, purpose));
    }
    if (command.export) {
      return backup.page(command.export.cursor || undefined, command.export.limit || LIST_LIMIT);
    }
    if (command.import) {
      return backup.restore(command.import.records ?? new Uint8Array(0), command.import.acceptRollback === true);
    }
    if (command.keystores) {
      const { action, cursor, limit } = command.keystores;
      if (action !== 'move') {
        throw new DekdError('INVALID_ARGUMENT', `action ${JSON.stringify(action)} is not move`);
      }
      return bringHome(this.#options.keystore, cursor || undefined, limit ?? undefined);
    }
    if (command.policy) {
      const { action } = command.policy;
      if (action !== 'suggest') {
        throw new DekdError('INVALID_ARGUMENT', `action ${JSON.stringify(action)} is not suggest`);
      }
      return suggestRules(this.#options.denials, this.#options.policy);
    }
    if (command.tenant) {
      return this.#tenant(command.tenant);
    }
    if (command.roots) {
      return this.#options.roots.run(command.roots);
    }
    if (command.rewrap) {
      return this.#options.roots.rewrap(command.rewrap);
    }
    if (command.importKek) {
      return this.#changed('imported', [await this.#options.importKek(command.importKek)]);
    }
    if (command.freeze) {
      return this.#freeze(command.freeze);
    }
    if (command.reload) {
      return this.#options.reload(command.reload.dryRun === true);
    }
    if (command.prove) {
      return selfScan.run(command.prove.step ?? '');
    }
    throw new DekdError('UNSUPPORTED', 'this admin command is not known to this agent');
  }

  async #why(incident: string): Promise<unknown> {
    const found = this.#options.incidents.lookup(incident);
    const recorded = found === undefined ? await this.#options.audit?.lookUp(incident) : undefined;
    if (recorded !== undefined) {
      return recorded;
    }
    if (found === undefined) {
      throw new DekdError(
        'INVALID_ARGUMENT',
        `no incident '${incident}': it is of another agent or an earlier run, or too long ago; the log may have it`,
      );
    }
    return { ...found, time: new Date(found.time).toISOString() };
  }

  async #tenant({ action, tenant }: TenantFields): Promise<unknown> {
    const { keyring, log } = this.#options;
    const name = tenant ?? '';
    switch (action) {
      case 'prepare':
        return { keys: await keyring.prepareTenant(name) };
      case 'destroy': {
        const done = await keyring.destroyTenant(name);
        log.warn('tenant destroyed', {
          partition: name,
          reason: `${done.destroyed} versions, ${done.left} names left`,
        });
        return done;
      }
      default:
        throw new DekdError('INVALID_ARGUMENT', `action ${JSON.stringify(action)} is none of prepare, destroy`);
    }
  }

  async #freeze(command: FreezeFields): Promise<{ frozen: readonly unknown[] }> {
    const { keyring } = this.#options;
    const freeze = { name: command.name ?? '', partition: command.partition ?? '' };
    if (command.list) {
      return { frozen: keyring.freezes() };
    }
    return { frozen: await (command.thaw ? keyring.thaw(freeze) : keyring.freeze(freeze)) };
  }

  #changed(what: string, keys: readonly KeyInfo[]): { keys: readonly KeyInfo[] } {
    for (const { name, partition, version, kid, state } of keys) {
      this.#options.log.info(`key ${what}`, { key: name, partition: partition || undefined, version, kid, state });
    }
    return { keys };
  }
}

function nameOf(command: KeyCommand): string {
  if (!command.name) {
    throw new DekdError('INVALID_ARGUMENT', 'the name of the key is missing');
  }
  return command.name;
}

function keyOf(command: KeyCommand): { name: string; partition: string; purpose: Purpose } {
  const purpose = purposeOf(command) ?? (command.name?.startsWith('.') ? 'wrap' : 'seal');
  return { name: nameOf(command), partition: command.partition ?? '', purpose };
}

/** Versions of every purpose, unless the command says one. */
function versionOf(command: KeyCommand) {
  return {
    name: nameOf(command),
    partition: command.partition ?? '',
    version: command.version || undefined,
    purpose: purposeOf(command),
  };
}

function purposeOf({ purpose }: KeyCommand): Purpose | undefined {
  if (purpose && !PURPOSES.has(purpose)) {
    throw new DekdError('INVALID_ARGUMENT', `purpose '${purpose}' is none of ${[...PURPOSES].join(', ')}`);
  }
  return purpose ? (purpose as Purpose) : undefined;
}
