/** Moves one token or many to the newest version of the same key, inside the agent. */
import { ROW, ROW_STATUS, ROW_WORDS, TOKEN_OVERHEAD } from '../crypto/engine.ts';
import { TOKEN_KID_OFFSET } from '../envelope/token.ts';
import { DekdError, decryptionFailed } from '../errors.ts';
import type { DataKey } from '../keyring/keyring.ts';
import { runPasses, sealStale, undoing, writeValue } from './batch.ts';
import { isDirectToken, remakeDirect } from './direct.ts';
import type { OperationsEnvironment, Outcome } from './environment.ts';
import { requireContext } from './limits.ts';
import { type Loaded, loadOpening, loadSealing, type Missing, sealingId } from './loading.ts';
import { checkToken, OpenPass, openingHandle, openRows, openStale } from './opening.ts';
import type { Caller, ManyRequest, Output, ValueRequest } from './request.ts';
import { planOf, runSlices, runValue, type SliceWork } from './slices.ts';

export function reencryptValue(
  env: OperationsEnvironment,
  caller: Caller,
  request: ValueRequest,
  output: Output,
): Outcome {
  const { frame, dataOffset } = request;
  checkToken(env, caller, 'reencrypt', request);
  if (isDirectToken(frame, dataOffset)) {
    const kept = request.copy();
    return remakeDirect(env, caller, kept, kept).then((token) => writeValue(output, kept.id, token));
  }
  if (env.pool.isWorthHop(2, 2 * request.dataLength)) {
    return runValue(env, request, output, moveSlices(env, caller));
  }
  const opening = env.keyring.opening(frame, dataOffset + TOKEN_KID_OFFSET);
  const sealing = env.keyring.sealing(request.key, request.partition, request.root);
  if (opening !== undefined && sealing !== undefined) {
    reseal(env, caller, opening, sealing, request, output);
    return undefined;
  }
  const kept = request.copy();
  return (async () => {
    const from = opening ?? (await loadOpening(env, caller, frame, dataOffset));
    const to = sealing ?? (await loadSealing(env, caller, kept.key, kept.partition, 'seal', kept.root));
    reseal(env, caller, from, to, kept, output);
  })();
}

export function reencryptMany(
  env: OperationsEnvironment,
  caller: Caller,
  request: ManyRequest,
  output: Output,
): Outcome {
  const plan = planOf(env, request, 2);
  if (plan === undefined) {
    return reencryptAtOnce(env, caller, request, output);
  }
  const moving = moveSlices(env, caller);
  return runSlices(env, request, output, plan, moving, (kept) => reencryptAtOnce(env, caller, kept, output));
}

/** Opens the rows of a slice into memory of its own, and seals them from there. */
function moveSlices(env: OperationsEnvironment, caller: Caller): SliceWork {
  return {
    growth: 0,
    overhead: TOKEN_OVERHEAD,
    pass: (request, loaded, table) => new OpenPass(env, caller, request, 'reencrypt', loaded, table),
    async run(slice, pass) {
      const { frame, reply, loaded } = slice;
      const { memory } = env.pool;
      const opened = pass as OpenPass;
      const places = placesOfMoved(opened, slice);
      const length = reencryptLayout(opened);
      const scratch = memory.take(length);
      try {
        await slice.rows('openRows', opened, frame, scratch);
        openStale(env, opened, frame, scratch);
        opened.collect();
        let missing = resealTargets(env, caller, opened, frame, loaded);
        while (missing.size > 0) {
          await loaded.load(missing);
          missing = resealTargets(env, caller, opened, frame, loaded);
        }
        rowsToSeal(opened, frame, scratch, places);
        await slice.rows('sealRows', opened, scratch, reply.buffer);
        sealStale(env, opened, scratch, reply.buffer);
        opened.countUse();
      } finally {
        memory.give(scratch, length);
      }
    },
  };
}

/** Where the value of each row goes in the reply; one that fails leaves its place empty. */
function placesOfMoved(pass: OpenPass, reply: Pick<Output, 'manyValue'>): Uint32Array {
  return Uint32Array.from({ length: pass.count }, (_, index) => {
    const row = index * ROW_WORDS;
    return reply.manyValue(pass.table[row + ROW.status] === ROW_STATUS.skip ? 0 : pass.table[row + ROW.dataLength]!);
  });
}

/** Turns rows that were opened into rows to be sealed, from `scratch` to their places. */
function rowsToSeal(pass: OpenPass, frame: Uint8Array, scratch: Uint8Array, places: Uint32Array): void {
  const { table } = pass;
  for (let index = 0, row = 0; index < pass.count; index++, row += ROW_WORDS) {
    if (pass.failures.has(index)) {
      table[row + ROW.status] = ROW_STATUS.skip;
      continue;
    }
    const contextAt = table[row + ROW.contextOffset]!;
    const contextLength = table[row + ROW.contextLength]!;
    const plaintextAt = table[row + ROW.outOffset]!;
    scratch.set(frame.subarray(contextAt, contextAt + contextLength), plaintextAt - contextLength);
    table[row + ROW.contextOffset] = plaintextAt - contextLength;
    table[row + ROW.dataOffset] = plaintextAt;
    table[row + ROW.dataLength] = table[row + ROW.dataLength]! - TOKEN_OVERHEAD;
    table[row + ROW.outOffset] = places[index]!;
    try {
      table[row + ROW.key] = pass.keys[index]!.handle();
    } catch (error) {
      pass.fail(index, DekdError.from(error));
    }
  }
}

