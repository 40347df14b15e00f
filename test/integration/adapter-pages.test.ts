import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startTestAgent, type TestAgent } from '../support/agent.ts';
import { compile, runFile, writeSection } from '../support/page-code.ts';
import { describeOwnServer, PostgresServer } from '../support/postgres.ts';
import { ROOT } from '../support/source-copy.ts';

/** Below the tree, so that packages are found; that of Prisma is run where Prisma is. */
const FOLDER = join(ROOT, '.vitest/pages');
const SECTIONS: readonly [string, string][] = [
  ['pg', '2 Ada@example.org\n'],
  ['Kysely', "[ { id: 'p1', email: 'ada@example.org' } ]\n"],
  ['Drizzle', 'Ada all is well\n'],
];

describeOwnServer('the code of docs/adapters.md', () => {
  let server: PostgresServer;
  let agent: TestAgent;

  beforeAll(async () => {
    for (const [heading] of SECTIONS) {
      writeSection('docs/adapters.md', heading, join(FOLDER, `${heading}.ts`));
    }
    server = await PostgresServer.start();
    agent = await startTestAgent();
  }, 60_000);

  afterAll(async () => {
    await agent?.stop();
    await server?.stop();
  });

  it.each(SECTIONS)('runs as it stands there: %s', async (heading, says) => {
    const ran = await runFile(join(FOLDER, `${heading}.ts`), {
      DEKD_SOCKET: agent.socket,
      PGHOST: server.folder,
      PGPORT: String(server.port),
      PGUSER: 'postgres',
      PGDATABASE: 'postgres',
    });
    expect(ran).toEqual({ code: 0, stdout: says, stderr: '' });
  });

  it('is right to the compiler', async () => {
    expect(
      await compile(
        FOLDER,
        SECTIONS.map(([heading]) => `${heading}.ts`),
      ),
    ).toBe('');
  }, 120_000);
});
