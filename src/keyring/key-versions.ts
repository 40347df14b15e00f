import { hex } from '../bytes.ts';
import type { Engine, KeyHandle, KeyUse, Purpose } from '../crypto/engine.ts';
import { DekdError } from '../errors.ts';
import type { Keystore } from '../keystores/keystore.ts';
import type { SteadyClock } from './clock.ts';
import { isRollback } from './current-row.ts';
import type { DekCache } from './dek-cache.ts';
import type { Hierarchy } from './hierarchy.ts';
import type { HighWater } from './high-water.ts';
import type { KeyDefinitions } from './key-definition.ts';
import { kekNameOf } from './key-name.ts';
import type { CreateRequest } from './keyring.ts';
import type { KeyringLog } from './keyring-event.ts';
import type { KeyRecord, KeyState } from './record.ts';
import {
  ALGORITHM_OF,
  checkRecord,
  inState,
  KEY_SIZE,
  RecordRefused,
  sameBytes,
  withMac,
  wrapRecord,
} from './record-check.ts';
import { contextInLine, lineOf, mayBeMade, OWN_LINE } from './root-line.ts';

/** Attempts against other agents that write the same rows. */
export const MAX_ATTEMPTS = 16;

export interface VersionParts {
  readonly engine: Engine;
  readonly keystore: Keystore;
  readonly cache: DekCache;
  readonly hierarchy: Hierarchy;
  readonly highWater: HighWater;
  readonly definitions: KeyDefinitions;
  readonly clock: SteadyClock;
  readonly log: KeyringLog;
  readonly service: string;
  readonly node: string;
}

export interface RotateOptions {
  /** The version that is due: when a newer one is active already, nothing is made. Else that of the time of the call. */
  readonly due?: number;
  /** What becomes of the versions that sealed, in the same write. */
  readonly stop?: 'deactivated' | 'compromised';
  /** The key of the new version of a KEK, which stays the caller's; undefined draws one. */
  readonly key?: KeyHandle;
  /**
   * Of a data key only: the line that gets the new version, and no other changes. Without it what sealed in any line stops, and
   * the new version is for callers who name no root; the other lines get theirs when they are next used.
   */
  readonly line?: string;
}

/** A version that is to be made; of a KEK the line is of no meaning. */
interface VersionDraft {
  readonly version: number;
  readonly state: 'active' | 'pre-active';
  readonly line: string;
}

/**
 * Makes versions of keys, safely with any number of agents on one keystore: that (name, partition, purpose,
 * version) is unique decides who makes a version, and compare-and-set decides who activates it. Nothing here seals: keys
 * are wrapped, stored and wiped, and loaded from their rows like any other.
 */
export class KeyVersions {
  readonly #parts: VersionParts;

  constructor(parts: VersionParts) {
    this.#parts = parts;
  }

  /** Version 1, active. @returns undefined when another agent was faster. */
  async first(request: CreateRequest, key?: KeyHandle, line = OWN_LINE): Promise<KeyRecord | undefined> {
    if (this.#parts.highWater.version(request.name, request.partition, request.purpose) > 0) {
      // Made since its rows were looked for, maybe for a caller who chose another root; or they are gone.
      await this.rows(request);
      return undefined;
    }
    try {
      const record = await this.#make(request, { version: 1, state: 'active', line }, key);
      await this.#parts.highWater.raise([record]);
      this.#log(key === undefined ? 'key-created' : 'key-imported', record);
      return record;
    } catch (error) {
      if (DekdError.is(error, 'CONFLICT')) {
        return undefined;
      }
      throw error;
    }
  }

