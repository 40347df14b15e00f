import { DekdError } from '../../errors.ts';
import { sqlState } from './failure.ts';
import { migrationFrom, quoted, SCHEMA_VERSION } from './schema.ts';
import type { Session } from './session.ts';

/** "dekd" in ASCII: first half of the advisory lock, the second is made of the schema's name. */
const LOCK_CLASS = 0x64656b64;
/** A migration may wait for another agent's; nothing else here takes long. */
export const MIGRATION_TIMEOUT_MS = 60_000;

const UNDEFINED_COLUMN = '42703';
const DUPLICATE_TABLE = '42P07';
const INSUFFICIENT_PRIVILEGE = '42501';

/**
 * Brings the tables to the version of this dekd. Any number of agents may do so at once, and one does it; a step that
 * fails leaves everything as it was.
 * @param migrate whether it may; without, tables that are not there or too old are an error with the remedy
 * @throws UNSUPPORTED_VERSION for newer tables, or older ones that may not be changed; INVALID_ARGUMENT when the schema is
 * another program's
 */
export async function ensureSchema(session: Session, schema: string, migrate: boolean): Promise<void> {
  const version = await schemaVersion(session, schema);
  checkNotNewer(version, schema);
  if (version === SCHEMA_VERSION) {
    return;
  }
  if (!migrate) {
    throw new DekdError(
      'UNSUPPORTED_VERSION',
      `keystore postgres: schema ${schema} ${version === undefined ? 'has no tables' : `is at version ${version}`}, and ` +
        `this dekd needs version ${SCHEMA_VERSION}: start it once with keystore.postgres.migrate: true and a role that ` +
        'may create tables',
    );
  }
  try {
    await session.transaction(() => upgrade(session, schema));
  } catch (error) {
    switch (sqlState(error)) {
      case DUPLICATE_TABLE:
        throw foreign(schema);
      case INSUFFICIENT_PRIVILEGE:
        throw new DekdError(
          'KEYSTORE_UNAVAILABLE',
          `keystore postgres: the role may not make or change the tables of schema ${schema}: make the schema with ` +
            'AUTHORIZATION for the role, or let an owner start dekd once and set keystore.postgres.migrate: false here',
        );
      default:
        throw error;
    }
  }
}

/** @throws UNSUPPORTED_VERSION */
export function checkNotNewer(version: number | undefined, schema: string): void {
  if (version !== undefined && version > SCHEMA_VERSION) {
    throw new DekdError(
      'UNSUPPORTED_VERSION',
      `keystore postgres: schema ${schema} is at version ${version}, and this dekd knows up to ${SCHEMA_VERSION}: upgrade ` +
        'dekd, or run dekd keys export with the newer one and dekd keys import into another schema here',
    );
  }
}

async function upgrade(session: Session, schema: string): Promise<void> {
  await session.run(
    `SET LOCAL statement_timeout = ${MIGRATION_TIMEOUT_MS}; ` +
      `SELECT pg_advisory_xact_lock(${LOCK_CLASS}, hashtext('${schema}'))`,
  );
  // Read again: another agent may have been here while this one waited.
  const version = await schemaVersion(session, schema);
  checkNotNewer(version, schema);
  const [found] = await session.run(`SELECT 1 AS there FROM pg_namespace WHERE nspname = '${schema}'`);
  if (found === undefined) {
    await session.run(`CREATE SCHEMA ${quoted(schema)}`);
  }
  for (let from = version ?? 0; from < SCHEMA_VERSION; from++) {
    await session.run(migrationFrom(from, schema));
  }
}

/**
 * Undefined when there are no tables. The catalogue is read as a table: to_regclass goes by a cache of the session that
 * does not hear of a schema made while it waits for an advisory lock.
 * @throws INVALID_ARGUMENT for a table `store` that is not ours
 */
async function schemaVersion(session: Session, schema: string): Promise<number | undefined> {
  const [found] = await session.run(
    `SELECT 1 AS there FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname = '${schema}' AND c.relname = 'store'`,
  );
  if (found === undefined) {
    return undefined;
  }
  try {
    const [row] = await session.run(`SELECT version FROM ${quoted(schema)}.store WHERE one`);
    return row === undefined ? undefined : Number(row.version);
  } catch (error) {
    throw sqlState(error) === UNDEFINED_COLUMN ? foreign(schema) : error;
  }
}

function foreign(schema: string): DekdError {
  return new DekdError(
    'INVALID_ARGUMENT',
    `keystore postgres: schema ${schema} holds tables of another program: choose another keystore.postgres.schema`,
  );
}
