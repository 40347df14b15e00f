/** Which key may open a token, and the pass over a batch of them. */
import { type KeyHandle, ROW, ROW_STATUS, ROW_WORDS, TOKEN_OVERHEAD } from '../crypto/engine.ts';
import { checkContext } from '../envelope/context.ts';
import { KID_LENGTH, readTokenHead, SUITE_DIRECT, TOKEN_KID_OFFSET } from '../envelope/token.ts';
import { DekdError, decryptionFailed } from '../errors.ts';
import type { DataKey, DataPurpose } from '../keyring/keyring.ts';
import { Pass, staleRows } from './batch.ts';
import { openDirect, remakeDirect, type ValuePlace } from './direct.ts';
import type { OperationsEnvironment } from './environment.ts';
import { checkPayload } from './limits.ts';
import { authorizeSealing, type Loaded, loadOpening } from './loading.ts';
import type { Caller, ManyRequest, ValueRequest } from './request.ts';

/** What names its key by a kid. */
type OpenedPurpose = Exclude<DataPurpose, 'index'>;

/** The key that a caller names, or with `anyKey` whichever it is. */
export interface ExpectedKey {
  readonly key: string;
  readonly partition: string;
  readonly anyKey: boolean;
}

/**
 * Which key opens a ciphertext for this caller, and why not when none does. A ciphertext of another key than the named
 * one, of one the caller may not use, or of one with another purpose, costs the work of a failed open and says nothing
 * else.
 */
export function openingHandle(
  env: OperationsEnvironment,
  caller: Caller,
  operation: 'decrypt' | 'reencrypt' | 'verifyHmac',
  key: DataKey | undefined,
  expected: ExpectedKey,
  purpose: OpenedPurpose = 'seal',
): { handle: KeyHandle; refusal: string | undefined } {
  const { decoy, what } = decoyFor(env, purpose);
  if (key === undefined) {
    return { handle: decoy, refusal: 'no key has this kid' };
  }
  if (key.purpose !== purpose) {
    return { handle: decoy, refusal: `the kid is of a key for another purpose, ${key.purpose}: ${quoted(key)}` };
  }
  if (expected.anyKey) {
    if (!caller.allows('anyKey', key.name, key.partition) || !caller.allows(operation, key.name, key.partition)) {
      return { handle: decoy, refusal: `no rule grants anyKey and ${operation} on key ${quoted(key)}` };
    }
  } else if (key.name !== expected.key || key.partition !== expected.partition) {
    return { handle: decoy, refusal: `the ${what} is of key ${quoted(key)}` };
  }
  try {
    return { handle: key.handle(), refusal: undefined };
  } catch (error) {
    if (expected.anyKey && DekdError.is(error, 'KEY_DISABLED')) {
      return { handle: decoy, refusal: `key ${quoted(key)} is ${key.state}` };
    }
    throw error;
  }
}

function decoyFor(env: OperationsEnvironment, purpose: OpenedPurpose): { decoy: KeyHandle; what: string } {
  switch (purpose) {
    case 'seal':
      return { decoy: env.decoy, what: 'token' };
    case 'message':
      return { decoy: env.messageDecoy, what: 'message' };
    case 'mac':
      return { decoy: env.macDecoy, what: 'MAC' };
  }
}

function quoted(key: DataKey): string {
  return key.partition === '' ? `'${key.name}'` : `'${key.name}' of partition '${key.partition}'`;
}

/** What can be checked of a token and its binding without a key. @throws as the parts do */
export function checkToken(
  env: OperationsEnvironment,
  caller: Caller,
  operation: 'decrypt' | 'reencrypt',
  request: ValueRequest,
): void {
  authorizeOpening(caller, operation, request);
  checkPayload(request.dataLength - TOKEN_OVERHEAD, env.maxPayload);
  readTokenHead(request.frame, request.dataOffset, request.dataLength);
  checkContext(request.frame, request.contextOffset, request.contextLength);
}

/**
 * With `anyKey` the rights are to the token's own key, once that is known. A root is of no meaning to what is only opened.
 * @throws PERMISSION_DENIED; INVALID_ARGUMENT for a root that would be chosen for whichever key it is
 */
function authorizeOpening(
  caller: Caller,
  operation: 'decrypt' | 'reencrypt',
  { key, partition, root, anyKey }: ExpectedKey & { readonly root: string },
): void {
  if (!anyKey) {
    if (operation === 'decrypt') {
      caller.authorize(operation, key, partition);
    } else {
      authorizeSealing(caller, operation, key, partition, root);
    }
  } else if (operation === 'reencrypt' && root !== '') {
    throw new DekdError('INVALID_ARGUMENT', 'a root is chosen for the key that is named: name the key');
  }
}

/** Decides for each token of a batch which key opens it. */
export class OpenPass extends Pass {
  readonly operation: 'decrypt' | 'reencrypt';
  readonly refusals = new Map<number, string>();
  /** Names of roots that were chosen for what is sealed again, by the index of the item. */
  readonly roots = new Map<number, string>();
  #name: string | undefined;
  #partition: string | undefined;
  #root: string | undefined;
  #key: DataKey | undefined;
  #handle = 0;
  #refusal: string | undefined;
  #kidAt = -1;
  #loaded: Loaded;

