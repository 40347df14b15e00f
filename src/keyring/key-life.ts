import { hex } from '../bytes.ts';
import type { KeyHandle, Purpose } from '../crypto/engine.ts';
import { DekdError } from '../errors.ts';
import type { Keystore } from '../keystores/keystore.ts';
import type { SteadyClock } from './clock.ts';
import { isRollback } from './current-row.ts';
import { countChildren } from './descendants.ts';
import type { Hierarchy } from './hierarchy.ts';
import type { HighWater } from './high-water.ts';
import type { KekImport } from './kek-import.ts';
import type { KeyIndex } from './key-index.ts';
import { keyInfo } from './key-info.ts';
import { checkKeyName, checkPartition, isKekName, type KekName, kekNameOf } from './key-name.ts';
import { type KeyVersions, MAX_ATTEMPTS, USER_PURPOSES } from './key-versions.ts';
import type { CreateRequest, KeyInfo } from './keyring.ts';
import type { LiveKeys } from './live-keys.ts';
import type { KeyRecord, KeyState } from './record.ts';
import { inState, RecordRefused } from './record-check.ts';
import { lineOf } from './root-line.ts';
import type { UsageLedger } from './rotation.ts';
import { canBecome, checkTransition } from './states.ts';

/** After this long every agent on the keystore has seen that a version stopped: refresh intervals are far shorter. */
const REST_MS = 10 * 60_000;

export interface KeyLifeParts {
  readonly keystore: Keystore;
  readonly versions: KeyVersions;
  readonly kekImport: KekImport;
  readonly hierarchy: Hierarchy;
  readonly live: LiveKeys;
  readonly index: KeyIndex;
  readonly ledger: UsageLedger;
  readonly highWater: HighWater;
  readonly clock: SteadyClock;
}

