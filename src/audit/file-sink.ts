/**
 * The audit log as files: one is written, `audit.jsonl`, and `audit-TIME.jsonl` are those before it.
 *
 * Every run of the agent begins a file of its own, so that a successor and the agent that it takes over from never write to
 * the same one. Files are opened to append (0640) and never changed or removed: what is in them is evidence.
 */
import {
  closeSync,
  constants,
  fdatasync,
  fdatasyncSync,
  fstatSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  renameSync,
  type Stats,
  writeSync,
} from 'node:fs';
import { basename, dirname, extname, join } from 'node:path';
import { DekdError } from '../errors.ts';
import type { AuditSink } from './sink.ts';

export interface FileSinkOptions {
  /** Absolute. */
  readonly path: string;
  /** A file that has this many bytes, or was begun so many milliseconds ago, is followed by another. */
  readonly maxBytes: number;
  readonly maxAgeMs: number;
  /** When lines reach the disk: when the kernel likes, every second, or with every block before an answer leaves. */
  readonly fsync: 'never' | 'interval' | 'always';
}

const SYNC_INTERVAL_MS = 1_000;
/** Between two attempts to begin a file when one failed. */
const ROTATE_AGAIN_MS = 1_000;
const FILE_MODE = 0o640;

export class FileSink implements AuditSink {
  readonly name: string;
  readonly #options: FileSinkOptions;
  #fd: number;
  #stats: Stats;
  #bytes: number;
  #begun = performance.now();
  #pending: Buffer[] = [];
  #pendingBytes = 0;
  #failure: string | undefined;
  #isDirty = false;
  #isSyncing = false;
  /** A sync failed: what of the file is on the disk is not known, and another file has to be begun. */
  #isSpoilt = false;
  #rotateAfter = 0;
  #syncTimer: NodeJS.Timeout | undefined;
  #isClosed = false;