function reencryptAtOnce(env: OperationsEnvironment, caller: Caller, request: ManyRequest, output: Output): Outcome {
  return runPasses(request, (loaded, kept) => {
    const pass = new OpenPass(env, caller, kept, 'reencrypt', loaded);
    kept.visitItems(pass);
    pass.checkWeight();
    if (pass.missing.size > 0) {
      return pass.missing;
    }
    // Contexts are copied in front of the plaintexts, because the engine reads both from one place.
    const layout = reencryptLayout(pass);
    const scratch = new Uint8Array(layout);
    try {
      openRows(env, pass, kept.frame, scratch);
      pass.collect();
      const missing = resealTargets(env, caller, pass, kept.frame, loaded);
      if (missing.size > 0) {
        return missing;
      }
      output.beginMany(kept.id, pass.bound + pass.count * TOKEN_OVERHEAD);
      undoing(output, () => resealRows(env, pass, kept, scratch, output));
    } finally {
      scratch.fill(0);
    }
    return undefined;
  });
}

/** Lays the scratch space out: for each row its context, then room for its plaintext. Returns the size in bytes. */
function reencryptLayout(pass: OpenPass): number {
  let at = 0;
  for (let index = 0, row = 0; index < pass.count; index++, row += ROW_WORDS) {
    if (pass.table[row + ROW.status] === ROW_STATUS.skip) {
      continue;
    }
    at += pass.table[row + ROW.contextLength]!;
    pass.table[row + ROW.outOffset] = at;
    at += pass.table[row + ROW.dataLength]! - TOKEN_OVERHEAD;
  }
  return at;
}

/** Puts the key that seals now in the place of the one that opened. */
function resealTargets(
  env: OperationsEnvironment,
  caller: Caller,
  pass: OpenPass,
  frame: Uint8Array,
  loaded: Loaded,
): Missing {
  const missing: Missing = new Map();
  for (let index = 0; index < pass.count; index++) {
    const from = pass.keys[index];
    if (from === undefined || pass.failures.has(index)) {
      continue;
    }
    const root = pass.roots.get(index) ?? '';
    const id = sealingId(from.name, from.partition, root);
    try {
      const to = env.keyring.sealing(from.name, from.partition, root) ?? loaded.key(id);
      if (to === undefined) {
        missing.set(id, () => loadSealing(env, caller, from.name, from.partition, 'seal', root));
      } else {
        const row = index * ROW_WORDS;
        requireContext(to, frame, pass.table[row + ROW.contextOffset]!, pass.table[row + ROW.contextLength]!);
        pass.keys[index] = to;
      }
    } catch (error) {
      pass.failures.set(index, DekdError.from(error));
    }
  }
  return missing;
}

function resealRows(
  env: OperationsEnvironment,
  pass: OpenPass,
  request: ManyRequest,
  scratch: Uint8Array,
  output: Output,
): void {
  const { table } = pass;
  for (let index = 0, row = 0; index < pass.count; index++, row += ROW_WORDS) {
    const made = pass.values.get(index);
    if (pass.failures.has(index) || made !== undefined) {
      const at = output.manyValue(made?.length ?? 0);
      if (made !== undefined) {
        output.buffer.set(made, at);
      }
      continue;
    }
    const key = pass.keys[index]!;
    const contextLength = table[row + ROW.contextLength]!;
    const contextAt = table[row + ROW.contextOffset]!;
    const plaintextAt = table[row + ROW.outOffset]!;
    const length = table[row + ROW.dataLength]! - TOKEN_OVERHEAD;
    scratch.set(request.frame.subarray(contextAt, contextAt + contextLength), plaintextAt - contextLength);
    const handle = key.handle();
    const at = output.manyValue(length + TOKEN_OVERHEAD);
    env.engine.seal(
      handle,
      scratch,
      plaintextAt - contextLength,
      contextLength,
      plaintextAt,
      length,
      output.buffer,
      at,
    );
    key.used(1, length);
    env.volume.bytesSealed += length;
  }
  pass.finish(output);
}

function reseal(
  env: OperationsEnvironment,
  caller: Caller,
  from: DataKey | undefined,
  to: DataKey,
  request: ValueRequest,
  output: Output,
): void {
  const { frame, contextOffset, contextLength, dataOffset, dataLength } = request;
  const length = dataLength - TOKEN_OVERHEAD;
  // Plaintext between the two keys lives only here, behind a copy of the context, and is wiped before returning.
  const scratch = new Uint8Array(contextLength + length);
  try {
    const { handle, refusal } = openingHandle(env, caller, 'reencrypt', from, request);
    const opened = env.engine.open(
      handle,
      frame,
      contextOffset,
      contextLength,
      dataOffset,
      dataLength,
      scratch,
      contextLength,
    );
    if (!opened || refusal !== undefined) {
      throw decryptionFailed(refusal ?? 'tag or context does not match');
    }
    scratch.set(frame.subarray(contextOffset, contextOffset + contextLength));
    requireContext(to, scratch, 0, contextLength);
    const sealing = to.handle();
    const at = output.reserveValue(request.id, dataLength);
    try {
      env.engine.seal(sealing, scratch, 0, contextLength, contextLength, length, output.buffer, at);
    } catch (error) {
      output.rewind();
      throw error;
    }
    to.used(1, length);
    output.keyUsed(request.id, to);
    env.volume.bytesSealed += length;
  } finally {
    scratch.fill(0);
  }
}
