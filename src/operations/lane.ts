/** Encrypts and decrypts one value that lies in memory shared with the client. The warm path is synchronous. */
import { TOKEN_OVERHEAD } from '../crypto/engine.ts';
import type { LaneMemory, SharedRange } from '../crypto/lane.ts';
import { checkContext } from '../envelope/context.ts';
import { MIN_TOKEN_LENGTH, readTokenHead, TOKEN_KID_OFFSET } from '../envelope/token.ts';
import { DekdError, decryptionFailed } from '../errors.ts';
import type { DataKey } from '../keyring/keyring.ts';
import { isDirectToken, openDirect, sealDirect, type ValuePlace } from './direct.ts';
import type { OperationsEnvironment, Outcome } from './environment.ts';
import { requireContext } from './limits.ts';
import { authorizeSealing, loadOpening, loadSealing } from './loading.ts';
import { openingHandle } from './opening.ts';
import type { Caller, ValueRequest } from './request.ts';

/** What the calls below work with beside the environment. */
export interface LaneEnvironment {
  readonly memory: LaneMemory;
  /** Largest plaintext of one request, in bytes. */
  readonly maxPayload: number;
}

/** Where the bytes of a request lie and where its result goes; inside of their regions, and apart. */
export interface LanePlace {
  readonly input: SharedRange;
  readonly result: SharedRange;
}

/** Where the answer is given. */
export interface LaneOutput {
  /** @throws CANCELLED when nobody waits for the answer: nothing is to be written for it then */
  checkWanted(id: number): void;
  /** Notes which version of a key did the work. */
  keyUsed(id: number, key: DataKey): void;
  /** The result lies at its place, `length` bytes. */
  laneResult(id: number, length: number): void;
}

/** Longest token of a key whose provider encrypts: it is copied whole. */
const MAX_DIRECT_TOKEN = 64 * 1024;

/** @param request its binding; it has no data. @throws as `encryptValue`, and INVALID_ARGUMENT when the result lacks room */
export function encryptShared(
  env: OperationsEnvironment,
  lane: LaneEnvironment,
  caller: Caller,
  request: ValueRequest,
  place: LanePlace,
  output: LaneOutput,
): Outcome {
  const { input } = place;
  authorizeSealing(caller, 'encrypt', request.key, request.partition, request.root);
  checkLanePayload(input.length, lane.maxPayload);
  checkContext(request.frame, request.contextOffset, request.contextLength);
  const direct = env.keyring.directSealing(request.key, request.partition, request.root);
  if (direct !== undefined) {
    const { id } = request;
    return sealDirect(env, direct, privateCopy(lane, request, input)).then((token) =>
      writeResult(lane, place, id, token, output),
    );
  }
  const key = env.keyring.sealing(request.key, request.partition, request.root);
  if (key !== undefined) {
    seal(env, lane, key, request, place, output);
    return undefined;
  }
  const kept = request.copy();
  return loadSealing(env, caller, kept.key, kept.partition, 'seal', kept.root).then((loaded) =>
    seal(env, lane, loaded, kept, place, output),
  );
}

/** The reverse. @throws as `decryptValue`; nothing is written to the result then */
export function decryptShared(
  env: OperationsEnvironment,
  lane: LaneEnvironment,
  caller: Caller,
  request: ValueRequest,
  place: LanePlace,
  output: LaneOutput,
): Outcome {
  const { input } = place;
  if (!request.anyKey) {
    caller.authorize('decrypt', request.key, request.partition);
  }
  checkLanePayload(input.length - TOKEN_OVERHEAD, lane.maxPayload);
  // Which key it is of is decided on a copy. The engine reads the head anew, and opens only what is of this key.
  const head = lane.memory.read({ ...input, length: Math.min(input.length, MIN_TOKEN_LENGTH) });
  readTokenHead(head, 0, head.length);
  checkContext(request.frame, request.contextOffset, request.contextLength);
  if (isDirectToken(head, 0)) {
    const { id } = request;
    return openDirect(env, privateCopy(lane, request, input), request.copy()).then((plaintext) => {
      try {
        writeResult(lane, place, id, plaintext, output);
      } finally {
        plaintext.fill(0);
      }
    });
  }
  const key = env.keyring.opening(head, TOKEN_KID_OFFSET);
  if (key !== undefined) {
    open(env, lane, caller, key, request, place, output);
    return undefined;
  }
  const kept = request.copy();
  return loadOpening(env, caller, head, 0).then((loaded) => open(env, lane, caller, loaded, kept, place, output));
}

