/**
 * The agent's side of the bulk lane: memory that clients share, and tokens made and opened in it.
 *
 * A client can change such memory at any moment. So nothing here is a view of it: what JavaScript is to judge is copied
 * out first, and native code acts upon nothing that it read there twice.
 */
import { getSystemErrorName } from 'node:util';
import { type Binding, LANE_FAULT, LANE_KIND, LANE_TOKEN_LENGTH, loadBinding } from '../addon/binding.ts';
import { DekdError } from '../errors.ts';
import { type Engine, type KeyHandle, TOKEN_OVERHEAD } from './engine.ts';
import { failure, STATUS } from './native.ts';

/** A region that is mapped in this process, by number. */
export type Region = number;

/** Bytes of a region. */
export interface SharedRange {
  readonly region: Region;
  readonly offset: number;
  readonly length: number;
}

/** What came by a lane connection. The descriptors are the receiver's to close. */
export interface LaneGreeting {
  readonly kind: 'region' | 'files';
  readonly token: Uint8Array;
  readonly descriptors: readonly number[];
}

/** What a peer did wrong with what it shared, for people. */
const FAULT_TEXTS: Readonly<Record<number, string>> = {
  [LANE_FAULT.malformed]: 'what came is not one greeting of 40 bytes with the descriptors of its kind',
  [LANE_FAULT.notMemfd]: 'the descriptor is not a memfd that was made to be sealed',
  [LANE_FAULT.hugePages]: 'the memfd has pages of hugetlb, which are not accounted',
  [LANE_FAULT.notSealed]: 'the memfd lacks one of the seals F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_SEAL',
  [LANE_FAULT.notWritable]: 'the memfd is not open for reading and writing, or sealed against writing',
  [LANE_FAULT.notPopulated]: 'the memfd has pages that were never made: allocate them (fallocate)',
  [LANE_FAULT.notRegular]: 'the descriptor is not a regular file',
  [LANE_FAULT.access]: 'the files are not open to read the first and write the second, or with O_PATH or O_APPEND',
  [LANE_FAULT.sameFile]: 'both descriptors are of one file',
};

/** The lane of a process; there is none without the native engine, whose keys it works with. */
export class LaneMemory {
  readonly #binding: Binding;

  private constructor(binding: Binding) {
    this.#binding = binding;
  }

  /** @returns undefined where another engine runs: its keys are not in native memory. */
  static of(engine: Engine): LaneMemory | undefined {
    const { binding } = loadBinding();
    return engine.info.name === 'native' && binding !== undefined ? new LaneMemory(binding) : undefined;
  }

  /** Bytes of all adopted regions that are mapped, those included that only a job in work still holds. */
  get adopted(): number {
    return this.#binding.laneAdopted();
  }

  /**
   * Looks at a connected Unix socket that nobody has read, without waiting. No descriptor is taken by that: who has sent it is
   * judged first.
   * @returns the token of the greeting; undefined when nothing has come yet. @throws PROTOCOL_ERROR for anything but a greeting
   */
  peek(socket: number): Uint8Array | undefined {
    const token = new Uint8Array(LANE_TOKEN_LENGTH);
    const fault = this.#binding.lanePeek(socket, token);
    if (fault === LANE_FAULT.notYet) {
      return undefined;
    }
    if (fault !== LANE_FAULT.none) {
      throw this.#notGreeted(fault);
    }
    return token;
  }

  /**
   * Reads the greeting whose token was seen. Its descriptors are the caller's to close, by `close`.
   * @throws PROTOCOL_ERROR for another one, or with other descriptors than its kind has; none of them stays open
   */
  receive(socket: number, token: Uint8Array): LaneGreeting {
    const received = this.#binding.laneReceive(socket, token);
    if (typeof received === 'number') {
      throw this.#notGreeted(received);
    }
    const { kind, descriptors } = received;
    return { kind: kind === LANE_KIND.region ? 'region' : 'files', token, descriptors };
  }

