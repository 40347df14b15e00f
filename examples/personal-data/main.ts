import { readFile } from 'node:fs/promises';
import pg from 'pg';
import { buildApp } from './app.ts';

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });
await pool.query(await readFile(new URL('schema.sql', import.meta.url), 'utf8'));
const app = await buildApp(pool, { logger: true });
pool.on('error', (error) => app.log.warn({ code: error.name }, 'an idle connection to the database ended'));
app.addHook('onClose', () => pool.end());
await app.listen({ port: Number(process.env.PORT ?? 3000) });

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.once(signal, () => void app.close());
}
