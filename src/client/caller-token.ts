/** What the client shows the agent beside what the kernel says of it. */
import { readFileSync } from 'node:fs';
import { DekdError } from '../errors.ts';

/** The token to show now; undefined for none. @throws UNAUTHENTICATED when `file` cannot be read; what it holds is for the agent to judge */
export function tokenToShow(token: Uint8Array | undefined, file = process.env.DEKD_TOKEN_FILE): Uint8Array | undefined {
  if (token || !file) {
    return token;
  }
  try {
    return Buffer.from(readFileSync(file, 'utf8'), 'base64');
  } catch (cause) {
    throw new DekdError('UNAUTHENTICATED', `no token: ${cause}`);
  }
}
