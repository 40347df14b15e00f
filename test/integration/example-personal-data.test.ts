/** examples/personal-data with a real server, a real agent and requests by HTTP. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createTestAgent, type TestAgent } from '../../src/testkit/index.ts';
import { formsFound } from '../support/canary.ts';
import {
  compileErrors,
  exampleEnvironment,
  installExample,
  type RunningExample,
  startExample,
} from '../support/example.ts';
import { describeOwnServer, PostgresServer } from '../support/postgres.ts';
import { run } from '../support/source-copy.ts';
import { makeFolder, removeFolder } from '../support/temporary-folder.ts';

const COLUMNS = ['name', 'email', 'phone', 'address'] as const;
const ADA = {
  name: 'Ada "Canary" Lovelace-Ünïcode',
  email: 'Ada.Canary@Example.org',
  phone: '+44 20 7946 0958',
  address: { street: '12 St James’s Square', town: 'London-Canaryford' },
};
const BOB = { ...ADA, name: 'Bob Canary Babbage', email: 'bob.canary@example.org' };
const CANARIES = [ADA, BOB].flatMap(({ name, email, phone, address }) => [
  name,
  email,
  email.toLowerCase(),
  phone,
  address.street,
  address.town,
]);

/** Everything that the server has written, its log of writes included. */
function filesOf(server: PostgresServer): Buffer[] {
  return readdirSync(server.data, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => readFileSync(join(entry.parentPath, entry.name)));
}

