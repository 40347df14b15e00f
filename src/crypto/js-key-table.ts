import { DekdError } from '../errors.ts';
import type { KeyHandle, KeyTableStats, KeyUse } from './engine.ts';
import type { MessageState } from './message-frames.ts';
import { SharedKeyWriter, slotBits } from './shared-keys.ts';

/** As many keys as the native table holds in the 64 KiB a container may lock. */
export const DEFAULT_KEY_CAPACITY = 1024;
const MAX_KEY_CAPACITY = 65_536;

/** One key of a JavaScript engine. `key` is what the engine's library takes: a KeyObject or bytes. */
export interface KeyEntry<K> {
  readonly key: K;
  readonly use: KeyUse;
  readonly kid: Uint8Array;
  /** XAES-256-GCM's CMAC subkey K1, only for keys that seal; wiped with the key. */
  readonly mask: Uint8Array | undefined;
  /** Where the work on a message stands, only for keys of messages. */
  readonly message?: MessageState;
}

/**
 * Handle → key for the JavaScript engines. A handle is generation and slot in one 32-bit word (batch tables carry it in
 * a Uint32Array); the generation of a slot moves on when its key is destroyed, which makes old handles stale.
 */
export class JsKeyTable<K> {
  readonly #entries: (KeyEntry<K> | undefined)[];
  readonly #generations: Uint32Array;
  /** Free slots as a ring: the slot freed longest ago is used next, so handles repeat as late as possible. */
  readonly #free: Uint32Array;
  readonly #slotMask: number;
  readonly #slotBits: number;
  readonly #wipe: (key: K) => void;
  readonly #shared: SharedKeyWriter | undefined;
  #freeHead = 0;
  #freeCount: number;
  #created = 0;
  #destroyed = 0;

  /**
   * @param wipe called once with each key that leaves the table
   * @param isShared keeps a copy of every key where other threads read it
   * @throws INVALID_ARGUMENT on a capacity outside 1 to 65,536.
   */
  constructor(capacity: number, wipe: (key: K) => void, isShared = false) {
    if (!Number.isInteger(capacity) || capacity < 1 || capacity > MAX_KEY_CAPACITY) {
      throw new DekdError('INVALID_ARGUMENT', `key capacity ${capacity} is outside 1 to ${MAX_KEY_CAPACITY}`);
    }
    this.#entries = new Array<KeyEntry<K> | undefined>(capacity).fill(undefined);
    this.#generations = new Uint32Array(capacity).fill(1);
    this.#free = Uint32Array.from({ length: capacity }, (_, slot) => slot);
    this.#freeCount = capacity;
    this.#slotBits = slotBits(capacity);
    this.#slotMask = 2 ** this.#slotBits - 1;
    this.#wipe = wipe;
    this.#shared = isShared ? new SharedKeyWriter(capacity) : undefined;
  }

  /** What `SharedKeyReader` reads; undefined unless the table is shared. */
  get memory(): SharedArrayBuffer | undefined {
    return this.#shared?.memory;
  }

  stats(): KeyTableStats {
    const capacity = this.#entries.length;
    return { capacity, used: capacity - this.#freeCount, created: this.#created, destroyed: this.#destroyed };
  }

  /** @throws RESOURCE_EXHAUSTED when every slot is used; asked before a key is made, so that none is lost. */
  checkRoom(): void {
    if (this.#freeCount === 0) {
      throw new DekdError('RESOURCE_EXHAUSTED', `key table is full: all ${this.#entries.length} slots are used`);
    }
  }

  /** Takes over `entry`; `bytes` are those of its key, for the other threads. @throws RESOURCE_EXHAUSTED. */
  add(entry: KeyEntry<K>, bytes: Uint8Array): KeyHandle {
    this.checkRoom();
    const slot = this.#free[this.#freeHead]!;
    this.#freeHead = (this.#freeHead + 1) % this.#free.length;
    this.#freeCount--;
    this.#created++;
    const handle = (((this.#generations[slot]! << this.#slotBits) | slot) >>> 0) as KeyHandle;
    const message = this.#shared?.put(slot, handle, bytes, entry);
    this.#entries[slot] = message === undefined ? entry : { ...entry, message };
    return handle;
  }

  /** The key of a live handle, else undefined. */
  find(handle: number): KeyEntry<K> | undefined {
    const slot = handle & this.#slotMask;
    // The range check comes first: shifting would fold a number that is no 32-bit word onto somebody's handle.
    if (handle >>> 0 !== handle || slot >= this.#entries.length) {
      return undefined;
    }
    return handle >>> this.#slotBits === this.#generations[slot] ? this.#entries[slot] : undefined;
  }

  /** @throws INTERNAL when the handle is stale: the holder kept it longer than it may. */
  get(handle: number): KeyEntry<K> {
    const entry = this.find(handle);
    if (entry === undefined) {
      throw new DekdError('INTERNAL', 'stale key handle');
    }
    return entry;
  }

  /** Wipes the key; nothing happens for a stale handle. */
  remove(handle: number): void {
    const entry = this.find(handle);
    if (entry !== undefined) {
      this.#drop(handle & this.#slotMask, entry);
    }
  }

  removeAll(): void {
    for (let slot = 0; slot < this.#entries.length; slot++) {
      const entry = this.#entries[slot];
      if (entry !== undefined) {
        this.#drop(slot, entry);
      }
    }
  }

  #drop(slot: number, entry: KeyEntry<K>): void {
    this.#shared?.drop(slot);
    this.#wipe(entry.key);
    entry.mask?.fill(0);
    this.#entries[slot] = undefined;
    const last = 2 ** (32 - this.#slotBits) - 1;
    const generation = this.#generations[slot]!;
    this.#generations[slot] = generation === last ? 1 : generation + 1;
    this.#free[(this.#freeHead + this.#freeCount) % this.#free.length] = slot;
    this.#freeCount++;
    this.#destroyed++;
  }
}
