/**
 * The key that evolves under the chain.
 *
 * Every block of lines has a key of its own: its MAC is made with HKDF(key, "…/mac"), and then the key becomes
 * HKDF(key, "…/next") and the one before is wiped. Who takes the agent over learns the key of the block to come, and from it no
 * key before: what was written until then cannot be changed unseen (forward security; M. Bellare, B. Yee, Forward-Security in
 * Private-Key Cryptography, 2003; B. Schneier, J. Kelsey, Secure Audit Logs to Support Computer Forensics, 1999).
 *
 * The keys are in the engine's key table, in locked memory with the native engine, and never in JavaScript there.
 */
import type { Engine, KeyHandle, KeyUse } from '../crypto/engine.ts';
import { LABEL } from './format.ts';

/** Use of a key that others are derived from. */
export const CHAIN_USE: KeyUse = { algorithm: 'hkdf-sha-256', purpose: 'wrap' };

export class ChainKey {
  readonly #engine: Engine;
  #key: KeyHandle;
  /**
   * A slot of the table that is ours: a full table is the usual state of one with many keys, and evolving takes a slot for a
   * moment.
   */
  #spare: KeyHandle | undefined;
  /** Whether the key at hand was used, so that the next MAC needs the one after it. */
  #isUsed = false;

  /** @param key the first one of a run; taken over */
  constructor(engine: Engine, key: KeyHandle) {
    this.#engine = engine;
    this.#key = key;
    this.#spare = engine.generateKey(CHAIN_USE);
  }

  /** The MAC of the next block. @param input the MAC before it ‖ the bytes of the block. @throws RESOURCE_EXHAUSTED, and it can be tried again */
  mac(input: Uint8Array): Uint8Array {
    this.#advance();
    const mac = this.#engine.mac(this.#key, LABEL.mac, input);
    this.#isUsed = true;
    try {
      this.#advance();
    } catch {
      // The table is full for this moment: the key is wiped before the next use at the latest.
    }
    return mac;
  }

  /** Passes over blocks that are not at hand. */
  skip(blocks: number): void {
    for (let i = 0; i < blocks; i++) {
      this.#isUsed = true;
      this.#advance();
    }
  }

  close(): void {
    this.#engine.destroyKey(this.#key);
    if (this.#spare !== undefined) {
      this.#engine.destroyKey(this.#spare);
    }
  }

  #advance(): void {
    if (!this.#isUsed) {
      return;
    }
    const engine = this.#engine;
    if (this.#spare !== undefined) {
      engine.destroyKey(this.#spare);
      this.#spare = undefined;
    }
    const next = engine.deriveKey(this.#key, LABEL.next, CHAIN_USE);
    engine.destroyKey(this.#key);
    this.#key = next;
    this.#isUsed = false;
    try {
      this.#spare = engine.generateKey(CHAIN_USE);
    } catch {
      // Another thread took the slot; the next time has to find one.
    }
  }
}

/** The first key of a run. @returns a key that the caller owns */
export function runKey(engine: Engine, generationKey: KeyHandle, run: string): ChainKey {
  return new ChainKey(engine, engine.deriveKey(generationKey, `${LABEL.run}${run}`, CHAIN_USE));
}
