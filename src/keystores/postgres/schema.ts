/** The tables, their versions, and every statement that is sent to them. */
import { COLUMNS, MUTABLE } from '../record-columns.ts';

/** One entry a version: what makes it out of the one before. Released entries never change. */
const VERSIONS: readonly ((schema: string) => string)[] = [
  /*
   * Names are compared byte by byte (collation C), so that neither order nor uniqueness changes with the server's locale
   * or its ICU. Counters of 64 bits are numeric: bigint has 63. State and seq are columns of their own so that an operator
   * can deny a key with SQL when nothing else works; the checks only keep accidents out, since the owner can drop them.
   *
   * scrub(): PostgreSQL never overwrites. An UPDATE leaves the old row in its page, and VACUUM frees that room without
   * clearing it, so shredded bytes are gone only when the table is written anew and the old file dropped. CLUSTER does
   * that, and unlike VACUUM FULL it may run in a function: with SECURITY DEFINER a role that owns nothing can ask for it.
   * Rows that some old snapshot may still need are copied too. Which these are shows in relfrozenxid, to which CLUSTER sets
   * the horizon that it went by: a row is gone when what replaced it came before that. shredded_before is such a point; one
   * that lies ahead came with a dump of another server, whose dead rows are not here. The wait for the lock is short because
   * everybody else waits behind it.
   */
  (schema) => `
CREATE TABLE ${schema}.store (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  id uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
  version integer NOT NULL,
  shredded bigint NOT NULL DEFAULT 0,
  shredded_before xid8 NOT NULL DEFAULT '0',
  scrubbed bigint NOT NULL DEFAULT 0
);
INSERT INTO ${schema}.store (version) VALUES (0);

CREATE TABLE ${schema}.record (
  kid bytea NOT NULL CHECK (octet_length(kid) = 16),
  name text COLLATE "C" NOT NULL,
  partition text COLLATE "C" NOT NULL,
  level integer NOT NULL,
  version bigint NOT NULL,
  revision bigint NOT NULL,
  algorithm text COLLATE "C" NOT NULL,
  purpose text COLLATE "C" NOT NULL,
  size bigint NOT NULL,
  state text COLLATE "C" NOT NULL CHECK (
    state IN ('pre-active', 'active', 'suspended', 'deactivated', 'compromised', 'destroyed')
  ),
  tenant text NOT NULL,
  service text NOT NULL,
  node text NOT NULL,
  created bigint NOT NULL,
  activated bigint NOT NULL,
  deactivated bigint NOT NULL,
  destroyed bigint NOT NULL,
  parent_kid bytea,
  root text,
  resolved_id text,
  material_version text,
  wrapped_secret bytea,
  wrapped bytea NOT NULL,
  key_context text NOT NULL,
  seq numeric(20, 0) NOT NULL CHECK (seq >= 0 AND seq <= 18446744073709551615),
  mac bytea NOT NULL,
  CONSTRAINT record_pkey PRIMARY KEY (kid),
  CONSTRAINT record_version UNIQUE (name, partition, purpose, version),
  CHECK ((parent_kid IS NULL) <> (root IS NULL))
);

CREATE TABLE ${schema}.lease (
  kid bytea NOT NULL,
  holder text COLLATE "C" NOT NULL,
  messages numeric(20, 0) NOT NULL,
  bytes numeric(20, 0) NOT NULL,
  PRIMARY KEY (kid, holder)
);

CREATE FUNCTION ${schema}.scrub() RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' AS $scrub$
DECLARE
  due ${schema}.store;
BEGIN
  LOCK TABLE ${schema}.record IN ACCESS EXCLUSIVE MODE;
  SELECT * INTO due FROM ${schema}.store;
  CLUSTER ${schema}.record USING record_pkey;
  IF due.shredded_before <= pg_snapshot_xmax(pg_current_snapshot()) AND
    (SELECT age(relfrozenxid) > age(due.shredded_before::xid) FROM pg_class WHERE oid = '${schema}.record'::regclass)
  THEN
    RETURN false;
  END IF;
  UPDATE ${schema}.store SET scrubbed = due.shredded;
  RETURN true;
END
$scrub$;
REVOKE ALL ON FUNCTION ${schema}.scrub() FROM PUBLIC;
`,
];

/** A database with a higher one is refused. */
export const SCHEMA_VERSION = VERSIONS.length;

/** What brings tables of version `from` to version `from + 1`. */
export function migrationFrom(from: number, schema: string): string {
  const name = quoted(schema);
  return `${VERSIONS[from]!(name)}\nUPDATE ${name}.store SET version = ${from + 1};`;
}

