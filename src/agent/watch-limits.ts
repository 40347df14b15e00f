import type { Config } from '../config/config.ts';
import type { WatchLimits } from '../keyring/root-watch.ts';

/** What the configuration says of a root's silence and refusals, as the keyring takes it. */
export function watchLimits({ coast, revocation }: Pick<Config, 'coast' | 'revocation'>): WatchLimits {
  return {
    coastEncryptMs: coast.encrypt,
    coastDecryptMs: coast.decrypt,
    withinMs: revocation.within,
    strict: revocation.strict,
  };
}
