/** Opens envelopes that applications made themselves, before, or makes tokens of them; their plaintext stays in the agent then. */
import { ROW, ROW_STATUS, ROW_WORDS, TOKEN_OVERHEAD } from '../crypto/engine.ts';
import { LEGACY_TAG_LENGTH, type LegacyEnvelope, readLegacyEnvelope } from '../envelope/legacy.ts';
import { DekdError, decryptionFailed, withoutStacks } from '../errors.ts';
import type { DataKey } from '../keyring/keyring.ts';
import { checkCount, Pass, runAtOnce } from './batch.ts';
import type { LegacyKey, OperationsEnvironment, Outcome } from './environment.ts';
import { requireContext } from './limits.ts';
import { type Loaded, loadSealing, sealingId } from './loading.ts';
import type { Caller, LegacyOperation, ManyRequest, Output } from './request.ts';
import { runSlices, type SliceWork } from './slices.ts';

/** One slice at most: some milliseconds of JSON, base64 and two ciphers. */
const SLICE_ITEMS = 128;
const SLICE_BYTES = 128 * 1024;

/** One envelope an item, as JSON text; a value or an error each. */
export function passLegacy(
  env: OperationsEnvironment,
  caller: Caller,
  request: ManyRequest,
  output: Output,
  operation: LegacyOperation,
): Outcome {
  checkCount(request, env.maxPayload);
  const { count, frame } = request;
  if (count <= SLICE_ITEMS && frame.length <= SLICE_BYTES) {
    return atOnce(env, caller, request, output, operation);
  }
  const rows = Math.max(1, Math.min(SLICE_ITEMS, Math.floor((SLICE_BYTES * count) / frame.length)));
  const whole = (kept: ManyRequest): Outcome => atOnce(env, caller, kept, output, operation);
  return runSlices(env, request, output, { inWorkers: false, rows }, slices(env, caller, operation), whole);
}

function atOnce(
  env: OperationsEnvironment,
  caller: Caller,
  request: ManyRequest,
  output: Output,
  operation: LegacyOperation,
): Outcome {
  const passOf = (kept: ManyRequest, loaded: Loaded) => new LegacyPass(env, caller, kept, operation, loaded);
  return runAtOnce(request, output, passOf, (pass, frame) => {
    pass.run(frame, output.buffer);
  });
}

function slices(env: OperationsEnvironment, caller: Caller, operation: LegacyOperation): SliceWork {
  return {
    // An envelope is longer than the token of what it holds.
    growth: 0,
    overhead: 0,
    pass: (request, loaded, table) => new LegacyPass(env, caller, request, operation, loaded, table),
    async run(slice, pass) {
      pass.placeRows(slice);
      withoutStacks(() => (pass as LegacyPass).run(slice.frame, slice.reply.buffer));
    },
  };
}

/** What was found of one item. */
interface Found {
  readonly envelope: LegacyEnvelope;
  readonly key: LegacyKey | undefined;
  /** Why it must not open although it may. */
  readonly refusal: string | undefined;
}

class LegacyPass extends Pass {
  readonly #operation: LegacyOperation;
  readonly #found: (Found | undefined)[] = [];
  readonly #loaded: Loaded;
  #name: string | undefined;
  #partition: string | undefined;
  #sealing: DataKey | undefined;

  constructor(
    env: OperationsEnvironment,
    caller: Caller,
    request: ManyRequest,
    operation: LegacyOperation,
    loaded: Loaded,
    rows?: Uint32Array,
  ) {
    super(env, caller, request, rows);
    this.#operation = operation;
    this.#loaded = loaded;
  }

  /** @param dataLength of the JSON text at first, and of ciphertext and tag once they were read, which are shorter */
  protected valueLength(dataLength: number): number {
    const plaintext = Math.max(0, dataLength - LEGACY_TAG_LENGTH);
    return this.#operation === 'migrateLegacy' ? plaintext + TOKEN_OVERHEAD : plaintext;
  }

