import type { Purpose } from '../crypto/engine.ts';
import { DekdError } from '../errors.ts';
import type { Keystore } from '../keystores/keystore.ts';
import type { SteadyClock } from './clock.ts';
import type { HighWater } from './high-water.ts';
import type { KeyIndex } from './key-index.ts';
import { keyInfo } from './key-info.ts';
import { checkKeyName, checkPartition } from './key-name.ts';
import { type KeyVersions, MAX_ATTEMPTS, USER_PURPOSES } from './key-versions.ts';
import type { CreateRequest, KeyInfo } from './keyring.ts';
import type { LiveKeys } from './live-keys.ts';
import type { KeyRecord, KeyState } from './record.ts';
import { inState, RecordRefused } from './record-check.ts';
import type { UsageLedger } from './rotation.ts';
import { canBecome, checkTransition } from './states.ts';

export interface KeyLifeParts {
  readonly keystore: Keystore;
  readonly versions: KeyVersions;
  readonly live: LiveKeys;
  readonly index: KeyIndex;
  readonly ledger: UsageLedger;
  readonly highWater: HighWater;
  readonly clock: SteadyClock;
}

/** The state that a version goes to, or undefined to leave it as it is. */
type Step = (row: KeyRecord, rows: readonly KeyRecord[]) => KeyState | undefined;

/** What an operator does to keys. Every change is one compare-and-set, tried again when another agent was faster. */
export class KeyLife {
  readonly #parts: KeyLifeParts;

  constructor(parts: KeyLifeParts) {
    this.#parts = parts;
  }

  async create(request: CreateRequest): Promise<KeyInfo> {
    checkRequest(request);
    const rows = await this.#rows(request);
    const made = rows.length === 0 ? await this.#refused(() => this.#parts.versions.first(request)) : undefined;
    if (made === undefined) {
      throw new DekdError('CONFLICT', `key ${request.name} exists already`);
    }
    await this.#parts.live.reread(request);
    return this.#info(made);
  }

  async rotate(request: CreateRequest): Promise<KeyInfo> {
    checkRequest(request);
    const made = await this.#refused(() => this.#parts.versions.rotate(request));
    await this.#parts.live.reread(request);
    return this.#info(made);
  }

