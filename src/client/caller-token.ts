/** What the client shows the agent beside what the kernel says of it. */
import { readFileSync } from 'node:fs';
import { DekdError } from '../errors.ts';

const TOKEN_BYTES = 32;

export interface TokenOptions {
  /** 32 bytes, as the token's file has them in base64. */
  readonly token?: Uint8Array | undefined;
  /** Path of that file, read for each connection; default: DEKD_TOKEN_FILE. */
  readonly tokenFile?: string | undefined;
}

/** The token to show now; undefined for none. @throws UNAUTHENTICATED when its file cannot be read or holds none */
export function tokenToShow({ token, tokenFile = process.env.DEKD_TOKEN_FILE }: TokenOptions): Uint8Array | undefined {
  if (token !== undefined || !tokenFile) {
    return token;
  }
  let text: string;
  try {
    text = readFileSync(tokenFile, 'latin1').trim();
  } catch (error) {
    throw new DekdError('UNAUTHENTICATED', `the token file ${tokenFile} cannot be read: ${(error as Error).message}`);
  }
  const bytes = Buffer.from(text, 'base64');
  if (bytes.length !== TOKEN_BYTES || bytes.toString('base64') !== text) {
    throw new DekdError('UNAUTHENTICATED', `the token file ${tokenFile} holds no 32 bytes as one base64 line`);
  }
  return bytes;
}
