/** Passes over batches of MACs, and the one row of a single value. */
import { type KeyHandle, MAC_LENGTH, ROW, ROW_STATUS, ROW_WORDS } from '../crypto/engine.ts';
import { type MacLabel, MacScopeMemo } from '../envelope/mac-scope.ts';
import { DekdError } from '../errors.ts';
import type { DataKey } from '../keyring/keyring.ts';
import { Pass, staleRows } from './batch.ts';
import type { OperationsEnvironment } from './environment.ts';
import { sealingId } from './loading.ts';
import type { ValueRequest } from './request.ts';

/** Of all calls: operations are synchronous once their keys are loaded. */
export const scopeMemo = new MacScopeMemo();

/**
 * What a MAC costs, in seals of the same value, about: an HMAC is two hashes one after the other, of twice as many blocks. For
 * plans only.
 */
export const MAC_PASSES = 4;

/** The table of a single value. */
const row = new Uint32Array(ROW_WORDS);

/** The table for one MAC of what a request carries, without its place. It is used again by the next call. */
export function oneRow(handle: KeyHandle, request: ValueRequest): Uint32Array {
  row[ROW.key] = handle;
  row[ROW.contextOffset] = request.contextOffset;
  row[ROW.contextLength] = request.contextLength;
  row[ROW.dataOffset] = request.dataOffset;
  row[ROW.dataLength] = request.dataLength;
  row[ROW.status] = ROW_STATUS.ok;
  row[ROW.scopeOffset] = 0;
  return row;
}

/** Shared by what makes MACs and what verifies them. */
export abstract class MacPass extends Pass {
  readonly #scopes: Uint8Array[] = [];
  /** Where that of each key and partition begins. */
  readonly #offsets = new Map<string, number>();
  #scopesLength = 0;

  /** Scopes of all rows, as the engine takes them. */
  scopes(): Uint8Array {
    const [first] = this.#scopes;
    return this.#scopes.length === 1 ? first! : Buffer.concat(this.#scopes);
  }

  /** The `scopeOffset` of rows of this key, whose scope is added when it is the first of it. */
  protected scopeOffset(label: MacLabel, name: string, partition: string): number {
    const id = sealingId(name, partition);
    const known = this.#offsets.get(id);
    if (known !== undefined) {
      return known;
    }
    const offset = this.addScope(scopeMemo.scope(label, name, partition));
    this.#offsets.set(id, offset);
    return offset;
  }

  protected addScope(scope: Uint8Array): number {
    const offset = this.#scopesLength;
    this.#scopes.push(scope);
    this.#scopesLength += scope.length;
    return offset;
  }

  /** The scope of the row that is decided on. */
  protected setScope(offset: number): void {
    this.table[(this.count - 1) * ROW_WORDS + ROW.scopeOffset] = offset;
  }

  /** What is hashed is not plaintext that was sealed. */
  protected override countVolume(): void {}
}

/** A pass that makes MACs: their place in the reply begins with `headLength` bytes that are no part of them. */
export abstract class MakingPass extends MacPass {
  protected abstract readonly headLength: number;

  protected valueLength(): number {
    return this.headLength + MAC_LENGTH;
  }

  protected plaintextLength(dataLength: number): number {
    return dataLength;
  }

  /** Writes what stands before the MAC of `key` at `target[offset]`. */
  protected abstract writeHead(key: DataKey, target: Uint8Array, offset: number): void;

  /** Writes the heads of values that have their places, and has the MACs go behind them. */
  writeHeads(target: Uint8Array): void {
    const { table } = this;
    for (let index = 0, at = 0; index < this.count; index++, at += ROW_WORDS) {
      if (table[at + ROW.status] !== ROW_STATUS.skip) {
        const place = table[at + ROW.outOffset]!;
        this.writeHead(this.keys[index]!, target, place);
        table[at + ROW.outOffset] = place + this.headLength;
      }
    }
  }

  /** Makes the MACs of rows whose key had left the table, under handles asked for anew. A key that was stopped fails its row. */
  makeStale(input: Uint8Array, target: Uint8Array): void {
    for (const index of staleRows(this)) {
      try {
        const one = this.#freshRow(index);
        this.env.engine.macMany(one, 1, this.scopes(), input, target);
        checkDone(one);
      } catch (error) {
        this.fail(index, DekdError.from(error));
      }
    }
  }

  #freshRow(index: number): Uint32Array {
    const one = this.table.subarray(index * ROW_WORDS, (index + 1) * ROW_WORDS);
    one[ROW.key] = this.keys[index]!.handle();
    one[ROW.status] = ROW_STATUS.ok;
    return one;
  }
}

/** @throws INTERNAL when a handle that was just asked for was stale */
export function checkDone(table: Uint32Array): void {
  if (table[ROW.status] === ROW_STATUS.staleKey) {
    throw new DekdError('INTERNAL', 'stale key handle');
  }
}

/** Makes all rows of a pass, which have their places. */
export function makeRows(env: OperationsEnvironment, pass: MakingPass, frame: Uint8Array, target: Uint8Array): void {
  pass.writeHeads(target);
  env.engine.macMany(pass.table, pass.count, pass.scopes(), frame, target);
  pass.makeStale(frame, target);
}