  /** Closes a descriptor of a greeting, without waiting for its file system. */
  close(descriptor: number): void {
    this.#binding.laneClose(descriptor);
  }

  /** Descriptors that wait for a file system, because they are looked at or closed. */
  get waiting(): number {
    return this.#binding.laneWaiting();
  }

  /**
   * Maps the memfd behind `fd`, which stays the caller's to close.
   * @param limit the largest size, in bytes. @returns undefined when the memfd is larger or empty.
   * @throws INVALID_ARGUMENT for anything but a sealed and populated memfd
   */
  adopt(fd: number, limit: number): { readonly region: Region; readonly size: number } | undefined {
    const adopted = this.#binding.laneAdopt(fd, Math.max(0, limit));
    if (adopted === LANE_FAULT.size) {
      return undefined;
    }
    if (typeof adopted === 'number') {
      throw new DekdError('INVALID_ARGUMENT', this.#textOf(adopted));
    }
    return adopted;
  }

  /** The number names nothing from here on; the memory stays mapped until the last job in it has ended. */
  drop(region: Region): void {
    this.#binding.laneDrop(region);
  }

  /** A private copy of a range. @throws INVALID_ARGUMENT when it is not inside */
  read({ region, offset, length }: SharedRange): Uint8Array {
    const copy = new Uint8Array(length);
    this.#check(this.#binding.laneRead(region, offset, copy), 'read the region');
    return copy;
  }

  /** Writes to a region what its client may see. @throws INVALID_ARGUMENT when it does not fit */
  write(region: Region, offset: number, bytes: Uint8Array): void {
    this.#check(this.#binding.laneWrite(region, offset, bytes), 'write to the region');
  }

  /**
   * Seals what lies at `input`, in place, and writes the token to `result`, of which it takes `input.length` +
   * TOKEN_OVERHEAD bytes. A client that changes either meanwhile gets a token of bytes it chose, or one that does not open.
   * @param context canonical bytes, private. @throws as `Engine.seal`
   */
  seal(key: KeyHandle, context: Uint8Array, input: SharedRange, result: SharedRange): void {
    this.#check(
      this.#binding.laneSeal(key, context, input.region, input.offset, input.length, result.region, result.offset),
      'seal',
    );
  }

  /**
   * Opens the token at `input` in private memory and copies the plaintext to `result` once it was found right; nothing is
   * written there before, or when it is not. @returns whether it was right. @throws as `Engine.open`
   */
  open(key: KeyHandle, context: Uint8Array, input: SharedRange, result: SharedRange): boolean {
    if (input.length < TOKEN_OVERHEAD) {
      return false;
    }
    const status = this.#binding.laneOpen(
      key,
      context,
      input.region,
      input.offset,
      input.length,
      result.region,
      result.offset,
    );
    if (status === STATUS.authenticationFailed) {
      return false;
    }
    this.#check(status, 'open');
    return true;
  }

  /** Gives back the private memory that opening has used; the next `open` takes new. */
  release(): void {
    this.#binding.laneRelease();
  }

  #check(status: number, what: string): void {
    if (status === STATUS.systemFailed) {
      throw new DekdError('RESOURCE_EXHAUSTED', 'there is no memory to open the token in', { retryAfterMs: 1_000 });
    }
    if (status !== STATUS.ok) {
      throw failure(this.#binding, status, what);
    }
  }

  #notGreeted(fault: number): DekdError {
    return new DekdError(
      'PROTOCOL_ERROR',
      fault === LANE_FAULT.ended ? 'the lane connection ended without a greeting' : this.#textOf(fault),
    );
  }

  #textOf(fault: number): string {
    const text = FAULT_TEXTS[fault];
    return text ?? `the lane failed: ${getSystemErrorName(-Math.max(1, this.#binding.laneErrno()))}`;
  }
}
