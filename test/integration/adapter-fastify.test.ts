import { join } from 'node:path';
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify';
import { afterAll, afterEach, beforeAll, describe, expect, expectTypeOf, it } from 'vitest';
import defaultExport, {
  DEKD_STATUS,
  type DekdPluginOptions,
  dekdPlugin,
  sendDekdError,
} from '../../src/adapters/fastify.ts';
import { connect } from '../../src/client/index.ts';
import type { DekdClient } from '../../src/client/types.ts';
import { DekdError, ERROR_CODES, type ErrorCode } from '../../src/errors.ts';
import { startTestAgent, type TestAgent } from '../support/agent.ts';

let agent: TestAgent;
const apps: FastifyInstance[] = [];
const BINDING = { key: 'customers', context: { field: 'email' } };

beforeAll(async () => {
  agent = await startTestAgent();
}, 30_000);

afterEach(async () => {
  await Promise.all(apps.splice(0).map((app) => app.close()));
});

afterAll(async () => {
  await agent?.stop();
});

function newApp(options: FastifyServerOptions = {}): FastifyInstance {
  const app = Fastify(options);
  apps.push(app);
  return app;
}

/** An application whose route `/` fails with `error`, and which is asked once. */
async function answerTo(error: unknown, options: Partial<DekdPluginOptions> = { errors: true }) {
  const lines: string[] = [];
  const app = newApp({ logger: { level: 'info', stream: { write: (line: string) => void lines.push(line) } } });
  await app.register(dekdPlugin, { socket: agent.socket, ...options } as DekdPluginOptions);
  app.get('/', async (_request, reply) => {
    void reply.header('cache-control', 'public').type('text/html');
    throw error;
  });
  const answer = await app.inject('/');
  return { answer, log: lines.map((line) => JSON.parse(line) as Record<string, unknown>) };
}

async function refusal(work: PromiseLike<unknown>): Promise<string> {
  try {
    await work;
  } catch (error) {
    return error instanceof DekdError ? `${error.code}: ${error.message}` : String(error);
  }
  throw new Error('was not refused');
}

