/** Tokens before and after they were re-encrypted. */
import type { ManyResult } from '../../client/types.ts';
import { KID_LENGTH, SUITE_DIRECT, TOKEN_KID_OFFSET } from '../../envelope/token.ts';

/** Whether two tokens are under one version of one key. Direct tokens do not say their version, and never are. */
export function isSameVersion(a: Uint8Array, b: Uint8Array): boolean {
  if (a[1] === SUITE_DIRECT) {
    return false;
  }
  for (let at = TOKEN_KID_OFFSET; at < TOKEN_KID_OFFSET + KID_LENGTH; at += 1) {
    if (a[at] !== b[at]) {
      return false;
    }
  }
  return true;
}

/** The results, with the token itself where it was under the newest version already: what needs no change gets none. */
export function keepingCurrent(tokens: readonly Uint8Array[], results: readonly ManyResult[]): readonly ManyResult[] {
  return results.map((result, index) => {
    const token = tokens[index]!;
    return result.ok && isSameVersion(token, result.value) ? { ok: true, value: token } : result;
  });
}