  /**
   * A version newer than those at the time of the call, active, and no other active beside it. Stored as pre-active
   * first, then activated in one write with the end of the old one: a crash between the two leaves a pre-active version
   * that the next rotation takes up.
   * Of a KEK that is among those under the root that new records go to: one version is active under each root.
   * @throws KEY_NOT_FOUND, KEY_DISABLED, CONFLICT, KEYSTORE_UNAVAILABLE and what the hierarchy throws.
   */
  async rotate(request: CreateRequest, options: RotateOptions = {}): Promise<KeyRecord> {
    const { highWater } = this.#parts;
    let before = options.due;
    const line = options.line ?? OWN_LINE;
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const rows = await this.rows(request);
      if (rows.length === 0) {
        throw new DekdError('KEY_NOT_FOUND', `no key ${request.name}`);
      }
      let made: KeyRecord | undefined;
      try {
        const sealing = await this.#sealing(request, rows, options.line);
        const active = await this.#authentic(request, sealing, options);
        const newest = active.findLast((row) => lineOf(row) === line);
        before ??= newest?.version ?? 0;
        if (newest !== undefined && newest.version > before) {
          return newest;
        }
        if (newest === undefined && isDisabled(rows, options.line)) {
          throw new DekdError('KEY_DISABLED', `key ${request.name} is disabled: enable it before it is rotated`);
        }
        const next = await this.#next(request, rows, options.key, line);
        made = next;
        const activated = await this.#activate(next, active, options.stop ?? 'deactivated');
        await highWater.raise(activated);
        this.#log(options.key === undefined ? 'key-rotated' : 'key-imported', activated[0]!);
        return activated[0]!;
      } catch (error) {
        if (
          !DekdError.is(error, 'CONFLICT') &&
          !(isRollback(error) && (await this.#haveMoved(request, made === undefined ? rows : [...rows, made])))
        ) {
          throw error;
        }
      }
    }
    throw new DekdError('CONFLICT', `key ${request.name} is being rotated by others`);
  }

  /**
   * Whether one of `rows` was written since it was read, or made: a rotation beside this one may have taken up the version that
   * this one has just stored. It raises the mark as soon as its rows are stored, and a row from before that looks older than it
   * may be.
   */
  async #haveMoved(request: CreateRequest, rows: readonly KeyRecord[]): Promise<boolean> {
    const now = await this.#rows(request);
    return rows.some((row) => now.find(({ version }) => version === row.version)?.seq !== row.seq);
  }

