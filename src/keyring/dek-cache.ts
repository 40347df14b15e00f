import type { Engine, KeyHandle } from '../crypto/engine.ts';
import type { Root } from '../custody/custody.ts';
import { DekdError } from '../errors.ts';
import { Kek, keyDisabled, type LoadedKey, NO_SLOT } from './loaded-key.ts';
import { WRAP_LABEL, wrapAad } from './record-binding.ts';
import { type Sized, SizeOrder } from './size-order.ts';

/**
 * Which keys are in the engine's table, and which gives up its slot when the table is full.
 *
 * Data keys leave in this order: of the share (caller) that holds most slots, the partition that holds most, and of that
 * the key least recently used. So a flood of keys by one caller, or in one partition, only ever displaces its own. What
 * leaves keeps its wrapped row, and comes back by one unwrap under its KEK, without the keystore. The rows kept are
 * bounded too: the key evicted longest ago is forgotten.
 *
 * KEKs with live children are never displaced; idle ones are, after the data keys or when they hold a quarter of the
 * table. Those under a root go last, since it takes a provider to bring them back.
 *
 * Everything on the path of a hit is constant time and allocates nothing.
 */
export class DekCache {
  readonly #engine: Engine;
  readonly #maxKnown: number;
  readonly #forget: (key: LoadedKey) => void;
  readonly #shares = new Map<string, ShareSlots>();
  readonly #shareOrder = new SizeOrder<ShareSlots>();
  /** Known, wrapped, without a slot; the first is the one evicted longest ago. */
  readonly #dormant = new Set<LoadedKey>();
  /** KEKs without live children, least recently used first. */
  readonly #idleDerived = new Set<Kek>();
  readonly #idleRooted = new Set<Kek>();
  loaded = 0;
  evictions = 0;
  /** Data keys that took a slot. */
  admissions = 0;
  reloads = 0;

  /** @param forget told of each key whose row is dropped to stay within `maxKnown`. */
  constructor(engine: Engine, maxKnown: number, forget: (key: LoadedKey) => void) {
    this.#engine = engine;
    this.#maxKnown = maxKnown;
    this.#forget = forget;
  }

  /** Runs `make`, which takes slots, and evicts for as long as the table is full. @throws RESOURCE_EXHAUSTED. */
  room<T>(make: () => T): T {
    this.#makeRoom();
    for (;;) {
      try {
        return make();
      } catch (error) {
        if (!DekdError.is(error, 'RESOURCE_EXHAUSTED') || !this.#evictOne()) {
          throw error;
        }
      }
    }
  }

  /** `room` for what takes its slots later. */
  async roomAsync<T>(make: () => Promise<T>): Promise<T> {
    this.#makeRoom();
    for (;;) {
      try {
        return await make();
      } catch (error) {
        if (!DekdError.is(error, 'RESOURCE_EXHAUSTED') || !this.#evictOne()) {
          throw error;
        }
      }
    }
  }

  /** Takes over `handle` as the slot of `key`, whose parent is loaded. */
  admit(key: LoadedKey, handle: KeyHandle): void {
    if (key.slot !== NO_SLOT) {
      this.#engine.destroyKey(handle);
      return;
    }
    this.#dormant.delete(key);
    key.slot = handle;
    const share = this.#shareOf(key.share);
    const slots = share.slotsOf(key.partition);
    key.slots = slots;
    slots.push(key);
    share.order.grow(slots);
    this.#shareOrder.grow(share);
    this.loaded++;
    this.admissions++;
    if (key.parent !== undefined) {
      this.retain(key.parent);
    }
  }

  /** Marks a loaded key as the most recently used. */
  touch(key: LoadedKey): void {
    const slots = key.slots!;
    if (slots.newest !== key) {
      slots.remove(key);
      slots.push(key);
    }
    slots.share.order.touch(slots);
    this.#shareOrder.touch(slots.share);
  }

  /** Unwraps the cached row again. @throws KEY_DISABLED, RESOURCE_EXHAUSTED, DECRYPTION_FAILED. */
  reload(key: LoadedKey): KeyHandle {
    if (!key.usable) {
      throw keyDisabled(key);
    }
    const parent = key.parent!;
    if (parent.slot === NO_SLOT) {
      throw new DekdError('RESOURCE_EXHAUSTED', 'key table is full: the parent of the key has lost its slot');
    }
    this.retain(parent);
    try {
      const { record } = key;
      const aad = wrapAad(record);
      const use = { algorithm: record.algorithm, purpose: record.purpose };
      const handle = this.room(() =>
        this.#engine.unwrapKey(parent.slot as KeyHandle, WRAP_LABEL, record.wrapped, aad, use),
      );
      this.admit(key, handle);
      this.reloads++;
      return handle;
    } finally {
      this.release(parent);
    }
  }

  /** Wipes the key's slot, if it has one, and keeps its row as of a key that was evicted. */
  drop(key: LoadedKey): void {
    if (key.slot !== NO_SLOT) {
      this.#free(key);
    }
    this.#sleep(key);
  }

  /** Wipes the key's slot and forgets the key. */
  discard(key: LoadedKey): void {
    if (key.slot !== NO_SLOT) {
      this.#free(key);
    }
    this.#dormant.delete(key);
  }

  /** Takes over `handle` as the slot of `kek`, idle until somebody retains it. */
  admitKek(kek: Kek, handle: KeyHandle): void {
    if (kek.slot !== NO_SLOT) {
      this.#engine.destroyKey(handle);
      return;
    }
    kek.slot = handle;
    if (kek.parent instanceof Kek) {
      this.retain(kek.parent);
    }
    if (kek.live === 0) {
      this.#idleOf(kek).add(kek);
    }
  }

