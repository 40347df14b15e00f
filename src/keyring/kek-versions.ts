import { hex } from '../bytes.ts';
import type { Engine, KeyHandle, KeyUse } from '../crypto/engine.ts';
import type { Custody, Root } from '../custody/custody.ts';
import { DekdError } from '../errors.ts';
import type { SteadyClock } from './clock.ts';
import type { DekCache } from './dek-cache.ts';
import { Flights } from './flights.ts';
import type { HighWater } from './high-water.ts';
import { type KekName, serviceKekName, tenantKekName } from './key-name.ts';
import type { KeyringLog } from './keyring-event.ts';
import type { Kek } from './loaded-key.ts';
import { keksAbove, type Placement } from './placement.ts';
import type { KeyParent, KeyRecord } from './record.ts';
import { ALGORITHM_OF, KEY_SIZE, RecordRefused, wrapRecord } from './record-check.ts';
import { canSeal } from './states.ts';
import type { Turns } from './turns.ts';

export const WRAP_USE: KeyUse = { algorithm: ALGORITHM_OF.wrap, purpose: 'wrap' };
/** Attempts against other agents that write the same rows. */
const MAX_ATTEMPTS = 8;

export interface KekVersionParts {
  readonly engine: Engine;
  readonly custody: Custody;
  readonly cache: DekCache;
  readonly highWater: HighWater;
  readonly clock: SteadyClock;
  readonly log: KeyringLog;
  readonly service: string;
  readonly node: string;
  readonly placement: Placement;
  /** Bounds the calls to providers, as loads do. */
  readonly turns: Turns;
  /** Counts the refresh intervals. */
  readonly generation: () => number;
  readonly withKek: <T>(kid: Uint8Array, work: (kek: Kek, handle: KeyHandle) => T) => Promise<T>;
}

/** A version that is to be made. */
export interface KekDraft {
  readonly version: number;
  readonly state: 'active' | 'pre-active';
  /** The key itself, which stays the caller's; undefined draws one. */
  readonly key?: KeyHandle;
}

/**
 * The versions of the KEKs: which one wraps new keys, and how a new one is made.
 *
 * Of each name, one version is active under each root. The one under the root that new records go to wraps; when there is
 * none there yet, because another root has become the default, the next version is made there. So agents that disagree for a
 * while about the default root do not take turns in rotating each other's KEKs.
 */
export class KekVersions {
  readonly #parts: KekVersionParts;
  readonly #making = new Flights<KeyRecord>();
  /** The KEK under which new data keys of a tree are made, and the generation it was looked up in. */
  readonly #sealing = new Map<string, { readonly kid: Uint8Array; readonly generation: number }>();

  constructor(parts: KekVersionParts) {
    this.#parts = parts;
  }

  /**
   * kid of the KEK under which new versions of data key `key` of `partition` are made. It is made when there is none.
   * @param root name of the root that was chosen; else routes and the default root say it
   */
  async sealingKid(partition: string, key: string, root?: string): Promise<Uint8Array> {
    const kek = { ...this.#keksAbove(partition).at(-1)!, root: root ?? this.#rootName(partition, key) };
    const generation = this.#parts.generation();
    const tree = JSON.stringify([kek.tenant, kek.root]);
    const known = this.#sealing.get(tree);
    if (known?.generation === generation) {
      return known.kid;
    }
    const { kid } = await this.sealing(kek);
    this.#sealing.set(tree, { kid, generation });
    return kid;
  }

  #keksAbove(partition: string) {
    const { placement, service } = this.#parts;
    return keksAbove(placement.levels, service, partition);
  }

