import { hex } from '../bytes.ts';
import { DekdError } from '../errors.ts';
import type { KeyLevel, KeyRecord, UsageLease } from '../keyring/record.ts';
import type { Expectation, Keystore, KeystoreCapabilities, KeystoreHealth, ListFilter, ListPage } from './keystore.ts';
import { checkLimit, matches } from './list-filter.ts';
import { type Copy, MergedListing } from './merged-listing.ts';
import { isSameFamily, larger } from './records.ts';

/** What says where a record belongs. Known before there is one, so that a key that is not made yet has a place too. */
export interface RouteKey {
  readonly name: string;
  readonly partition: string;
  readonly purpose: string;
  readonly level: KeyLevel;
}

/** Where records of one kind lie, by names of keystores. */
export interface Placement {
  /** Where they are written. */
  readonly keystore: string;
  /** Where they may still lie from before: read as well, and moved when they are written. */
  readonly former: readonly string[];
}

export interface RoutedKeystoreOptions {
  /** At least one, by name; closed with this. */
  readonly keystores: ReadonlyMap<string, Keystore>;
  /** Undefined when nothing is said about such records: they can be neither made nor looked for. */
  readonly route: (key: RouteKey) => Placement | undefined;
}

/** Kids whose keystore is remembered; forgetting one costs a look into every keystore. */
const REMEMBERED = 10_000;

/**
 * Several keystores as one. Each record has one home, which its name, partition, purpose and level decide; every
 * compare-and-set is decided there and nowhere else, so a write never spans two keystores.
 *
 * While records move to another keystore, the route names the former ones: they are read as well, and the copy with the
 * highest seq counts, so that a denial written by an agent that still has the older configuration is seen by those that
 * have the newer one. A write first brings the newest copy home and is then decided there; the copy left behind has a
 * lower seq from then on.
 */
export class RoutedKeystore implements Keystore {
  readonly kind: string;
  readonly #parts: ReadonlyMap<string, Keystore>;
  readonly #route: RoutedKeystoreOptions['route'];
  /** Where a kid was found last. A hint: it only saves questions. */
  readonly #found = new Map<string, string>();

  constructor(options: RoutedKeystoreOptions) {
    this.#parts = options.keystores;
    this.#route = options.route;
    this.kind = `routed (${[...this.#parts].map(([name, { kind }]) => `${name}: ${kind}`).join(', ')})`;
  }

  async store(record: KeyRecord, expect: Expectation): Promise<void> {
    const placement = this.#placementOf(record);
    if ('absent' in expect) {
      await this.#checkAbsent(record, placement);
    } else {
      await this.#bringHome(record.kid, placement);
    }
    await this.#part(placement.keystore).store(record, expect);
    this.#remember(record.kid, placement.keystore);
  }

  async retrieve(kid: Uint8Array): Promise<KeyRecord | undefined> {
    const hint = this.#found.get(hex(kid));
    if (hint !== undefined) {
      const record = await this.#part(hint)
        .retrieve(kid)
        .catch(() => undefined);
      if (record !== undefined && this.#isSettled({ record, part: hint })) {
        return record;
      }
    }
    const copies = await this.#find(kid);
    if (copies.length === 0) {
      this.#found.delete(hex(kid));
      return undefined;
    }
    return this.#newest(copies).record;
  }