  #rows({ name, partition, purpose }: CreateRequest): Promise<readonly KeyRecord[]> {
    return this.#parts.keystore.versions(name, partition, purpose);
  }

  /**
   * Every version, oldest first. What was seen before they were read has to be among them; what was made meanwhile need not.
   * @throws RecordRefused when a version is gone; KEYSTORE_UNAVAILABLE
   */
  async rows(request: CreateRequest): Promise<readonly KeyRecord[]> {
    const seen = this.#parts.highWater.version(request.name, request.partition, request.purpose);
    const rows = await this.#rows(request);
    if ((rows.at(-1)?.version ?? 0) < seen) {
      throw new RecordRefused(
        `version ${seen} of this key was seen and is not in the keystore: restore the keystore, or accept its older ` +
          'state with dekd keys import --accept-rollback',
        true,
      );
    }
    return rows;
  }

  /** `record` in another state with a good MAC, as the next write of its row. @throws RecordRefused unless it is authentic. */
  async changed(record: KeyRecord, state: KeyState): Promise<KeyRecord> {
    const { engine, hierarchy, highWater, clock } = this.#parts;
    return hierarchy.withParentSecret(record, (secret) => {
      checkRecord(engine, secret, record, highWater);
      return withMac(engine, secret, inState(record, state, clock.now()));
    });
  }

  /**
   * Those of `rows` that are authentic; one that was put there by others is left as it is, and never used. A root that a caller
   * chose keeps no other from being rotated by its silence, unless what sealed under it is to be compromised.
   */
  async #authentic(
    request: CreateRequest,
    rows: readonly KeyRecord[],
    { stop, line }: RotateOptions,
  ): Promise<KeyRecord[]> {
    const { engine, hierarchy, highWater } = this.#parts;
    const authentic: KeyRecord[] = [];
    let refusal: unknown;
    for (const row of rows) {
      try {
        await hierarchy.withParentSecret(row, (secret) => checkRecord(engine, secret, row, highWater));
        authentic.push(row);
      } catch (error) {
        if (line === undefined && stop !== 'compromised' && lineOf(row) !== OWN_LINE && isOfRoot(error)) {
          const { name: key, partition, version, kid } = row;
          this.#parts.log({ event: 'rotation-failed', level: 'warn', key, partition, version, kid: hex(kid), error });
          continue;
        }
        if (!(error instanceof RecordRefused)) {
          throw error;
        }
        refusal = error;
      }
    }
    // One that was written since it was read looks like one that was put back; the rotation begins again with what it is now.
    if (
      refusal !== undefined &&
      (authentic.length === 0 || (isRollback(refusal) && (await this.#haveMoved(request, rows))))
    ) {
      throw refusal;
    }
    return authentic;
  }

  /** Those of `rows` whose place a new version takes. */
  async #sealing(
    request: CreateRequest,
    rows: readonly KeyRecord[],
    line: string | undefined,
  ): Promise<readonly KeyRecord[]> {
    const active = rows.filter((row) => row.state === 'active');
    if (request.purpose !== 'wrap') {
      return line === undefined ? active : active.filter((row) => lineOf(row) === line);
    }
    const { versions } = this.#parts.hierarchy;
    return versions.underRoot(active, versions.rootOf(request.partition, '').name);
  }

  /** The pre-active version that a rotation left, if it is sound and the one that is wanted, else a new one. */
  async #next(
    request: CreateRequest,
    rows: readonly KeyRecord[],
    key: KeyHandle | undefined,
    line: string,
  ): Promise<KeyRecord> {
    const { hierarchy, highWater } = this.#parts;
    const highest = Math.max(rows.at(-1)!.version, highWater.version(request.name, request.partition, request.purpose));
    const left = rows.at(-1)!;
    if (left.state === 'pre-active' && left.version === highest && (await this.#isWanted(request, left, key, line))) {
      try {
        await hierarchy.prove(left);
        return left;
      } catch (error) {
        if (!(error instanceof RecordRefused) && !DekdError.is(error, 'KEY_DISABLED')) {
          throw error;
        }
      }
    }
    const record = await this.#make(request, { version: highest + 1, state: 'pre-active', line }, key);
    await highWater.raise([record]);
    return record;
  }

  async #isWanted(request: CreateRequest, left: KeyRecord, key: KeyHandle | undefined, line: string): Promise<boolean> {
    if (request.purpose !== 'wrap') {
      return lineOf(left) === line;
    }
    const { engine, hierarchy } = this.#parts;
    const { versions } = hierarchy;
    const isHere = (await versions.rootNameOf(left)) === versions.rootOf(request.partition, '').name;
    return isHere && (key === undefined || sameBytes(engine.kid(key), left.kid));
  }

  async #activate(
    next: KeyRecord,
    active: readonly KeyRecord[],
    stop: 'deactivated' | 'compromised',
  ): Promise<KeyRecord[]> {
    const changes = [{ record: await this.changed(next, 'active'), expect: { seq: next.seq } }];
    for (const row of active) {
      changes.push({ record: await this.changed(row, stop), expect: { seq: row.seq } });
    }
    await this.#parts.keystore.updateMetadata(changes);
    return changes.map(({ record }) => record);
  }

  /** Makes and stores one version; its key is wiped again. @throws CONFLICT when the version exists. */
  async #make(request: CreateRequest, draft: VersionDraft, kekKey?: KeyHandle): Promise<KeyRecord> {
    const { engine, cache, hierarchy, keystore } = this.#parts;
    const { version, state, line } = draft;
    if (request.purpose === 'wrap') {
      const made = kekKey === undefined ? { version, state } : { version, state, key: kekKey };
      return hierarchy.versions.make(kekNameOf(request.name, request.partition), made);
    }
    const use: KeyUse = { algorithm: ALGORITHM_OF[request.purpose], purpose: request.purpose };
    const record = await hierarchy.withSealingKek(
      request.partition,
      request.name,
      (kek, secret) => {
        const key = cache.room(() => engine.generateKey(use));
        try {
          return this.#wrap(request, draft, kek.record, secret, key);
        } finally {
          engine.destroyKey(key);
        }
      },
      line === OWN_LINE ? undefined : line,
    );
    await keystore.store(record, { absent: true });
    return record;
  }

  #wrap(
    request: CreateRequest,
    { version, state, line }: VersionDraft,
    kek: KeyRecord,
    secret: KeyHandle,
    key: KeyHandle,
  ): KeyRecord {
    const { engine, clock, definitions, service, node } = this.#parts;
    const { name, partition, purpose } = request;
    const now = clock.now();
    return wrapRecord(engine, secret, key, {
      kid: engine.kid(key),
      name,
      partition,
      level: 4,
      version,
      revision: 1,
      algorithm: ALGORITHM_OF[purpose],
      purpose,
      size: KEY_SIZE,
      state,
      owner: { tenant: kek.owner.tenant, service, node },
      dates: { created: now, activated: state === 'active' ? now : 0, deactivated: 0, destroyed: 0 },
      parent: { kind: 'key', kid: kek.kid },
      wrapped: new Uint8Array(0),
      keyContext: contextInLine(definitions.rulesFor(name).keyContext, line),
      seq: 1n,
      mac: new Uint8Array(0),
    });
  }

  #log(event: 'key-created' | 'key-rotated' | 'key-imported', record: KeyRecord): void {
    const { name, partition, version, kid } = record;
    this.#parts.log({ event, level: 'info', key: name, partition, version, kid: hex(kid) });
  }
}

/** Whether the key, or one line of it, is disabled, which no rotation undoes. Asked where none of it is active. */
function isDisabled(rows: readonly KeyRecord[], line: string | undefined): boolean {
  return line === undefined
    ? rows.some((row) => row.state === 'suspended' && lineOf(row) === OWN_LINE)
    : !mayBeMade(rows, line);
}

function isOfRoot(error: unknown): boolean {
  return DekdError.is(error, 'KMS_UNAVAILABLE') || DekdError.is(error, 'KMS_DENIED');
}

/** Purposes that a user's key can have; `wrap` keys are the agent's own. */
export const USER_PURPOSES: readonly Purpose[] = ['seal', 'message', 'mac', 'index'];
