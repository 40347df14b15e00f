/** The HTTP side. Who may ask for which tenant is for your own authentication to say: put it before these routes. */
import { DekdError } from 'dekd/client';
import { dekdPlugin, sendDekdError } from 'dekd/fastify';
import fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify';
import type { Pool } from 'pg';
import { People, type PersonalData } from './people.ts';

const tenant = { type: 'string', pattern: '^[a-z0-9-]{1,63}$' };
const id = { type: 'string', format: 'uuid' };
const ofTenant = { type: 'object', properties: { tenant }, required: ['tenant'] };
const ofPerson = { type: 'object', properties: { tenant, id }, required: ['tenant', 'id'] };
const text = { type: 'string', minLength: 1, maxLength: 1000 };
const email = { type: 'string', format: 'email', maxLength: 320 };
const personalData = {
  type: 'object',
  properties: {
    name: text,
    email,
    phone: { ...text, nullable: true },
    address: {
      type: 'object',
      properties: { street: text, town: text },
      required: ['street', 'town'],
      additionalProperties: false,
    },
  },
  required: ['name', 'email', 'phone', 'address'],
  additionalProperties: false,
};
const paging = {
  type: 'object',
  properties: { limit: { type: 'integer', minimum: 1, maximum: 1000, default: 100 }, after: { type: 'string' } },
};

interface OfTenant {
  Params: { tenant: string };
}
interface OfPerson {
  Params: { tenant: string; id: string };
}

export async function buildApp(pool: Pool, options: FastifyServerOptions = {}): Promise<FastifyInstance> {
  const app = fastify(options);
  // One client for the process, closed with the application; it makes its connection again when the agent was away.
  await app.register(dekdPlugin, { timeoutMs: 5_000, awaitAgent: true, readiness: '/readyz' });
  const people = new People(app.dekd, pool);

  app.setErrorHandler((error: Error & { code?: string; statusCode?: number }, request, reply) => {
    if (DekdError.is(error)) {
      // By its code: 503 or 504 where the same request may succeed later. The reason is for the log.
      return sendDekdError(error, request, reply);
    }
    if (error.code === '23505') {
      return reply.code(409).send({ error: 'there is a person with that e-mail address' });
    }
    if (error.statusCode !== undefined && error.statusCode < 500) {
      return reply.code(error.statusCode).send({ error: error.message });
    }
    request.log.error(error);
    return reply.code(500).send({ error: 'internal' });
  });

  app.post<OfTenant & { Body: PersonalData }>(
    '/tenants/:tenant/people',
    { schema: { params: ofTenant, body: personalData } },
    async (request, reply) => reply.code(201).send({ id: await people.add(request.params.tenant, request.body) }),
  );

  app.get<OfPerson>('/tenants/:tenant/people/:id', { schema: { params: ofPerson } }, async (request, reply) => {
    const { tenant, id } = request.params;
    return (await people.get(tenant, id)) ?? reply.code(404).send({ error: 'no such person' });
  });

  app.put<OfPerson & { Body: PersonalData }>(
    '/tenants/:tenant/people/:id',
    { schema: { params: ofPerson, body: personalData } },
    async (request, reply) => {
      const { tenant, id } = request.params;
      const isThere = await people.replace(tenant, id, request.body);
      return isThere ? reply.code(204).send() : reply.code(404).send({ error: 'no such person' });
    },
  );

  app.delete<OfPerson>('/tenants/:tenant/people/:id', { schema: { params: ofPerson } }, async (request, reply) => {
    const { tenant, id } = request.params;
    const wasThere = await people.remove(tenant, id);
    return wasThere ? reply.code(204).send() : reply.code(404).send({ error: 'no such person' });
  });

  // In the body, because logs and proxies keep URLs.
  app.post<OfTenant & { Body: { email: string } }>(
    '/tenants/:tenant/people/lookup',
    { schema: { params: ofTenant, body: { type: 'object', properties: { email }, required: ['email'] } } },
    async (request, reply) =>
      (await people.findByEmail(request.params.tenant, request.body.email)) ??
      reply.code(404).send({ error: 'no such person' }),
  );

  app.get<OfTenant & { Querystring: { limit: number; after?: string } }>(
    '/tenants/:tenant/people',
    { schema: { params: ofTenant, querystring: paging } },
    async (request, reply) => {
      const { limit, after } = request.query;
      try {
        return await people.page(request.params.tenant, limit, after);
      } catch (error) {
        if (after !== undefined && DekdError.is(error) && NO_GOOD_PAGE.has(error.code)) {
          return reply.code(400).send({ error: 'after is not valid, or has expired' });
        }
        throw error;
      }
    },
  );

  return app;
}

const NO_GOOD_PAGE: ReadonlySet<string> = new Set(['DECRYPTION_FAILED', 'MALFORMED', 'EXPIRED', 'INVALID_ARGUMENT']);
