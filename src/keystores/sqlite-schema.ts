import { COLUMNS, MUTABLE } from './record-columns.ts';

/** "dekd" in ASCII: tells our files from other programs' databases. */
export const APPLICATION_ID = 0x64656b64;
/** Raised by each change of the tables; a file with a higher one is refused. */
export const SCHEMA_VERSION = 1;

/**
 * State and seq are columns of their own so that an operator can deny a key with SQL when nothing else works; the checks
 * only keep accidents out, since whoever writes the file can drop them.
 */
export const CREATE_SCHEMA = `
CREATE TABLE record (
  kid BLOB NOT NULL PRIMARY KEY CHECK (length(kid) = 16),
  name TEXT NOT NULL,
  partition TEXT NOT NULL,
  level INTEGER NOT NULL,
  version INTEGER NOT NULL,
  revision INTEGER NOT NULL,
  algorithm TEXT NOT NULL,
  purpose TEXT NOT NULL,
  size INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (
    state IN ('pre-active', 'active', 'suspended', 'deactivated', 'compromised', 'destroyed')
  ),
  tenant TEXT NOT NULL,
  service TEXT NOT NULL,
  node TEXT NOT NULL,
  created INTEGER NOT NULL,
  activated INTEGER NOT NULL,
  deactivated INTEGER NOT NULL,
  destroyed INTEGER NOT NULL,
  parent_kid BLOB,
  root TEXT,
  resolved_id TEXT,
  material_version TEXT,
  wrapped_secret BLOB,
  wrapped BLOB NOT NULL,
  key_context TEXT NOT NULL,
  seq INTEGER NOT NULL,
  mac BLOB NOT NULL,
  UNIQUE (name, partition, purpose, version),
  CHECK ((parent_kid IS NULL) <> (root IS NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE lease (
  kid BLOB NOT NULL,
  holder TEXT NOT NULL,
  messages INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  PRIMARY KEY (kid, holder)
) STRICT, WITHOUT ROWID;

PRAGMA application_id = ${APPLICATION_ID};
PRAGMA user_version = ${SCHEMA_VERSION};
`;

export const SQL = {
  insert: `INSERT INTO record (${COLUMNS.join(', ')}) VALUES (${COLUMNS.map((column) => `:${column}`).join(', ')})`,
  replace: `UPDATE record SET ${assignments(COLUMNS)} WHERE kid = :kid AND seq = :expected`,
  update: `UPDATE record SET ${assignments(MUTABLE)} WHERE kid = :kid AND seq = :expected`,
  retrieve: 'SELECT * FROM record WHERE kid = :kid',
  versions:
    'SELECT * FROM record WHERE name = :name AND partition = :partition AND purpose = :purpose ORDER BY version',
  list: `SELECT * FROM record WHERE kid > :after
    AND (:name IS NULL OR name = :name) AND (:partition IS NULL OR partition = :partition)
    AND (:level IS NULL OR level = :level) AND (:purpose IS NULL OR purpose = :purpose)
    AND (:state IS NULL OR state = :state) ORDER BY kid LIMIT :limit`,
  leases: 'SELECT * FROM lease',
  storeLease: `INSERT INTO lease (kid, holder, messages, bytes) VALUES (:kid, :holder, :messages, :bytes)
    ON CONFLICT (kid, holder) DO UPDATE SET
    messages = max(messages, excluded.messages), bytes = max(bytes, excluded.bytes)`,
  sumLeases: `INSERT OR REPLACE INTO lease (kid, holder, messages, bytes)
    SELECT kid, '', sum(messages), sum(bytes) FROM lease WHERE kid = :kid GROUP BY kid`,
  dropLeases: "DELETE FROM lease WHERE kid = :kid AND holder <> ''",
  probe: 'SELECT 1 FROM record LIMIT 1',
} as const;

function assignments(columns: readonly string[]): string {
  return columns
    .filter((column) => column !== 'kid')
    .map((column) => `${column} = :${column}`)
    .join(', ');
}
