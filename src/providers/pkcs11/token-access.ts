import type { Pkcs11Settings } from '../../config/config.ts';
import { ProviderError } from '../provider-error.ts';
import type { SessionKeeper } from '../session-keeper.ts';
import {
  CKR,
  CryptokiError,
  type CryptokiThread,
  type Handle,
  type KeyTemplate,
  ThreadLostError,
  TOKEN_FLAG,
  type Token,
  type TokenKey,
} from './cryptoki.ts';
import { aborted, faultOf, isGone, isHandleFault, isStale, type Operation } from './faults.ts';
import { keyOfUri, keyUri } from './key-uri.ts';
import { CONFIGURED, type KeyName, SessionPool, type TokenSession } from './session-pool.ts';
import { type OpenThread, SharedModule } from './shared-module.ts';

/** What an operation works with: a session that is logged in. */
export interface Ready {
  readonly thread: CryptokiThread;
  readonly session: Handle;
  readonly token: Token;
}

/** @param keyOf finds a key on the token, once in a session */
export type Work<T> = (ready: Ready, keyOf: (name: KeyName) => Promise<TokenKey>) => Promise<T>;

export interface TokenAccessOptions {
  readonly root: string;
  readonly settings: Pkcs11Settings;
  readonly keeper: SessionKeeper | undefined;
  readonly openThread: OpenThread;
}

/**
 * The way of one root to its token: sessions with their logins, the search for keys, deadlines, and the second try after
 * something was lost.
 */
export class TokenAccess {
  readonly #root: string;
  readonly #settings: Pkcs11Settings;
  readonly #keeper: SessionKeeper | undefined;
  readonly #module: SharedModule;
  readonly #pool: SessionPool;
  /** Set by `close`, after which no call begins. */
  #closing: Promise<void> | undefined;
  /** The configured key as it was found first: a later look-up takes no other for it. */
  #own: { readonly template: KeyTemplate; readonly uri: string } | undefined;
  /** By name: generation of the module in which a key was seen last. */
  readonly #seenIn = new Map<KeyName, number>();

