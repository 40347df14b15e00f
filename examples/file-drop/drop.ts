/** A folder of encrypted files. Whoever has a link has its file; whoever has the folder has neither. */
import { createHash, randomBytes } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline as pipe, type Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { DecryptOptions, DekdClient } from 'dekd/client';

const KEY = 'drop';
const LINK = /^[A-Za-z0-9_-]{43}$/;

export class TooLarge extends Error {}

/** A file that was opened; to be closed. What is removed meanwhile is still read to its end. */
export interface DroppedFile extends AsyncDisposable {
  /**
   * The plaintext, frame by frame, each verified first. That nothing is missing only its end says: until then it may still
   * fail, and whoever it is passed on to must learn of it.
   */
  content(): NodeJS.ReadableStream;
  /** The plaintext from `start` to before `end`, less where it is over. No more is read than the frames that it lies in. */
  range(start: number, end: number): Promise<Uint8Array>;
}

export class Drop {
  readonly #dekd: DekdClient;
  readonly #folder: string;
  readonly #maxBytes: number;

  private constructor(dekd: DekdClient, folder: string, maxBytes: number) {
    this.#dekd = dekd;
    this.#folder = folder;
    this.#maxBytes = maxBytes;
  }

  /** @param folder of one process at a time. @param maxBytes of plaintext in one file */
  static async open(dekd: DekdClient, folder: string, maxBytes: number): Promise<Drop> {
    const drop = new Drop(dekd, folder, maxBytes);
    // What an earlier process was writing when it was killed.
    await rm(drop.#incoming, { recursive: true, force: true });
    await mkdir(drop.#incoming, { recursive: true, mode: 0o700 });
    return drop;
  }

  get #incoming(): string {
    return join(this.#folder, 'incoming');
  }

  /**
   * Encrypts a body as it comes in. The file is there when all of it is on disk, and never in part.
   * @returns the link, 43 characters
   * @throws TooLarge; what the body, the agent or the disk failed with
   */
  async put(body: Readable): Promise<string> {
    const link = randomBytes(32).toString('base64url');
    const incoming = join(this.#incoming, nameOf(link));
    try {
      await pipeline(
        body,
        limit(this.#maxBytes),
        this.#dekd.encryptStream(binding(link)),
        createWriteStream(incoming, { flags: 'wx', mode: 0o600, flush: true }),
      );
      await rename(incoming, join(this.#folder, nameOf(link)));
      await this.#sync();
      return link;
    } catch (error) {
      await rm(incoming, { force: true });
      throw error;
    }
  }

  /** @param link any text. @returns undefined where there is no file of it */
  async get(link: string): Promise<DroppedFile | undefined> {
    const file = LINK.test(link) ? await openIfThere(join(this.#folder, nameOf(link))) : undefined;
    return file && this.#dropped(file, link);
  }

  /** @returns whether there was one */
  async remove(link: string): Promise<boolean> {
    await using file = await this.get(link);
    if (file === undefined) {
      return false;
    }
    await rm(join(this.#folder, nameOf(link)), { force: true });
    await this.#sync();
    return true;
  }

  #dropped(file: FileHandle, link: string): DroppedFile {
    return {
      content: () => {
        const plain = this.#dekd.decryptStream(binding(link));
        // What fails on either side destroys both, and whoever reads meets the error.
        return pipe(file.createReadStream({ autoClose: false }), plain, () => {});
      },
      range: (start, end) => this.#dekd.decryptRange(file, { start, end }, binding(link)),
      [Symbol.asyncDispose]: () => file.close(),
    };
  }

  /** A name is on disk when its folder is. */
  async #sync(): Promise<void> {
    await using folder = await open(this.#folder);
    await folder.sync();
  }
}

/** The folder does not know links: of their hashes nobody comes back to one. */
function nameOf(link: string): string {
  return createHash('sha256').update(link).digest('hex');
}

/** A file that was renamed to another, or put into another drop, does not open. */
function binding(link: string): DecryptOptions & { key: string } {
  return { key: KEY, context: { file: nameOf(link) } };
}

/** Passes on what comes, up to so many bytes. */
function limit(maxBytes: number): Transform {
  let seen = 0;
  return new Transform({
    transform(piece: Uint8Array, _encoding, done) {
      seen += piece.length;
      if (seen > maxBytes) {
        done(new TooLarge(`more than ${maxBytes} bytes`));
      } else {
        done(null, piece);
      }
    },
  });
}

async function openIfThere(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') {
      return undefined;
    }
    throw error;
  }
}