/** Versions of one name: of every purpose, and all of them, unless said otherwise. */
interface Selection {
  readonly name: string;
  readonly partition: string;
  readonly version: number | undefined;
  readonly purpose: Purpose | undefined;
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
    checkRotation(request);
    return this.#rotated(request, await this.#refused(() => this.#parts.versions.rotate(request)));
  }

  /**
   * A new version at once; those that sealed at the time of the call become compromised in the same write. When another agent
   * rotated first, they become so by a write of their own.
   */
  async rotateCompromised(request: CreateRequest): Promise<KeyInfo> {
    checkRotation(request);
    const sealed = (await this.#rows(request)).filter(({ state }) => state === 'active');
    const made = await this.#refused(() => this.#parts.versions.rotate(request, { stop: 'compromised' }));
    for (const { version } of sealed) {
      await this.#changePurpose(request, version, (row) => (row.state === 'deactivated' ? 'compromised' : undefined));
    }
    return this.#rotated(request, made);
  }

  /** The key is the caller's. @throws as a rotation does; INVALID_ARGUMENT unless its kid is `expectKid` */
  async importKek(kek: KekName, key: KeyHandle, expectKid: string | undefined): Promise<KeyInfo> {
    const made = await this.#refused(() => this.#parts.kekImport.run(kek, key, expectKid));
    return this.#rotated({ name: kek.name, partition: kek.tenant, purpose: 'wrap' }, made);
  }

  async #rotated(request: CreateRequest, made: KeyRecord): Promise<KeyInfo> {
    await this.#reread(request);
    return this.#info(made);
  }

  /** What was written holds for this agent at once. */
  async #reread(request: CreateRequest): Promise<void> {
    if (request.purpose === 'wrap') {
      await this.#parts.hierarchy.reread(await this.#rows(request));
    } else {
      await this.#parts.live.reread(request);
    }
  }

  disable(selection: Selection): Promise<readonly KeyInfo[]> {
    return this.#change(selection, (row) => {
      if (row.state === 'suspended') {
        return undefined;
      }
      if (selection.version !== undefined) {
        checkTransition(row.state, 'suspended');
      }
      return canBecome(row.state, 'suspended') ? 'suspended' : undefined;
    });
  }

  /** A version that had stopped sealing before, or whose place another has taken, goes back to deactivated. */
  enable(selection: Selection): Promise<readonly KeyInfo[]> {
    return this.#change(selection, (row, rows) => {
      if (row.state !== 'suspended') {
        if (selection.version !== undefined && row.state !== 'active' && row.state !== 'deactivated') {
          throw new DekdError('INVALID_ARGUMENT', `version ${row.version} is ${row.state}, not disabled`);
        }
        return undefined;
      }
      const line = rows.filter((other) => lineOf(other) === lineOf(row));
      const sealed = line.some((other) => other.state === 'active' || supersedes(other, row));
      return row.dates.deactivated !== 0 || sealed ? 'deactivated' : 'active';
    });
  }

  markCompromised(selection: Selection): Promise<readonly KeyInfo[]> {
    return this.#change(selection, (row) => {
      if (row.state === 'compromised') {
        return undefined;
      }
      checkTransition(row.state, 'compromised');
      return 'compromised';
    });
  }

  /** Of a KEK only a version that has rested, and has no keys under it any more. */
  async destroy(selection: Selection): Promise<readonly KeyInfo[]> {
    const { name, partition, version } = selection;
    if (isKekName(name)) {
      await this.#checkDispensable(name, partition, version);
    }
    return this.#change(selection, (row) => (row.state === 'destroyed' ? undefined : 'destroyed'));
  }

  /**
   * Destroys every version of a name that is not destroyed yet, a KEK too: its tree is destroyed from below.
   * @returns how many
   */
  async shred(name: string, partition: string): Promise<number> {
    const shredded = new Set<string>();
    await this.#change({ name, partition, version: undefined, purpose: undefined }, (row) => {
      if (row.state === 'destroyed') {
        return undefined;
      }
      // Asked again of a row that others wrote meanwhile.
      shredded.add(hex(row.kid));
      return 'destroyed';
    });
    return shredded.size;
  }

  async describe(name: string, partition: string): Promise<readonly KeyInfo[]> {
    const infos: KeyInfo[] = [];
    for (const purpose of purposesOf(name, partition)) {
      const rows = await this.#parts.keystore.versions(name, partition, purpose);
      infos.push(...(await this.#infos(rows)));
    }
    return infos;
  }

  async list(
    filter: { name?: string; partition?: string },
    cursor: string | undefined,
    limit: number,
  ): Promise<{ keys: readonly KeyInfo[]; cursor: string | undefined }> {
    const page = await this.#parts.keystore.list(filter, cursor, limit);
    return { keys: await this.#infos(page.records), cursor: page.cursor };
  }

  /** Version 1 for tokens and version 1 for messages are two keys. @throws INVALID_ARGUMENT naming the purposes */
  async #checkUnambiguous(selection: Selection): Promise<void> {
    const { name, partition, version } = selection;
    const purposes = selectedPurposes(selection);
    if (version === undefined || purposes.length === 1) {
      return;
    }
    const having: Purpose[] = [];
    for (const purpose of purposes) {
      const rows = await this.#parts.keystore.versions(name, partition, purpose);
      if (rows.some((row) => row.version === version && row.state !== 'destroyed')) {
        having.push(purpose);
      }
    }
    if (having.length > 1) {
      throw new DekdError(
        'INVALID_ARGUMENT',
        `key ${name} has a version ${version} for each of ${having.join(', ')}: name the purpose (--purpose)`,
      );
    }
  }

  /** Takes `step` with the versions asked for. @throws KEY_NOT_FOUND when there are none. */
  async #change(selection: Selection, step: Step): Promise<readonly KeyInfo[]> {
    const { name, partition, version } = selection;
    const changed: KeyInfo[] = [];
    let found = false;
    await this.#checkUnambiguous(selection);
    for (const purpose of selectedPurposes(selection)) {
      const request = { name, partition, purpose };
      const rows = await this.#changePurpose(request, version, step);
      found ||= rows.length > 0;
      changed.push(...(await this.#infos(rows)));
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
        const written = await this.#write(next, state);
        result.set(next.version, written);
        this.#parts.live.stopped([written]);
      } catch (error) {
        const isLost = DekdError.is(error, 'CONFLICT') || (isRollback(error) && (await this.#hasMoved(next)));
        if (!isLost || ++attempt === MAX_ATTEMPTS) {
          throw refused(error);
        }
      }
    }
    if (result.size > 0) {
      await this.#reread(request);
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
      throw error;
    }
  }

  /** Whether the row was written since it was read. */
  async #hasMoved(row: KeyRecord): Promise<boolean> {
    return (await this.#parts.keystore.retrieve(row.kid))?.seq !== row.seq;
  }

  /**
   * @throws INVALID_ARGUMENT unless nothing can be lost with the version of a KEK: no key hangs under it, and none will, since
   * every agent has seen by now that it wraps no more.
   */
  async #checkDispensable(name: string, partition: string, version: number | undefined): Promise<void> {
    const { keystore, clock } = this.#parts;
    if (version === undefined) {
      throw new DekdError('INVALID_ARGUMENT', 'of a KEK one version at a time is destroyed: name it');
    }
    const rows = await this.#rows({ name, partition, purpose: 'wrap' });
    const row = rows.find((each) => each.version === version);
    if (row === undefined || row.state === 'destroyed') {
      return;
    }
    const { deactivated } = row.dates;
    if (row.state === 'active' || deactivated === 0) {
      throw new DekdError('INVALID_ARGUMENT', `version ${version} of ${name} is ${row.state}: rotate ${name} first`);
    }
    if (clock.now() - deactivated < REST_MS) {
      throw new DekdError(
        'INVALID_ARGUMENT',
        `version ${version} of ${name} stopped wrapping less than ${REST_MS / 60_000} minutes ago: an agent may not know yet`,
      );
    }
    const children = await countChildren(keystore, row.kid);
    if (children > 0) {
      throw new DekdError(
        'INVALID_ARGUMENT',
        `${children} ${children === 1 ? 'key hangs' : 'keys hang'} under version ${version} of ${name}: dekd rewrap moves them`,
      );
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

  async #info(row: KeyRecord): Promise<KeyInfo> {
    const [info] = await this.#infos([row]);
    return info!;
  }

  async #infos(rows: readonly KeyRecord[]): Promise<KeyInfo[]> {
    const { ledger, index, hierarchy } = this.#parts;
    /** By kid of the parent: most rows have one of few. */
    const roots = new Map<string, string | undefined>();
    const infos: KeyInfo[] = [];
    for (const row of rows) {
      const { parent, kid } = row;
      const above = parent.kind === 'key' ? hex(parent.kid) : '';
      const isKnown = above !== '' && roots.has(above);
      // What was written before stays written whether or not its root can be said.
      const root = isKnown ? roots.get(above) : await hierarchy.versions.rootNameOf(row).catch(() => undefined);
      roots.set(above, root);
      infos.push(keyInfo(row, ledger.usage(kid, index.find(kid, 0)), root));
    }
    return infos;
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

/** Purposes that a key of this name can have. @throws INVALID_ARGUMENT when there can be none of that name */
function purposesOf(name: string, partition: string): readonly Purpose[] {
  if (isKekName(name)) {
    kekNameOf(name, partition);
    return ['wrap'];
  }
  checkKeyName(name);
  checkPartition(partition);
  return USER_PURPOSES;
}

/** @throws INVALID_ARGUMENT when a key of this name cannot have the purpose */
function selectedPurposes({ name, partition, purpose }: Selection): readonly Purpose[] {
  const purposes = purposesOf(name, partition);
  if (purpose === undefined) {
    return purposes;
  }
  if (!purposes.includes(purpose)) {
    throw new DekdError('INVALID_ARGUMENT', `the purpose of ${name} must be one of ${purposes.join(', ')}`);
  }
  return [purpose];
}

/**
 * KEKs are rotated like other keys; they are made, and destroyed, with what they are for. Keys of indexes are not rotated.
 * @throws INVALID_ARGUMENT
 */
function checkRotation(request: CreateRequest): void {
  if (!isKekName(request.name)) {
    checkRequest(request);
    if (request.purpose === 'index') {
      throw new DekdError(
        'INVALID_ARGUMENT',
        `the index key of ${request.name} is never rotated: what was computed under it would match nothing more. Fill a ` +
          'second column under a key of another name, look up there, then destroy this one',
      );
    }
  } else if (!purposesOf(request.name, request.partition).includes(request.purpose)) {
    throw new DekdError('INVALID_ARGUMENT', `the purpose of ${request.name} is wrap`);
  }
}

function checkRequest(request: CreateRequest): void {
  checkKeyName(request.name);
  checkPartition(request.partition);
  if (!(USER_PURPOSES as readonly Purpose[]).includes(request.purpose)) {
    throw new DekdError('INVALID_ARGUMENT', `purpose must be one of ${USER_PURPOSES.join(', ')}`);
  }
}
