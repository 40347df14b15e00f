import { readFile, stat } from 'node:fs/promises';
import { DekdError } from '../errors.ts';
import type { KeyRecord, UsageLease } from '../keyring/record.ts';
import { readExport } from './export-document.ts';
import type { Keystore, KeystoreCapabilities, KeystoreHealth, ListFilter, ListPage } from './keystore.ts';
import { MemoryKeystore } from './memory.ts';

/** How often the file is looked at for a change, at most. */
const LOOK_EVERY_MS = 5000;

export interface BundleOptions {
  readonly path: string;
  /** Milliseconds from any fixed moment. */
  readonly elapsedMs?: () => number;
}

/**
 * Serves an export document, such as one in a mounted Secret, and writes nothing. When the file is replaced it is read
 * again; a replacement that cannot be read leaves what was read before.
 */
export class BundleKeystore implements Keystore {
  readonly kind = 'bundle';
  readonly #path: string;
  readonly #elapsedMs: () => number;
  #rows: MemoryKeystore;
  #stamp: string;
  #lookedAt: number;
  #problem = '';

  private constructor(options: BundleOptions, rows: MemoryKeystore, stamp: string) {
    this.#path = options.path;
    this.#elapsedMs = options.elapsedMs ?? (() => performance.now());
    this.#rows = rows;
    this.#stamp = stamp;
    this.#lookedAt = this.#elapsedMs();
  }

  /** @throws INVALID_ARGUMENT, UNSUPPORTED_VERSION, KEYSTORE_UNAVAILABLE with the path. */
  static async open(options: BundleOptions): Promise<BundleKeystore> {
    const stamp = await stampOf(options.path);
    return new BundleKeystore(options, await readRows(options.path), stamp);
  }

  async retrieve(kid: Uint8Array): Promise<KeyRecord | undefined> {
    return (await this.#current()).retrieve(kid);
  }

  async versions(name: string, partition: string, purpose: string): Promise<readonly KeyRecord[]> {
    return (await this.#current()).versions(name, partition, purpose);
  }

  async list(filter: ListFilter, cursor: string | undefined, limit: number): Promise<ListPage> {
    return (await this.#current()).list(filter, cursor, limit);
  }

  async leases(): Promise<readonly UsageLease[]> {
    return [];
  }

  async store(): Promise<void> {
    throw readOnly();
  }

  async updateMetadata(): Promise<void> {
    throw readOnly();
  }

  async delete(): Promise<void> {
    throw readOnly();
  }

  async storeLease(): Promise<void> {
    throw readOnly();
  }

  async health(): Promise<KeystoreHealth> {
    return this.#problem === ''
      ? { ok: true, detail: `${this.#path}, read-only` }
      : { ok: false, detail: this.#problem };
  }

  capabilities(): KeystoreCapabilities {
    return { durable: true, writable: false, watch: false };
  }

  async close(): Promise<void> {
    await this.#rows.close();
  }

  async #current(): Promise<MemoryKeystore> {
    const now = this.#elapsedMs();
    if (now - this.#lookedAt >= LOOK_EVERY_MS) {
      this.#lookedAt = now;
      try {
        const stamp = await stampOf(this.#path);
        if (stamp !== this.#stamp) {
          this.#rows = await readRows(this.#path);
          this.#stamp = stamp;
        }
        this.#problem = '';
      } catch (error) {
        this.#problem = DekdError.from(error).message;
      }
    }
    return this.#rows;
  }
}

async function readRows(path: string): Promise<MemoryKeystore> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    throw unreadable(path, error);
  }
  const rows = new MemoryKeystore();
  try {
    for (const record of readExport(text)) {
      await rows.store(record, { absent: true });
    }
  } catch (error) {
    const problem = DekdError.from(error);
    const code = problem.code === 'UNSUPPORTED_VERSION' ? problem.code : 'INVALID_ARGUMENT';
    throw new DekdError(code, `bundle ${path}: ${problem.message}`, { cause: error });
  }
  return rows;
}

/** Changes when the file is replaced, also behind the symbolic links of a mounted Secret. */
async function stampOf(path: string): Promise<string> {
  try {
    const { dev, ino, size, mtimeNs } = await stat(path, { bigint: true });
    return [dev, ino, size, mtimeNs].join(' ');
  } catch (error) {
    throw unreadable(path, error);
  }
}

function unreadable(path: string, error: unknown): DekdError {
  const code = (error as NodeJS.ErrnoException).code ?? 'unknown error';
  return new DekdError('KEYSTORE_UNAVAILABLE', `bundle ${path} cannot be read (${code})`, { cause: error });
}

function readOnly(): DekdError {
  return new DekdError('UNSUPPORTED', 'keystore bundle is read-only: change the keystore it was exported from');
}
