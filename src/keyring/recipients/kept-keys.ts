import { hex } from '../../bytes.ts';
import { DATA_KEY_USE, type KeyHandle, SECRET_USE } from '../../crypto/engine.ts';
import type { EncryptedDataKey } from '../../envelope/message-header.ts';
import type { Share } from '../keyring.ts';
import type { Recipient, Table } from './recipient.ts';
import type { Vouch } from './vouch.ts';

const LABEL = 'dekd/v1/kept';

/** What is known of a data key that is kept. */
export interface KeptKeyFacts {
  /** 32 bytes that name it and all it is bound to. */
  readonly id: Uint8Array;
  /** On whose account it is kept, and of which key it is. */
  readonly share: Share;
  readonly name: string;
  readonly partition: string;
  /** As each recipient can open it. */
  readonly copies: readonly EncryptedDataKey[];
  /** Whose word it depends on. */
  readonly vouches: readonly { readonly recipient: Recipient; readonly vouch: Vouch }[];
}

/** A data key that is kept. */
export interface KeptKey extends KeptKeyFacts {
  readonly madeAt: number;
  usedAt: number;
  messages: number;
  /** It is kept no more, and its bytes are gone. */
  readonly isDropped: boolean;
}

interface Entry extends KeptKey {
  isDropped: boolean;
  /** Under the key of all kept keys; zeros once it is dropped. */
  readonly wrapped: Uint8Array;
}

/**
 * Data keys of messages that a provider need not be asked for again, a bounded number of them. They take no slots of the
 * key table: each lies here wrapped under one key that does, which was drawn for that and is nowhere else, and comes back
 * by one unwrap.
 *
 * The share (caller) that has most gives up the one it used least recently, so a flood only ever displaces its own.
 */
export class KeptKeys {
  readonly #table: Table;
  readonly #elapsedMs: () => number;
  readonly #max: number;
  /** By id in hex, least recently used first. */
  readonly #entries = new Map<string, Entry>();
  readonly #shares = new Map<Share, number>();
  #wrapping: KeyHandle | undefined;

  constructor(table: Table, elapsedMs: () => number, max: number) {
    this.#table = table;
    this.#elapsedMs = elapsedMs;
    this.#max = max;
  }

  get size(): number {
    return this.#entries.size;
  }

  get(id: Uint8Array): KeptKey | undefined {
    return this.#entries.get(hex(id));
  }

  /** Keeps a data key, which stays the caller's, in the place of one of the same id. */
  keep(dataKey: KeyHandle, facts: KeptKeyFacts): KeptKey {
    const { engine } = this.#table;
    this.#wrapping ??= this.#table.room(() => engine.generateKey(SECRET_USE));
    const now = this.#elapsedMs();
    const wrapped = engine.wrapKey(this.#wrapping, LABEL, dataKey, facts.id);
    const entry: Entry = { ...facts, wrapped, madeAt: now, usedAt: now, messages: 0, isDropped: false };
    const id = hex(facts.id);
    const before = this.#entries.get(id);
    if (before !== undefined) {
      this.#drop(id, before);
    }
    while (this.#entries.size >= this.#max) {
      this.#evict();
    }
    this.#entries.set(id, entry);
    this.#shares.set(facts.share, (this.#shares.get(facts.share) ?? 0) + 1);
    return entry;
  }

  /** The data key of an entry that is not dropped, for one message. @returns a handle that is the caller's */
  take(key: KeptKey): KeyHandle {
    const entry = key as Entry;
    const id = hex(entry.id);
    this.#entries.delete(id);
    this.#entries.set(id, entry);
    entry.usedAt = this.#elapsedMs();
    entry.messages++;
    return this.peek(entry);
  }

  /** The data key, without its being used. @returns a handle that is the caller's */
  peek(key: KeptKey): KeyHandle {
    const { wrapped, id } = key as Entry;
    const { engine } = this.#table;
    return this.#table.room(() => engine.unwrapKey(this.#wrapping!, LABEL, wrapped, id, DATA_KEY_USE));
  }

  /** Wipes those that match. */
  drop(matches: (key: KeptKey) => boolean): void {
    for (const [id, entry] of this.#entries) {
      if (matches(entry)) {
        this.#drop(id, entry);
      }
    }
  }

  close(): void {
    this.drop(() => true);
    if (this.#wrapping !== undefined) {
      this.#table.engine.destroyKey(this.#wrapping);
      this.#wrapping = undefined;
    }
  }

  #evict(): void {
    let largest: Share | undefined;
    let most = 0;
    for (const [share, count] of this.#shares) {
      if (count > most) {
        [largest, most] = [share, count];
      }
    }
    for (const [id, entry] of this.#entries) {
      if (entry.share === largest) {
        this.#drop(id, entry);
        return;
      }
    }
  }

  #drop(id: string, entry: Entry): void {
    entry.isDropped = true;
    entry.wrapped.fill(0);
    this.#entries.delete(id);
    const left = this.#shares.get(entry.share)! - 1;
    if (left === 0) {
      this.#shares.delete(entry.share);
    } else {
      this.#shares.set(entry.share, left);
    }
  }
}
