/**
 * The key table of a JavaScript engine in memory that threads share, so that a handle means the same key in each of them.
 *
 * One thread, the agent's, makes and destroys keys; the others read. A reader copies a key between two looks at the
 * generation of its slot, and the writer moves the generation on before it wipes: so a reader gets the whole key or
 * learns that the handle is stale, and never seals under half a key. All of it goes by `Atomics`, word by word: ordinary
 * reads may be done out of order.
 *
 * Where the work on a message stands is written by whoever works on it. So a message is destroyed only when no call on it
 * is under way: its slot is another key's afterwards. (The native table lends a key to each call, and waits by itself.)
 */
import type { Algorithm, KeyHandle, KeyUse, Purpose } from './engine.ts';
import type { KeyEntry } from './js-key-table.ts';
import type { MessageState } from './message-frames.ts';

const ALGORITHMS: readonly Algorithm[] = ['xaes-256-gcm', 'esdk-0478', 'hkdf-sha-256', 'hmac-sha-256', 'aes-256-gcm'];
const PURPOSES: readonly Purpose[] = ['seal', 'wrap', 'message', 'mac', 'index'];
const PHASES = ['none', 'sealHeader', 'sealFrames', 'openHeader', 'openFrames', 'ended'] as const;

/** Words of one slot. `handle` is 0 while there is no key. */
const AT = { handle: 0, use: 1, frameLength: 2, nextSequence: 3, phase: 4, key: 8, kid: 16, mask: 20, id: 24 } as const;
const SLOT_WORDS = 32;
const KEY_WORDS = 8;
const KID_WORDS = 4;
const MASK_WORDS = 4;
const ID_WORDS = 8;

/** Bits of a handle that say which slot it is. */
export function slotBits(capacity: number): number {
  return Math.max(1, Math.ceil(Math.log2(capacity)));
}

/** Memory for a table of `capacity` keys, all zero. */
export function sharedKeyMemory(capacity: number): SharedArrayBuffer {
  return new SharedArrayBuffer(capacity * SLOT_WORDS * 4);
}

/** Where the work on a message stands, read and written in place by whichever thread works on it. */
class SharedMessageState implements MessageState {
  readonly id: Uint8Array;
  readonly frameLength: number;
  readonly #words: Int32Array;
  readonly #at: number;

  constructor(words: Int32Array, at: number) {
    this.#words = words;
    this.#at = at;
    this.id = bytesOf(words, at + AT.id, ID_WORDS);
    this.frameLength = Atomics.load(words, at + AT.frameLength) >>> 0;
  }

