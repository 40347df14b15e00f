/** A service's settings from variables. */
import { DekdError } from '../errors.ts';
import type { ServiceOptions } from './types.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

const SWITCH: Readonly<Record<string, boolean>> = { true: true, '1': true, false: false, '0': false };

/**
 * `DEKD_KEY` (required unless disabled), `DEKD_PARTITION`, `DEKD_SOCKET`, `ENCRYPTION_ROOT` and `ENCRYPTION_ENABLED`. An empty
 * variable is as good as none.
 * @throws INVALID_ARGUMENT naming the variable and what it may be
 */
export function serviceSettings(env: Environment): Extract<ServiceOptions, { readonly client?: undefined }> {
  const enabled = enabledBy(env.ENCRYPTION_ENABLED);
  const key = env.DEKD_KEY || undefined;
  if (key === undefined && enabled) {
    throw new DekdError(
      'INVALID_ARGUMENT',
      'DEKD_KEY is not set: name the key that values are encrypted with, or set ENCRYPTION_ENABLED=false to refuse all of it',
    );
  }
  const socket = env.DEKD_SOCKET || undefined;
  return {
    key: key ?? 'disabled',
    partition: env.DEKD_PARTITION || undefined,
    root: env.ENCRYPTION_ROOT || undefined,
    enabled,
    connection: { socket },
  };
}

function enabledBy(text: string | undefined): boolean {
  if (text === undefined || text === '') {
    return true;
  }
  const enabled = Object.hasOwn(SWITCH, text) ? SWITCH[text] : undefined;
  if (enabled === undefined) {
    // Anything else is refused: "flase" must not switch encryption on, nor "no" leave it on.
    throw new DekdError(
      'INVALID_ARGUMENT',
      `ENCRYPTION_ENABLED is ${JSON.stringify(text.slice(0, 64))}; it is one of ${Object.keys(SWITCH).join(', ')}`,
    );
  }
  return enabled;
}