  constructor(
    env: OperationsEnvironment,
    caller: Caller,
    request: ManyRequest,
    operation: 'decrypt' | 'reencrypt',
    loaded: Loaded,
    rows?: Uint32Array,
  ) {
    super(env, caller, request, rows);
    this.operation = operation;
    this.#loaded = loaded;
  }

  protected valueLength(dataLength: number): number {
    return dataLength - TOKEN_OVERHEAD;
  }

  protected plaintextLength(dataLength: number): number {
    return dataLength - TOKEN_OVERHEAD;
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
    const { request } = this;
    if (readTokenHead(request.frame, dataOffset, dataLength) === SUITE_DIRECT) {
      return this.#direct(
        { frame: request.frame, contextOffset, contextLength, dataOffset, dataLength },
        { key: name, partition, root, anyKey: request.anyKey },
      );
    }
    const kidAt = dataOffset + TOKEN_KID_OFFSET;
    const sameBinding = name === this.#name && partition === this.#partition && root === this.#root;
    if (!sameBinding || !this.#sameKid(kidAt)) {
      this.#name = undefined;
      this.#kidAt = -1;
      const { anyKey } = request;
      authorizeOpening(this.caller, this.operation, { key: name, partition, root, anyKey });
      this.#key = this.env.keyring.opening(request.frame, kidAt);
      if (this.#key === undefined) {
        const kid = Buffer.from(request.frame.buffer, request.frame.byteOffset + kidAt, KID_LENGTH).toString('hex');
        this.#key = this.#loaded.key(kid);
        if (this.#key === undefined && !this.#loaded.has(kid)) {
          this.missing.set(kid, () => loadOpening(this.env, this.caller, request.frame, dataOffset));
          return 0;
        }
      }
      const { handle, refusal } = openingHandle(this.env, this.caller, this.operation, this.#key, {
        key: name,
        partition,
        anyKey,
      });
      this.#handle = handle;
      this.#refusal = refusal;
      this.#name = name;
      this.#partition = partition;
      this.#root = root;
      this.#kidAt = kidAt;
    }
    const index = this.count - 1;
    this.keys[index] = this.#key;
    if (root !== '') {
      this.roots.set(index, root);
    }
    if (this.#refusal !== undefined) {
      this.refusals.set(index, this.#refusal);
    }
    return this.#handle;
  }

  /** A direct token, whose plaintext the provider gives back; to move it is to make it anew. */
  #direct(place: ValuePlace, binding: { key: string; partition: string; root: string; anyKey: boolean }): number {
    authorizeOpening(this.caller, this.operation, binding);
    return this.made(this.#loaded, () =>
      this.operation === 'decrypt'
        ? openDirect(this.env, place, binding)
        : remakeDirect(this.env, this.caller, place, binding),
    );
  }

  #sameKid(at: number): boolean {
    const before = this.#kidAt;
    if (before < 0) {
      return false;
    }
    const { frame } = this.request;
    for (let i = 0; i < KID_LENGTH; i++) {
      if (frame[before + i] !== frame[at + i]) {
        return false;
      }
    }
    return true;
  }

  /** Turns the status words into failures after the engine call; the value of a failed item is already zero. */
  collect(): void {
    const { table } = this;
    for (let index = 0, row = 0; index < this.count; index++, row += ROW_WORDS) {
      const status = table[row + ROW.status];
      if (status === ROW_STATUS.failed) {
        this.failures.set(index, decryptionFailed(this.refusals.get(index) ?? 'tag or context does not match'));
      } else if (status === ROW_STATUS.ok) {
        this.env.volume.bytesOpened += table[row + ROW.dataLength]! - TOKEN_OVERHEAD;
      }
    }
  }
}

/** Opens the rows of a pass into `target`; status words say which opened. */
export function openRows(env: OperationsEnvironment, pass: OpenPass, frame: Uint8Array, target: Uint8Array): void {
  env.engine.openMany(pass.table, pass.count, frame, target);
  openStale(env, pass, frame, target);
}

/** Opens the rows whose key had left the table, under handles asked for anew. A key that was stopped fails its row. */
export function openStale(env: OperationsEnvironment, pass: OpenPass, frame: Uint8Array, target: Uint8Array): void {
  const { table } = pass;
  for (const index of staleRows(pass)) {
    const row = index * ROW_WORDS;
    let handle = env.decoy;
    try {
      handle = pass.keys[index]?.handle() ?? env.decoy;
    } catch (error) {
      pass.fail(index, DekdError.from(error));
      continue;
    }
    const opened = env.engine.open(
      handle,
      frame,
      table[row + ROW.contextOffset]!,
      table[row + ROW.contextLength]!,
      table[row + ROW.dataOffset]!,
      table[row + ROW.dataLength]!,
      target,
      table[row + ROW.outOffset]!,
    );
    table[row + ROW.status] = opened && !pass.refusals.has(index) ? ROW_STATUS.ok : ROW_STATUS.failed;
  }
}
