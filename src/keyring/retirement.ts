import { hex } from '../bytes.ts';
import { DekdError } from '../errors.ts';
import type { Keystore } from '../keystores/keystore.ts';
import type { SteadyClock } from './clock.ts';
import type { HighWater } from './high-water.ts';
import type { KeyDefinitions, RotationLimits } from './key-definition.ts';
import type { KeyVersions } from './key-versions.ts';
import type { CreateRequest } from './keyring.ts';
import type { KeyringLog } from './keyring-event.ts';
import { allRecords } from './listing.ts';
import type { LiveKeys } from './live-keys.ts';
import type { KeyRecord } from './record.ts';
import { RecordRefused } from './record-check.ts';
import { lineOf } from './root-line.ts';
import { canOpen } from './states.ts';

export interface RetirementParts {
  readonly keystore: Keystore;
  readonly definitions: KeyDefinitions;
  readonly versions: KeyVersions;
  readonly live: LiveKeys;
  readonly highWater: HighWater;
  readonly clock: SteadyClock;
  readonly log: KeyringLog;
}

/**
 * Disables versions that stopped sealing long ago, where `rotation.keep` says so. Nothing is destroyed: enabling a version
 * brings it back. Every agent may do this at any time; each change is one compare-and-set, and one that is lost is left to
 * who won it.
 */
export class Retirement {
  readonly #parts: RetirementParts;

  constructor(parts: RetirementParts) {
    this.#parts = parts;
  }

  /** One pass over the keystore. @returns how many versions it disabled. @throws KEYSTORE_UNAVAILABLE and more. */
  async run(): Promise<number> {
    const { keystore, definitions } = this.#parts;
    const seen = new Set<string>();
    let retired = 0;
    for await (const { name, partition, purpose } of allRecords(keystore, { level: 4, state: 'deactivated' })) {
      const family = JSON.stringify([name, partition, purpose]);
      if (Number.isFinite(definitions.rulesFor(name).rotation.keep) && !seen.has(family)) {
        seen.add(family);
        retired += await this.#retire({ name, partition, purpose });
      }
    }
    return retired;
  }

  async #retire(request: CreateRequest): Promise<number> {
    const { keystore, definitions, clock, live } = this.#parts;
    const rows = await keystore.versions(request.name, request.partition, request.purpose);
    let retired = 0;
    for (const row of outdated(rows, definitions.rulesFor(request.name).rotation, clock.now())) {
      if (await this.#suspend(row)) {
        retired++;
      }
    }
    if (retired > 0) {
      await live.reread(request);
    }
    return retired;
  }

  async #suspend(row: KeyRecord): Promise<boolean> {
    const { keystore, versions, highWater, log } = this.#parts;
    const { name: key, partition, version, kid } = row;
    try {
      const record = await versions.changed(row, 'suspended');
      await keystore.updateMetadata([{ record, expect: { seq: row.seq } }]);
      await highWater.raise([record]);
    } catch (error) {
      // What cannot be changed is not stopped either; the next pass comes to it again.
      if (DekdError.is(error, 'CONFLICT') || error instanceof RecordRefused || DekdError.is(error, 'KEY_DISABLED')) {
        return false;
      }
      throw error;
    }
    log({ event: 'version-retired', level: 'info', key, partition, version, kid: hex(kid) });
    return true;
  }
}

/**
 * Those of `rows`, the versions of one key, that are to be disabled: deactivated for longer than `graceMs`, and not among the
 * newest `keep` of their line that still open. As long as no newer version of it seals, none: what was sealed last must open.
 */
export function outdated(rows: readonly KeyRecord[], limits: RotationLimits, now: number): KeyRecord[] {
  return [...Map.groupBy(rows, lineOf).values()].flatMap((line) => outdatedIn(line, limits, now));
}

function outdatedIn(rows: readonly KeyRecord[], { keep, graceMs }: RotationLimits, now: number): KeyRecord[] {
  const sealing = rows.findLast(({ state }) => state === 'active');
  if (sealing === undefined) {
    return [];
  }
  return rows
    .filter((row) => canOpen(row.state) && row.state !== 'active' && row.version < sealing.version)
    .toReversed()
    .slice(keep)
    .filter(({ state, dates }) => state === 'deactivated' && now - dates.deactivated >= graceMs);
}
