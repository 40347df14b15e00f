/** Encrypts one value or many. The warm path is synchronous. */
import { ROW, ROW_STATUS, ROW_WORDS, TOKEN_OVERHEAD } from '../crypto/engine.ts';
import { checkContext } from '../envelope/context.ts';
import type { DataKey } from '../keyring/keyring.ts';
import { Pass, runPasses, staleRows, undoing, writeValue } from './batch.ts';
import { sealDirect } from './direct.ts';
import type { OperationsEnvironment, Outcome } from './environment.ts';
import { checkPayload, requireContext } from './limits.ts';
import { type Loaded, loadSealing, sealingId } from './loading.ts';
import type { Caller, ManyRequest, Output, ValueRequest } from './request.ts';

export function encryptValue(
  env: OperationsEnvironment,
  caller: Caller,
  request: ValueRequest,
  output: Output,
): Outcome {
  caller.authorize('encrypt', request.key, request.partition);
  checkPayload(request.dataLength, env.maxPayload);
  checkContext(request.frame, request.contextOffset, request.contextLength);
  const direct = env.keyring.directSealing(request.key, request.partition);
  if (direct !== undefined) {
    const kept = request.copy();
    return sealDirect(env, direct, kept).then((token) => writeValue(output, kept.id, token));
  }
  const key = env.keyring.sealing(request.key, request.partition);
  if (key !== undefined) {
    seal(env, key, request, output);
    return undefined;
  }
  const kept = request.copy();
  return loadSealing(env, caller, kept.key, kept.partition).then((loaded) => seal(env, loaded, kept, output));
}

export function encryptMany(env: OperationsEnvironment, caller: Caller, request: ManyRequest, output: Output): Outcome {
  return runPasses(request, (loaded, kept) => {
    const pass = new EncryptPass(env, caller, kept, loaded);
    kept.visitItems(pass);
    pass.checkWeight();
    if (pass.missing.size > 0) {
      return pass.missing;
    }
    pass.place(output);
    undoing(output, () => {
      pass.writeMade(output);
      sealRows(env, pass, kept.frame, output.buffer);
      pass.countUse();
      pass.finish(output);
    });
    return undefined;
  });
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
  env.volume.bytesSealed += dataLength;
}

class EncryptPass extends Pass {
  #key: DataKey | undefined;
  #name: string | undefined;
  #partition: string | undefined;
  #handle = 0;
  #loaded: Loaded;

  constructor(env: OperationsEnvironment, caller: Caller, request: ManyRequest, loaded: Loaded) {
    super(env, caller, request);
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
  ): number {
    if (name !== this.#name || partition !== this.#partition) {
      this.#name = undefined;
      this.caller.authorize('encrypt', name, partition);
      const direct = this.env.keyring.directSealing(name, partition);
      if (direct !== undefined) {
        const { frame } = this.request;
        return this.made(this.#loaded, () =>
          sealDirect(this.env, direct, { frame, contextOffset, contextLength, dataOffset, dataLength }),
        );
      }
      this.#key = this.env.keyring.sealing(name, partition) ?? this.#loaded.key(sealingId(name, partition));
      if (this.#key === undefined) {
        this.missing.set(sealingId(name, partition), () => loadSealing(this.env, this.caller, name, partition));
        return 0;
      }
      this.#handle = this.#key.handle();
      this.#name = name;
      this.#partition = partition;
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
  const { table } = pass;
  env.engine.sealMany(table, pass.count, frame, target);
  for (const index of staleRows(pass)) {
    const row = index * ROW_WORDS;
    env.engine.seal(
      pass.keys[index]!.handle(),
      frame,
      table[row + ROW.contextOffset]!,
      table[row + ROW.contextLength]!,
      table[row + ROW.dataOffset]!,
      table[row + ROW.dataLength]!,
      target,
      table[row + ROW.outOffset]!,
    );
    table[row + ROW.status] = ROW_STATUS.ok;
  }
}