  constructor({ root, settings, keeper, openThread }: TokenAccessOptions) {
    this.#root = root;
    this.#settings = settings;
    this.#keeper = keeper;
    this.#module = SharedModule.acquire(settings.module, openThread);
    this.#pool = new SessionPool(root, settings.sessions, async () => ({
      thread: await this.#module.newThread(),
      handle: undefined,
      token: undefined,
      generation: 0,
      keys: new Map(),
    }));
  }

  /** URI of the configured key, once it was found. */
  get resolvedId(): string | undefined {
    return this.#own?.uri;
  }

  /**
   * One operation with a session of its own, until the caller's signal or the time-out of the configuration. A call into
   * the module cannot be cancelled: the caller goes, and the session comes back to the pool when its call returns.
   */
  async perform<T>(operation: Operation, signal: AbortSignal, work: Work<T>): Promise<T> {
    if (this.#closing !== undefined) {
      throw new ProviderError('UNAVAILABLE', `root ${this.#root} is closed`);
    }
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(this.#settings.timeout)]);
    let session: TokenSession;
    try {
      session = await this.#pool.lease(deadline);
    } catch (error) {
      throw deadline.aborted ? aborted(deadline.reason, this.#root) : faultOf(error, this.#root, operation);
    }
    let isBack = false;
    const giveBack = (error?: unknown) => {
      isBack = true;
      this.#giveBack(session, error);
    };
    const done = this.#attempt(session, deadline, work);
    done.then(() => giveBack(), giveBack);
    try {
      return await untilAborted(done, deadline);
    } catch (error) {
      if (deadline.aborted) {
        const fault = aborted(deadline.reason, this.#root);
        if (!isBack) {
          this.#pool.abandon(session, fault.code === 'TIMEOUT');
        }
        done.then(wipe, () => {});
        throw fault;
      }
      throw faultOf(error, this.#root, operation);
    }
  }

  /** A session whose thread ended is no session any more; one that comes back after `close` is let go. */
  #giveBack(session: TokenSession, error?: unknown): void {
    if (error instanceof ThreadLostError) {
      this.#pool.discard(session);
    } else if (this.#closing !== undefined) {
      void session.thread.exit();
    } else {
      this.#pool.release(session);
    }
  }

  /**
   * Tries once more in a new session when the old one, the login, the token or the handle of the key is gone: tokens are
   * pulled and come back, and others log out. What that does not help with is thrown.
   */
  async #attempt<T>(session: TokenSession, deadline: AbortSignal, work: Work<T>): Promise<T> {
    let wanted: KeyName = CONFIGURED;
    const whole = async (): Promise<T> => {
      const ready = await this.#ready(session);
      return work(ready, (name) => {
        wanted = name;
        return this.#keyOf(session, ready, name);
      });
    };
    const lookUp = async () => this.#keyOf(session, await this.#ready(session), wanted);
    try {
      return await this.#module.run(whole);
    } catch (error) {
      if (!isStale(error) && !this.#isHidden(error, wanted)) {
        throw error;
      }
    }
    deadline.throwIfAborted();
    await this.#drop(session);
    try {
      await this.#module.run(lookUp);
    } catch (error) {
      if (!isGone(error) && !this.#isHidden(error, wanted)) {
        throw error;
      }
      deadline.throwIfAborted();
      if (!(await this.#module.restart(session.thread, session.generation))) {
        throw error;
      }
    }
    deadline.throwIfAborted();
    try {
      return await this.#module.run(whole);
    } catch (error) {
      if (isHandleFault(error)) {
        // Only a search that finds nothing says that the key is gone.
        session.keys.clear();
        await this.#module.run(lookUp);
      }
      throw error;
    }
  }

  /** A key that was there before and is not found any more may be hidden with its token, until the library starts anew. */
  #isHidden(error: unknown, wanted: KeyName): boolean {
    return (
      ProviderError.is(error, 'KEY_NOT_FOUND') && this.#seenIn.get(this.#nameOf(wanted)) === this.#module.generation
    );
  }

  async #drop(session: TokenSession): Promise<void> {
    const { thread, handle, generation } = session;
    session.handle = undefined;
    session.keys.clear();
    if (handle !== undefined && generation === this.#module.generation) {
      await thread.closeSession(handle).catch(() => {});
    }
  }

  async #ready(session: TokenSession): Promise<Ready> {
    const { thread } = session;
    const { generation } = this.#module;
    if (session.handle !== undefined && session.token !== undefined && session.generation === generation) {
      return { thread, session: session.handle, token: session.token };
    }
    session.generation = generation;
    session.keys.clear();
    const token = this.#chosen(await thread.tokens());
    const handle = await thread.openSession(token.slot);
    const { pinFile } = this.#settings;
    try {
      const request = { root: this.#root, thread, session: handle, token, pinFile, keeper: this.#keeper };
      await this.#module.logins.login(request);
    } catch (error) {
      await thread.closeSession(handle).catch(() => {});
      throw error;
    }
    session.handle = handle;
    session.token = token;
    return { thread, session: handle, token };
  }

  #chosen(tokens: readonly Token[]): Token {
    const { slot, token: label } = this.#settings;
    const initialised = tokens.filter(({ flags }) => (flags & TOKEN_FLAG.INITIALIZED) !== 0);
    const found = initialised.filter((each) =>
      slot === undefined ? each.label === label : each.slot === BigInt(slot),
    );
    if (found.length > 1) {
      const places = found.map((each) => `slot ${each.slot} (serial ${each.serial})`).join(', ');
      throw new ProviderError(
        'CONFIG',
        `root ${this.#root}: ${found.length} tokens have the label ${quoted(label ?? '')}: name one of ${places}`,
      );
    }
    const [only] = found;
    if (only === undefined) {
      const there = initialised.map((each) => `${quoted(each.label)} in slot ${each.slot}`).join(', ');
      const wanted = slot === undefined ? `token ${quoted(label ?? '')}` : `initialised token in slot ${slot}`;
      throw new ProviderError(
        'UNAVAILABLE',
        `root ${this.#root}: no ${wanted} is present; present: ${there === '' ? 'none' : there}`,
        { cause: new CryptokiError(CKR.TOKEN_NOT_PRESENT, 'C_GetSlotList') },
      );
    }
    return only;
  }

  /** The key of the configuration, or that of a stored reference; looked up once in a session. */
  async #keyOf(session: TokenSession, ready: Ready, wanted: KeyName): Promise<TokenKey> {
    const name = this.#nameOf(wanted);
    const known = session.keys.get(name);
    if (known !== undefined) {
      return known;
    }
    const { key: label, keyId: id } = this.#settings;
    const template = name === CONFIGURED ? (this.#own?.template ?? { label, id: id?.toLowerCase() }) : keyOfUri(name);
    if (template === undefined) {
      throw new ProviderError('KEY_NOT_FOUND', `root ${this.#root}: the stored reference names no key of a token`);
    }
    const [key, second] = await ready.thread.findKeys(ready.session, template, 2);
    if (key === undefined) {
      throw new ProviderError(
        'KEY_NOT_FOUND',
        `root ${this.#root}: no AES key of 256 bits with ${described(template)} on token ${quoted(ready.token.label)}`,
      );
    }
    if (second !== undefined) {
      throw new ProviderError(
        'CONFIG',
        `root ${this.#root}: several AES keys with ${described(template)} on token ${quoted(ready.token.label)}: ` +
          'name one by keyId',
      );
    }
    session.keys.set(name, key);
    if (name === CONFIGURED) {
      this.#own ??= { template: exactly(key), uri: keyUri(ready.token, key) };
    }
    this.#seenIn.set(name, session.generation);
    return key;
  }

  #nameOf(wanted: KeyName): KeyName {
    return wanted === this.#own?.uri ? CONFIGURED : wanted;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** Calls that hang keep their thread; everything else has ended when this resolves. */
  async #close(): Promise<void> {
    const { idle, busy } = this.#pool.drain();
    for (const { thread, handle, generation } of idle) {
      if (handle !== undefined && generation === this.#module.generation) {
        await thread.closeSession(handle).catch(() => {});
      }
    }
    await this.#module.release(busy === 0 ? idle[0]?.thread : undefined);
    await Promise.all(idle.map(({ thread }) => thread.exit()));
  }
}

function exactly({ label, id }: TokenKey): KeyTemplate {
  return { label: label === '' ? undefined : label, id: id === '' ? undefined : id };
}

function described({ label, id }: KeyTemplate): string {
  const parts = [...(label === undefined ? [] : [`label ${quoted(label)}`]), ...(id === undefined ? [] : [`id ${id}`])];
  return parts.join(' and ');
}

/** Labels are padded with blanks, and may hold anything. */
export function quoted(text: string): string {
  return JSON.stringify(text);
}

function wipe(value: unknown): void {
  if (value instanceof Uint8Array) {
    value.fill(0);
  }
}

function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
    if (signal.aborted) {
      onAbort();
    }
  });
}
