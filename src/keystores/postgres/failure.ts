/**
 * What a failure of the server, the network or the driver means to the caller. PostgreSQL's own words are never passed on,
 * and neither is its error as a cause: `detail` quotes rows, and texts are in the server's language. The SQLSTATE goes
 * into the reason, which only the operator reads.
 */
import { DekdError, type ErrorCode } from '../../errors.ts';

/** Trouble with a connection, as against an answer of the server. */
export class SessionError extends Error {
  override readonly name = 'SessionError';
  /** Never made, lost while it was in use, or given up because the time of the operation was over. */
  readonly kind: 'unreachable' | 'lost' | 'late';

  constructor(kind: SessionError['kind'], message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.kind = kind;
  }
}

/**
 * The server ends the connection with these, whatever it was doing. 25006 is a write on a server that became read-only: it
 * leaves the connection as it is, but the next one may find the new primary, and says what is wrong where it does not.
 */
const ENDS_CONNECTION: ReadonlySet<string> = new Set(['57P01', '57P02', '57P03', '57P04', '57P05', '25P03', '25006']);
/** serialization_failure and deadlock_detected: undone by the server, and worth another try. */
const UNDONE: ReadonlySet<string> = new Set(['40001', '40P01']);

/** Meaning by SQLSTATE (appendix A of the manual), then by its class. */
const MEANING: Readonly<Record<string, readonly [ErrorCode, string]>> = {
  '08': ['KEYSTORE_UNAVAILABLE', 'broke the connection'],
  '22021': ['INVALID_ARGUMENT', 'cannot store a character of this record'],
  '23': ['INTERNAL', 'has a constraint that the record breaks'],
  '23505': ['CONFLICT', 'has such a record already'],
  '25006': ['KEYSTORE_UNAVAILABLE', 'is read-only, so a replica or switched to it: name the primary'],
  '25P03': ['KEYSTORE_UNAVAILABLE', 'ended the connection because a transaction took too long'],
  '26000': [
    'KEYSTORE_UNAVAILABLE',
    'forgot a prepared statement: a pooler in between has to keep one session to one connection',
  ],
  '28': ['KEYSTORE_UNAVAILABLE', 'refused the login: check the user, passwordFile and pg_hba.conf'],
  '3D000': ['KEYSTORE_UNAVAILABLE', 'has no such database: create it, or correct keystore.postgres.url'],
  '3F000': ['KEYSTORE_UNAVAILABLE', 'has no such schema'],
  '40': ['KEYSTORE_UNAVAILABLE', 'undid the change again and again because of other writers'],
  '42501': [
    'KEYSTORE_UNAVAILABLE',
    'does not let the role do this: give it USAGE on the schema, and SELECT, INSERT and UPDATE on its tables',
  ],
  '42P01': ['KEYSTORE_UNAVAILABLE', 'lacks a table of dekd: is this the database that the keystore was made in?'],
  '53': ['KEYSTORE_UNAVAILABLE', 'is short of a resource'],
  '53100': ['KEYSTORE_UNAVAILABLE', 'has no space left on its disk'],
  '53200': ['KEYSTORE_UNAVAILABLE', 'has no memory left'],
  '53300': [
    'KEYSTORE_UNAVAILABLE',
    'has too many connections: raise max_connections or lower keystore.postgres.connections',
  ],
  '54000': ['INVALID_ARGUMENT', 'cannot index a record with names of this length'],
  '55P03': ['KEYSTORE_UNAVAILABLE', 'holds a lock that others wait for'],
  '57014': ['KEYSTORE_UNAVAILABLE', 'did not finish in time'],
  '57P': ['KEYSTORE_UNAVAILABLE', 'is shutting down or starting'],
  '57P01': ['KEYSTORE_UNAVAILABLE', 'ended the connection: an administrator did, or it shuts down'],
  '57P02': ['KEYSTORE_UNAVAILABLE', 'restarts after a crash'],
  '57P03': ['KEYSTORE_UNAVAILABLE', 'is starting or shutting down'],
  '57P04': ['KEYSTORE_UNAVAILABLE', 'no longer has this database'],
};

