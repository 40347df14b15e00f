// What the scripts beside it share: walks a table of PostgreSQL in batches and fills a text column with tokens.
//
// A run may be stopped and begun again at any time: a row is done when its token is there. A row that somebody wrote while
// its token was made is left as it is, and is the next run's (xmin says so). What was encrypted before stays in its own columns
// until you drop them. Rows that fail are named, with the reason, and make the exit code 1.

import { parseArgs } from 'node:util';
import { connect } from 'dekd/client';
import pg from 'pg';

const COMMON = {
  database: { type: 'string', default: process.env.DATABASE_URL },
  table: { type: 'string' },
  id: { type: 'string', default: 'id' },
  to: { type: 'string', default: 'token' },
  key: { type: 'string' },
  'partition-column': { type: 'string' },
  batch: { type: 'string', default: '500' },
  'dry-run': { type: 'boolean', default: false },
};

/** Options of the command line; `more` are those of the script, whose columns have names. */
export function readOptions(more) {
  const { values } = parseArgs({ options: { ...COMMON, ...more } });
  for (const name of ['database', 'table', 'key', ...Object.keys(more)]) {
    if (values[name] === undefined && more[name]?.optional !== true) {
      fail(`--${name} is missing`);
    }
  }
  if (!/^[1-9]\d{0,4}$/.test(values.batch)) {
    fail('--batch is a number of rows, 1 to 99999');
  }
  return values;
}

/**
 * Makes a token for every row that has none.
 * @param columns what to read of each row
 * @param makeTokens takes the agent's client and rows with a `binding` each (key, partition and context of the token), and
 *   gives a result for each: { ok: true, value: Uint8Array } or { ok: false, error }
 */
export async function migrateTable(options, columns, makeTokens) {
  const database = new pg.Client({ connectionString: options.database, application_name: 'dekd migration' });
  const dekd = connect({ timeoutMs: 60_000 });
  const counts = { examined: 0, migrated: 0, failed: 0, changedMeanwhile: 0 };
  let stopped = false;
  process.once('SIGINT', () => {
    stopped = true;
  });
  await database.connect();
  try {
    const table = await describeTable(database, options);
    for (let last; !stopped; ) {
      const rows = await nextRows(database, table, options, columns, last);
      if (rows.length === 0) {
        break;
      }
      last = rows.at(-1).dekd_id;
      counts.examined += rows.length;
      const items = rows.map((row) => ({ ...row, binding: bindingOf(row, options) }));
      const results = await makeTokens(dekd, items);
      const done = [];
      for (const [index, result] of results.entries()) {
        if (result.ok) {
          done.push({ ...rows[index], token: `dk1.${Buffer.from(result.value).toString('base64url')}` });
        } else {
          counts.failed += 1;
          console.error(`row ${rows[index].dekd_id}: ${result.error.code ?? 'error'}: ${result.error.message}`);
        }
      }
      const written = options['dry-run'] ? done.length : await store(database, table, done);
      counts.migrated += written;
      counts.changedMeanwhile += done.length - written;
      console.error(`${counts.migrated} migrated, ${counts.failed} failed, up to row ${last}`);
    }
  } finally {
    await database.end();
    await dekd.close();
  }
  console.log(JSON.stringify({ ...counts, dryRun: options['dry-run'], stopped }));
  process.exitCode = counts.failed > 0 ? 1 : 0;
}

/** What a token is bound to. The application must say the same when it decrypts. */
function bindingOf(row, options) {
  const partition = options['partition-column'];
  return {
    key: options.key,
    ...(partition === undefined ? {} : { partition: row[partition] ?? '' }),
    context: { table: options.table, column: options.to, row: row.dekd_id },
  };
}

async function describeTable(database, { table, id, to }) {
  const name = table.split('.').map(pg.escapeIdentifier).join('.');
  const { rows } = await database.query(
    'SELECT format_type(atttypid, atttypmod) AS type FROM pg_attribute WHERE attrelid = $1::regclass AND attname = $2',
    [name, id],
  );
  if (rows.length === 0) {
    fail(`${table} has no column ${id}`);
  }
  return { name, id: pg.escapeIdentifier(id), to: pg.escapeIdentifier(to), idType: rows[0].type };
}

async function nextRows(database, { name, id, to, idType }, options, columns, last) {
  const wanted = [...columns, options['partition-column']].filter((column) => column !== undefined);
  const after = last === undefined ? '' : `AND ${id} > $2::${idType}`;
  const { rows } = await database.query(
    `SELECT ${[`${id}::text AS dekd_id`, 'xmin::text AS dekd_version', ...wanted.map(pg.escapeIdentifier)].join(', ')}
     FROM ${name} WHERE ${to} IS NULL AND ${pg.escapeIdentifier(columns[0])} IS NOT NULL ${after} ORDER BY ${id} LIMIT $1`,
    last === undefined ? [options.batch] : [options.batch, last],
  );
  return rows;
}

async function store(database, { name, id, to, idType }, rows) {
  const { rowCount } = await database.query(
    `UPDATE ${name} AS t SET ${to} = v.token
     FROM unnest($1::text[], $2::text[], $3::text[]) AS v (id, version, token)
     WHERE t.${id} = v.id::${idType} AND t.xmin::text = v.version AND t.${to} IS NULL`,
    [rows.map((row) => row.dekd_id), rows.map((row) => row.dekd_version), rows.map((row) => row.token)],
  );
  return rowCount;
}

function fail(message) {
  console.error(message);
  process.exit(2);
}
