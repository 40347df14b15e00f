/** The tokens that callers can show, each from its file. Of none is more kept than its digest. */
import { createHash, timingSafeEqual } from 'node:crypto';
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { strictBytes } from '../bytes.ts';
import type { TokenConfig } from '../config/config.ts';
import { DekdError } from '../errors.ts';

export const TOKEN_BYTES = 32;
/** The base64 of 32 bytes, and a line end. */
const MAX_FILE = 64;

interface KnownToken {
  readonly name: string;
  readonly digest: Buffer;
}

export class CallerTokens {
  readonly #known: readonly KnownToken[];

  /** @throws INVALID_ARGUMENT with the remedy for a file that is not there, is open to others, or holds no token */
  constructor(tokens: readonly TokenConfig[]) {
    this.#known = tokens.map(({ name, file }) => ({ name, digest: digestOf(readToken(name, file)) }));
    for (const [index, { name, digest }] of this.#known.entries()) {
      const other = this.#known.findIndex((known) => known.digest.equals(digest));
      if (other < index) {
        throw new DekdError('INVALID_ARGUMENT', `tokens ${this.#known[other]!.name} and ${name} are the same`);
      }
    }
  }

  /**
   * The name of what a caller showed. Digests of equal length are compared with every token there is, so that neither how much of
   * one is right nor which one it is can be told by the time it takes.
   * @throws UNAUTHENTICATED
   */
  identify(shown: Uint8Array): string {
    const digest = digestOf(shown);
    let name: string | undefined;
    for (const known of this.#known) {
      name = timingSafeEqual(known.digest, digest) ? known.name : name;
    }
    if (name === undefined) {
      throw new DekdError('UNAUTHENTICATED', 'the caller is not known', {
        reason: `the caller showed a token of ${shown.length} bytes that is none of tokens; give it the file that one of them names`,
      });
    }
    return name;
  }
}

function digestOf(bytes: Uint8Array): Buffer {
  return createHash('sha256').update(bytes).digest();
}

/** Opened without following a link, and looked at by what was opened. */
function readToken(name: string, file: string): Uint8Array {
  const problem = (what: string): DekdError => new DekdError('INVALID_ARGUMENT', `token ${name}: ${file} ${what}`);
  let fd: number;
  try {
    fd = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    throw problem(`cannot be opened (${(error as NodeJS.ErrnoException).code}); check its path and permissions`);
  }
  const content = Buffer.alloc(MAX_FILE);
  try {
    const { mode, uid, size } = fstatSync(fd);
    if ((mode & constants.S_IFMT) !== constants.S_IFREG || size > MAX_FILE) {
      throw problem(`is no file of one base64 line; make it with dekd keygen -o ${file}`);
    }
    if ((mode & 0o077) !== 0 || (uid !== process.getuid!() && uid !== 0)) {
      throw problem('is open to others; let the agent own it, with mode 0600');
    }
    const text = content.toString('latin1', 0, readSync(fd, content, 0, MAX_FILE, 0)).replace(/\n$/, '');
    const token = strictBytes(text, 'base64');
    if (token?.length !== TOKEN_BYTES) {
      throw problem(`holds no ${TOKEN_BYTES} bytes as one base64 line; make it with dekd keygen -o ${file}`);
    }
    return token;
  } finally {
    content.fill(0);
    closeSync(fd);
  }
}
