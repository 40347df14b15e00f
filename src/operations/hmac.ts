/** Makes the MAC of one value or of many, bound to key, partition and context. The warm path is synchronous. */
import { MAC_LENGTH, ROW } from '../crypto/engine.ts';
import { checkContext } from '../envelope/context.ts';
import { MAC_HEAD_LENGTH, STORED_MAC_LENGTH, writeMacHead } from '../envelope/mac.ts';
import type { DataKey } from '../keyring/keyring.ts';
import { runAtOnce, undoing } from './batch.ts';
import type { OperationsEnvironment, Outcome } from './environment.ts';
import { checkPayload, requireContext } from './limits.ts';
import { type Loaded, loadSealing, sealingId } from './loading.ts';
import { checkDone, MAC_PASSES, MakingPass, makeRows, oneRow, scopeMemo } from './mac-pass.ts';
import type { Caller, ManyRequest, Output, ValueRequest } from './request.ts';
import { planOf, runSlices, runValue, type SliceWork } from './slices.ts';

export const HMAC_LABEL = 'dekd/v1/hmac';

export function hmacValue(env: OperationsEnvironment, caller: Caller, request: ValueRequest, output: Output): Outcome {
  caller.authorize('hmac', request.key, request.partition);
  checkPayload(request.dataLength, env.maxPayload);
  checkContext(request.frame, request.contextOffset, request.contextLength);
  if (env.pool.isWorthHop(MAC_PASSES, MAC_PASSES * request.dataLength)) {
    return runValue(env, request, output, hmacSlices(env, caller));
  }
  const key = env.keyring.sealingFor('mac', request.key, request.partition);
  if (key !== undefined) {
    make(env, key, request, output);
    return undefined;
  }
  const kept = request.copy();
  return loadSealing(env, caller, kept.key, kept.partition, 'mac').then((loaded) => make(env, loaded, kept, output));
}

export function hmacMany(env: OperationsEnvironment, caller: Caller, request: ManyRequest, output: Output): Outcome {
  const plan = planOf(env, request, MAC_PASSES);
  if (plan === undefined) {
    return hmacAtOnce(env, caller, request, output);
  }
  return runSlices(env, request, output, plan, hmacSlices(env, caller), (kept) =>
    hmacAtOnce(env, caller, kept, output),
  );
}

function hmacAtOnce(env: OperationsEnvironment, caller: Caller, request: ManyRequest, output: Output): Outcome {
  const passOf = (kept: ManyRequest, loaded: Loaded) => new HmacPass(env, caller, kept, loaded);
  return runAtOnce(request, output, passOf, (pass, frame) => {
    makeRows(env, pass, frame, output.buffer);
    pass.countUse();
  });
}

function hmacSlices(env: OperationsEnvironment, caller: Caller): SliceWork<HmacPass> {
  return {
    growth: STORED_MAC_LENGTH,
    overhead: 0,
    pass: (request, loaded, table) => new HmacPass(env, caller, request, loaded, table),
    async run(slice, pass) {
      pass.placeRows(slice);
      pass.writeHeads(slice.reply.buffer);
      await slice.rows('macRows', pass, slice.frame, slice.reply.buffer, pass.scopes());
      pass.makeStale(slice.frame, slice.reply.buffer);
      pass.countUse();
    },
  };
}

function make(env: OperationsEnvironment, key: DataKey, request: ValueRequest, output: Output): void {
  const { frame, contextOffset, contextLength, dataLength } = request;
  requireContext(key, frame, contextOffset, contextLength);
  const row = oneRow(key.handle(), request);
  const at = output.reserveValue(request.id, STORED_MAC_LENGTH);
  undoing(output, () => {
    writeMacHead(key.kid, output.buffer, at);
    row[ROW.outOffset] = at + MAC_HEAD_LENGTH;
    env.engine.macMany(row, 1, scopeMemo.scope(HMAC_LABEL, key.name, key.partition), frame, output.buffer);
    checkDone(row);
  });
  key.used(1, dataLength);
  output.keyUsed(request.id, key);
}

class HmacPass extends MakingPass {
  protected readonly headLength = STORED_MAC_LENGTH - MAC_LENGTH;
  #key: DataKey | undefined;
  #name: string | undefined;
  #partition: string | undefined;
  #handle = 0;
  #scope = 0;
  readonly #loaded: Loaded;

  constructor(env: OperationsEnvironment, caller: Caller, request: ManyRequest, loaded: Loaded, rows?: Uint32Array) {
    super(env, caller, request, rows);
    this.#loaded = loaded;
  }

  protected writeHead(key: DataKey, target: Uint8Array, offset: number): void {
    writeMacHead(key.kid, target, offset);
  }

  protected decide(
    _dataOffset: number,
    _dataLength: number,
    contextOffset: number,
    contextLength: number,
    name: string,
    partition: string,
  ): number {
    if (name !== this.#name || partition !== this.#partition) {
      this.#name = undefined;
      this.caller.authorize('hmac', name, partition);
      const id = sealingId(name, partition);
      this.#key = this.env.keyring.sealingFor('mac', name, partition) ?? this.#loaded.key(id);
      if (this.#key === undefined) {
        this.missing.set(id, () => loadSealing(this.env, this.caller, name, partition, 'mac'));
        return 0;
      }
      this.#handle = this.#key.handle();
      this.#scope = this.scopeOffset(HMAC_LABEL, name, partition);
      this.#name = name;
      this.#partition = partition;
    }
    requireContext(this.#key!, this.request.frame, contextOffset, contextLength);
    this.keys[this.count - 1] = this.#key;
    this.setScope(this.#scope);
    return this.#handle;
  }
}
