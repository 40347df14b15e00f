/**
 * Says whether MACs are those of values: one byte for each, 01 or 00.
 *
 * That a MAC is of an unknown key, of another than the named one, or just wrong, is one answer after the same work. What has
 * not even the form of one costs less, and tells nothing that its sender does not know.
 */
import { ROW, ROW_STATUS, ROW_WORDS } from '../crypto/engine.ts';
import { checkContext } from '../envelope/context.ts';
import { isMac, MAC_HEAD_LENGTH } from '../envelope/mac.ts';
import { KID_LENGTH, TOKEN_KID_OFFSET } from '../envelope/token.ts';
import { DekdError } from '../errors.ts';
import type { DataKey } from '../keyring/keyring.ts';
import { runAtOnce, staleRows } from './batch.ts';
import type { OperationsEnvironment, Outcome } from './environment.ts';
import { HMAC_LABEL } from './hmac.ts';
import { checkPayload } from './limits.ts';
import { type Loaded, loadOpening } from './loading.ts';
import { checkDone, MAC_PASSES, MacPass, oneRow, scopeMemo } from './mac-pass.ts';
import { openingHandle } from './opening.ts';
import type { Caller, ManyRequest, Output, ValueRequest, VerifyRequest } from './request.ts';
import { planOf, runSlices, runValue, type SliceWork } from './slices.ts';

const NO_MAC = Uint8Array.of(0);

export function verifyHmacValue(
  env: OperationsEnvironment,
  caller: Caller,
  request: VerifyRequest,
  output: Output,
): Outcome {
  const { frame, macOffset } = request;
  caller.authorize('verifyHmac', request.key, request.partition);
  checkPayload(request.dataLength, env.maxPayload);
  checkContext(frame, request.contextOffset, request.contextLength);
  if (!isMac(frame, macOffset, request.macLength)) {
    answer(output, request.id, false);
    return undefined;
  }
  if (env.pool.isWorthHop(MAC_PASSES, MAC_PASSES * request.dataLength)) {
    return runValue(env, request, output, verifySlices(env, caller));
  }
  const key = env.keyring.opening(frame, macOffset + TOKEN_KID_OFFSET);
  if (key !== undefined) {
    verify(env, caller, key, request, output);
    return undefined;
  }
  const kept = request.copy();
  return loadOpening(env, caller, frame, macOffset).then((loaded) => verify(env, caller, loaded, kept, output));
}

export function verifyHmacMany(
  env: OperationsEnvironment,
  caller: Caller,
  request: ManyRequest,
  output: Output,
): Outcome {
  const plan = planOf(env, request, MAC_PASSES);
  if (plan === undefined) {
    return verifyAtOnce(env, caller, request, output);
  }
  return runSlices(env, request, output, plan, verifySlices(env, caller), (kept) =>
    verifyAtOnce(env, caller, kept, output),
  );
}

function verifyAtOnce(env: OperationsEnvironment, caller: Caller, request: ManyRequest, output: Output): Outcome {
  const passOf = (kept: ManyRequest, loaded: Loaded) => new VerifyPass(env, caller, kept, loaded);
  return runAtOnce(request, output, passOf, (pass, frame) => {
    pass.aim(output.buffer);
    env.engine.verifyMacMany(pass.table, pass.count, pass.scopes(), frame);
    pass.verifyStale(frame);
    pass.settle(output.buffer);
  });
}

function verifySlices(env: OperationsEnvironment, caller: Caller): SliceWork<VerifyPass> {
  return {
    growth: 1,
    overhead: 0,
    pass: (request, loaded, table) => new VerifyPass(env, caller, request, loaded, table),
    async run(slice, pass) {
      pass.placeRows(slice);
      pass.aim(slice.reply.buffer);
      await slice.rows('verifyRows', pass, slice.frame, slice.reply.buffer, pass.scopes());
      pass.verifyStale(slice.frame);
      pass.settle(slice.reply.buffer);
    },
  };
}

function verify(
  env: OperationsEnvironment,
  caller: Caller,
  key: DataKey | undefined,
  request: VerifyRequest,
  output: Output,
): void {
  const { handle, refusal } = openingHandle(env, caller, 'verifyHmac', key, expectedOf(request), 'mac');
  const row = oneRow(handle, request);
  row[ROW.outOffset] = request.macOffset + MAC_HEAD_LENGTH;
  env.engine.verifyMacMany(row, 1, scopeMemo.scope(HMAC_LABEL, request.key, request.partition), request.frame);
  checkDone(row);
  const verifies = row[ROW.status] === ROW_STATUS.ok && refusal === undefined;
  if (verifies) {
    output.keyUsed(request.id, key!);
  }
  answer(output, request.id, verifies);
}

