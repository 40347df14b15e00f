import { CKR, CryptokiError, type CryptokiThread } from './cryptoki.ts';
import { Logins } from './logins.ts';

export type OpenThread = (path: string) => CryptokiThread;

/** A library that was just initialised is not helped by doing it again, and others use it too; a token is back in 1 s. */
const RESTART_EVERY_MS = 500;
/** How long a restart waits for the calls of others; one that hangs must not hold up the rest. */
const QUIET_MS = 200;

const modules = new Map<string, SharedModule>();

/**
 * One library in this process, for every root that names it. PKCS#11 initialises and finalises a library once per
 * process, and a login is the token's, not the session's: both are shared here, by path.
 */
export class SharedModule {
  readonly logins = new Logins();
  readonly #path: string;
  readonly #openThread: OpenThread;
  #users = 0;
  #generation = 1;
  #running = 0;
  #initialised: Promise<boolean> | undefined;
  #initialisedAt = Number.NEGATIVE_INFINITY;
  #restarting: Promise<void> | undefined;
  readonly #onQuiet = new Set<() => void>();

  private constructor(path: string, openThread: OpenThread) {
    this.#path = path;
    this.#openThread = openThread;
  }

  /** The caller gives it back with `release`. */
  static acquire(path: string, openThread: OpenThread): SharedModule {
    let module = modules.get(path);
    if (module === undefined) {
      module = new SharedModule(path, openThread);
      modules.set(path, module);
    }
    module.#users++;
    return module;
  }

  /** Grows when the library was initialised again, which ends every session. */
  get generation(): number {
    return this.#generation;
  }

  /** A thread of the initialised library. @throws ModuleLoadError, CryptokiError */
  async newThread(): Promise<CryptokiThread> {
    const thread = this.#openThread(this.#path);
    this.#initialised ??= this.#initialise(thread);
    const initialised = this.#initialised;
    try {
      await initialised;
      return thread;
    } catch (error) {
      if (this.#initialised === initialised) {
        this.#initialised = undefined;
      }
      void thread.exit();
      throw error;
    }
  }

  /** Runs calls of one session, never while the library is being initialised again. */
  async run<T>(calls: () => Promise<T>): Promise<T> {
    await this.#restarting;
    this.#running++;
    try {
      return await calls();
    } finally {
      this.#running--;
      if (this.#running === 0) {
        for (const tell of this.#onQuiet) {
          tell();
        }
      }
    }
  }

  /**
   * Initialises the library again, which is when some notice that a token is back. All sessions of `generation` end.
   * @returns whether sessions have to be opened again: false when it was done a moment ago, is not ours to do, or others
   * are at work.
   */
  async restart(thread: CryptokiThread, generation: number): Promise<boolean> {
    if (performance.now() - this.#initialisedAt < RESTART_EVERY_MS || !(await this.#quiet())) {
      return this.#generation !== generation;
    }
    if (this.#generation === generation) {
      this.#restarting ??= this.#restart(thread).finally(() => {
        this.#restarting = undefined;
      });
    }
    await this.#restarting;
    return this.#generation !== generation;
  }

  /**
   * @param last a thread to finalise the library with when this was the last user; without one, as when calls hang, it is
   * left as it is: C_Finalize under a running call is undefined.
   */
  async release(last: CryptokiThread | undefined): Promise<void> {
    this.#users--;
    if (this.#users > 0) {
      return;
    }
    modules.delete(this.#path);
    const isOurs = await this.#initialised?.catch(() => false);
    if (isOurs === true && last !== undefined) {
      await last.finalize().catch(ignoreCryptoki);
    }
  }

  async #initialise(thread: CryptokiThread): Promise<boolean> {
    const isOurs = await thread.initialize();
    this.#initialisedAt = performance.now();
    return isOurs;
  }

  async #restart(thread: CryptokiThread): Promise<void> {
    const isOurs = await this.#initialised;
    if (isOurs === true) {
      await thread.finalize().catch(ignoreCryptoki);
    }
    const isOursNow = await this.#initialise(thread);
    this.#initialised = Promise.resolve(isOursNow);
    if (isOurs === true || isOursNow) {
      this.#generation++;
    }
  }

  async #quiet(): Promise<boolean> {
    if (this.#running === 0) {
      return true;
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, QUIET_MS);
    this.#onQuiet.add(resolve);
    await promise;
    clearTimeout(timer);
    this.#onQuiet.delete(resolve);
    return this.#running === 0;
  }
}

function ignoreCryptoki(error: unknown): void {
  if (!(error instanceof CryptokiError && error.rv === CKR.CRYPTOKI_NOT_INITIALIZED)) {
    throw error;
  }
}
