import { ProviderError } from '../provider-error.ts';
import type { SessionKeeper } from '../session-keeper.ts';
import { type CryptokiError, type CryptokiThread, type Handle, TOKEN_FLAG, type Token } from './cryptoki.ts';
import { detailOf, isRefusedPin } from './faults.ts';
import { readPin } from './pin-file.ts';

export interface LoginRequest {
  readonly root: string;
  readonly thread: CryptokiThread;
  readonly session: Handle;
  readonly token: Token;
  readonly pinFile: string;
  /** Remembers a refused PIN for the processes that come after this one. */
  readonly keeper: SessionKeeper | undefined;
}

/**
 * Logins to the tokens of one library, one at a time: it is the token that is logged in to, and a second try with a wrong
 * PIN is a step towards locking it. A PIN that was refused is not sent again until its file changes, and the last try
 * before the token locks is never taken.
 */
export class Logins {
  /** By token: the file that held the PIN when it was refused. */
  readonly #refused = new Map<string, string>();
  #turn: Promise<unknown> = Promise.resolve();

  /** Logs in unless the token is already. @throws PinFileError, CryptokiError, ProviderError UNAUTHENTICATED */
  login(request: LoginRequest): Promise<void> {
    const turn = this.#turn.then(() => this.#login(request));
    this.#turn = turn.catch(() => {});
    return turn;
  }

  async #login(request: LoginRequest): Promise<void> {
    const { root, thread, session, token, pinFile, keeper } = request;
    if ((token.flags & TOKEN_FLAG.LOGIN_REQUIRED) === 0 || (await thread.isLoggedIn(session))) {
      return;
    }
    const name = `${token.serial} ${token.label}`;
    const pin = readPin(pinFile);
    try {
      if (this.#refused.get(name) === pin.identity || keptBy(keeper) === pin.identity) {
        throw refusedEarlier(root, pinFile, undefined);
      }
      if ((token.flags & TOKEN_FLAG.USER_PIN_LOCKED) !== 0) {
        throw new ProviderError('UNAUTHENTICATED', `root ${root}: the PIN is locked: the security officer unlocks it`);
      }
      if ((token.flags & TOKEN_FLAG.USER_PIN_FINAL_TRY) !== 0) {
        throw new ProviderError(
          'UNAUTHENTICATED',
          `root ${root}: one more wrong PIN locks the token, and that try is not taken: log in once by other means`,
        );
      }
      await thread.login(session, pin.bytes);
    } catch (error) {
      if (!isRefusedPin(error)) {
        throw error;
      }
      this.#refused.set(name, pin.identity);
      keeper?.save(Buffer.from(pin.identity, 'utf8'));
      throw refusedEarlier(root, pinFile, error);
    } finally {
      pin.bytes.fill(0);
    }
  }
}

function keptBy(keeper: SessionKeeper | undefined): string | undefined {
  const kept = keeper?.load();
  return kept === undefined ? undefined : Buffer.from(kept).toString('utf8');
}

function refusedEarlier(root: string, pinFile: string, cause: CryptokiError | undefined): ProviderError {
  const text = `root ${root}: the token refused the PIN in ${pinFile}, which is not tried again until the file changes`;
  return new ProviderError('UNAUTHENTICATED', text, cause === undefined ? {} : { cause, detail: detailOf(cause) });
}
