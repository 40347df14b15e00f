import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DekdError } from '../errors.ts';

const FILE = 'root-ids';

/**
 * The ids to which the providers have resolved the configured names of the roots, in `STATE/root-ids`. When an alias is
 * moved, what was wrapped under the key that it meant before goes on opening; a keystore alone can never add an id.
 */
export class TrustedIds {
  readonly #path: string | undefined;
  readonly #ids: Map<string, Set<string>>;

  #writing: Promise<void> = Promise.resolve();

  private constructor(path: string | undefined, ids: Map<string, Set<string>>) {
    this.#path = path;
    this.#ids = ids;
  }

  /** Without a folder, ids are remembered for the life of the agent only. @throws KEYSTORE_UNAVAILABLE */
  static async open(stateFolder: string | undefined): Promise<TrustedIds> {
    if (stateFolder === undefined) {
      return new TrustedIds(undefined, new Map());
    }
    const path = join(stateFolder, FILE);
    let text: string;
    try {
      text = await readFile(path, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') {
        return new TrustedIds(path, new Map());
      }
      throw unusable(path, error);
    }
    try {
      const read = JSON.parse(text) as Record<string, string[]>;
      return new TrustedIds(path, new Map(Object.entries(read).map(([root, ids]) => [root, new Set(ids)])));
    } catch (error) {
      throw unusable(path, error);
    }
  }

  of(root: string): readonly string[] {
    return [...(this.#ids.get(root) ?? [])];
  }

  has(root: string, id: string): boolean {
    return this.#ids.get(root)?.has(id) === true;
  }

  /** Remembers what a provider said; resolves when that is kept. */
  async add(root: string, id: string): Promise<void> {
    if (this.has(root, id)) {
      return;
    }
    const ids = this.#ids.get(root) ?? new Set();
    this.#ids.set(root, ids.add(id));
    if (this.#path === undefined) {
      return;
    }
    // One after the other: roots are reached side by side at start, and each write goes through the same file.
    const write = this.#writing.then(() => this.#keep());
    this.#writing = write.catch(() => undefined);
    await write;
  }

  async #keep(): Promise<void> {
    const path = this.#path!;
    const content = Object.fromEntries([...this.#ids].map(([name, known]) => [name, [...known]]));
    const next = `${path}.next`;
    try {
      await writeFile(next, `${JSON.stringify(content)}\n`, { mode: 0o600, flush: true });
      await rename(next, path);
    } catch (error) {
      throw unusable(path, error);
    }
  }
}

function unusable(path: string, error: unknown): DekdError {
  return new DekdError(
    'KEYSTORE_UNAVAILABLE',
    `${path} cannot be used (${(error as NodeJS.ErrnoException).code ?? 'damaged'}): check its owner and mode, or remove ` +
      'it and list earlier ids of the roots under formerly',
    { cause: error },
  );
}
