/** Decrypts one value or many. The warm path is synchronous. */
import { TOKEN_OVERHEAD } from '../crypto/engine.ts';
import { TOKEN_KID_OFFSET } from '../envelope/token.ts';
import { decryptionFailed } from '../errors.ts';
import type { DataKey } from '../keyring/keyring.ts';
import { runAtOnce, writeValue } from './batch.ts';
import { isDirectToken, openDirect } from './direct.ts';
import type { OperationsEnvironment, Outcome } from './environment.ts';
import { type Loaded, loadOpening } from './loading.ts';
import { checkToken, OpenPass, openingHandle, openRows, openStale } from './opening.ts';
import type { Caller, ManyRequest, Output, ValueRequest } from './request.ts';
import { planOf, runSlices, runValue, type SliceWork } from './slices.ts';

export function decryptValue(
  env: OperationsEnvironment,
  caller: Caller,
  request: ValueRequest,
  output: Output,
): Outcome {
  const { frame, dataOffset } = request;
  checkToken(env, caller, 'decrypt', request);
  if (isDirectToken(frame, dataOffset)) {
    const kept = request.copy();
    return openDirect(env, kept, kept).then((plaintext) => writeValue(output, kept.id, plaintext));
  }
  if (env.pool.isWorthHop(1, request.dataLength)) {
    return runValue(env, request, output, openSlices(env, caller));
  }
  const key = env.keyring.opening(frame, dataOffset + TOKEN_KID_OFFSET);
  if (key !== undefined) {
    open(env, caller, key, request, output);
    return undefined;
  }
  const kept = request.copy();
  return loadOpening(env, caller, frame, dataOffset).then((loaded) => open(env, caller, loaded, kept, output));
}

export function decryptMany(env: OperationsEnvironment, caller: Caller, request: ManyRequest, output: Output): Outcome {
  const plan = planOf(env, request);
  if (plan === undefined) {
    return decryptAtOnce(env, caller, request, output);
  }
  const opening = openSlices(env, caller);
  return runSlices(env, request, output, plan, opening, (kept) => decryptAtOnce(env, caller, kept, output));
}

function openSlices(env: OperationsEnvironment, caller: Caller): SliceWork {
  return {
    growth: -TOKEN_OVERHEAD,
    overhead: TOKEN_OVERHEAD,
    pass: (request, loaded, table) => new OpenPass(env, caller, request, 'decrypt', loaded, table),
    async run(slice, pass) {
      pass.placeRows(slice);
      await slice.rows('openRows', pass, slice.frame, slice.reply.buffer);
      openStale(env, pass as OpenPass, slice.frame, slice.reply.buffer);
      (pass as OpenPass).collect();
    },
  };
}

function decryptAtOnce(env: OperationsEnvironment, caller: Caller, request: ManyRequest, output: Output): Outcome {
  const passOf = (kept: ManyRequest, loaded: Loaded) => new OpenPass(env, caller, kept, 'decrypt', loaded);
  return runAtOnce(request, output, passOf, (pass, frame) => {
    pass.writeMade(output);
    openRows(env, pass, frame, output.buffer);
    pass.collect();
  });
}

function open(
  env: OperationsEnvironment,
  caller: Caller,
  key: DataKey | undefined,
  request: ValueRequest,
  output: Output,
): void {
  const { frame, contextOffset, contextLength, dataOffset, dataLength } = request;
  const { handle, refusal } = openingHandle(env, caller, 'decrypt', key, request);
  const at = output.reserveValue(request.id, dataLength - TOKEN_OVERHEAD);
  let opened: boolean;
  try {
    opened = env.engine.open(handle, frame, contextOffset, contextLength, dataOffset, dataLength, output.buffer, at);
  } catch (error) {
    output.rewind();
    throw error;
  }
  if (!opened || refusal !== undefined) {
    output.rewind();
    throw decryptionFailed(refusal ?? 'tag or context does not match');
  }
  env.volume.bytesOpened += dataLength - TOKEN_OVERHEAD;
  output.keyUsed(request.id, key!);
}
