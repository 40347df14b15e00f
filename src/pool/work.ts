/** What the agent's thread asks of a worker. Bytes lie in shared memory and keys are handles: a message carries neither. */
import type { EngineShare, KeyHandle, OpenedFrames } from '../crypto/engine.ts';
import type { ErrorCode } from '../errors.ts';
import type { Codec } from './blocks.ts';

/** Rows of a batch, as `Engine.sealMany` and `openMany` take them, and with scopes `macMany` and `verifyMacMany`. */
export interface RowsWork {
  readonly kind: 'sealRows' | 'openRows' | 'macRows' | 'verifyRows';
  readonly table: Uint32Array;
  readonly count: number;
  readonly input: Uint8Array;
  readonly output: Uint8Array;
  /** Of MACs only. */
  readonly scopes?: Uint8Array | undefined;
  /** Not 0 once nobody wants the result; looked at between slices. */
  readonly flag: Int32Array;
}

export interface SealFramesWork {
  readonly kind: 'sealFrames';
  readonly message: KeyHandle;
  readonly plaintext: Uint8Array;
  readonly isFinal: boolean;
  readonly output: Uint8Array;
}

export interface OpenFramesWork {
  readonly kind: 'openFrames';
  readonly message: KeyHandle;
  readonly body: Uint8Array;
  readonly output: Uint8Array;
}

/** One block of a compressed value, there or back; see `blocks.ts`. */
export interface BlockWork {
  readonly kind: 'compress' | 'expand';
  readonly codec: Codec;
  readonly input: Uint8Array;
  readonly output: Uint8Array;
}

export type Work = RowsWork | SealFramesWork | OpenFramesWork | BlockWork | { readonly kind: 'nothing' };

/** An error as it crosses threads, where classes get lost. */
export interface WorkFailure {
  readonly code: ErrorCode;
  readonly message: string;
  readonly reason: string | undefined;
}

export interface WorkResult {
  /** Milliseconds that the work itself took. */
  readonly elapsedMs: number;
  readonly failure?: WorkFailure;
  readonly opened?: OpenedFrames | undefined;
  /** Bytes of a block written to its output. */
  readonly length?: number;
}

/** What a worker is started with. */
export interface WorkerSetup {
  readonly share: EngineShare;
}
