/** Encrypts one value or many. The warm path is synchronous. */
import { TOKEN_OVERHEAD } from '../crypto/engine.ts';
import { checkContext } from '../envelope/context.ts';
import type { DataKey } from '../keyring/keyring.ts';
import { Pass, runAtOnce, sealStale, writeValue } from './batch.ts';
import { sealDirect } from './direct.ts';
import type { OperationsEnvironment, Outcome } from './environment.ts';
import { checkPayload, requireContext } from './limits.ts';
import { authorizeSealing, type Loaded, loadSealing, sealingId } from './loading.ts';
import type { Caller, ManyRequest, Output, ValueRequest } from './request.ts';
import { planOf, runSlices, runValue, type SliceWork } from './slices.ts';

export function encryptValue(
  env: OperationsEnvironment,
  caller: Caller,
  request: ValueRequest,
  output: Output,
): Outcome {
  authorizeSealing(caller, 'encrypt', request.key, request.partition, request.root);
  checkPayload(request.dataLength, env.maxPayload);
  checkContext(request.frame, request.contextOffset, request.contextLength);
  const direct = env.keyring.directSealing(request.key, request.partition, request.root);
  if (direct !== undefined) {
    const kept = request.copy();
    return sealDirect(env, direct, kept).then((token) => writeValue(output, kept.id, token));
  }
  if (env.pool.isWorthHop(1, request.dataLength)) {
    return runValue(env, request, output, sealSlices(env, caller));
  }
  const key = env.keyring.sealing(request.key, request.partition, request.root);
  if (key !== undefined) {
    seal(env, key, request, output);
    return undefined;
  }
  const kept = request.copy();
  return loadSealing(env, caller, kept.key, kept.partition, 'seal', kept.root).then((loaded) =>
    seal(env, loaded, kept, output),
  );
}

export function encryptMany(env: OperationsEnvironment, caller: Caller, request: ManyRequest, output: Output): Outcome {
  const plan = planOf(env, request);
  if (plan === undefined) {
    return encryptAtOnce(env, caller, request, output);
  }
  const sealing = sealSlices(env, caller);
  return runSlices(env, request, output, plan, sealing, (kept) => encryptAtOnce(env, caller, kept, output));
}

function encryptAtOnce(env: OperationsEnvironment, caller: Caller, request: ManyRequest, output: Output): Outcome {
  const passOf = (kept: ManyRequest, loaded: Loaded) => new EncryptPass(env, caller, kept, loaded);
  return runAtOnce(request, output, passOf, (pass, frame) => {
    pass.writeMade(output);
    sealRows(env, pass, frame, output.buffer);
    pass.countUse();
  });
}

function sealSlices(env: OperationsEnvironment, caller: Caller): SliceWork {
  return {
    growth: TOKEN_OVERHEAD,
    overhead: 0,
    pass: (request, loaded, table) => new EncryptPass(env, caller, request, loaded, table),
    async run(slice, pass) {
      pass.placeRows(slice);
      await slice.rows('sealRows', pass, slice.frame, slice.reply.buffer);
      sealStale(env, pass, slice.frame, slice.reply.buffer);
      pass.countUse();
    },
  };
}

function seal(env: OperationsEnvironment, key: DataKey, request: ValueRequest, output: Output): void {
  const { frame, contextOffset, contextLength, dataOffset, dataLength } = request;
  requireContext(key, frame, contextOffset, contextLength);
  const handle = key.handle();
  const at = output.reserveValue(request.id, dataLength + TOKEN_OVERHEAD);
  try {
    env.engine.seal(handle, frame, contextOffset, contextLength, dataOffset, dataLength, output.buffer, at);
  } catch (error) {
    output.rewind();
    throw error;
  }
  key.used(1, dataLength);
  output.keyUsed(request.id, key);
  env.volume.bytesSealed += dataLength;
}

class EncryptPass extends Pass {
  #key: DataKey | undefined;
  #name: string | undefined;
  #partition: string | undefined;
  #root: string | undefined;
  #handle = 0;
  #loaded: Loaded;

  constructor(env: OperationsEnvironment, caller: Caller, request: ManyRequest, loaded: Loaded, rows?: Uint32Array) {
    super(env, caller, request, rows);
    this.#loaded = loaded;
  }

  protected valueLength(dataLength: number): number {
    return dataLength + TOKEN_OVERHEAD;
  }

  protected plaintextLength(dataLength: number): number {
    return dataLength;
  }

  protected decide(
    dataOffset: number,
    dataLength: number,
    contextOffset: number,
    contextLength: number,
    name: string,
    partition: string,
    root: string,
  ): number {
    if (name !== this.#name || partition !== this.#partition || root !== this.#root) {
      this.#name = undefined;
      authorizeSealing(this.caller, 'encrypt', name, partition, root);
      const direct = this.env.keyring.directSealing(name, partition, root);
      if (direct !== undefined) {
        const { frame } = this.request;
        return this.made(this.#loaded, () =>
          sealDirect(this.env, direct, { frame, contextOffset, contextLength, dataOffset, dataLength }),
        );
      }
      this.#key = this.env.keyring.sealing(name, partition, root) ?? this.#loaded.key(sealingId(name, partition, root));
      if (this.#key === undefined) {
        const load = () => loadSealing(this.env, this.caller, name, partition, 'seal', root);
        this.missing.set(sealingId(name, partition, root), load);
        return 0;
      }
      this.#handle = this.#key.handle();
      this.#name = name;
      this.#partition = partition;
      this.#root = root;
    }
    const key = this.#key!;
    if (key.requiredContext.length > 0) {
      requireContext(key, this.request.frame, contextOffset, contextLength);
    }
    this.keys[this.count - 1] = key;
    return this.#handle;
  }
}

function sealRows(env: OperationsEnvironment, pass: EncryptPass, frame: Uint8Array, target: Uint8Array): void {
  env.engine.sealMany(pass.table, pass.count, frame, target);
  sealStale(env, pass, frame, target);
}