  /** Begins the file of this run; one that is there gets another name first. @throws INVALID_ARGUMENT with the remedy */
  constructor(options: FileSinkOptions) {
    this.#options = options;
    this.name = `file ${options.path}`;
    try {
      mkdirSync(dirname(options.path), { recursive: true, mode: 0o750 });
      moveAside(options.path);
      this.#fd = create(options.path);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      throw new DekdError(
        'INVALID_ARGUMENT',
        `audit.file ${options.path} cannot be begun (${code}): ${remedyOf(code)}`,
        {
          cause: error,
        },
      );
    }
    this.#stats = fstatSync(this.#fd);
    this.#bytes = this.#stats.size;
    if (options.fsync === 'interval') {
      this.#syncTimer = setInterval(() => this.#syncLater(), SYNC_INTERVAL_MS);
      this.#syncTimer.unref();
    }
  }

  get pending(): number {
    return this.#pendingBytes;
  }

  get failure(): string | undefined {
    return this.#failure;
  }

  get isRotationDue(): boolean {
    const { maxBytes, maxAgeMs } = this.#options;
    const now = performance.now();
    if (now < this.#rotateAfter) {
      return false;
    }
    const isOld = this.#bytes >= maxBytes || (this.#bytes > 0 && now - this.#begun >= maxAgeMs);
    return this.#isSpoilt || (isOld && this.#pendingBytes === 0);
  }

  write(block: Buffer): void {
    this.#pending.push(block);
    this.#pendingBytes += block.length;
    this.drain();
  }

  drain(): boolean {
    if (this.#isSpoilt) {
      return this.#pendingBytes === 0;
    }
    while (this.#pending.length > 0) {
      const [first] = this.#pending;
      let written: number;
      try {
        written = writeSync(this.#fd, first!);
      } catch (error) {
        this.#failure = codeOf(error);
        return false;
      }
      this.#isDirty = true;
      this.#bytes += written;
      this.#pendingBytes -= written;
      if (written < first!.length) {
        // What was not taken follows: no line is ever cut for good.
        this.#pending[0] = first!.subarray(written);
      } else {
        this.#pending.shift();
      }
    }
    this.#failure = undefined;
    return true;
  }

  sync(): boolean {
    if (this.#options.fsync !== 'always' || !this.#isDirty) {
      return !this.#isSpoilt;
    }
    try {
      fdatasyncSync(this.#fd);
      this.#isDirty = false;
      return true;
    } catch (error) {
      this.#spoil(error);
      return false;
    }
  }

  #syncLater(): void {
    if (!this.#isDirty || this.#isSyncing || this.#isClosed) {
      return;
    }
    this.#isSyncing = true;
    this.#isDirty = false;
    const fd = this.#fd;
    fdatasync(fd, (error) => {
      this.#isSyncing = false;
      if (error !== null && fd === this.#fd && !this.#isClosed) {
        this.#spoil(error);
      }
    });
  }

  /** After a failed sync the kernel may have dropped what it could not write, and a second sync would say nothing of it. */
  #spoil(error: unknown): void {
    this.#isSpoilt = true;
    this.#failure = `${codeOf(error)} on fsync`;
  }

  rotate(): void {
    const { path } = this.#options;
    try {
      if (isSameFile(path, this.#stats)) {
        moveAside(path);
      }
      // Where a successor has the name, this run goes on beside it.
      const target = lstatSync(path, { throwIfNoEntry: false }) === undefined ? path : nameAside(path);
      const next = create(target);
      this.#closeFile();
      this.#fd = next;
      this.#stats = fstatSync(next);
      this.#bytes = 0;
      this.#begun = performance.now();
      this.#isSpoilt = false;
      this.#failure = undefined;
      this.drain();
    } catch (error) {
      // The old one goes on for as long as it can.
      this.#rotateAfter = performance.now() + ROTATE_AGAIN_MS;
      if (this.#isSpoilt) {
        this.#failure = codeOf(error);
      }
    }
  }

  close(): void {
    if (this.#isClosed) {
      return;
    }
    this.drain();
    clearInterval(this.#syncTimer);
    this.#isClosed = true;
    this.#closeFile();
  }

  #closeFile(): void {
    try {
      if (this.#options.fsync !== 'never') {
        fsyncSync(this.#fd);
      }
    } catch {
      // Whoever reads the file sees what is missing: the chain is cut there.
    }
    closeSync(this.#fd);
  }
}

function create(path: string): number {
  const { O_WRONLY, O_APPEND, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  return openSync(path, O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_NOFOLLOW, FILE_MODE);
}

/** Gives the file that is there another name. An empty one, of a run that wrote nothing, too. */
function moveAside(path: string): void {
  if (lstatSync(path, { throwIfNoEntry: false }) !== undefined) {
    renameSync(path, nameAside(path));
  }
}

/** `audit-20261127T181220123Z.jsonl`, and `…-1` when that is taken. Sorts by time, and before the one that is written. */
function nameAside(path: string): string {
  const extension = extname(path);
  const stem = basename(path, extension);
  const time = new Date().toISOString().replace(/[-:.]/g, '');
  for (let i = 0; ; i++) {
    const name = join(dirname(path), `${stem}-${time}${i === 0 ? '' : `-${i}`}${extension}`);
    if (lstatSync(name, { throwIfNoEntry: false }) === undefined) {
      return name;
    }
  }
}

function isSameFile(path: string, stats: Stats): boolean {
  const now = lstatSync(path, { throwIfNoEntry: false });
  return now !== undefined && now.ino === stats.ino && now.dev === stats.dev;
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? String(error);
}

function remedyOf(code: string | undefined): string {
  switch (code) {
    case 'EACCES':
    case 'EPERM':
      return `the agent's uid ${process.getuid!()} must be able to write to its folder`;
    case 'ENOSPC':
    case 'EDQUOT':
      return 'free space there';
    default:
      return 'check the path';
  }
}
