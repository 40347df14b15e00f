/**
 * Computes values for an index: the same 32 bytes for the same value under the same key, for one column or as a fingerprint,
 * and never which value it was. Whoever may ask can try values out, so that asking has a right and a quota of its own.
 */
import { MAC_LENGTH } from '../crypto/engine.ts';
import { DekdError } from '../errors.ts';
import type { DataKey } from '../keyring/keyring.ts';
import { runAtOnce } from './batch.ts';
import type { OperationsEnvironment, Outcome } from './environment.ts';
import { type Loaded, loadSealing, sealingId } from './loading.ts';
import { MAC_PASSES, MakingPass, makeRows, scopeMemo } from './mac-pass.ts';
import type { Caller, IndexRequest, ManyRequest, Output } from './request.ts';
import { planOf, runSlices, type SliceWork } from './slices.ts';

/** Bytes of UTF-8 in the name of a table, and of a column. */
const MAX_PLACE_NAME = 255;

export function blindIndex(env: OperationsEnvironment, caller: Caller, request: IndexRequest, output: Output): Outcome {
  caller.authorize('blindIndex', request.key, request.partition);
  checkPlace(request);
  const plan = planOf(env, request, MAC_PASSES);
  caller.chargeIndex(request.key, request.partition, request.count);
  if (plan === undefined) {
    return indexAtOnce(env, caller, request, output);
  }
  return runSlices(env, request, output, plan, indexSlices(env, caller), (kept) =>
    indexAtOnce(env, caller, kept, output),
  );
}

/** @throws INVALID_ARGUMENT */
function checkPlace({ table, column, isFingerprint }: IndexRequest): void {
  if (isFingerprint) {
    if (table !== '' || column !== '') {
      throw new DekdError('INVALID_ARGUMENT', 'a fingerprint is of no table and column: leave them out');
    }
    return;
  }
  for (const [what, name] of [
    ['table', table],
    ['column', column],
  ] as const) {
    const length = Buffer.byteLength(name);
    if (length < 1 || length > MAX_PLACE_NAME) {
      throw new DekdError(
        'INVALID_ARGUMENT',
        `${what} has ${length} bytes; an index names its table and its column with 1 to ${MAX_PLACE_NAME} bytes each`,
      );
    }
  }
}

function indexAtOnce(env: OperationsEnvironment, caller: Caller, request: ManyRequest, output: Output): Outcome {
  const passOf = (kept: ManyRequest, loaded: Loaded) => new IndexPass(env, caller, kept, loaded);
  return runAtOnce(request, output, passOf, (pass, frame) => {
    makeRows(env, pass, frame, output.buffer);
    pass.countUse();
  });
}

function indexSlices(env: OperationsEnvironment, caller: Caller): SliceWork<IndexPass> {
  return {
    growth: MAC_LENGTH,
    overhead: 0,
    pass: (request, loaded, table) => new IndexPass(env, caller, request, loaded, table),
    async run(slice, pass) {
      pass.placeRows(slice);
      await slice.rows('macRows', pass, slice.frame, slice.reply.buffer, pass.scopes());
      pass.makeStale(slice.frame, slice.reply.buffer);
      pass.countUse();
    },
  };
}

/** All items are of the key that the request names. */
class IndexPass extends MakingPass {
  protected readonly headLength = 0;
  #key: DataKey | undefined;
  #handle = 0;
  readonly #loaded: Loaded;

  constructor(env: OperationsEnvironment, caller: Caller, request: ManyRequest, loaded: Loaded, rows?: Uint32Array) {
    super(env, caller, request, rows);
    this.#loaded = loaded;
    this.addScope(scopeOf(request as IndexRequest));
  }

  protected writeHead(): void {}

  protected decide(
    _dataOffset: number,
    _dataLength: number,
    _contextOffset: number,
    contextLength: number,
    name: string,
    partition: string,
  ): number {
    const { request, env, caller } = this;
    if (name !== request.key || partition !== request.partition || contextLength > 0) {
      throw new DekdError('INVALID_ARGUMENT', 'values of one request for an index are of one key, without context');
    }
    if (this.#key === undefined) {
      const id = sealingId(name, partition);
      const key = env.keyring.sealingFor('index', name, partition) ?? this.#loaded.key(id);
      if (key === undefined) {
        this.missing.set(id, () => loadSealing(env, caller, name, partition, 'index'));
        return 0;
      }
      this.#handle = key.handle();
      this.#key = key;
    }
    this.keys[this.count - 1] = this.#key;
    this.setScope(0);
    return this.#handle;
  }
}

function scopeOf({ key, partition, table, column, isFingerprint }: IndexRequest): Uint8Array {
  return isFingerprint
    ? scopeMemo.scope('dekd/v1/fingerprint', key, partition)
    : scopeMemo.scope('dekd/v1/index', key, partition, table, column);
}
