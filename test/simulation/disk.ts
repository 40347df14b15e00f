/**
 * The disk of one agent's host, as far as `node:fs/promises` is used on it: files and one folder, with what is on the
 * platter and what is only in the page cache. A process that is killed loses nothing; a power cut loses what was not synced.
 */
import { dirname } from 'node:path';
import type { Machine } from './machine.ts';

interface Inode {
  current: string;
  synced: string;
}

export type DiskMode = 'ok' | 'full' | 'broken';

export class SimDisk {
  readonly root: string;
  mode: DiskMode = 'ok';
  readonly #machine: Machine;
  #names = new Map<string, Inode>();
  #syncedNames = new Map<string, Inode>();

  /** @param root every path below it is on this disk */
  constructor(root: string, machine: Machine) {
    this.root = root;
    this.#machine = machine;
  }

  /** What was not synced is gone, or part of it is. */
  powerCut(): void {
    const { chances } = this.#machine;
    // A journal may have been written by itself meanwhile.
    if (chances.chance(0.6)) {
      this.#names = new Map(this.#syncedNames);
    }
    for (const inode of this.#names.values()) {
      const lost = inode.current.length - inode.synced.length;
      inode.current =
        lost > 0 && inode.current.startsWith(inode.synced) && chances.chance(0.5)
          ? inode.current.slice(0, inode.synced.length + chances.between(0, lost))
          : inode.synced;
      inode.synced = inode.current;
    }
    this.#syncedNames = new Map(this.#names);
  }

  // ── what the program calls ────────────────────────────────────────────────────────────────────────────────────

  mkdir(): Promise<undefined> {
    return this.#do(() => undefined);
  }

  readFile(path: string): Promise<string> {
    return this.#do(() => this.#find(path).current);
  }

  writeFile(path: string, text: string, options: { flush?: boolean } = {}): Promise<void> {
    return this.#do(() => {
      this.#checkWritable();
      let inode = this.#names.get(path);
      if (inode === undefined) {
        inode = { current: '', synced: '' };
        this.#names.set(path, inode);
      }
      inode.current = text;
      if (options.flush) {
        inode.synced = text;
      }
    });
  }

  rename(from: string, to: string): Promise<void> {
    return this.#do(() => {
      this.#checkWritable();
      const inode = this.#find(from);
      this.#names.delete(from);
      this.#names.set(to, inode);
    });
  }

  rm(path: string): Promise<void> {
    return this.#do(() => void this.#names.delete(path));
  }

  /** @param isNew whether the file must not be there yet (O_EXCL) */
  open(path: string, isNew: boolean): Promise<SimFile> {
    return this.#do(() => {
      if (path === this.root) {
        return new SimFile(undefined, this.#actions());
      }
      if (isNew) {
        this.#checkWritable();
        if (this.#names.has(path)) {
          throw ioError('EEXIST', path);
        }
        this.#names.set(path, { current: '', synced: '' });
      }
      return new SimFile(this.#find(path), this.#actions());
    });
  }

  #actions(): DiskActions {
    return {
      append: (inode, text) =>
        this.#do(() => {
          if (this.mode === 'full') {
            // A full disk takes what it still can.
            inode.current += text.slice(0, this.#machine.chances.between(0, text.length));
          }
          this.#checkWritable();
          inode.current += text;
        }),
      sync: (inode) =>
        this.#do(() => {
          if (this.mode === 'broken') {
            throw ioError('EIO', this.root);
          }
          if (inode === undefined) {
            this.#syncedNames = new Map(this.#names);
          } else {
            inode.synced = inode.current;
          }
        }),
      close: () => this.#do(() => undefined),
    };
  }

  #do<T>(effect: () => T): Promise<T> {
    const { chances } = this.#machine;
    return this.#machine.elsewhere(chances.fraction() * 2, chances.fraction(), effect);
  }

  #find(path: string): Inode {
    const inode = this.#names.get(path);
    if (inode === undefined) {
      throw ioError('ENOENT', path);
    }
    return inode;
  }

  #checkWritable(): void {
    if (this.mode !== 'ok') {
      throw ioError(this.mode === 'full' ? 'ENOSPC' : 'EIO', this.root);
    }
  }
}

interface DiskActions {
  append(inode: Inode, text: string): Promise<void>;
  sync(inode: Inode | undefined): Promise<void>;
  close(): Promise<void>;
}

/** An open file, or the folder itself. */
export class SimFile {
  readonly #inode: Inode | undefined;
  readonly #actions: DiskActions;

  constructor(inode: Inode | undefined, actions: DiskActions) {
    this.#inode = inode;
    this.#actions = actions;
  }

  appendFile(text: string): Promise<void> {
    return this.#actions.append(this.#inode!, text);
  }

  datasync(): Promise<void> {
    return this.#actions.sync(this.#inode);
  }

  sync(): Promise<void> {
    return this.#actions.sync(this.#inode);
  }

  close(): Promise<void> {
    return this.#actions.close();
  }
}

function ioError(code: string, path: string): Error {
  return Object.assign(new Error(`${code}: ${dirname(path)}`), { code });
}
