/** What is mounted in the stand-in Vault: a secrets engine or an auth method. */

export type Operation = 'read' | 'list' | 'create' | 'update' | 'patch' | 'delete';

export interface EngineRequest {
  readonly operation: Operation;
  readonly method: string;
  /** What follows the mount, without a slash at either end. */
  readonly path: string;
  readonly query: URLSearchParams;
  /** The parsed JSON body; empty when there was none. */
  readonly body: Readonly<Record<string, unknown>>;
  /** Empty for the root namespace. */
  readonly namespace: string;
  /** Policies of the token; empty at an unauthenticated path. */
  readonly policies: readonly string[];
}

export interface EngineReply {
  readonly status: number;
  /** What goes into the body beside what every answer has: `data`, `auth`, `warnings`, or `errors`. */
  readonly body?: Readonly<Record<string, unknown>> | undefined;
  readonly headers?: Readonly<Record<string, string>> | undefined;
}

export interface Engine {
  handle(request: EngineRequest): EngineReply;
  /** Whether what a POST or PUT to `path` writes is there already: decides between `create` and `update`; absent: update. */
  exists?(path: string, body: Readonly<Record<string, unknown>>): boolean;
  /** Paths that need no token, as login does. */
  unauthenticated?(path: string): boolean;
}

export function ok(data: Readonly<Record<string, unknown>>, warnings?: readonly string[]): EngineReply {
  return { status: 200, body: warnings === undefined ? { data } : { data, warnings } };
}

export function noContent(): EngineReply {
  return { status: 204 };
}

export function failed(status: number, ...errors: readonly string[]): EngineReply {
  return { status, body: { errors } };
}

/** A 404 as Vault gives it: no reason. */
export function notFound(): EngineReply {
  return failed(404);
}