/** Why no connection was made, by the code of Node's error. */
const UNREACHABLE: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nothing listens there',
  ENOENT: 'no socket is there',
  EACCES: 'the socket may not be used',
  ENOTFOUND: 'the name is not known',
  EAI_AGAIN: 'the name cannot be looked up now',
  EHOSTUNREACH: 'there is no way to the host',
  ENETUNREACH: 'there is no way to the network',
  ETIMEDOUT: 'no answer',
  ECONNRESET: 'the connection was closed',
  EPIPE: 'the connection was closed',
  ERR_TLS_CERT_ALTNAME_INVALID: "the server's certificate is for another name",
  CERT_HAS_EXPIRED: "the server's certificate has expired",
  DEPTH_ZERO_SELF_SIGNED_CERT: "nobody trusted signed the server's certificate: name its authority in caFile",
  SELF_SIGNED_CERT_IN_CHAIN: "nobody trusted signed the server's certificate: name its authority in caFile",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: "nobody trusted signed the server's certificate: name its authority in caFile",
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: "nobody trusted signed the server's certificate: name its authority in caFile",
};

/** What an answer of the server looks like; its class is the driver's, which may be loaded more than once. */
export function sqlState(error: unknown): string | undefined {
  const { code, severity } = (error ?? {}) as { code?: unknown; severity?: unknown };
  return typeof code === 'string' && severity !== undefined && /^[0-9A-Z]{5}$/.test(code) ? code : undefined;
}

/** Whether nothing more can be asked over a connection on which `error` came. */
export function endsConnection(error: unknown): boolean {
  const state = sqlState(error);
  return state === undefined ? !(error instanceof DekdError) : ENDS_CONNECTION.has(state) || state.startsWith('08');
}

/** Whether the same work may be done again at once: it had no effect, and another connection or moment may do. */
export function isPassing(error: unknown): boolean {
  return (error instanceof SessionError && error.kind === 'lost') || UNDONE.has(sqlState(error) ?? '');
}

/**
 * The error of the contract for `error`, one of ours as it is.
 * @param shown the place of the server, without credentials
 */
export function failureOf(error: unknown, shown: string): DekdError {
  if (error instanceof DekdError) {
    return error;
  }
  const answer = error instanceof SessionError ? error.cause : error;
  const state = sqlState(answer);
  if (state !== undefined) {
    const meaning = MEANING[state] ?? MEANING[state.slice(0, 3)] ?? MEANING[state.slice(0, 2)];
    const [code, text] = meaning ?? (['KEYSTORE_UNAVAILABLE', `answered with SQLSTATE ${state}`] as const);
    return new DekdError(code, `keystore postgres: ${shown} ${text}`, { reason: `SQLSTATE ${state}` });
  }
  if (error instanceof SessionError) {
    return new DekdError('KEYSTORE_UNAVAILABLE', `keystore postgres: ${shown} ${error.message}`, {
      ...(error.cause !== undefined && { reason: reasonOf(error.cause) }),
    });
  }
  return DekdError.from(error);
}

/** Trouble in making a connection; answers of the server and errors of ours stay as they are. */
export function connectFailure(error: unknown): unknown {
  if (error instanceof DekdError || sqlState(error) !== undefined) {
    return error;
  }
  return new SessionError('unreachable', `cannot be reached: ${unreachableBecause(error)}`, error);
}

/** The driver has no codes for what it finds itself, so its texts are all there is to go by. */
function unreachableBecause(error: unknown): string {
  const { code, message = '' } = error as { code?: unknown; message?: string };
  const known = typeof code === 'string' ? UNREACHABLE[code] : undefined;
  if (known !== undefined) {
    return known;
  }
  if (message.startsWith('SASL')) {
    return 'the login needs a password, or the server does not know it: check passwordFile';
  }
  if (message.includes('does not support SSL')) {
    return 'it has no TLS: switch it on there; tls: disable is for Unix sockets and loopback addresses';
  }
  return typeof code === 'string' ? code : 'the connection was closed';
}

/** A name of what happened, without any text of others. */
function reasonOf(cause: unknown): string {
  const { code, name } = cause as { code?: unknown; name?: unknown };
  return typeof code === 'string' ? code : String(name ?? 'unknown');
}