  #rootName(partition: string, key: string): string {
    const { placement, custody } = this.#parts;
    const [{ level, tenant }] = this.#keksAbove(partition);
    return placement.rootOf({ level, tenant, key }) ?? custody.defaultRoot.name;
  }

  /** The row of the version of a KEK that wraps new keys; made when there is none at all, or none under the root. */
  sealing(kek: KekName): Promise<KeyRecord> {
    return this.#making.run(JSON.stringify([kek.name, kek.tenant, this.#rootAbove(kek).name]), async () => {
      for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
        // What is made meanwhile, under another root, need not be among the rows.
        const seen = this.#seen(kek);
        const rows = await this.#parts.custody.keystore.versions(kek.name, kek.tenant, WRAP_USE.purpose);
        const row = (await this.current(kek, rows, seen)) ?? (await this.#makeUnlessThere(kek, rows));
        if (row !== undefined) {
          return row;
        }
      }
      throw new DekdError('CONFLICT', `${kek.name} is being written by others`);
    });
  }

  /**
   * The newest of `rows`, the versions of a KEK, that is active under the root that new records go to; undefined when there is
   * no version under that root.
   * @param seen the highest version that had been seen before they were read
   * @throws KEY_DISABLED when those there are all stopped; RecordRefused when rows have gone.
   */
  async current(kek: KekName, rows: readonly KeyRecord[], seen = this.#seen(kek)): Promise<KeyRecord | undefined> {
    this.#checkNotGone(kek, rows, seen);
    const root = this.#rootAbove(kek).name;
    for (const row of rows.toReversed()) {
      if (canSeal(row.state) && (await this.rootNameOf(row)) === root) {
        return row;
      }
    }
    const here = await this.underRoot(rows, root);
    // A KEK that was stopped everywhere, or here of all places, is not made anew behind the operator's back.
    if (here.length > 0 || (rows.length > 0 && !rows.some(({ state }) => canSeal(state)))) {
      const { state } = here.at(-1) ?? rows.at(-1)!;
      throw new DekdError('KEY_DISABLED', `${kek.name} is ${state}: no new key can be made under it`);
    }
    return undefined;
  }

  /** Those of `rows` whose tree hangs under the root of this name. */
  async underRoot(rows: readonly KeyRecord[], root: string): Promise<KeyRecord[]> {
    const under: KeyRecord[] = [];
    for (const row of rows) {
      if ((await this.rootNameOf(row)) === root) {
        under.push(row);
      }
    }
    return under;
  }

  /** Name of the root above `record`; undefined when a key above it is not in the keystore. */
  async rootNameOf({ parent, level }: KeyRecord): Promise<string | undefined> {
    if (parent.kind === 'root') {
      return parent.reference.root;
    }
    const above = await this.#parts.custody.keystore.retrieve(parent.kid);
    // Rows are data: what claims to hang under itself must not be followed round and round.
    return above === undefined || above.level >= level ? undefined : this.rootNameOf(above);
  }

  /**
   * Makes and stores a version of a KEK below where new ones go; its key is wiped again and loaded from the row like any
   * other, which proves that the row opens before a data key hangs under it. @throws CONFLICT when the version exists.
   */
  async make(kek: KekName, draft: KekDraft): Promise<KeyRecord> {
    const { custody, highWater } = this.#parts;
    const record = await this.#wrapped(kek, draft);
    await custody.keystore.store(record, { absent: true });
    await highWater.raise([record]);
    return record;
  }

  /** Forgets which KEK seals: rows were changed, or another root is the default. */
  forget(): void {
    this.#sealing.clear();
  }

  /** Resolves when nothing is being made. */
  settle(): Promise<void> {
    return this.#making.settle();
  }

  async #makeUnlessThere(kek: KekName, rows: readonly KeyRecord[]): Promise<KeyRecord | undefined> {
    const { log } = this.#parts;
    const version = Math.max(rows.at(-1)?.version ?? 0, this.#seen(kek)) + 1;
    try {
      const record = await this.make(kek, { version, state: 'active' });
      log({
        event: 'key-created',
        level: 'info',
        key: kek.name,
        partition: kek.tenant,
        version,
        kid: hex(record.kid),
      });
      return record;
    } catch (error) {
      if (DekdError.is(error, 'CONFLICT')) {
        return undefined;
      }
      throw error;
    }
  }

  #seen({ name, tenant }: KekName): number {
    return this.#parts.highWater.version(name, tenant, WRAP_USE.purpose);
  }

  #checkNotGone(kek: KekName, rows: readonly KeyRecord[], seen: number): void {
    if (rows.length === 0 && seen > 0) {
      throw new RecordRefused(
        `${kek.name} was in this keystore and is gone: restore the keystore, or import an export of it`,
        true,
      );
    }
  }

  /** What a new version of a KEK hangs under: a root, or the KEK above it that wraps now. */
  async #parentOf(kek: KekName): Promise<Root | KeyRecord> {
    const { level, tenant } = kek;
    const root = this.#rootAbove(kek);
    return level === 3 && tenant !== ''
      ? this.sealing({ name: tenantKekName(tenant), level: 2, tenant, root: root.name })
      : root;
  }

  /** The root above new versions of data key `key` of a partition. @throws INVALID_ARGUMENT when it is not configured. */
  rootOf(partition: string, key: string): Root {
    return this.#configured(this.#rootName(partition, key));
  }

  #rootAbove({ tenant, root }: KekName): Root {
    return root === undefined ? this.rootOf(tenant, '') : this.#configured(root);
  }

  #configured(name: string): Root {
    const found = this.#parts.custody.roots.get(name);
    if (found === undefined) {
      throw notConfigured(name);
    }
    return found;
  }

  async #wrapped(kek: KekName, draft: KekDraft): Promise<KeyRecord> {
    const { engine, withKek, turns } = this.#parts;
    const parent = await this.#parentOf(kek);
    return 'kid' in parent
      ? withKek(parent.kid, ({ record }, secret) =>
          this.#withKey(draft, (key) =>
            wrapRecord(engine, secret, key, this.#record(kek, draft, key, { kind: 'key', kid: record.kid })),
          ),
        )
      : turns.run(() => this.#wrappedUnderRoot(parent, kek, draft));
  }

  async #wrappedUnderRoot(root: Root, kek: KekName, draft: KekDraft): Promise<KeyRecord> {
    const { engine, cache } = this.#parts;
    const secret = cache.room(() => engine.generateKey(WRAP_USE));
    try {
      const { wrapped, reference } = await root.wrap(secret, kekContext(kek));
      return this.#withKey(draft, (key) =>
        wrapRecord(
          engine,
          secret,
          key,
          this.#record(kek, draft, key, { kind: 'root', reference, wrappedSecret: wrapped }),
        ),
      );
    } finally {
      engine.destroyKey(secret);
    }
  }

  #withKey<T>({ key }: KekDraft, work: (key: KeyHandle) => T): T {
    const { engine, cache } = this.#parts;
    if (key !== undefined) {
      return work(key);
    }
    const drawn = cache.room(() => engine.generateKey(WRAP_USE));
    try {
      return work(drawn);
    } finally {
      engine.destroyKey(drawn);
    }
  }

  #record(kek: KekName, { version, state }: KekDraft, key: KeyHandle, parent: KeyParent): KeyRecord {
    const now = this.#parts.clock.now();
    const { engine, node } = this.#parts;
    const { name, level, tenant } = kek;
    return {
      kid: engine.kid(key),
      name,
      partition: tenant,
      level,
      version,
      revision: 1,
      algorithm: WRAP_USE.algorithm,
      purpose: WRAP_USE.purpose,
      size: KEY_SIZE,
      state,
      owner: { tenant, service: serviceOf(kek), node },
      dates: { created: now, activated: state === 'active' ? now : 0, deactivated: 0, destroyed: 0 },
      parent,
      wrapped: new Uint8Array(0),
      keyContext: kekContext(kek),
      seq: 1n,
      mac: new Uint8Array(0),
    };
  }
}

export function notConfigured(root: string): DekdError {
  return new DekdError('INVALID_ARGUMENT', `root ${root} is not configured`);
}

/** The key context of a KEK: what a KMS sees and audits when it wraps W. */
function kekContext(kek: KekName): Readonly<Record<string, string>> {
  const context = Object.create(null) as Record<string, string>;
  if (kek.tenant !== '') {
    context.tenant = kek.tenant;
  }
  if (serviceOf(kek) !== '') {
    context.service = serviceOf(kek);
  }
  return Object.freeze(context);
}

function serviceOf({ name, level }: KekName): string {
  return level === 3 ? name.slice(serviceKekName('').length) : '';
}
