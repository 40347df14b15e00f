/** Files that clients pass by descriptors: made into messages, or opened, in steps on a thread that may wait for a disk. */
import { getSystemErrorName } from 'node:util';
import { type Binding, type FileOutcome, LANE_FAULT, loadBinding } from '../addon/binding.ts';
import { DekdError } from '../errors.ts';
import type { KeyHandle } from './engine.ts';
import { failure, STATUS } from './native.ts';

const FAULT_TEXTS: Readonly<Record<number, string>> = {
  [LANE_FAULT.notRegular]: 'a descriptor is not of a regular file',
  [LANE_FAULT.access]: 'the files are not open to read the first and write the second, or one with O_PATH or O_APPEND',
  [LANE_FAULT.sameFile]: 'both descriptors are of one file',
  [LANE_FAULT.notEmpty]: 'the file to write is not empty',
};

/** What one step came to. */
export interface FileStep {
  /** Bytes of the source that were worked on, and bytes that were written. */
  readonly read: number;
  readonly written: number;
  /** The message is whole. */
  readonly isEnd: boolean;
  /** Opening: the source goes on behind the end of its message. */
  readonly hasMore: boolean;
}

/** Two files, the one to read and the one to write. Calls follow each other. */
export class FilePass {
  readonly #binding: Binding;
  readonly #pass: number;

  private constructor(binding: Binding, pass: number) {
    this.#binding = binding;
    this.#pass = pass;
  }

  /**
   * Takes the descriptors over. Looking at them may wait for their file system, without anybody else waiting for it.
   * @throws INVALID_ARGUMENT for anything but two regular files that are open as they have to be; UNSUPPORTED for files of a
   * network, of FUSE, of the kernel itself, or to be written in memory
   */
  static async open(source: number, target: number): Promise<FilePass> {
    const { binding } = loadBinding();
    if (binding === undefined) {
      throw new DekdError('UNSUPPORTED', 'files are passed to the native engine only');
    }
    const pass = await binding.fileOpen(source, target);
    if (pass > 0) {
      return new FilePass(binding, pass);
    }
    if (-pass === LANE_FAULT.fileSystem) {
      throw new DekdError(
        'UNSUPPORTED',
        'files of a network, of FUSE, or of the kernel itself are not worked on, nor written in memory: send them as a stream',
      );
    }
    throw new DekdError('INVALID_ARGUMENT', FAULT_TEXTS[-pass] ?? 'the files cannot be looked at');
  }

  /** Up to `length` bytes of the source; fewer at its end. @throws UNSUPPORTED when it cannot be read */
  async read(offset: number, length: number): Promise<Uint8Array> {
    const outcome = await this.#binding.fileRead(this.#pass, offset, length);
    this.#check(outcome);
    return outcome.bytes;
  }

  /**
   * Seals what comes next of the source, some milliseconds of work; `header` is written before the first frames.
   * @throws UNSUPPORTED when a file cannot be read or written
   */
  async seal(message: KeyHandle, frameLength: number, header: Uint8Array): Promise<FileStep> {
    return this.#step(await this.#binding.fileSeal(this.#pass, message, frameLength, header));
  }

  /**
   * Opens the frames that come next of a message whose body begins at `body`, and writes their plaintext, each after it was
   * verified. A step that reads nothing and is not the end found the message cut short.
   * @throws DECRYPTION_FAILED; UNSUPPORTED when a file cannot be read or written
   */
  async open(message: KeyHandle, frameLength: number, body: number): Promise<FileStep> {
    return this.#step(await this.#binding.fileOpenFrames(this.#pass, message, frameLength, body));
  }

  /** Lets go of the files, once the step that runs has ended. */
  close(): void {
    this.#binding.fileClose(this.#pass);
  }

  #step(outcome: FileOutcome): FileStep {
    this.#check(outcome);
    const { read, written, ended, trailing } = outcome;
    return { read, written, isEnd: ended, hasMore: trailing };
  }

  #check({ status, errno }: FileOutcome): void {
    if (status === STATUS.systemFailed) {
      const name = getSystemErrorName(-Math.max(1, errno));
      throw new DekdError('UNSUPPORTED', `the agent cannot read or write the files (${name}): send them as a stream`);
    }
    if (status !== STATUS.ok) {
      throw failure(this.#binding, status, 'work on the file');
    }
  }
}
