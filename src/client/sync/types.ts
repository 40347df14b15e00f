import type {
  ConnectOptions,
  DecryptOptions,
  EncryptOptions,
  ManyDecryptOptions,
  ManyItem,
  ManyOptions,
  ManyResult,
} from '../types.ts';

/** As for `connect`. There is no lane: every value goes over the socket, up to the agent's `limits.maxPayload`. */
export type SyncConnectOptions = Omit<ConnectOptions, 'lane'>;

/**
 * A call cannot be aborted while it runs: nothing else runs in its thread. What a `signal` of the other client's options
 * says is looked at once, before the call.
 */
export type Blocking<Options> = Options extends unknown ? Omit<Options, 'signal'> : never;

/**
 * A client whose calls block their thread until the agent has answered: for hooks that cannot await. Nothing else runs
 * meanwhile, time-outs included, so in a server it is for what no asynchronous hook can do.
 *
 * Results, limits, idempotent re-sending and errors are those of `connect`, thrown.
 */
export interface DekdSyncClient extends Disposable {
  encrypt(data: Uint8Array, options: Blocking<EncryptOptions>): Uint8Array;
  encryptText(text: string, options: Blocking<EncryptOptions>): string;
  decrypt(token: Uint8Array, options: Blocking<DecryptOptions>): Uint8Array;
  decryptText(token: string, options: Blocking<DecryptOptions>): string;
  /** One result per item, in order; a round trip for each 256 KiB or so. */
  encryptMany(items: readonly ManyItem[], options?: Blocking<ManyOptions>): ManyResult[];
  decryptMany(items: readonly ManyItem[], options?: Blocking<ManyDecryptOptions>): ManyResult[];
  /** Ends its thread, and its private agent; later calls throw AGENT_UNAVAILABLE. */
  close(): void;
}