  get nextSequence(): number {
    return Atomics.load(this.#words, this.#at + AT.nextSequence) >>> 0;
  }

  set nextSequence(sequence: number) {
    Atomics.store(this.#words, this.#at + AT.nextSequence, sequence | 0);
  }

  get phase(): MessageState['phase'] {
    return PHASES[Atomics.load(this.#words, this.#at + AT.phase)] as MessageState['phase'];
  }

  set phase(phase: MessageState['phase']) {
    Atomics.store(this.#words, this.#at + AT.phase, PHASES.indexOf(phase));
  }
}

/** The writing side, in the thread that makes keys. */
export class SharedKeyWriter {
  readonly memory: SharedArrayBuffer;
  readonly #words: Int32Array;

  constructor(capacity: number) {
    this.memory = sharedKeyMemory(capacity);
    this.#words = new Int32Array(this.memory);
  }

  /** Shows a key to the readers. @returns where its message stands, when it has one, in place of `entry.message` */
  put(slot: number, handle: KeyHandle, bytes: Uint8Array, entry: KeyEntry<unknown>): MessageState | undefined {
    const words = this.#words;
    const at = slot * SLOT_WORDS;
    const { use, kid, mask, message } = entry;
    store(words, at + AT.key, bytes);
    store(words, at + AT.kid, kid);
    if (mask !== undefined) {
      store(words, at + AT.mask, mask);
    }
    if (message !== undefined) {
      store(words, at + AT.id, message.id);
      Atomics.store(words, at + AT.frameLength, message.frameLength | 0);
      Atomics.store(words, at + AT.nextSequence, message.nextSequence | 0);
      Atomics.store(words, at + AT.phase, PHASES.indexOf(message.phase));
    }
    Atomics.store(
      words,
      at + AT.use,
      ALGORITHMS.indexOf(use.algorithm) * PURPOSES.length + PURPOSES.indexOf(use.purpose),
    );
    Atomics.store(words, at + AT.handle, handle | 0);
    return message === undefined ? undefined : new SharedMessageState(words, at);
  }

  /** Makes the handle stale, then wipes the key. */
  drop(slot: number): void {
    const at = slot * SLOT_WORDS;
    Atomics.store(this.#words, at + AT.handle, 0);
    for (let word = at + 1; word < at + SLOT_WORDS; word++) {
      Atomics.store(this.#words, word, 0);
    }
  }
}

/** The reading side, in a worker: keeps what it has read until `forget`. */
export class SharedKeyReader<K> {
  readonly #words: Int32Array;
  readonly #slotMask: number;
  readonly #capacity: number;
  readonly #importKey: (bytes: Uint8Array) => K;
  readonly #wipeKey: (key: K) => void;
  readonly #kept = new Map<number, KeyEntry<K>>();

  /** @param importKey takes a copy of 32 bytes */
  constructor(memory: SharedArrayBuffer, importKey: (bytes: Uint8Array) => K, wipeKey: (key: K) => void) {
    this.#words = new Int32Array(memory);
    this.#capacity = this.#words.length / SLOT_WORDS;
    this.#slotMask = 2 ** slotBits(this.#capacity) - 1;
    this.#importKey = importKey;
    this.#wipeKey = wipeKey;
  }

  /** The key of a live handle, else undefined. Its bytes live until `forget`. */
  find(handle: number): KeyEntry<K> | undefined {
    const slot = handle & this.#slotMask;
    if (handle >>> 0 !== handle || handle === 0 || slot >= this.#capacity) {
      return undefined;
    }
    const at = slot * SLOT_WORDS;
    if (!this.#isLive(at, handle)) {
      return undefined;
    }
    const kept = this.#kept.get(handle);
    if (kept !== undefined) {
      return kept;
    }
    const words = this.#words;
    const bytes = bytesOf(words, at + AT.key, KEY_WORDS);
    try {
      const use = useOf(Atomics.load(words, at + AT.use));
      const kid = bytesOf(words, at + AT.kid, KID_WORDS);
      const mask = use.algorithm === 'xaes-256-gcm' ? bytesOf(words, at + AT.mask, MASK_WORDS) : undefined;
      const message = Atomics.load(words, at + AT.phase) === 0 ? undefined : new SharedMessageState(words, at);
      if (!this.#isLive(at, handle)) {
        mask?.fill(0);
        return undefined;
      }
      const entry = {
        key: this.#importKey(bytes),
        use,
        kid,
        mask,
        ...(message === undefined ? {} : { message }),
      };
      this.#kept.set(handle, entry);
      return entry;
    } finally {
      bytes.fill(0);
    }
  }

  /** Wipes what was read: between two pieces of work a worker has no key. */
  forget(): void {
    for (const { key, mask } of this.#kept.values()) {
      this.#wipeKey(key);
      mask?.fill(0);
    }
    this.#kept.clear();
  }

  #isLive(at: number, handle: number): boolean {
    return Atomics.load(this.#words, at + AT.handle) >>> 0 === handle;
  }
}

function useOf(word: number): KeyUse {
  return {
    algorithm: ALGORITHMS[Math.floor(word / PURPOSES.length)]!,
    purpose: PURPOSES[word % PURPOSES.length]!,
  };
}

/** `bytes` is a multiple of four long. */
function store(words: Int32Array, at: number, bytes: Uint8Array): void {
  for (let word = 0; word * 4 < bytes.length; word++) {
    const i = word * 4;
    Atomics.store(words, at + word, bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24));
  }
}

/** A fresh copy. */
function bytesOf(words: Int32Array, at: number, count: number): Uint8Array {
  const bytes = new Uint8Array(count * 4);
  for (let word = 0; word < count; word++) {
    const value = Atomics.load(words, at + word);
    bytes[word * 4] = value;
    bytes[word * 4 + 1] = value >>> 8;
    bytes[word * 4 + 2] = value >>> 16;
    bytes[word * 4 + 3] = value >>> 24;
  }
  return bytes;
}