const REPLACED = COLUMNS.filter((column) => column !== 'kid');

/** One prepared statement; the name is unique to the text. */
export interface Statement {
  readonly name: string;
  readonly text: string;
}

export type Statements = ReturnType<typeof statementsFor>;

/** Columns are named one by one: a column that a later version adds must not break statements that are prepared. */
export function statementsFor(schema: string) {
  const record = `${quoted(schema)}.record`;
  const lease = `${quoted(schema)}.lease`;
  const store = `${quoted(schema)}.store`;
  const columns = COLUMNS.join(', ');
  const statement = (name: string, text: string): Statement => ({ name: `dekd_${name}`, text });
  return {
    insert: statement(
      'insert',
      `INSERT INTO ${record} (${columns}) VALUES (${COLUMNS.map((_, index) => `$${index + 1}`).join(', ')})`,
    ),
    /** kid, expected seq, then the new values. */
    replace: statement('replace', `UPDATE ${record} SET ${assignments(REPLACED)} WHERE kid = $1 AND seq = $2::numeric`),
    update: statement('update', `UPDATE ${record} SET ${assignments(MUTABLE)} WHERE kid = $1 AND seq = $2::numeric`),
    /** In one order for all writers: two rotations that meet wait for each other, and never both. */
    lock: statement('lock', `SELECT kid FROM ${record} WHERE kid = ANY ($1::bytea[]) ORDER BY kid FOR UPDATE`),
    retrieve: statement('retrieve', `SELECT ${columns} FROM ${record} WHERE kid = $1`),
    versions: statement(
      'versions',
      `SELECT ${columns} FROM ${record} WHERE name = $1 AND partition = $2 AND purpose = $3 ORDER BY version`,
    ),
    list: statement(
      'list',
      `SELECT ${columns} FROM ${record} WHERE kid > $1
        AND ($2::text IS NULL OR name = $2) AND ($3::text IS NULL OR partition = $3)
        AND ($4::integer IS NULL OR level = $4) AND ($5::text IS NULL OR purpose = $5)
        AND ($6::text IS NULL OR state = $6) ORDER BY kid LIMIT $7`,
    ),
    leases: statement('leases', `SELECT kid, holder, messages, bytes FROM ${lease}`),
    storeLease: statement(
      'store_lease',
      `INSERT INTO ${lease} (kid, holder, messages, bytes) VALUES ($1, $2, $3, $4)
        ON CONFLICT (kid, holder) DO UPDATE SET
        messages = greatest(lease.messages, excluded.messages), bytes = greatest(lease.bytes, excluded.bytes)`,
    ),
    sumLeases: statement(
      'sum_leases',
      `WITH dropped AS (DELETE FROM ${lease} WHERE kid = $1 AND holder <> '' RETURNING messages, bytes)
        INSERT INTO ${lease} (kid, holder, messages, bytes)
        SELECT $1, '', ${saturated('sum(messages)')}, ${saturated('sum(bytes)')} FROM dropped HAVING count(*) > 0
        ON CONFLICT (kid, holder) DO UPDATE SET
        messages = ${saturated('lease.messages + excluded.messages')},
        bytes = ${saturated('lease.bytes + excluded.bytes')}`,
    ),
    /** Every transaction that ever changed the row shredded in this one comes before the snapshot's end. */
    countShredded: statement(
      'count_shredded',
      `UPDATE ${store} SET shredded = shredded + 1,
        shredded_before = greatest(CASE WHEN shredded > scrubbed THEN shredded_before END,
          pg_snapshot_xmax(pg_current_snapshot()))`,
    ),
    store: statement('store', `SELECT id, version, shredded - scrubbed AS owed FROM ${store}`),
    scrub: statement(
      'scrub',
      `SELECT CASE WHEN pg_table_size('${record}'::regclass) <= $1::bigint THEN ${quoted(schema)}.scrub() END AS done`,
    ),
  };
}

/** A schema's name as an identifier; names are checked, and quoted all the same because some are key words. */
export function quoted(schema: string): string {
  return `"${schema.replaceAll('"', '""')}"`;
}

/** $1 and $2 are kid and expected seq. */
function assignments(columns: readonly string[]): string {
  return columns.map((column, index) => `${column} = $${index + 3}`).join(', ');
}

/** Usage is told in 64 bits. */
function saturated(sum: string): string {
  return `least(${sum}, 18446744073709551615)`;
}