describe('the plugin for Fastify', () => {
  it('gives the scope that registers it, and all below, a client that routes encrypt with', async () => {
    const app = newApp();
    await app.register(dekdPlugin, { socket: agent.socket });
    expectTypeOf(app.dekd).toEqualTypeOf<DekdClient>();
    interface Customer {
      id: string;
      email: string;
    }
    const customers = app.dekd.fields<Customer>()({
      key: 'customers',
      fields: ['email'],
      context: ({ id }) => ({ customer: id }),
    });
    const stored = new Map<string, Awaited<ReturnType<typeof customers.encrypt>>>();
    await app.register(async (scope) => {
      scope.put<{ Params: { id: string }; Body: { email: string } }>(
        '/customers/:id',
        async ({ params, body }, reply) => {
          stored.set(params.id, await customers.encrypt({ id: params.id, email: body.email }));
          return reply.code(204).send();
        },
      );
      scope.get<{ Params: { id: string } }>('/customers/:id', async ({ params, server }) => {
        expect(server.dekd).toBe(app.dekd);
        return customers.decrypt(stored.get(params.id)!);
      });
    });
    const put = await app.inject({ method: 'PUT', url: '/customers/1', payload: { email: 'ada@example.org' } });
    expect(put.statusCode).toBe(204);
    expect(String(stored.get('1')!.email)).toMatch(/^dk1\./);
    expect((await app.inject('/customers/1')).json()).toEqual({ id: '1', email: 'ada@example.org' });
  });

  it('opens no socket before the first call, so that an application starts without an agent', async () => {
    const app = newApp();
    await app.register(dekdPlugin, { socket: join(agent.folder, 'nobody.sock'), timeoutMs: 50 });
    await app.ready();
    expect(await refusal(app.dekd.ping())).toContain('AGENT_UNAVAILABLE');
  });

  it('closes its client with the application, after requests that are under way', async () => {
    const app = newApp();
    await app.register(dekdPlugin, { socket: agent.socket });
    let arrived = () => {};
    const under = new Promise<void>((resolve) => {
      arrived = resolve;
    });
    let proceed = () => {};
    const gate = new Promise<void>((resolve) => {
      proceed = resolve;
    });
    app.get('/', async (_request, reply) => {
      arrived();
      await gate;
      void reply.header('connection', 'close');
      return app.dekd.decryptText(await app.dekd.encryptText('late', BINDING), BINDING);
    });
    const address = await app.listen({ port: 0, host: '127.0.0.1' });
    const asked = fetch(address);
    await under;
    const closed = app.close();
    proceed();
    expect(await (await asked).text()).toBe('late');
    await closed;
    expect(await refusal(app.dekd.ping())).toContain('AGENT_UNAVAILABLE');
  });

  it('leaves a client that it was given open, and takes no options of a connection beside it', async () => {
    await using client = connect({ socket: agent.socket });
    const app = newApp();
    await app.register(dekdPlugin, { client });
    expect(app.dekd).toBe(client);
    await app.close();
    await client.ping();
    const both = { client, socket: agent.socket } as unknown as DekdPluginOptions;
    expect(await refusal(newApp().register(dekdPlugin, both))).toContain('give one or the other');
  });

  it('lets scopes beside each other, and one below another, have clients of their own', async () => {
    await using one = connect({ socket: agent.socket });
    await using other = connect({ socket: agent.socket });
    const app = newApp();
    const seen: DekdClient[] = [];
    await app.register(dekdPlugin, { client: one });
    await app.register(async (scope) => {
      await scope.register(dekdPlugin, { client: other });
      seen.push(scope.dekd);
    });
    await app.register(async (scope) => void seen.push(scope.dekd), { prefix: '/below' });
    expect(seen).toEqual([other, one]);
    expect(await refusal(app.register(dekdPlugin, { client: other }))).toContain('FST_ERR_DEC_ALREADY_PRESENT');
  });

  it('is known by name to plugins that depend on it, and registers by import as well', async () => {
    const app = newApp();
    await app.register(import('../../src/adapters/fastify.ts'), { socket: agent.socket, prefix: '/x' });
    expect(app.hasPlugin('dekd')).toBe(true);
    expect(defaultExport).toBe(dekdPlugin);
    const dependent = Object.assign(async () => {}, {
      [Symbol.for('skip-override')]: true,
      [Symbol.for('plugin-meta')]: { name: 'dependent', dependencies: ['dekd'], decorators: { fastify: ['dekd'] } },
    });
    await app.register(dependent);
    await app.ready();
  });

  it('answers with the status of the code, and nothing of the error', async () => {
    const codes = Object.keys(ERROR_CODES) as ErrorCode[];
    for (const code of codes) {
      const secret = 'key customers of tenant acme';
      const error = new DekdError(code, secret, {
        reason: 'operators only',
        incident: 'abc',
        cause: new Error('cause'),
      });
      const { answer, log } = await answerTo(error);
      const status = DEKD_STATUS[code] ?? 500;
      const { error: phrase } = answer.json();
      expect([code, answer.statusCode, answer.json()]).toEqual([
        code,
        status,
        { statusCode: status, error: phrase, message: phrase },
      ]);
      expect(answer.payload).not.toMatch(/customers|operators|abc|cause|[A-Z]_[A-Z]/);
      expect(answer.headers).toMatchObject({ 'content-type': 'application/json; charset=utf-8' });
      expect(answer.headers['cache-control']).toBeUndefined();
      expect(answer.headers['retry-after']).toBeUndefined();
      // Whoever runs the application reads it in the log, with the incident that the agent knows it by.
      expect(log.find(({ msg }) => msg === secret)).toMatchObject({
        level: status < 500 ? 30 : 50,
        err: { code, incident: 'abc' },
      });
    }
    expect(
      ['PERMISSION_DENIED', 'DECRYPTION_FAILED', 'AGENT_UNAVAILABLE', 'KMS_UNAVAILABLE'].map(
        (code) => DEKD_STATUS[code as ErrorCode],
      ),
    ).toEqual([403, 422, 503, 503]);
  });

  it.each([
    [1, '1'],
    [1_000, '1'],
    [1_001, '2'],
    [0, '1'],
  ])('says after how many seconds to come again: %i ms', async (retryAfterMs, seconds) => {
    const { answer } = await answerTo(new DekdError('RESOURCE_EXHAUSTED', 'quota', { retryAfterMs }));
    expect([answer.statusCode, answer.headers['retry-after']]).toEqual([503, seconds]);
  });

  it('takes other statuses, and refuses what is none', async () => {
    const errors = { EXPIRED: 401 };
    expect((await answerTo(new DekdError('EXPIRED', 'over'), { errors })).answer.statusCode).toBe(401);
    expect((await answerTo(new DekdError('MALFORMED', 'no token'), { errors })).answer.statusCode).toBe(422);
    for (const wrong of [{ EXPIRED: 200 }, { EXPIRED: 4.5 }, { EXPIRED: 600 }, { NO_SUCH: 400 }, 'yes']) {
      expect(await refusal(newApp().register(dekdPlugin, { errors: wrong } as DekdPluginOptions))).toContain(
        'INVALID_ARGUMENT',
      );
    }
    for (const awaitAgent of [0, -1, 1.5, Number.NaN, 'long']) {
      expect(await refusal(newApp().register(dekdPlugin, { awaitAgent } as DekdPluginOptions))).toContain('awaitAgent');
    }
  });

  it('answers no DekdError unless told to, and hands other errors to the handler that was there', async () => {
    const { answer } = await answerTo(new DekdError('DECRYPTION_FAILED', 'decryption failed'), {});
    expect(answer.statusCode).toBe(500);
    const other = await answerTo(Object.assign(new Error('teapot'), { statusCode: 418 }));
    expect([other.answer.statusCode, other.answer.json().message]).toEqual([418, 'teapot']);
    const app = newApp();
    app.setErrorHandler((error: Error, _request, reply) => reply.code(499).send(`mine: ${error.message}`));
    await app.register(async (scope) => {
      await scope.register(dekdPlugin, { socket: agent.socket, errors: true });
      scope.get('/mine', () => Promise.reject(new Error('x')));
      scope.get('/ours', () => Promise.reject(new DekdError('MALFORMED', 'x')));
    });
    expect((await app.inject('/mine')).payload).toBe('mine: x');
    expect((await app.inject('/ours')).statusCode).toBe(422);
  });

  it('answers the same where a route has a schema for its failures', async () => {
    const app = newApp();
    await app.register(dekdPlugin, { socket: agent.socket, errors: true });
    const schema = {
      response: { '4xx': { type: 'object', required: ['detail'], properties: { detail: { type: 'string' } } } },
    };
    app.get('/', { schema }, () => Promise.reject(new DekdError('MALFORMED', 'x')));
    const answer = await app.inject('/');
    expect([answer.statusCode, answer.json().error]).toEqual([422, 'Unprocessable Entity']);
  });

  it("serves an error handler of the application's own", async () => {
    const app = newApp();
    await app.register(dekdPlugin, { socket: agent.socket });
    app.setErrorHandler((error: Error, request, reply) =>
      DekdError.is(error) ? sendDekdError(error, request, reply, { MALFORMED: 400 }) : reply.send(error),
    );
    app.get('/', () => Promise.reject(new DekdError('MALFORMED', 'x')));
    expect((await app.inject('/')).statusCode).toBe(400);
  });

  it('maps real refusals: a foreign context, and an agent that is not there', async () => {
    const app = newApp();
    await app.register(dekdPlugin, { socket: agent.socket, errors: true });
    const token = await app.dekd.encryptText('x', BINDING);
    app.get('/', () => app.dekd.decryptText(token, { key: 'customers', context: { field: 'name' } }));
    expect((await app.inject('/')).statusCode).toBe(422);
    const alone = newApp();
    await alone.register(dekdPlugin, { socket: join(agent.folder, 'nobody.sock'), timeoutMs: 50, errors: true });
    alone.get('/', () => alone.dekd.encryptText('x', BINDING));
    expect((await alone.inject('/')).statusCode).toBe(503);
  });

  it('waits for the agent before it is ready, and is not without it', async () => {
    const app = newApp();
    await app.register(dekdPlugin, { socket: agent.socket, awaitAgent: true });
    await app.ready();
    const alone = newApp();
    await alone.register(dekdPlugin, { socket: join(agent.folder, 'nobody.sock'), awaitAgent: 50 });
    expect(await refusal(alone.ready())).toContain('AGENT_UNAVAILABLE');
  });

  it('has a route for probes that says whether the agent answers, and no more', async () => {
    const folderless = join(agent.folder, 'nobody.sock');
    for (const [socket, status] of [
      [agent.socket, 204],
      [folderless, 503],
    ] as const) {
      const app = newApp();
      await app.register(dekdPlugin, { socket, readiness: '/readyz' });
      const answer = await app.inject('/readyz');
      expect([answer.statusCode, answer.payload, answer.headers['cache-control']]).toEqual([status, '', 'no-store']);
    }
  });
});