  async versions(name: string, partition: string, purpose: string): Promise<readonly KeyRecord[]> {
    const placement = this.#placementOf({ name, partition, purpose, level: levelOf(name) });
    const places = [placement.keystore, ...placement.former];
    // A keystore that does not answer may hold the newest version, so nothing is left out.
    const found = await Promise.all(
      places.map(async (part) =>
        (await this.#part(part).versions(name, partition, purpose)).map((record) => ({ record, part })),
      ),
    );
    if (placement.former.length === 0) {
      return found[0]!.map(({ record }) => record);
    }
    const byKid = Map.groupBy(found.flat(), ({ record }) => hex(record.kid));
    const byVersion = new Map<number, KeyRecord>();
    for (const copies of byKid.values()) {
      const { record } = this.#newest(copies);
      // Two kids of one version: agents with different configurations made it at once. What lies at home stays.
      if (!byVersion.has(record.version)) {
        byVersion.set(record.version, record);
      }
    }
    return [...byVersion.values()].sort((a, b) => a.version - b.version);
  }

  async updateMetadata(
    changes: readonly { readonly record: KeyRecord; readonly expect: Expectation }[],
  ): Promise<void> {
    const placements = changes.map(({ record }) => this.#placementOf(record));
    const home = placements[0]?.keystore;
    if (home === undefined) {
      return;
    }
    const other = placements.find(({ keystore }) => keystore !== home);
    if (other !== undefined) {
      throw new DekdError(
        'UNSUPPORTED',
        `records of keystores ${home} and ${other.keystore} cannot change together: change one after the other`,
      );
    }
    for (const [index, { record }] of changes.entries()) {
      await this.#bringHome(record.kid, placements[index]!);
    }
    await this.#part(home).updateMetadata(changes);
  }

  /**
   * Decided at home, then every other keystore shreds what it holds. A second one ends with CONFLICT, and first shreds the
   * copies that the one before did not get to.
   */
  async delete(tombstone: KeyRecord, expect: Expectation): Promise<void> {
    const placement = this.#placementOf(tombstone);
    const home = this.#part(placement.keystore);
    await this.#bringHome(tombstone.kid, placement);
    let lost: unknown;
    try {
      await home.delete(tombstone, expect);
    } catch (error) {
      const stored = DekdError.is(error, 'CONFLICT') ? await home.retrieve(tombstone.kid) : undefined;
      if (stored?.state !== 'destroyed' || stored.seq !== tombstone.seq) {
        throw error;
      }
      lost = error;
    }
    this.#remember(tombstone.kid, placement.keystore);
    const others = [...this.#parts].filter(([name]) => name !== placement.keystore);
    const outcomes = await Promise.allSettled(others.map(([, part]) => shredCopy(part, tombstone)));
    const failed = outcomes.findIndex(({ status }) => status === 'rejected');
    if (failed >= 0) {
      const [name] = others[failed]!;
      const error = DekdError.from((outcomes[failed] as PromiseRejectedResult).reason);
      throw new DekdError(
        error.code,
        `the key is destroyed in keystore ${placement.keystore}, but ${name} may still hold a wrapped copy: ${error.message}`,
        { cause: error },
      );
    }
    if (lost !== undefined) {
      throw lost;
    }
  }

  /**
   * Copies the newest copy of a record home, when it lies in a former keystore. A write does so too: this is for the
   * records that nobody writes, so that a former keystore can be taken out of the configuration.
   * @returns whether it was moved
   */
  bringHome(record: KeyRecord): Promise<boolean> {
    return this.#bringHome(record.kid, this.#placementOf(record));
  }

  async list(filter: ListFilter, cursor: string | undefined, limit: number): Promise<ListPage> {
    checkLimit(limit);
    // Copies of one record may differ in their state, so that is looked at only once the newest is known.
    const { state: _, ...fixed } = filter;
    const listing = MergedListing.resume(this.#parts, fixed, cursor, limit);
    const records: KeyRecord[] = [];
    for (;;) {
      const copies = await listing.next();
      if (copies === undefined) {
        return { records, cursor: undefined };
      }
      const { record } = this.#newest(copies);
      if (!matches(record, filter)) {
        continue;
      }
      if (records.length === limit) {
        return { records, cursor: listing.cursorAfter(records.at(-1)!.kid) };
      }
      records.push(record);
    }
  }

  async leases(): Promise<readonly UsageLease[]> {
    const all = (await Promise.all([...this.#parts.values()].map((part) => part.leases()))).flat();
    const merged = new Map<string, UsageLease>();
    for (const lease of all) {
      const id = `${hex(lease.kid)} ${lease.holder}`;
      const seen = merged.get(id);
      merged.set(id, {
        ...lease,
        messages: larger(lease.messages, seen?.messages),
        bytes: larger(lease.bytes, seen?.bytes),
      });
    }
    return [...merged.values()];
  }

  async storeLease(lease: UsageLease): Promise<void> {
    const record = await this.retrieve(lease.kid);
    const home = record === undefined ? undefined : this.#placementOf(record).keystore;
    // Of a record that nobody knows: any place does, since leases are read from all.
    await this.#part(home ?? [...this.#parts.keys()][0]!).storeLease(lease);
  }

  async health(): Promise<KeystoreHealth> {
    const healths = await Promise.all(
      [...this.#parts].map(async ([name, part]) => {
        const { ok, detail } = await part.health();
        return { ok, detail: `${name}: ${detail}` };
      }),
    );
    return { ok: healths.every(({ ok }) => ok), detail: healths.map(({ detail }) => detail).join('; ') };
  }

  /** Writable when a part is: one that only serves, such as a bundle, refuses its own writes. */
  capabilities(): KeystoreCapabilities {
    const parts = [...this.#parts.values()].map((part) => part.capabilities());
    return {
      durable: parts.every(({ durable }) => durable),
      writable: parts.some(({ writable }) => writable),
      watch: false,
    };
  }

  async close(): Promise<void> {
    const outcomes = await Promise.allSettled([...this.#parts.values()].map((part) => part.close()));
    const failed = outcomes.find(({ status }) => status === 'rejected');
    if (failed !== undefined) {
      throw (failed as PromiseRejectedResult).reason;
    }
  }

  #part(name: string): Keystore {
    const part = this.#parts.get(name);
    if (part === undefined) {
      const known = [...this.#parts.keys()].join(', ');
      throw new DekdError('INVALID_ARGUMENT', `a route names keystore ${name}; there are ${known}`);
    }
    return part;
  }

  #placementOf({ name, partition, purpose, level }: RouteKey): Placement {
    const placement = this.#route({ name, partition, purpose, level });
    if (placement === undefined) {
      const where = partition === '' ? '' : ` of partition ${JSON.stringify(partition)}`;
      throw new DekdError(
        'INVALID_ARGUMENT',
        `no route matches key ${name}${where} (level ${level}): add one to routes that does`,
      );
    }
    return placement;
  }

  /** Whether no other keystore may hold a newer copy. */
  #isSettled({ record, part }: Copy): boolean {
    const placement = this.#route(record);
    return placement?.keystore === part && placement.former.length === 0;
  }

  /**
   * Copies of a record, asked for everywhere at once. It is over as soon as one is found that no other can override and
   * every keystore before it in the configuration has answered: a kid says nothing about its keystore, and one that claims
   * the kid of another's key must not win by answering first.
   * @throws KEYSTORE_UNAVAILABLE when nobody has it and somebody who may does not answer
   */
  async #find(kid: Uint8Array): Promise<Copy[]> {
    const copies: (Copy | undefined)[] = [];
    let failure: unknown;
    const questions = [...this.#parts].map(([part, keystore]) =>
      keystore.retrieve(kid).then(
        (record) => (record === undefined ? undefined : { record, part }),
        (error: unknown) => {
          failure ??= error;
          return undefined;
        },
      ),
    );
    for (const question of questions) {
      const copy = await question;
      copies.push(copy);
      if (copy !== undefined && this.#isSettled(copy)) {
        break;
      }
    }
    const found = copies.filter((copy) => copy !== undefined);
    if (found.length === 0 && failure !== undefined) {
      throw failure;
    }
    if (found.length > 0 && failure === undefined) {
      this.#remember(kid, this.#newest(found).part);
    }
    return found;
  }

  /**
   * The copy that counts: of those in a keystore of their route, as far as they are of one key, the one with the highest
   * seq, and of equal ones that at home.
   */
  #newest(copies: readonly Copy[]): Copy {
    const placed = copies.filter(({ record, part }) => {
      const placement = this.#route(record);
      return placement?.keystore === part || placement?.former.includes(part);
    });
    const candidates = placed.length > 0 ? placed : copies;
    const [first] = candidates;
    return candidates.reduce((best, copy) => {
      if (!isSameFamily(copy.record, first!.record) || copy.record.seq < best.record.seq) {
        return best;
      }
      const isHome = this.#route(copy.record)?.keystore === copy.part;
      return copy.record.seq > best.record.seq || isHome ? copy : best;
    });
  }

  /** @throws CONFLICT when a former keystore holds the kid or the version. */
  async #checkAbsent(record: KeyRecord, { former }: Placement): Promise<void> {
    const { kid, name, partition, purpose, version } = record;
    await Promise.all(
      former.map(async (each) => {
        const part = this.#part(each);
        const [stored, versions] = await Promise.all([part.retrieve(kid), part.versions(name, partition, purpose)]);
        if (stored !== undefined || versions.some((row) => row.version === version)) {
          throw new DekdError('CONFLICT', `${name} version ${version} exists already, in keystore ${each}`);
        }
      }),
    );
  }

  async #bringHome(kid: Uint8Array, { keystore, former }: Placement): Promise<boolean> {
    if (former.length === 0) {
      return false;
    }
    const home = this.#part(keystore);
    const [atHome, ...elsewhere] = await Promise.all(
      [keystore, ...former].map(async (part) => ({ part, record: await this.#part(part).retrieve(kid) })),
    );
    const copies = elsewhere.flatMap(({ part, record }) => (record === undefined ? [] : [{ part, record }]));
    if (copies.length === 0) {
      return false;
    }
    const { record } = this.#newest(copies);
    const own = atHome?.record;
    if (own !== undefined && own.seq >= record.seq) {
      return false;
    }
    try {
      await home.store(record, own === undefined ? { absent: true } : { seq: own.seq });
    } catch (error) {
      // Somebody else moved it first: what is expected is compared with what lies there now.
      if (!DekdError.is(error, 'CONFLICT') || (await home.retrieve(kid)) === undefined) {
        throw error;
      }
      return false;
    }
    return true;
  }

  #remember(kid: Uint8Array, part: string): void {
    const id = hex(kid);
    this.#found.delete(id);
    this.#found.set(id, part);
    if (this.#found.size > REMEMBERED) {
      this.#found.delete(this.#found.keys().next().value!);
    }
  }
}

/** Puts `tombstone` over the copy in `part`, if there is one. */
async function shredCopy(part: Keystore, tombstone: KeyRecord): Promise<void> {
  const copy = await part.retrieve(tombstone.kid);
  if (copy !== undefined && copy.wrapped.length > 0) {
    await part.delete(tombstone, { seq: copy.seq });
  }
}

/** The level that a name stands for: those of KEKs are reserved. */
function levelOf(name: string): KeyLevel {
  return name.startsWith('.l2/') ? 2 : name.startsWith('.l3/') ? 3 : 4;
}
