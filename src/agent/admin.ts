/** The admin socket's commands: the whole life of keys, and what the agent knows of itself. */

import type { Purpose } from '../crypto/engine.ts';
import { DekdError } from '../errors.ts';
import type { KeyInfo, Keyring } from '../keyring/keyring.ts';
import type { AdminFields } from '../protocol/messages.ts';
import type { Incidents } from '../telemetry/incidents.ts';
import type { Log } from '../telemetry/log.ts';
import type { Backup } from './backup.ts';
import type { SelfScan } from './self-scan.ts';

const PURPOSES: ReadonlySet<string> = new Set<Purpose>(['seal', 'wrap', 'message', 'mac', 'index']);
const LIST_LIMIT = 1_000;

export interface AdminOptions {
  readonly keyring: Keyring;
  readonly backup: Backup;
  readonly incidents: Incidents;
  readonly selfScan: SelfScan;
  readonly log: Log;
  readonly status: () => Promise<unknown>;
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
      return this.#options.status();
    }
    if (command.why) {
      return this.#why(command.why.incident ?? '');
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
      return this.#changed('rotated', [await keyring.rotate(keyOf(command.rotate))]);
    }
    if (command.disable) {
      const { name, partition, version } = versionOf(command.disable);
      return this.#changed('disabled', await keyring.disable(name, partition, version));
    }
    if (command.enable) {
      const { name, partition, version } = versionOf(command.enable);
      return this.#changed('enabled', await keyring.enable(name, partition, version));
    }
    if (command.compromise) {
      const { name, partition, version } = versionOf(command.compromise);
      if (version === undefined) {
        throw new DekdError('INVALID_ARGUMENT', 'which version is compromised has to be said');
      }
      return this.#changed('marked compromised', await keyring.markCompromised(name, partition, version));
    }
    if (command.destroy) {
      const { name, partition, version } = versionOf(command.destroy);
      return this.#changed('destroyed', await keyring.destroy(name, partition, version));
    }
    if (command.export) {
      return backup.page(command.export.cursor || undefined, command.export.limit || LIST_LIMIT);
    }
    if (command.import) {
      return backup.restore(command.import.records ?? new Uint8Array(0), command.import.acceptRollback === true);
    }
    if (command.prove) {
      return selfScan.run(command.prove.step ?? '');
    }
    throw new DekdError('UNSUPPORTED', 'this admin command is not known to this agent');
  }

  #why(incident: string): unknown {
    const found = this.#options.incidents.lookup(incident);
    if (found === undefined) {
      throw new DekdError(
        'INVALID_ARGUMENT',
        `no incident '${incident}': it is of another agent or an earlier run, or too long ago; the log may have it`,
      );
    }
    return { ...found, time: new Date(found.time).toISOString() };
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
  const purpose = command.purpose || 'seal';
  if (!PURPOSES.has(purpose)) {
    throw new DekdError('INVALID_ARGUMENT', `purpose '${purpose}' is none of ${[...PURPOSES].join(', ')}`);
  }
  return { name: nameOf(command), partition: command.partition ?? '', purpose: purpose as Purpose };
}

function versionOf(command: KeyCommand): { name: string; partition: string; version: number | undefined } {
  return { name: nameOf(command), partition: command.partition ?? '', version: command.version || undefined };
}