function seal(
  env: OperationsEnvironment,
  lane: LaneEnvironment,
  key: DataKey,
  request: ValueRequest,
  place: LanePlace,
  output: LaneOutput,
): void {
  const { frame, contextOffset, contextLength, id } = request;
  const { length } = place.input;
  requireContext(key, frame, contextOffset, contextLength);
  checkRoom(length + TOKEN_OVERHEAD, place);
  output.checkWanted(id);
  lane.memory.seal(key.handle(), contextOf(request), place.input, place.result);
  key.used(1, length);
  output.keyUsed(id, key);
  env.volume.bytesSealed += length;
  output.laneResult(id, length + TOKEN_OVERHEAD);
}

function open(
  env: OperationsEnvironment,
  lane: LaneEnvironment,
  caller: Caller,
  key: DataKey | undefined,
  request: ValueRequest,
  place: LanePlace,
  output: LaneOutput,
): void {
  const length = place.input.length - TOKEN_OVERHEAD;
  checkRoom(length, place);
  const { handle, refusal } = openingHandle(env, caller, 'decrypt', key, request);
  output.checkWanted(request.id);
  const opened = lane.memory.open(handle, contextOf(request), place.input, place.result);
  if (!opened || refusal !== undefined) {
    throw decryptionFailed(refusal ?? 'tag or context does not match');
  }
  env.volume.bytesOpened += length;
  output.keyUsed(request.id, key!);
  output.laneResult(request.id, length);
}

function writeResult(lane: LaneEnvironment, place: LanePlace, id: number, bytes: Uint8Array, output: LaneOutput): void {
  checkRoom(bytes.length, place);
  output.checkWanted(id);
  lane.memory.write(place.result.region, place.result.offset, bytes);
  output.laneResult(id, bytes.length);
}

function contextOf({ frame, contextOffset, contextLength }: ValueRequest): Uint8Array {
  return frame.subarray(contextOffset, contextOffset + contextLength);
}

/** Context and data in private memory; for values that their provider encrypts, which are short. */
function privateCopy(lane: LaneEnvironment, request: ValueRequest, input: SharedRange): ValuePlace {
  if (input.length > MAX_DIRECT_TOKEN) {
    throw new DekdError(
      'INVALID_ARGUMENT',
      `value of ${input.length} bytes is over the ${MAX_DIRECT_TOKEN} of a key whose provider encrypts`,
    );
  }
  const { contextLength } = request;
  const frame = new Uint8Array(contextLength + input.length);
  frame.set(contextOf(request));
  frame.set(lane.memory.read(input), contextLength);
  return { frame, contextOffset: 0, contextLength, dataOffset: contextLength, dataLength: input.length };
}

function checkLanePayload(length: number, maxPayload: number): void {
  if (length > maxPayload) {
    throw new DekdError(
      'INVALID_ARGUMENT',
      `value of ${length} bytes is over lane.maxPayload of ${maxPayload}: raise it (to 64 MiB), split the value, or make a message`,
    );
  }
}

function checkRoom(length: number, { result }: LanePlace): void {
  if (length > result.length) {
    throw new DekdError('INVALID_ARGUMENT', `the result has ${length} bytes, and there is room for ${result.length}`);
  }
}
