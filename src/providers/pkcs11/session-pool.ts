import { ProviderError } from '../provider-error.ts';
import type { CryptokiThread, Handle, Token, TokenKey } from './cryptoki.ts';

/** The key that the configuration names; no stored reference can say that. */
export const CONFIGURED = Symbol('the configured key');

/** A resolved id, or the key of the configuration. */
export type KeyName = string | typeof CONFIGURED;

/** A thread and its one session: an operation takes several calls, which no other may come between. */
export interface TokenSession {
  readonly thread: CryptokiThread;
  /** Undefined until it is opened, and after the token took it away. */
  handle: Handle | undefined;
  token: Token | undefined;
  /** Generation of the module that `handle` belongs to. */
  generation: number;
  /** Keys that were looked up in this session. */
  readonly keys: Map<KeyName, TokenKey>;
}

interface Waiter {
  readonly give: (session: TokenSession) => void;
  readonly fail: (error: unknown) => void;
}

/** Sessions of one root, opened as they are needed. One that hangs in the library stays counted until it returns. */
export class SessionPool {
  readonly #root: string;
  readonly #size: number;
  readonly #open: () => Promise<TokenSession>;
  readonly #idle: TokenSession[] = [];
  readonly #all = new Set<TokenSession>();
  readonly #waiters = new Set<Waiter>();
  readonly #hanging = new Set<TokenSession>();
  #opening = 0;

  constructor(root: string, size: number, open: () => Promise<TokenSession>) {
    this.#root = root;
    this.#size = size;
    this.#open = open;
  }

  /** @throws the reason of `signal`; UNAVAILABLE at once when every session hangs; what opening a thread throws. */
  lease(signal: AbortSignal): Promise<TokenSession> {
    signal.throwIfAborted();
    if (this.#hanging.size >= this.#size) {
      const text = `root ${this.#root}: all ${this.#size} sessions hang in the PKCS#11 module`;
      return Promise.reject(new ProviderError('UNAVAILABLE', text));
    }
    return new Promise((resolve, reject) => {
      const onAbort = () => waiter.fail(signal.reason);
      const leave = () => {
        this.#waiters.delete(waiter);
        signal.removeEventListener('abort', onAbort);
      };
      const waiter: Waiter = {
        give: (session) => {
          leave();
          resolve(session);
        },
        fail: (error) => {
          leave();
          reject(error);
        },
      };
      this.#waiters.add(waiter);
      signal.addEventListener('abort', onAbort);
      this.#serve();
    });
  }

  /** The caller of this session gave up, while a call of it goes on; one that merely changed its mind proves nothing. */
  abandon(session: TokenSession, hangs: boolean): void {
    if (hangs) {
      this.#hanging.add(session);
    }
    session.thread.abandon();
  }

  /** Its calls have returned. */
  release(session: TokenSession): void {
    this.#hanging.delete(session);
    this.#idle.push(session);
    this.#serve();
  }

  /** Its thread has ended. */
  discard(session: TokenSession): void {
    this.#hanging.delete(session);
    this.#all.delete(session);
    this.#serve();
  }

  /** Every session that no call of ours is in; the others are let go. */
  drain(): { readonly idle: readonly TokenSession[]; readonly busy: number } {
    const idle = this.#idle.splice(0);
    for (const session of this.#all) {
      if (!idle.includes(session)) {
        session.thread.abandon();
      }
    }
    return { idle, busy: this.#all.size - idle.length + this.#opening };
  }

  #serve(): void {
    for (const waiter of this.#waiters) {
      const session = this.#idle.pop();
      if (session === undefined) {
        break;
      }
      waiter.give(session);
    }
    while (this.#opening < this.#waiters.size && this.#all.size + this.#opening < this.#size) {
      this.#opening++;
      this.#open().then(
        (session) => {
          this.#opening--;
          this.#all.add(session);
          this.release(session);
        },
        (error: unknown) => {
          this.#opening--;
          const [first] = this.#waiters;
          first?.fail(error);
          this.#serve();
        },
      );
    }
  }
}
