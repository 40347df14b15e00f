import { Worker } from 'node:worker_threads';
import {
  type Cryptoki,
  CryptokiError,
  type CryptokiThread,
  type LoadFault,
  ModuleLoadError,
  ThreadLostError,
} from './cryptoki.ts';

/** A call, as thread.ts gets it. */
export interface ThreadRequest {
  readonly id: number;
  readonly name: keyof Cryptoki;
  readonly args: readonly unknown[];
}

/** Its value, or one of the faults. */
export interface ThreadReply {
  readonly id: number;
  readonly value?: unknown;
  readonly rv?: number;
  readonly call?: string;
  readonly load?: LoadFault;
  readonly text?: string;
}

interface Pending {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** Enough for one message of direct mode in flight; a thread holds nothing else. */
const LIMITS = { maxOldGenerationSizeMb: 32, maxYoungGenerationSizeMb: 4 };

/**
 * A library in a thread of its own: almost every function of PKCS#11 blocks, over a network too, and none can be
 * cancelled. Bytes move there and back without a copy staying behind.
 *
 * @param entry thread.ts, or what it was built to.
 */
export function openModuleThread(entry: URL, path: string): CryptokiThread {
  const thread = new ModuleThread(entry, path);
  const call =
    <Name extends keyof Cryptoki>(name: Name) =>
    (...args: Parameters<Cryptoki[Name]>) =>
      thread.call(name, args) as Promise<Awaited<ReturnType<Cryptoki[Name]>>>;
  return {
    initialize: call('initialize'),
    finalize: call('finalize'),
    tokens: call('tokens'),
    mechanismFlags: call('mechanismFlags'),
    openSession: call('openSession'),
    closeSession: call('closeSession'),
    isLoggedIn: call('isLoggedIn'),
    login: call('login'),
    findKeys: call('findKeys'),
    encrypt: call('encrypt'),
    decrypt: call('decrypt'),
    wrapSecret: call('wrapSecret'),
    unwrapSecret: call('unwrapSecret'),
    abandon: () => thread.abandon(),
    exit: () => thread.exit(),
  };
}

class ModuleThread {
  readonly #worker: Worker;
  readonly #pending = new Map<number, Pending>();
  readonly #ended: Promise<void>;
  #next = 1;
  #isLeaving = false;
  #isOver = false;

  constructor(entry: URL, path: string) {
    this.#worker = new Worker(entry, { workerData: { path }, resourceLimits: LIMITS });
    this.#worker.unref();
    this.#worker.on('message', (reply: ThreadReply) => this.#settle(reply));
    this.#worker.on('error', (error) => this.#fail(error));
    this.#ended = new Promise((resolve) => {
      this.#worker.once('exit', () => {
        this.#fail(undefined);
        resolve();
      });
    });
  }

  call(name: keyof Cryptoki, args: readonly unknown[]): Promise<unknown> {
    if (this.#isOver) {
      return Promise.reject(new ThreadLostError('the thread of the PKCS#11 module has ended'));
    }
    const id = this.#next++;
    // Copies that move: the caller's bytes stay the caller's, and the thread wipes what it got.
    const moved = args.map((each) => (each instanceof Uint8Array ? new Uint8Array(each) : each));
    const buffers = moved.flatMap((each) => (each instanceof Uint8Array ? [each.buffer as ArrayBuffer] : []));
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject });
      this.#worker.ref();
      const request: ThreadRequest = { id, name, args: moved };
      this.#worker.postMessage(request, buffers);
    });
  }

  abandon(): void {
    this.#worker.unref();
  }

  exit(): Promise<void> {
    // A process that only waits for this would end before it.
    this.#isLeaving = true;
    this.#worker.ref();
    this.#worker.postMessage('exit');
    return this.#ended;
  }

  #settle({ id, value, rv, call, load, text }: ThreadReply): void {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    if (this.#pending.size === 0 && !this.#isLeaving) {
      this.#worker.unref();
    }
    if (rv !== undefined) {
      pending?.reject(new CryptokiError(rv, call ?? ''));
    } else if (load !== undefined) {
      pending?.reject(new ModuleLoadError(load));
    } else if (text !== undefined) {
      pending?.reject(new Error(text));
    } else {
      pending?.resolve(value);
    }
  }

  #fail(cause: unknown): void {
    this.#isOver = true;
    for (const { reject } of this.#pending.values()) {
      reject(new ThreadLostError('the thread of the PKCS#11 module ended during a call', { cause }));
    }
    this.#pending.clear();
  }
}
