/** The baseline: node:crypto in process, with a context as every measurement has it. */
import { randomBytes } from 'node:crypto';
import { InProcess as Baseline } from '../../src/crypto/in-process.ts';
import { encodeContext } from '../../src/envelope/context.ts';
import { TOKEN_AAD_LENGTH } from '../../src/envelope/token.ts';

/** The record context of every measurement, ours and the baselines'. */
export const CONTEXT = { field: 'pan' } as const;
export const CONTEXT_BYTES = encodeContext(CONTEXT);

/** As many bytes of AAD as a token with `CONTEXT` has. */
export const AAD = Buffer.concat([randomBytes(TOKEN_AAD_LENGTH), CONTEXT_BYTES]);

/** AES-256-GCM of node:crypto, with as much AAD as a token has. */
export class InProcess extends Baseline {
  /** @param options `raw`: the key is a Buffer, which Node turns into a key object at every call */
  constructor(options: { readonly raw?: boolean } = {}) {
    super(AAD, options);
  }
}
