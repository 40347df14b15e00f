/** What the client shows the agent beside what the kernel says of it. */
import { readFileSync } from 'node:fs';
import { DekdError } from '../errors.ts';

const TOKEN_BYTES = 32;

/** The token to show now; undefined for none. @throws UNAUTHENTICATED when `file` cannot be read or holds none */
export function tokenToShow(token: Uint8Array | undefined, file = process.env.DEKD_TOKEN_FILE): Uint8Array | undefined {
  if (token || !file) {
    return token;
  }
  try {
    const bytes = Buffer.from(readFileSync(file, 'latin1'), 'base64');
    if (bytes.length === TOKEN_BYTES) {
      return bytes;
    }
  } catch {
    // Whatever it is that is there, it is no token.
  }
  throw new DekdError('UNAUTHENTICATED', `no token in ${file}`);
}
