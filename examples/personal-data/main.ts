import { readFile } from 'node:fs/promises';
import { connect } from 'dekd/client';
import pg from 'pg';
import { buildApp } from './app.ts';
import { People } from './people.ts';

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });
await pool.query(await readFile(new URL('schema.sql', import.meta.url), 'utf8'));
// One client for the process; it makes its connection again when the agent was away.
const dekd = connect({ timeoutMs: 5_000 });

const app = buildApp(new People(dekd, pool), { logger: true });
pool.on('error', (error) => app.log.warn({ code: error.name }, 'an idle connection to the database ended'));
app.addHook('onClose', async () => {
  await dekd.close();
  await pool.end();
});
await app.listen({ port: Number(process.env.PORT ?? 3000) });

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.once(signal, () => void app.close());
}
