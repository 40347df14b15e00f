/**
 * Where a login outlives the process that made it: a custodian lives for a minute, and the next one goes on with the
 * token of the last. One keeper belongs to one configuration of one service.
 */
export interface SessionKeeper {
  /** The session kept last, or undefined. Secret; the caller wipes it. */
  load(): Uint8Array | undefined;
  /** Keeps `session` instead of the one before; the bytes stay the caller's. */
  save(session: Uint8Array): void;
}

/** Keeps a login for as long as this object lives. */
export class MemorySessionKeeper implements SessionKeeper {
  #session: Uint8Array | undefined;

  load(): Uint8Array | undefined {
    return this.#session?.slice();
  }

  save(session: Uint8Array): void {
    this.#session?.fill(0);
    // Not `slice`, which copies nothing when it is a Buffer.
    this.#session = new Uint8Array(session);
  }
}