  /** How long the plaintext is, nobody knows before: the text of the envelope counts. */
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
    const { request, env } = this;
    if (name !== this.#name || partition !== this.#partition) {
      this.#name = undefined;
      this.caller.authorize(this.#operation, name, partition);
      if (env.legacy.decoy === undefined) {
        throw new DekdError('UNSUPPORTED', 'this agent has no legacy keys: configure legacy.keys');
      }
      if (this.#operation === 'migrateLegacy' && !this.#findSealing(name, partition)) {
        return 0;
      }
      this.#name = name;
      this.#partition = partition;
    }
    const index = this.count - 1;
    if (this.#sealing !== undefined) {
      requireContext(this.#sealing, request.frame, contextOffset, contextLength);
      this.keys[index] = this.#sealing;
    }
    const envelope = readLegacyEnvelope(request.frame.subarray(dataOffset, dataOffset + dataLength));
    const key = env.legacy.find(envelope.kid);
    this.#found[index] = { envelope, key, refusal: this.#refusal(envelope.kid, key, name, partition) };
    this.table[index * ROW_WORDS + ROW.dataLength] = envelope.sealed.length;
    return 0;
  }

  /** False when the key has to be loaded first. */
  #findSealing(name: string, partition: string): boolean {
    const { keyring } = this.env;
    if (keyring.directSealing(name, partition) !== undefined) {
      throw new DekdError(
        'UNSUPPORTED',
        'the key is direct, and envelopes are made tokens of ordinary keys only: open them, and encrypt what they hold',
      );
    }
    const id = sealingId(name, partition);
    this.#sealing = keyring.sealing(name, partition) ?? this.#loaded.key(id);
    if (this.#sealing === undefined) {
      this.missing.set(id, () => loadSealing(this.env, this.caller, name, partition));
    }
    return this.#sealing !== undefined;
  }

  #refusal(kid: string, key: LegacyKey | undefined, name: string, partition: string): string | undefined {
    const quoted = JSON.stringify(kid);
    if (key === undefined) {
      return `there is no legacy key of kid ${quoted}: see legacy.keys`;
    }
    return this.caller.allowsLegacy(this.#operation, name, partition, kid)
      ? undefined
      : `no rule grants ${this.#operation} on envelopes of kid ${quoted}: see legacyKids of policy.rules`;
  }

  /** Opens every row that has its place in `target`, and seals it again where it is to be migrated. */
  run(frame: Uint8Array, target: Uint8Array): void {
    const { table } = this;
    const rows = this.#rows();
    const longest = rows.reduce((most, row) => Math.max(most, this.#spaceOf(row)), 0);
    const scratch = new Uint8Array(this.#operation === 'migrateLegacy' ? longest : 0);
    try {
      for (const row of rows) {
        const index = row / ROW_WORDS;
        const { key, refusal } = this.#found[index]!;
        try {
          const opened =
            this.#operation === 'openLegacy'
              ? this.#open(index, target, table[row + ROW.outOffset]!)
              : this.#migrate(index, frame, scratch, target);
          if (!opened) {
            throw decryptionFailed(refusal ?? `its legacy key, of kid ${JSON.stringify(key?.kid)}, does not open it`);
          }
        } catch (error) {
          if (key !== undefined) {
            key.failed += 1;
          }
          const at = table[row + ROW.outOffset]!;
          target.fill(0, at, at + this.valueLength(table[row + ROW.dataLength]!));
          this.fail(index, DekdError.from(error));
        }
      }
    } finally {
      scratch.fill(0);
    }
  }

  #rows(): number[] {
    const rows: number[] = [];
    for (let row = 0; row < this.count * ROW_WORDS; row += ROW_WORDS) {
      if (this.table[row + ROW.status] === ROW_STATUS.ok) {
        rows.push(row);
      }
    }
    return rows;
  }

  /** Bytes of context and plaintext of a row, which the engine seals from one place. */
  #spaceOf(row: number): number {
    return this.table[row + ROW.contextLength]! + this.table[row + ROW.dataLength]! - LEGACY_TAG_LENGTH;
  }

  /** Writes the plaintext at `target[at]`; zeros, and false, when there is none for this caller. */
  #open(index: number, target: Uint8Array, at: number): boolean {
    const { engine, legacy, volume } = this.env;
    const { envelope, key, refusal } = this.#found[index]!;
    const handle = refusal === undefined ? key!.handle : legacy.decoy!;
    const opened = engine.openLegacy(handle, envelope.iv, envelope.sealed, target, at);
    if (!opened || refusal !== undefined) {
      return false;
    }
    volume.bytesOpened += envelope.sealed.length - LEGACY_TAG_LENGTH;
    if (this.#operation === 'openLegacy') {
      key!.opened += 1;
    }
    return true;
  }

  #migrate(index: number, frame: Uint8Array, scratch: Uint8Array, target: Uint8Array): boolean {
    const { engine, volume } = this.env;
    const row = index * ROW_WORDS;
    const contextAt = this.table[row + ROW.contextOffset]!;
    const contextLength = this.table[row + ROW.contextLength]!;
    const length = this.table[row + ROW.dataLength]! - LEGACY_TAG_LENGTH;
    if (!this.#open(index, scratch, contextLength)) {
      return false;
    }
    scratch.set(frame.subarray(contextAt, contextAt + contextLength));
    const sealing = this.keys[index]!;
    const at = this.table[row + ROW.outOffset]!;
    engine.seal(sealing.handle(), scratch, 0, contextLength, contextLength, length, target, at);
    sealing.used(1, length);
    volume.bytesSealed += length;
    this.#found[index]!.key!.migrated += 1;
    return true;
  }
}
