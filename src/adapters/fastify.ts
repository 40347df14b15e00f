/**
 * A plugin for Fastify 5. It has the semantics of `fastify-plugin` (what it decorates is there for the scope that registers it,
 * and for all below), by the symbols that Fastify reads.
 */
import { STATUS_CODES } from 'node:http';
import type { FastifyInstance, FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify';
import { type ConnectOptions, connect, type DekdClient } from '../client/index.ts';
import { DekdError, ERROR_CODES, type ErrorCode } from '../errors.ts';

declare module 'fastify' {
  interface FastifyInstance {
    /** The client that `dekdPlugin` made or was given. */
    readonly dekd: DekdClient;
  }
}

/** Status codes in place of those of `DEKD_STATUS`: whole numbers, 400 to 599. */
export type DekdStatusCodes = { readonly [Code in ErrorCode]?: number | undefined };

/** What the plugin does beside giving a client. */
export interface DekdPluginBehaviour {
  /**
   * Answers requests that fail with a DekdError, with the status of its code and a body that says nothing of the reason; the
   * error itself is logged. Off unless given: Fastify then answers 500 with the text of the error, as of any other.
   * Errors of other kinds go to the handler that was there.
   */
  readonly errors?: boolean | DekdStatusCodes | undefined;
  /** Makes `ready()` and `listen()` wait for the agent, at most so many milliseconds (`true`: 5,000), and fail without it. */
  readonly awaitAgent?: boolean | number | undefined;
  /** Path of a GET route that answers 204 while the agent answers, else 503; for probes. None unless given. */
  readonly readiness?: string | undefined;
}

/** Either what `connect` takes, or a client that is there, which stays open when the application closes. */
export type DekdPluginOptions = DekdPluginBehaviour &
  ((ConnectOptions & { readonly client?: undefined }) | { readonly client: DekdClient });

/** Which status answers which code, unless options say otherwise. Those that are not here are faults of the server: 500. */
export const DEKD_STATUS: DekdStatusCodes = Object.freeze({
  PERMISSION_DENIED: 403,
  KEY_NOT_FOUND: 403,
  KEY_DISABLED: 403,
  KMS_DENIED: 403,
  EXPIRED: 410,
  MALFORMED: 422,
  UNSUPPORTED_VERSION: 422,
  DECRYPTION_FAILED: 422,
  AGENT_UNAVAILABLE: 503,
  KMS_UNAVAILABLE: 503,
  KEYSTORE_UNAVAILABLE: 503,
  CONFLICT: 503,
  RESOURCE_EXHAUSTED: 503,
  SHUTTING_DOWN: 503,
  SERVICE_DISABLED: 503,
  DEADLINE_EXCEEDED: 504,
} satisfies DekdStatusCodes);

/** How long a probe waits, in milliseconds: less than the second that probes of Kubernetes do. */
const PROBE_MS = 900;
/** Less than the ten seconds that Fastify gives a plugin. */
const AWAIT_MS = 5_000;

const register: FastifyPluginAsync<DekdPluginOptions> = async (app, options) => {
  const { client, errors, awaitAgent, readiness, ...connection } = options as DekdPluginBehaviour &
    ConnectOptions & { readonly client?: DekdClient };
  // What Fastify puts among the options of every plugin is none of `connect`.
  const { prefix: _, logLevel: __, logSerializers: ___, ...rest } = connection as Record<string, unknown>;
  if (client !== undefined && Object.keys(rest).length > 0) {
    throw new DekdError('INVALID_ARGUMENT', 'a client that is given has its options already: give one or the other');
  }
  const statuses = statusesOf(errors);
  const patience = patienceOf(awaitAgent);
  // Opens no socket: the first call does.
  const dekd = client ?? connect(rest as ConnectOptions);
  app.decorate('dekd', dekd);
  if (client === undefined) {
    // Hooks of this kind run when no request is under way any more, last registered first.
    app.addHook('onClose', () => dekd.close());
  }
  if (patience !== undefined) {
    app.addHook('onReady', async () => {
      await dekd.ping({ timeoutMs: patience });
    });
  }
  if (readiness !== undefined) {
    // Probes come every few seconds, and no failure of theirs is news.
    app.get(readiness, { logLevel: 'silent' }, async (_request, reply) => {
      const isThere = await dekd.ping({ timeoutMs: PROBE_MS }).then(
        () => true,
        () => false,
      );
      return reply
        .code(isThere ? 204 : 503)
        .header('cache-control', 'no-store')
        .send();
    });
  }
  if (statuses !== undefined) {
    answerErrors(app, statuses);
  }
};

/** `await app.register(dekdPlugin, { … })`. Registering rejects with INVALID_ARGUMENT for options that say something impossible. */
export const dekdPlugin: FastifyPluginAsync<DekdPluginOptions> = Object.assign(register, {
  [Symbol.for('skip-override')]: true,
  [Symbol.for('fastify.display-name')]: 'dekd',
  [Symbol.for('plugin-meta')]: { name: 'dekd', fastify: '5.x' },
});
export default dekdPlugin;

function answerErrors(app: FastifyInstance, statuses: DekdStatusCodes): void {
  const before = app.errorHandler;
  app.setErrorHandler((error: Error, request, reply) => {
    if (DekdError.is(error)) {
      return sendDekdError(error, request, reply, statuses);
    }
    return before.call(app, error, request, reply);
  });
}

/**
 * Answers with the status of the error's code and nothing else of it, and logs the error: for an error handler of the
 * application's own. `retryAfterMs` becomes Retry-After, in whole seconds.
 */
export function sendDekdError(
  error: DekdError,
  request: FastifyRequest,
  reply: FastifyReply,
  statuses: DekdStatusCodes = {},
): FastifyReply {
  const status = statuses[error.code] ?? DEKD_STATUS[error.code] ?? 500;
  request.log[status < 500 ? 'info' : 'error']({ err: error, res: reply }, error.message);
  if (error.retryAfterMs !== undefined) {
    void reply.header('retry-after', String(Math.max(1, Math.ceil(error.retryAfterMs / 1000))));
  }
  // What the handler had set for the answer that it did not give.
  for (const name of ['content-type', 'content-length', 'content-encoding', 'etag', 'last-modified', 'cache-control']) {
    void reply.removeHeader(name);
  }
  const phrase = STATUS_CODES[status] ?? 'Error';
  // Serialised here: a schema of the route for this status is not about this body.
  return reply
    .code(status)
    .type('application/json; charset=utf-8')
    .serializer((body: unknown) => JSON.stringify(body))
    .send({ statusCode: status, error: phrase, message: phrase });
}

function statusesOf(errors: boolean | DekdStatusCodes | undefined): DekdStatusCodes | undefined {
  if (errors === undefined || errors === false) {
    return undefined;
  }
  if (errors === true) {
    return {};
  }
  if (typeof errors !== 'object' || errors === null) {
    throw new DekdError('INVALID_ARGUMENT', 'errors is true, false or status codes by code');
  }
  for (const [code, status] of Object.entries(errors)) {
    if (!Object.hasOwn(ERROR_CODES, code)) {
      throw new DekdError('INVALID_ARGUMENT', `errors has '${code}', which is no code of a DekdError`);
    }
    if (status !== undefined && !(Number.isInteger(status) && status >= 400 && status <= 599)) {
      throw new DekdError('INVALID_ARGUMENT', `the status for ${code} is a whole number, 400 to 599`);
    }
  }
  return { ...errors };
}

function patienceOf(awaitAgent: boolean | number | undefined): number | undefined {
  if (awaitAgent === undefined || awaitAgent === false) {
    return undefined;
  }
  if (awaitAgent === true) {
    return AWAIT_MS;
  }
  if (!Number.isInteger(awaitAgent) || awaitAgent < 1) {
    throw new DekdError('INVALID_ARGUMENT', 'awaitAgent is true, false or a whole number of milliseconds');
  }
  return awaitAgent;
}
