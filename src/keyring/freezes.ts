import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { DekdError } from '../errors.ts';
import { syncFolder } from './synced-folder.ts';

const FILE = 'frozen';

/** What one freeze stops: empty means all of them. */
export interface Freeze {
  readonly name: string;
  readonly partition: string;
}

/**
 * The kill switch: keys that this agent uses for nothing until they are thawed. It is the agent's own and asks nobody; in
 * `STATE/frozen` it outlives a restart.
 */
export class Freezes {
  readonly #path: string | undefined;
  #freezes: readonly Freeze[];
  #kept: Promise<void> = Promise.resolve();

  private constructor(path: string | undefined, freezes: readonly Freeze[]) {
    this.#path = path;
    this.#freezes = freezes;
  }

  /** @throws KEYSTORE_UNAVAILABLE when the file cannot be read: what was frozen must not thaw by damage. */
  static async open(stateFolder: string | undefined): Promise<Freezes> {
    const path = stateFolder === undefined ? undefined : join(stateFolder, FILE);
    if (path === undefined) {
      return new Freezes(undefined, []);
    }
    try {
      return new Freezes(path, JSON.parse(await readFile(path, 'utf8')) as Freeze[]);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') {
        return new Freezes(path, []);
      }
      throw ioError('read', path, error);
    }
  }

  get all(): readonly Freeze[] {
    return this.#freezes;
  }

  covers(name: string, partition: string): boolean {
    return this.#freezes.some((freeze) => matches(freeze, name, partition));
  }

  /** @throws KEY_DISABLED for a key that is frozen. */
  check(name: string, partition: string): void {
    if (this.covers(name, partition)) {
      throw new DekdError('KEY_DISABLED', `${said({ name, partition })} is frozen by the operator`);
    }
  }

  /** Holds from this call on; resolves once it outlives a restart. */
  async add(freeze: Freeze): Promise<void> {
    if (!this.#freezes.some((known) => isSame(known, freeze))) {
      this.#freezes = [...this.#freezes, freeze];
      await this.#keep();
    }
  }

  /** @throws INVALID_ARGUMENT when there is no such freeze. */
  async remove(freeze: Freeze): Promise<void> {
    const left = this.#freezes.filter((known) => !isSame(known, freeze));
    if (left.length === this.#freezes.length) {
      throw new DekdError(
        'INVALID_ARGUMENT',
        `there is no freeze of ${said(freeze)}; dekd keys freeze --list shows them`,
      );
    }
    // Only what was written is thawed: else a key would be neither frozen nor thawed, and a restart would freeze it again.
    await this.#inTurn(async () => {
      const isLeft = (known: Freeze): boolean => !isSame(known, freeze);
      await this.#write(this.#freezes.filter(isLeft));
      this.#freezes = this.#freezes.filter(isLeft);
    });
  }

  /** Writes what is frozen when its turn comes. */
  #keep(): Promise<void> {
    return this.#inTurn(() => this.#write(this.#freezes));
  }

  /** One write after the other. */
  #inTurn(work: () => Promise<void>): Promise<void> {
    this.#kept = this.#kept.catch(() => undefined).then(work);
    return this.#kept;
  }

  async #write(freezes: readonly Freeze[]): Promise<void> {
    if (this.#path === undefined) {
      return;
    }
    try {
      await mkdir(dirname(this.#path), { recursive: true, mode: 0o700 });
      await writeFile(`${this.#path}.next`, `${JSON.stringify(freezes)}\n`, { mode: 0o600, flush: true });
      await rename(`${this.#path}.next`, this.#path);
      // A freeze that a power cut lifts was none.
      await syncFolder(dirname(this.#path));
    } catch (error) {
      throw ioError('write', this.#path, error);
    }
  }
}

export function matches(freeze: Freeze, name: string, partition: string): boolean {
  return (freeze.name === '' || freeze.name === name) && (freeze.partition === '' || freeze.partition === partition);
}

/** A freeze in words. */
export function said({ name, partition }: Freeze): string {
  const keys = name === '' ? 'all keys' : `key ${name}`;
  return partition === '' ? keys : `${keys} of partition ${partition}`;
}

function isSame(a: Freeze, b: Freeze): boolean {
  return a.name === b.name && a.partition === b.partition;
}

function ioError(verb: string, path: string, error: unknown): DekdError {
  const code = (error as NodeJS.ErrnoException).code ?? 'damaged';
  return new DekdError('KEYSTORE_UNAVAILABLE', `cannot ${verb} ${path} (${code}): check its owner and mode`, {
    cause: error,
  });
}
