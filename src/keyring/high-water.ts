import { constants } from 'node:fs';
import { type FileHandle, mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { hex } from '../bytes.ts';
import { DekdError } from '../errors.ts';
import type { KeyRecord } from './record.ts';
import { syncFolder } from './synced-folder.ts';

const FILE = 'high-water';
/** Lines for each thing remembered from which a new file is worth its time at start. */
const WORTH_COMPACTING = 2;

type Line = ['k', string, string] | ['v', string, string, string, number];

/**
 * The highest seq seen of each record and the highest version of each (name, partition, purpose), so that a keystore
 * put back to an older state is noticed. What is seen is on disk before the row is used; only rows whose MAC is good
 * are ever shown to it.
 *
 * One append-only file of lines `JSON array, space, CRC-32 in hex`: a later line wins. It is written anew at an opening
 * that finds half of it out of date. A last line that is cut short was never acknowledged and is dropped; any other
 * damaged line is refused, because taking the rest would silently lower what the line had said.
 */
export class HighWater {
  readonly #folder: string | undefined;
  readonly #seqs = new Map<string, bigint>();
  readonly #versions = new Map<string, number>();
  #file: FileHandle | undefined;
  #pending = '';
  /** The write in progress, and the one that will carry what is pending. */
  #flush: Promise<void> | undefined;
  #next: Promise<void> | undefined;
  /** A write failed: what the file holds is not known until it is written anew. */
  #damaged = false;

  private constructor(folder: string | undefined) {
    this.#folder = folder;
  }

  /**
   * Reads `folder`/high-water; without a folder nothing is remembered.
   * @throws KEYSTORE_UNAVAILABLE with the remedy when the file cannot be read or is damaged.
   */
  static async open(folder: string | undefined): Promise<HighWater> {
    const highWater = new HighWater(folder);
    if (folder !== undefined) {
      try {
        await mkdir(folder, { recursive: true, mode: 0o700 });
        const text = await readIfThere(join(folder, FILE));
        const lines = highWater.#read(text);
        const isWhole = text.endsWith('\n');
        if (isWhole && lines <= WORTH_COMPACTING * (highWater.#seqs.size + highWater.#versions.size)) {
          await highWater.#resume();
        } else {
          await highWater.#rewrite();
        }
      } catch (error) {
        await highWater.close();
        throw DekdError.is(error) ? error : ioError('open', error);
      }
    }
    return highWater;
  }

  /** Whether an older state of the keystore is noticed. */
  get detects(): boolean {
    return this.#folder !== undefined;
  }

  /** The highest seq seen of a record; 0 when none was. */
  seq(kid: Uint8Array): bigint {
    return this.#seqs.get(hex(kid)) ?? 0n;
  }

  /** The highest version seen; 0 when none was. */
  version(name: string, partition: string, purpose: string): number {
    return this.#versions.get(familyId(name, partition, purpose)) ?? 0;
  }

  /** Remembers `records`, whose MACs are good; resolves when that is on disk. @throws KEYSTORE_UNAVAILABLE. */
  async raise(records: readonly KeyRecord[]): Promise<void> {
    if (this.#folder === undefined) {
      return;
    }
    for (const record of records) {
      if (record.seq > this.seq(record.kid)) {
        this.#setSeq(record);
      }
      if (record.version > this.version(record.name, record.partition, record.purpose)) {
        this.#setVersion(record.name, record.partition, record.purpose, record.version);
      }
    }
    await this.#written();
  }

  /**
   * Takes an older state for the right one, as the operator asked: what is remembered of `record` becomes what it says,
   * and of its name the version `highest`, the highest that the keystore holds.
   */
  async accept(record: KeyRecord, highest: number): Promise<void> {
    if (this.#folder === undefined) {
      return;
    }
    if (record.seq !== this.seq(record.kid)) {
      this.#setSeq(record);
    }
    if (highest !== this.version(record.name, record.partition, record.purpose)) {
      this.#setVersion(record.name, record.partition, record.purpose, highest);
    }
    await this.#written();
  }

  async close(): Promise<void> {
    await this.#next?.catch(() => undefined);
    await this.#flush?.catch(() => undefined);
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }

  #setSeq(record: KeyRecord): void {
    const kid = hex(record.kid);
    this.#seqs.set(kid, record.seq);
    this.#pending += lineOf(['k', kid, record.seq.toString()]);
  }

  #setVersion(name: string, partition: string, purpose: string, version: number): void {
    this.#versions.set(familyId(name, partition, purpose), version);
    this.#pending += lineOf(['v', name, partition, purpose, version]);
  }

  /** Resolves when what is remembered at the call is on disk; callers that come during a write share the next one. */
  async #written(): Promise<void> {
    if (this.#pending === '' && !this.#damaged) {
      await this.#flush;
      return;
    }
    this.#next ??= this.#writeAfter(this.#flush);
    await this.#next;
  }

  async #writeAfter(previous: Promise<void> | undefined): Promise<void> {
    // Always a turn later, so that what is raised in this turn travels with it.
    await (previous ?? Promise.resolve()).catch(() => undefined);
    const write = this.#write();
    this.#flush = write;
    this.#next = undefined;
    try {
      await write;
    } finally {
      if (this.#flush === write) {
        this.#flush = undefined;
      }
    }
  }

  async #write(): Promise<void> {
    const lines = this.#pending;
    this.#pending = '';
    try {
      if (this.#damaged || this.#file === undefined) {
        await this.#rewrite();
      } else {
        await this.#file.appendFile(lines);
        await this.#file.datasync();
      }
      this.#damaged = false;
    } catch (error) {
      this.#damaged = true;
      throw ioError('write', error);
    }
  }

  /** Goes on with the file as it is. What it holds was perhaps not on disk yet when its last agent was killed. */
  async #resume(): Promise<void> {
    const file = await open(join(this.#folder!, FILE), constants.O_WRONLY | constants.O_APPEND);
    this.#file = file;
    await file.datasync();
  }

  /** A new file with what is remembered, in the place of the old one. */
  async #rewrite(): Promise<void> {
    const folder = this.#folder!;
    const path = join(folder, FILE);
    const next = `${path}.next`;
    await this.#file?.close();
    this.#file = undefined;
    await rm(next, { force: true });
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_APPEND;
    const file = await open(next, flags, 0o600);
    try {
      await file.appendFile(this.#text());
      await file.sync();
      await rename(next, path);
      await syncFolder(folder);
    } catch (error) {
      await file.close();
      throw error;
    }
    this.#file = file;
  }

  #text(): string {
    const lines: string[] = [];
    for (const [kid, seq] of this.#seqs) {
      lines.push(lineOf(['k', kid, seq.toString()]));
    }
    for (const [id, version] of this.#versions) {
      const [name, partition, purpose] = JSON.parse(id) as [string, string, string];
      lines.push(lineOf(['v', name, partition, purpose, version]));
    }
    return lines.join('');
  }

  /** @returns the number of lines. */
  #read(text: string): number {
    const lines = text.split('\n');
    // What follows the last line feed was cut short by a crash before it was acknowledged.
    lines.pop();
    for (const [index, line] of lines.entries()) {
      const fields = parseLine(line);
      if (fields === undefined) {
        throw new DekdError(
          'KEYSTORE_UNAVAILABLE',
          `${join(this.#folder!, FILE)} is damaged at line ${index + 1}: restore it, or remove it and check the keystore ` +
            'against an export, because until then an older state of the keystore cannot be noticed',
        );
      }
      if (fields[0] === 'k') {
        this.#seqs.set(fields[1], BigInt(fields[2]));
      } else {
        this.#versions.set(familyId(fields[1], fields[2], fields[3]), fields[4]);
      }
    }
    return lines.length;
  }
}

function familyId(name: string, partition: string, purpose: string): string {
  return JSON.stringify([name, partition, purpose]);
}

function lineOf(fields: Line): string {
  const json = JSON.stringify(fields);
  return `${json} ${checksum(json)}\n`;
}

function parseLine(line: string): Line | undefined {
  const end = line.lastIndexOf(' ');
  const json = line.slice(0, Math.max(end, 0));
  if (end < 0 || line.slice(end + 1) !== checksum(json)) {
    return undefined;
  }
  return JSON.parse(json) as Line;
}

function checksum(text: string): string {
  return crc32(text).toString(16).padStart(8, '0');
}

async function readIfThere(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') {
      return '';
    }
    throw error;
  }
}

function ioError(verb: string, error: unknown): DekdError {
  const code = (error as NodeJS.ErrnoException).code ?? 'unknown error';
  return new DekdError('KEYSTORE_UNAVAILABLE', `cannot ${verb} the high-water file (${code})`, { cause: error });
}
