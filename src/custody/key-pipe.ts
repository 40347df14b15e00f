import { closeSync } from 'node:fs';
import type { Engine, KeyHandle, KeyUse } from '../crypto/engine.ts';
import { openPipe } from '../crypto/host.ts';
import { DekdError } from '../errors.ts';

/** The agent's ends of the two pipes to a provider custodian: secrets go from and to the key table, past JavaScript. */
export class AgentKeyPipe {
  readonly #engine: Engine;
  readonly #out: number;
  readonly #in: number;
  /** The custodian's ends, until it has them. */
  readonly custodianEnds: { readonly fromAgent: number; readonly toAgent: number };
  #open = true;
  #handedOver = false;

  private constructor(engine: Engine, out: number, into: number, ends: AgentKeyPipe['custodianEnds']) {
    this.#engine = engine;
    this.#out = out;
    this.#in = into;
    this.custodianEnds = ends;
  }

  /** @throws UNSUPPORTED without the addon, RESOURCE_EXHAUSTED without a descriptor */
  static open(engine: Engine): AgentKeyPipe {
    const there = openPipe('write');
    if (there === undefined) {
      throw new DekdError('UNSUPPORTED', 'custody: process needs the addon; build it, or set custody: inline');
    }
    let back: typeof there | undefined;
    try {
      back = openPipe('read')!;
    } finally {
      if (back === undefined) {
        closeSync(there.read);
        closeSync(there.write);
      }
    }
    return new AgentKeyPipe(engine, there.write, back.read, { fromAgent: there.read, toAgent: back.write });
  }

  /** The custodian runs, or will not: while its ends are open here, nobody would see it die. */
  handedOver(): void {
    if (!this.#handedOver) {
      this.#handedOver = true;
      closeSync(this.custodianEnds.fromAgent);
      closeSync(this.custodianEnds.toAgent);
    }
  }

  /** @throws as `Engine.sendKey` */
  send(id: number, key: KeyHandle): void {
    this.#engine.sendKey(this.#out, id, key);
  }

  /** @throws as `Engine.receiveKey` */
  receive(id: number, use: KeyUse): KeyHandle {
    return this.#engine.receiveKey(this.#in, id, use);
  }

  /** @throws as `Engine.receiveSealed` */
  receiveSealed(id: number, key: KeyHandle, context: Uint8Array): Uint8Array {
    return this.#engine.receiveSealed(this.#in, id, key, context);
  }

  /** @throws as `Engine.sendOpened` */
  sendOpened(id: number, key: KeyHandle, token: Uint8Array, context: Uint8Array): void {
    this.#engine.sendOpened(this.#out, id, key, token, context);
  }

  destroy(key: KeyHandle): void {
    this.#engine.destroyKey(key);
  }

  close(): void {
    if (this.#open) {
      this.#open = false;
      this.handedOver();
      closeSync(this.#out);
      closeSync(this.#in);
    }
  }
}