  /** Wipes the slot of a KEK, whatever hangs below it. */
  dropKek(kek: Kek): void {
    if (kek.slot === NO_SLOT) {
      return;
    }
    this.#engine.destroyKey(kek.slot);
    kek.slot = NO_SLOT;
    this.#idleOf(kek).delete(kek);
    if (kek.parent instanceof Kek) {
      this.release(kek.parent);
    }
  }

  /** `key` hangs under another KEK from now on. What it is, and its slot, stay. */
  moveKey(key: LoadedKey, parent: Kek): void {
    const before = key.parent;
    key.parent = parent;
    if (key.slot !== NO_SLOT) {
      this.retain(parent);
      if (before !== undefined) {
        this.release(before);
      }
    }
  }

  /** `kek` hangs under another root or KEK from now on. What it is, and its slot, stay. */
  moveKek(kek: Kek, parent: Root | Kek): void {
    const before = kek.parent;
    this.#idleOf(kek).delete(kek);
    kek.parent = parent;
    if (kek.slot === NO_SLOT) {
      return;
    }
    if (kek.live === 0) {
      this.#idleOf(kek).add(kek);
    }
    if (parent instanceof Kek) {
      this.retain(parent);
    }
    if (before instanceof Kek) {
      this.release(before);
    }
  }

  retain(kek: Kek): void {
    if (kek.live++ === 0) {
      this.#idleOf(kek).delete(kek);
    }
  }

  release(kek: Kek): void {
    if (--kek.live === 0 && kek.slot !== NO_SLOT) {
      this.#idleOf(kek).add(kek);
    }
  }

  #makeRoom(): void {
    const { used, capacity } = this.#engine.stats();
    if (used >= capacity) {
      this.#evictOne();
    }
  }

  #evictOne(): boolean {
    const quarter = this.#engine.stats().capacity / 4;
    if (this.#idleDerived.size > quarter && this.#evictKek(this.#idleDerived)) {
      return true;
    }
    if (this.#idleRooted.size > quarter && this.#evictKek(this.#idleRooted)) {
      return true;
    }
    const victim = this.#shareOrder.largest?.order.largest?.oldest;
    if (victim !== undefined) {
      this.#free(victim);
      this.evictions++;
      this.#sleep(victim);
      return true;
    }
    return this.#evictKek(this.#idleDerived) || this.#evictKek(this.#idleRooted);
  }

  #evictKek(idle: Set<Kek>): boolean {
    for (const kek of idle) {
      this.dropKek(kek);
      this.evictions++;
      return true;
    }
    return false;
  }

  #free(key: LoadedKey): void {
    this.#engine.destroyKey(key.slot as KeyHandle);
    key.slot = NO_SLOT;
    const slots = key.slots!;
    const { share } = slots;
    slots.remove(key);
    key.slots = undefined;
    share.order.shrink(slots);
    if (slots.size === 0) {
      share.partitions.delete(slots.partition);
    }
    this.#shareOrder.shrink(share);
    if (share.size === 0) {
      this.#shares.delete(share.name);
    }
    this.loaded--;
    if (key.parent !== undefined) {
      this.release(key.parent);
    }
  }

  #sleep(key: LoadedKey): void {
    this.#dormant.add(key);
    while (this.#dormant.size > 0 && this.#dormant.size + this.loaded > this.#maxKnown) {
      const [oldest] = this.#dormant;
      this.#dormant.delete(oldest!);
      this.#forget(oldest!);
    }
  }

  #idleOf(kek: Kek): Set<Kek> {
    return kek.isUnderRoot ? this.#idleRooted : this.#idleDerived;
  }

  #shareOf(name: string): ShareSlots {
    let share = this.#shares.get(name);
    if (share === undefined) {
      share = new ShareSlots(name);
      this.#shares.set(name, share);
    }
    return share;
  }
}

/** The slots of one share, by partition. */
class ShareSlots implements Sized<ShareSlots> {
  readonly name: string;
  readonly partitions = new Map<string, PartitionSlots>();
  readonly order = new SizeOrder<PartitionSlots>();
  size = 0;
  newer: ShareSlots | undefined = undefined;
  older: ShareSlots | undefined = undefined;

  constructor(name: string) {
    this.name = name;
  }

  slotsOf(partition: string): PartitionSlots {
    let slots = this.partitions.get(partition);
    if (slots === undefined) {
      slots = new PartitionSlots(this, partition);
      this.partitions.set(partition, slots);
    }
    return slots;
  }
}

/** The loaded keys of one partition in one share, most recently used first. `size` is kept by the order it is in. */
export class PartitionSlots implements Sized<PartitionSlots> {
  readonly share: ShareSlots;
  readonly partition: string;
  size = 0;
  newer: PartitionSlots | undefined = undefined;
  older: PartitionSlots | undefined = undefined;
  newest: LoadedKey | undefined = undefined;
  oldest: LoadedKey | undefined = undefined;

  constructor(share: ShareSlots, partition: string) {
    this.share = share;
    this.partition = partition;
  }

  push(key: LoadedKey): void {
    key.newer = undefined;
    key.older = this.newest;
    if (this.newest === undefined) {
      this.oldest = key;
    } else {
      this.newest.newer = key;
    }
    this.newest = key;
  }

  remove(key: LoadedKey): void {
    if (key.newer === undefined) {
      this.newest = key.older;
    } else {
      key.newer.older = key.older;
    }
    if (key.older === undefined) {
      this.oldest = key.newer;
    } else {
      key.older.newer = key.newer;
    }
    key.newer = undefined;
    key.older = undefined;
  }
}
