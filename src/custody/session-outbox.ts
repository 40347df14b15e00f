import { MAX_PIPED_LENGTH } from '../crypto/engine.ts';
import { writeFrame } from '../crypto/key-pipe.ts';

/**
 * Logins on their way to the agent: a frame of the key pipe each, and the message that announces it. One at a time: the
 * pipe must have room for the answers of calls beside it, since writing to it blocks. Of two logins of a root that wait,
 * only the newer one is sent.
 */
export class SessionOutbox {
  readonly #fd: number;
  readonly #announce: (id: number, root: string) => void;
  readonly #waiting = new Map<string, Uint8Array>();
  /** Of the one that the agent has not taken yet. */
  #sent: number | undefined;
  #next = 1;
  #whenEmpty: (() => void)[] = [];

  /** @param announce sends the message that a frame was written */
  constructor(fd: number, announce: (id: number, root: string) => void) {
    this.#fd = fd;
    this.#announce = announce;
  }

  /** One over MAX_PIPED_LENGTH is not handed on: the next custodian logs in again. */
  save(root: string, session: Uint8Array): void {
    if (session.length === 0 || session.length > MAX_PIPED_LENGTH) {
      return;
    }
    // Not `slice`, which copies nothing when it is a Buffer; what is wiped later must be ours.
    this.#waiting.set(root, new Uint8Array(session));
    this.#send();
  }

  /** The agent has taken what was sent. */
  taken(id: number): void {
    if (id === this.#sent) {
      this.#sent = undefined;
      this.#send();
    }
  }

  /** Resolves when the agent has everything. */
  emptied(): Promise<void> {
    return this.#sent === undefined ? Promise.resolve() : new Promise((resolve) => this.#whenEmpty.push(resolve));
  }

  #send(): void {
    if (this.#sent !== undefined) {
      return;
    }
    for (const [root, session] of this.#waiting) {
      this.#waiting.delete(root);
      const id = this.#next++;
      this.#sent = id;
      writeFrame(this.#fd, id, session, 'hand a login over');
      session.fill(0);
      this.#announce(id, root);
      return;
    }
    for (const resolve of this.#whenEmpty.splice(0)) {
      resolve();
    }
  }
}