describeOwnServer('examples/personal-data', () => {
  const folder = makeFolder();
  let server: PostgresServer;
  let agent: TestAgent;
  let service: RunningExample;
  let env: NodeJS.ProcessEnv;

  beforeAll(async () => {
    installExample('personal-data', folder);
    [server, agent] = await Promise.all([PostgresServer.start(), createTestAgent({ keep: true })]);
    const { url } = server.settings;
    env = exampleEnvironment(folder, { ...agent.env, DATABASE_URL: url, PORT: '0' });
    service = await startExample(folder, 'main.ts', /listening at (http:\/\/127\.0\.0\.1:\d+)/, env);
  }, 120_000);

  afterAll(async () => {
    await service?.stop();
    await agent?.close();
    await server?.stop();
    removeFolder(folder);
  });

  /** @returns status and body */
  async function ask(method: string, path: string, body?: unknown): Promise<[number, unknown]> {
    const answer = await fetch(service.found + path, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    });
    const text = await answer.text();
    return [answer.status, text === '' ? undefined : JSON.parse(text)];
  }

  async function add(tenant: string, data: unknown): Promise<string> {
    const [status, answer] = await ask('POST', `/tenants/${tenant}/people`, data);
    expect([status, answer]).toEqual([201, { id: expect.any(String) }]);
    return (answer as { id: string }).id;
  }

  const reencrypt = (...args: string[]) => run('sh', ['reencrypt.sh', '--json', ...args], { cwd: folder, env });

  it('compiles', async () => {
    expect(await compileErrors(folder, ['main.ts'])).toBe('');
  });

  it('keeps a person, gives it back, finds it by its e-mail address, changes it, and forgets it with one DELETE', async () => {
    const id = await add('keep', ADA);
    const ada = { ...ADA, tenant: 'keep', id };
    expect(await ask('GET', `/tenants/keep/people/${id}`)).toEqual([200, ada]);
    expect(await ask('POST', '/tenants/keep/people/lookup', { email: 'ada.canary@example.ORG' })).toEqual([200, ada]);
    expect(await ask('POST', '/tenants/keep/people', ADA)).toMatchObject([409, {}]);

    const moved = { ...ADA, email: 'countess.canary@example.org', phone: null };
    expect(await ask('PUT', `/tenants/keep/people/${id}`, moved)).toEqual([204, undefined]);
    expect(await ask('POST', '/tenants/keep/people/lookup', { email: ADA.email })).toMatchObject([404, {}]);
    expect(await ask('POST', '/tenants/keep/people/lookup', { email: moved.email })).toEqual([
      200,
      { ...moved, tenant: 'keep', id },
    ]);

    expect(await ask('DELETE', `/tenants/keep/people/${id}`)).toEqual([204, undefined]);
    expect(await ask('GET', `/tenants/keep/people/${id}`)).toMatchObject([404, {}]);
    expect(await server.sql('SELECT 1 FROM people WHERE tenant = $1', ['keep'])).toEqual([]);
  });

  it('pages through a tenant by tokens that are worth nothing in another', async () => {
    const added = await Promise.all(
      Array.from({ length: 7 }, (_, at) => add('paged', { ...ADA, email: `p${at}@example.org` })),
    );
    const seen: string[] = [];
    let path = '/tenants/paged/people?limit=3';
    for (let pages = 1; ; pages++) {
      const [status, body] = await ask('GET', path);
      const { people, next } = body as { people: { id: string }[]; next?: string };
      expect(status).toBe(200);
      seen.push(...people.map(({ id }) => id));
      if (next === undefined) {
        expect(pages).toBe(3);
        break;
      }
      expect(await ask('GET', `/tenants/other/people?after=${next}`)).toMatchObject([400, {}]);
      expect(await ask('GET', `/tenants/paged/people?after=${next.slice(0, -1)}`)).toMatchObject([400, {}]);
      path = `/tenants/paged/people?limit=3&after=${next}`;
    }
    expect(seen).toEqual(added.toSorted());
  });

  it('does not open a value that was moved to another person, whoever moved it', async () => {
    const [one, two] = [await add('moved', ADA), await add('moved', BOB)];
    await server.sql('UPDATE people SET email = (SELECT email FROM people WHERE id = $1) WHERE id = $2', [one, two]);
    expect((await ask('GET', `/tenants/moved/people/${two}`))[0]).toBe(422);
    expect(await ask('GET', `/tenants/moved/people/${one}`)).toMatchObject([200, { email: ADA.email }]);
  });

  it('reads on after a rotation, and all rows go to the newest version', async () => {
    const old = await add('turned', ADA);
    await agent.rotate('people', { partition: 'turned' });
    const young = await add('turned', BOB);
    expect(await ask('GET', `/tenants/turned/people/${old}`)).toMatchObject([200, ADA]);
    expect(await ask('POST', '/tenants/turned/people/lookup', { email: ADA.email })).toMatchObject([200, { id: old }]);

    const row = async () => (await server.sql('SELECT * FROM people WHERE id = $1', [old]))[0]!;
    const before = await row();
    await server.sql("DELETE FROM people WHERE tenant = 'moved'");
    expect((await reencrypt('--verify')).code).toBe(1);
    const moved = await reencrypt();
    expect(moved.code, moved.stdout + moved.stderr).toBe(0);
    const verified = await reencrypt('--verify');
    expect(verified.code, verified.stdout + verified.stderr).toBe(0);

    const after = await row();
    expect(COLUMNS.filter((column) => before[column] === after[column])).toEqual([]);
    expect(after.email_index).toBe(before.email_index);
    expect(await ask('GET', `/tenants/turned/people/${old}`)).toMatchObject([200, ADA]);
    expect(await ask('GET', `/tenants/turned/people/${young}`)).toMatchObject([200, BOB]);
  });

  it('answers nothing while the agent is away, and goes on when it is back', async () => {
    const id = await add('outage', ADA);
    agent.pause();
    const answer = ask('GET', `/tenants/outage/people/${id}`);
    await agent.kill();
    agent.resume();
    // 503, or 504 where it was already waiting for an answer.
    expect((await answer)[0]).toBeOneOf([503, 504]);
    expect((await ask('GET', '/readyz'))[0]).toBe(503);
    await agent.restart();
    expect((await ask('GET', '/readyz'))[0]).toBe(204);
    expect(await ask('GET', `/tenants/outage/people/${id}`)).toMatchObject([200, ADA]);
  });

  it('leaves nothing personal in a dump, in the files of the server or in its own log, in any form', async () => {
    await add('dumped', ADA);
    await add('dumped', BOB);
    await server.sql('CHECKPOINT');
    const dump = execFileSync('pg_dump', [
      '-h',
      server.folder,
      '-p',
      String(server.port),
      '-U',
      'postgres',
      'postgres',
    ]);
    // Of what is there the dump does hold what nobody minds: the search works.
    expect(formsFound(dump, 'COPY public.people')).toContain('as it is');
    const held = Buffer.concat([dump, ...filesOf(server), Buffer.from(service.said())]);
    expect(formsFound(held, 'email_index')).toContain('as it is');
    expect(CANARIES.flatMap((canary) => formsFound(held, canary).map((form) => `${canary}: ${form}`))).toEqual([]);
  });

  it('ends by SIGTERM with what is under way answered', async () => {
    expect(await service.stop()).toBe(0);
  });
});
