import type { Engine, KeyHandle } from '../crypto/engine.ts';
import { encodeContext } from '../envelope/context.ts';
import type { AgentKeyPipe } from './key-pipe.ts';

interface Kept {
  /** Sealed under the key of this object, bound to the name of the root. */
  readonly token: Uint8Array;
  /** Which custodian it is of; they are counted from 1. */
  readonly from: number;
}

/**
 * Logins of roots, from one custodian to the next. They come over the key pipe, are sealed at once under a key that is in
 * the key table only, and are opened straight into the pipe again.
 */
export class KeptSessions {
  readonly #engine: Engine;
  readonly #key: KeyHandle;
  readonly #kept = new Map<string, Kept>();

  /** @throws RESOURCE_EXHAUSTED when the key table is full */
  constructor(engine: Engine) {
    this.#engine = engine;
    this.#key = engine.generateKey({ algorithm: 'xaes-256-gcm', purpose: 'seal' });
  }

  /** Roots that have one. */
  get roots(): readonly string[] {
    return [...this.#kept.keys()];
  }

  /**
   * Takes the frame of a login. It is dropped unless `keep`, and when a later custodian has given one for this root: that
   * one is newer, although this one came after it.
   * @throws as `Engine.receiveSealed`
   */
  take(pipe: AgentKeyPipe, id: number, root: string, from: number, keep: boolean): void {
    const token = pipe.receiveSealed(id, this.#key, contextOf(root));
    if (keep && (this.#kept.get(root)?.from ?? 0) <= from) {
      this.#kept.set(root, { token, from });
    }
  }

  /** Writes the frame of a login. @throws as `Engine.sendOpened` */
  give(pipe: AgentKeyPipe, id: number, root: string): void {
    const { token } = this.#kept.get(root)!;
    pipe.sendOpened(id, this.#key, token, contextOf(root));
  }

  forget(root: string): void {
    this.#kept.delete(root);
  }

  close(): void {
    this.#kept.clear();
    this.#engine.destroyKey(this.#key);
  }
}

function contextOf(root: string): Uint8Array {
  return encodeContext({ 'custodian-session': root });
}
