/** What a custodian does for its agent: a provider's work, or a keystore's. */
import type { CustodianOperation } from './custodian-messages.ts';

export interface DutyCall {
  readonly target: string;
  readonly operation: CustodianOperation;
  readonly args: Readonly<Record<string, unknown>>;
  readonly body: Uint8Array;
  /** The frame that came ahead of it, wiped when the call is done; undefined for operations without one. */
  readonly secret: Uint8Array | undefined;
  /** Aborted with a TimeoutError at the deadline, with an AbortError when nobody wants the answer any more. */
  readonly signal: AbortSignal;
}

export interface DutyAnswer {
  readonly value?: unknown;
  readonly body?: Uint8Array;
  /** Goes over the key pipe and is wiped. */
  readonly secret?: Uint8Array;
  readonly rows?: readonly object[];
}

export interface Duty {
  /** @throws ProviderError, DekdError; anything else is a defect */
  perform(call: DutyCall): Promise<DutyAnswer>;
  /** Closes everything; logins of the targets in `forget` are ended, the others left for the next custodian. */
  end(forget: readonly string[]): Promise<void>;
}
