/** What helpers say of what they are given to open: one text for all that is wrong with it, since strangers may have sent it. */
import { DekdError, type ErrorCode } from '../errors.ts';

/** The client's words for a ciphertext that is none, or another's, or changed. */
const NOT_VALID: ReadonlySet<string> = new Set<ErrorCode>(['MALFORMED', 'UNSUPPORTED_VERSION', 'DECRYPTION_FAILED']);

/**
 * Whether the client said so of the ciphertext itself, and not of agent, key or call. Told by name and code: the client may
 * be of another copy of this package.
 */
export function saysNotValid(error: unknown): error is DekdError {
  return error instanceof Error && error.name === 'DekdError' && NOT_VALID.has((error as DekdError).code);
}

/**
 * @param what names it: `the pagination token`
 * @param cause of which only the incident shows, for the operator
 */
export function notValid(what: string, cause?: DekdError): DekdError {
  const incident = cause?.incident;
  return new DekdError('DECRYPTION_FAILED', `${what} is not valid`, {
    ...(cause === undefined ? {} : { cause }),
    ...(incident === undefined ? {} : { incident }),
  });
}

export function expired(what: string): DekdError {
  return new DekdError('EXPIRED', `${what} has expired`);
}

/** Opens with `work`. @throws `notValid` for everything that is wrong with what is opened; all else as it is */
export async function opening<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw saysNotValid(error) ? notValid(what, error) : error;
  }
}