  disable(name: string, partition: string, version: number | undefined): Promise<readonly KeyInfo[]> {
    return this.#change(name, partition, version, (row) => {
      if (row.state === 'suspended') {
        return undefined;
      }
      if (version !== undefined) {
        checkTransition(row.state, 'suspended');
      }
      return canBecome(row.state, 'suspended') ? 'suspended' : undefined;
    });
  }

  /** A version that had stopped sealing before, or whose place another has taken, goes back to deactivated. */
  enable(name: string, partition: string, version: number | undefined): Promise<readonly KeyInfo[]> {
    return this.#change(name, partition, version, (row, rows) => {
      if (row.state !== 'suspended') {
        if (version !== undefined && row.state !== 'active' && row.state !== 'deactivated') {
          throw new DekdError('INVALID_ARGUMENT', `version ${row.version} is ${row.state}, not disabled`);
        }
        return undefined;
      }
      const sealed = rows.some((other) => other.state === 'active' || supersedes(other, row));
      return row.dates.deactivated !== 0 || sealed ? 'deactivated' : 'active';
    });
  }

  markCompromised(name: string, partition: string, version: number): Promise<readonly KeyInfo[]> {
    return this.#change(name, partition, version, (row) => {
      if (row.state === 'compromised') {
        return undefined;
      }
      checkTransition(row.state, 'compromised');
      return 'compromised';
    });
  }

  destroy(name: string, partition: string, version: number | undefined): Promise<readonly KeyInfo[]> {
    return this.#change(name, partition, version, (row) => (row.state === 'destroyed' ? undefined : 'destroyed'));
  }

  async describe(name: string, partition: string): Promise<readonly KeyInfo[]> {
    checkKeyName(name);
    checkPartition(partition);
    const infos: KeyInfo[] = [];
    for (const purpose of USER_PURPOSES) {
      const rows = await this.#parts.keystore.versions(name, partition, purpose);
      infos.push(...rows.map((row) => this.#info(row)));
    }
    return infos;
  }

  async list(
    filter: { name?: string; partition?: string },
    cursor: string | undefined,
    limit: number,
  ): Promise<{ keys: readonly KeyInfo[]; cursor: string | undefined }> {
    const page = await this.#parts.keystore.list(filter, cursor, limit);
    return { keys: page.records.map((row) => this.#info(row)), cursor: page.cursor };
  }

  /** Takes `step` with the versions asked for, of every purpose. @throws KEY_NOT_FOUND when there are none. */
  async #change(name: string, partition: string, version: number | undefined, step: Step): Promise<readonly KeyInfo[]> {
    checkKeyName(name);
    checkPartition(partition);
    const changed: KeyInfo[] = [];
    let found = false;
    for (const purpose of USER_PURPOSES) {
      const request = { name, partition, purpose };
      const rows = await this.#changePurpose(request, version, step);
      found ||= rows.length > 0;
      changed.push(...rows.map((row) => this.#info(row)));
    }
    if (!found) {
      throw new DekdError(
        'KEY_NOT_FOUND',
        version === undefined ? `no key ${name}` : `no version ${version} of ${name}`,
      );
    }
    return changed;
  }

  async #changePurpose(request: CreateRequest, version: number | undefined, step: Step): Promise<KeyRecord[]> {
    const result = new Map<number, KeyRecord>();
    let attempt = 0;
    // One row after the other, newest first: no older version ever seals beside one that is not changed yet.
    for (;;) {
      const rows = await this.#rows(request);
      const wanted = rows.filter((row) => version === undefined || row.version === version).toReversed();
      const next = wanted.find((row) => !result.has(row.version));
      if (next === undefined) {
        break;
      }
      const state = step(next, rows);
      if (state === undefined) {
        result.set(next.version, next);
        continue;
      }
      try {
        result.set(next.version, await this.#write(next, state));
      } catch (error) {
        if (!DekdError.is(error, 'CONFLICT') || ++attempt === MAX_ATTEMPTS) {
          throw error;
        }
      }
    }
    if (result.size > 0) {
      await this.#parts.live.reread(request);
    }
    return [...result.values()].reverse();
  }

  async #write(row: KeyRecord, state: KeyState): Promise<KeyRecord> {
    const { keystore, highWater } = this.#parts;
    const { record, isAuthentic } = await this.#next(row, state);
    const expect = { seq: row.seq };
    if (state === 'destroyed') {
      await keystore.delete(record, expect);
    } else {
      await keystore.updateMetadata([{ record, expect }]);
    }
    if (isAuthentic) {
      await highWater.raise([record]);
    }
    return record;
  }

  /**
   * The row's next write. A row that is refused can still be denied: it keeps its bad MAC, since a new one would bless
   * what was changed in it. It can never be allowed.
   */
  async #next(row: KeyRecord, state: KeyState): Promise<{ record: KeyRecord; isAuthentic: boolean }> {
    try {
      return { record: await this.#parts.versions.changed(row, state), isAuthentic: true };
    } catch (error) {
      const denial = state === 'suspended' || state === 'destroyed';
      if (denial && (error instanceof RecordRefused || DekdError.is(error, 'KEY_DISABLED'))) {
        return { record: inState(row, state, this.#parts.clock.now()), isAuthentic: false };
      }
      throw refused(error);
    }
  }

  async #rows(request: CreateRequest): Promise<readonly KeyRecord[]> {
    return this.#parts.keystore.versions(request.name, request.partition, request.purpose);
  }

  async #refused<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw refused(error);
    }
  }

  #info(row: KeyRecord): KeyInfo {
    return keyInfo(row, this.#parts.ledger.usage(row.kid, this.#parts.index.find(row.kid, 0)));
  }
}

/** Whether `other` is a newer version that has sealed. */
function supersedes(other: KeyRecord, row: KeyRecord): boolean {
  return other.version > row.version && other.dates.activated !== 0;
}

/** What an operator is told of a row that is refused: the whole reason. */
function refused(error: unknown): unknown {
  return error instanceof RecordRefused
    ? new DekdError('KEYSTORE_UNAVAILABLE', `the record is refused: ${error.reason}`, { reason: error.reason })
    : error;
}

function checkRequest(request: CreateRequest): void {
  checkKeyName(request.name);
  checkPartition(request.partition);
  if (!(USER_PURPOSES as readonly Purpose[]).includes(request.purpose)) {
    throw new DekdError('INVALID_ARGUMENT', `purpose must be one of ${USER_PURPOSES.join(', ')}`);
  }
}
