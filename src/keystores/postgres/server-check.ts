import { DekdError } from '../../errors.ts';
import type { Session } from './session.ts';

/** PostgreSQL 13 has gen_random_uuid without an extension; older ones get no fixes any more. */
const OLDEST_SERVER = 130_000;

/**
 * Everything that a session needs of its server is set here rather than expected of roles and databases:
 * - search_path: a function or table of somebody else never stands in for one that is meant;
 * - synchronous_commit: what is confirmed is on disk, and on a synchronous standby where there is one;
 * - limits that free the server of a session whose agent has gone.
 */
const SETTINGS = (serverTimeoutMs: number) => `
SELECT pg_is_in_recovery() AS replica,
  current_setting('transaction_read_only') AS read_only,
  current_setting('server_encoding') AS encoding,
  current_setting('server_version_num') AS version,
  current_setting('fsync') AS fsync,
  current_setting('full_page_writes') AS full_page_writes,
  set_config('search_path', 'pg_catalog, pg_temp', false),
  set_config('synchronous_commit', CASE current_setting('synchronous_commit')
    WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false),
  set_config('statement_timeout', '${serverTimeoutMs}ms', false),
  set_config('idle_in_transaction_session_timeout', '${serverTimeoutMs}ms', false),
  set_config('bytea_output', 'hex', false)`;

/**
 * Makes a new session fit for work.
 * @returns what the server does that risks keys, for the operator
 * @throws KEYSTORE_UNAVAILABLE for a replica or a server that is read-only; UNSUPPORTED for what cannot hold the rows
 */
export async function prepareSession(
  session: Session,
  shown: string,
  serverTimeoutMs: number,
): Promise<readonly string[]> {
  const [server] = await session.run(SETTINGS(serverTimeoutMs));
  const { replica, read_only, encoding, version, fsync, full_page_writes } = server ?? {};
  if (replica !== 'f') {
    throw new DekdError(
      'KEYSTORE_UNAVAILABLE',
      `keystore postgres: ${shown} is a replica: name the primary, or an address that moves with it`,
    );
  }
  if (read_only !== 'off') {
    throw new DekdError(
      'KEYSTORE_UNAVAILABLE',
      `keystore postgres: ${shown} is read-only: set default_transaction_read_only to off for server, database and role`,
    );
  }
  if (encoding !== 'UTF8') {
    throw new DekdError(
      'UNSUPPORTED',
      `keystore postgres: ${shown} has the encoding ${encoding}: make the database with ENCODING 'UTF8'`,
    );
  }
  if (Number(version) < OLDEST_SERVER) {
    throw new DekdError('UNSUPPORTED', `keystore postgres: ${shown} is older than PostgreSQL 13`);
  }
  const off = [fsync !== 'on' && 'fsync', full_page_writes !== 'on' && 'full_page_writes'].filter(Boolean);
  return off.map((name) => `${name} is off on the server: a power cut can lose or damage keys`);
}
