import { DekdError } from '../../errors.ts';
import type { Deadline } from './deadline.ts';
import { SessionError } from './failure.ts';
import { lateText, type Session } from './session.ts';

/** Connections cost the server a process each. */
const IDLE_MS = 60_000;

/** Called with a session that may have died meanwhile, or with none when room for a new one came free. */
type Wake = (session: Session | undefined) => void;

/**
 * A bounded number of connections. Waiting for one, making one and using it all count towards the deadline of the
 * operation, which the driver's own pool cannot do; and one that outlives its deadline is dropped, since a half-open
 * connection says nothing for hours.
 */
export class SessionPool {
  readonly #limit: number;
  readonly #connect: (deadline: Deadline) => Promise<Session>;
  readonly #idle: { readonly session: Session; readonly timer: NodeJS.Timeout }[] = [];
  readonly #waiting: Wake[] = [];
  /** Idle, in use or being made. */
  #count = 0;
  #closed = false;
  #emptied: (() => void) | undefined;

  /** @param connect makes a session that is ready for work */
  constructor(limit: number, connect: (deadline: Deadline) => Promise<Session>) {
    this.#limit = limit;
    this.#connect = connect;
  }

  /** Lends a session to `work` alone. @throws SessionError late once the deadline has passed */
  async use<T>(deadline: Deadline, work: (session: Session) => Promise<T>): Promise<T> {
    const session = await this.#acquire(deadline);
    const disarm = deadline.alarm(() => session.destroy());
    try {
      return await work(session);
    } catch (error) {
      if (deadline.passed && error instanceof SessionError) {
        throw new SessionError('late', lateText(deadline));
      }
      throw error;
    } finally {
      disarm();
      this.#release(session);
    }
  }

  /** Lets what runs come to its end, and ends what is idle. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const wake of this.#waiting.splice(0)) {
      wake(undefined);
    }
    for (const { session, timer } of this.#idle.splice(0)) {
      clearTimeout(timer);
      void this.#end(session);
    }
    if (this.#count > 0) {
      await new Promise<void>((resolve) => {
        this.#emptied = resolve;
      });
    }
  }

  async #acquire(deadline: Deadline): Promise<Session> {
    for (;;) {
      if (this.#closed) {
        throw closed();
      }
      const session = this.#takeIdle() ?? (this.#count < this.#limit ? await this.#make(deadline) : undefined);
      const found = session ?? (await this.#wait(deadline));
      if (found !== undefined && !found.dead) {
        return found;
      }
      if (found !== undefined) {
        this.#release(found);
      }
    }
  }

  #takeIdle(): Session | undefined {
    for (let entry = this.#idle.pop(); entry !== undefined; entry = this.#idle.pop()) {
      clearTimeout(entry.timer);
      if (!entry.session.dead) {
        return entry.session;
      }
      this.#release(entry.session);
    }
    return undefined;
  }

  async #make(deadline: Deadline): Promise<Session> {
    this.#count += 1;
    try {
      return await this.#connect(deadline);
    } catch (error) {
      this.#free();
      throw error;
    }
  }

  #wait(deadline: Deadline): Promise<Session | undefined> {
    return new Promise((resolve, reject) => {
      const wake: Wake = (session) => {
        disarm();
        resolve(session);
      };
      const disarm = deadline.alarm(() => {
        this.#waiting.splice(this.#waiting.indexOf(wake), 1);
        reject(new SessionError('late', `had no connection free in ${deadline.totalMs} ms`));
      });
      this.#waiting.push(wake);
    });
  }

  #release(session: Session): void {
    if (session.dead) {
      this.#free();
    } else if (this.#closed) {
      void this.#end(session);
    } else if (this.#waiting.length > 0) {
      this.#waiting.shift()!(session);
    } else {
      const timer = setTimeout(() => this.#retire(session), IDLE_MS);
      timer.unref();
      this.#idle.push({ session, timer });
    }
  }

  #retire(session: Session): void {
    const index = this.#idle.findIndex((entry) => entry.session === session);
    if (index >= 0) {
      this.#idle.splice(index, 1);
      void this.#end(session);
    }
  }

  async #end(session: Session): Promise<void> {
    await session.close().catch(() => undefined);
    this.#free();
  }

  #free(): void {
    this.#count -= 1;
    this.#waiting.shift()?.(undefined);
    if (this.#count === 0) {
      this.#emptied?.();
    }
  }
}

/** What every operation of a closed keystore ends with. */
export function closed(): DekdError {
  return new DekdError('KEYSTORE_UNAVAILABLE', 'the keystore is closed');
}