function expectedOf({ key, partition }: ValueRequest): { key: string; partition: string; anyKey: false } {
  return { key, partition, anyKey: false };
}

function answer(output: Output, id: number, verifies: boolean): void {
  const at = output.reserveValue(id, 1);
  output.buffer[at] = verifies ? 1 : 0;
}

class VerifyPass extends MacPass {
  /** Rows that do not verify whatever the engine says. */
  readonly #refused = new Set<number>();
  readonly #macOffsets: number[] = [];
  #macLength = 0;
  /** Where the answers go. */
  readonly #places: number[] = [];
  #name: string | undefined;
  #partition: string | undefined;
  #scope = 0;
  readonly #loaded: Loaded;

  constructor(env: OperationsEnvironment, caller: Caller, request: ManyRequest, loaded: Loaded, rows?: Uint32Array) {
    super(env, caller, request, rows);
    this.#loaded = loaded;
  }

  protected valueLength(): number {
    return 1;
  }

  protected plaintextLength(dataLength: number): number {
    return dataLength;
  }

  override item(
    dataOffset: number,
    dataLength: number,
    contextOffset: number,
    contextLength: number,
    key: string | undefined,
    partition: string | undefined,
    macOffset = 0,
    macLength = 0,
  ): void {
    this.#macOffsets[this.count] = macOffset;
    this.#macLength = macLength;
    super.item(dataOffset, dataLength, contextOffset, contextLength, key, partition);
  }

  protected decide(
    _dataOffset: number,
    _dataLength: number,
    _contextOffset: number,
    _contextLength: number,
    name: string,
    partition: string,
  ): number {
    const { frame } = this.request;
    if (name !== this.#name || partition !== this.#partition) {
      this.#name = undefined;
      this.caller.authorize('verifyHmac', name, partition);
      this.#scope = this.scopeOffset(HMAC_LABEL, name, partition);
      this.#name = name;
      this.#partition = partition;
    }
    const index = this.count - 1;
    const macOffset = this.#macOffsets[index]!;
    if (!isMac(frame, macOffset, this.#macLength)) {
      this.values.set(index, NO_MAC);
      return 0;
    }
    const kidAt = macOffset + TOKEN_KID_OFFSET;
    let key = this.env.keyring.opening(frame, kidAt);
    if (key === undefined) {
      const kid = Buffer.from(frame.buffer, frame.byteOffset + kidAt, KID_LENGTH).toString('hex');
      key = this.#loaded.key(kid);
      if (key === undefined && !this.#loaded.has(kid)) {
        this.missing.set(kid, () => loadOpening(this.env, this.caller, frame, macOffset));
        return 0;
      }
    }
    const { handle, refusal } = openingHandle(
      this.env,
      this.caller,
      'verifyHmac',
      key,
      { key: name, partition, anyKey: false },
      'mac',
    );
    if (refusal !== undefined) {
      this.#refused.add(index);
    }
    this.keys[index] = key;
    this.setScope(this.#scope);
    return handle;
  }

  /** Keeps the places of the answers in `target`, which hold none yet, and says where each MAC is. */
  aim(target: Uint8Array): void {
    const { table } = this;
    for (let index = 0, at = 0; index < this.count; index++, at += ROW_WORDS) {
      this.#places[index] = table[at + ROW.outOffset]!;
      if (table[at + ROW.status] !== ROW_STATUS.skip) {
        target[this.#places[index]!] = 0;
        table[at + ROW.outOffset] = this.#macOffsets[index]! + MAC_HEAD_LENGTH;
      }
    }
  }

  /** Verifies the rows whose key had left the table, under handles asked for anew. A key that was stopped fails its row. */
  verifyStale(input: Uint8Array): void {
    for (const index of staleRows(this)) {
      const one = this.table.subarray(index * ROW_WORDS, (index + 1) * ROW_WORDS);
      try {
        const key = this.#refused.has(index) ? undefined : this.keys[index];
        one[ROW.key] = key?.handle() ?? this.env.macDecoy;
        one[ROW.status] = ROW_STATUS.ok;
        this.env.engine.verifyMacMany(one, 1, this.scopes(), input);
        checkDone(one);
      } catch (error) {
        this.fail(index, DekdError.from(error));
      }
    }
  }

  /** Writes the answers to their places. */
  settle(target: Uint8Array): void {
    for (let index = 0, at = 0; index < this.count; index++, at += ROW_WORDS) {
      if (!this.failures.has(index)) {
        const verifies = this.table[at + ROW.status] === ROW_STATUS.ok && !this.#refused.has(index);
        target[this.#places[index]!] = verifies ? 1 : 0;
      }
    }
  }
}
