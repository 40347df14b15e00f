import type { Engine, KeyHandle } from '../crypto/engine.ts';
import type { Root } from '../custody/custody.ts';
import type { KeyContext, RootReference, WrappedSecret } from '../providers/provider.ts';
import type { SteadyClock } from './clock.ts';
import type { DekCache } from './dek-cache.ts';
import type { HighWater } from './high-water.ts';
import { WRAP_USE } from './kek-versions.ts';
import type { KeyParent, KeyRecord } from './record.ts';
import { checkOpens, checkRecord, inState, withMac } from './record-check.ts';

export interface RootMoveParts {
  readonly engine: Engine;
  readonly cache: DekCache;
  readonly highWater: HighWater;
  readonly clock: SteadyClock;
}

/** A record directly under a root. */
export type RootedRecord = KeyRecord & { readonly parent: Extract<KeyParent, { kind: 'root' }> };

export function isRooted(record: KeyRecord): record is RootedRecord {
  return record.parent.kind === 'root';
}

/**
 * Wraps the secret W of a record anew, under another root or under newer material of the same one. The key below W and what
 * wraps it stay as they are: revision and seq rise by one, and seq so that a write which was begun before, on the row as it
 * was, fails and is begun again. No row is made that was not seen to open under its new root.
 */
export class RootMove {
  readonly #parts: RootMoveParts;

  constructor(parts: RootMoveParts) {
    this.#parts = parts;
  }

  /**
   * The next write of `record`: its W under the newest material of `to`.
   * @param stopSealing whether it becomes deactivated in the same write
   * @throws RecordRefused when it is not authentic, or does not open; and what roots throw.
   */
  async next(record: RootedRecord, from: Root, to: Root, stopSealing: boolean): Promise<KeyRecord> {
    const { wrapped, reference } = await this.#wrapped(record, from, to);
    const parent: KeyParent = { kind: 'root', reference, wrappedSecret: wrapped };
    return this.#withSecret(to, wrapped, reference, record, (secret) => {
      this.#check(secret, record);
      const written = stopSealing
        ? inState(record, 'deactivated', this.#parts.clock.now())
        : { ...record, seq: record.seq + 1n };
      return withMac(this.#parts.engine, secret, { ...written, parent, revision: record.revision + 1 });
    });
  }

  /** The next write of a record that stays under `root`, and seals no more. @throws as `next` */
  stopped(record: RootedRecord, root: Root): Promise<KeyRecord> {
    const { wrappedSecret, reference } = record.parent;
    return this.#withSecret(root, wrappedSecret, reference, record, (secret) => {
      this.#check(secret, record);
      return withMac(this.#parts.engine, secret, inState(record, 'deactivated', this.#parts.clock.now()));
    });
  }

  /** Whether W is under the newest material that `root` is known to have. */
  isNewest({ parent }: RootedRecord, root: Root): boolean {
    const { resolvedId, materialVersion } = root.description;
    if (parent.reference.resolvedId !== resolvedId) {
      return false;
    }
    // A local key is what its id says. A service that does not name its material may have newer one.
    return root.capabilities.versioned
      ? materialVersion !== '' && parent.reference.materialVersion === materialVersion
      : !root.remote;
  }

  /**
   * Learns the newest material of `root`, whose policy may be for contexts such as `context` only. Where the provider rewraps,
   * that is what is asked for: KMS names the material in the reply to ReEncrypt, and not in that to Encrypt.
   */
  async learnNewest(root: Root, context: KeyContext): Promise<void> {
    const { versioned, serverRewrap } = root.capabilities;
    if (!root.remote || !versioned) {
      return;
    }
    const { engine, cache } = this.#parts;
    const secret = cache.room(() => engine.generateKey(WRAP_USE));
    try {
      const { wrapped, reference } = await root.wrap(secret, context);
      if (serverRewrap) {
        await root.rewrap(wrapped, reference, context);
      }
    } finally {
      engine.destroyKey(secret);
    }
  }

  async #wrapped(record: RootedRecord, from: Root, to: Root): Promise<WrappedSecret> {
    const { parent, keyContext } = record;
    if (from === to && to.capabilities.serverRewrap) {
      return to.rewrap(parent.wrappedSecret, parent.reference, keyContext);
    }
    const { engine, cache } = this.#parts;
    const secret = await cache.roomAsync(() => from.unwrap(parent.wrappedSecret, parent.reference, keyContext));
    try {
      // What is not authentic is not carried to another root.
      this.#check(secret, record);
      return await to.wrap(secret, keyContext);
    } finally {
      engine.destroyKey(secret);
    }
  }

  async #withSecret<T>(
    root: Root,
    wrapped: Uint8Array,
    reference: RootReference,
    { keyContext }: KeyRecord,
    work: (secret: KeyHandle) => T,
  ): Promise<T> {
    const { engine, cache } = this.#parts;
    const secret = await cache.roomAsync(() => root.unwrap(wrapped, reference, keyContext));
    try {
      return work(secret);
    } finally {
      engine.destroyKey(secret);
    }
  }

  #check(secret: KeyHandle, record: KeyRecord): void {
    const { engine, cache, highWater } = this.#parts;
    checkRecord(engine, secret, record, highWater);
    checkOpens(engine, cache, secret, record);
  }
}
