/** Where the server is and how it is reached, from the settings and the variables of libpq. */
import { userInfo } from 'node:os';
import type { PostgresSettings } from '../../config/config.ts';
import { DekdError } from '../../errors.ts';
import { isLoopback } from '../../loopback.ts';

const DEFAULT_PORT = 5432;
/** Folded to lower case by nobody, so that the name in psql is the name in the configuration. */
const SCHEMA = /^(?!pg_|information_schema$)[a-z_][a-z0-9_]{0,62}$/;

export interface Place {
  /** A name, an address, or the absolute path of the folder with the server's Unix socket. */
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly user: string;
  readonly schema: string;
  readonly tls: boolean;
  /** For messages: no user, no password. */
  readonly shown: string;
}

/** @throws INVALID_ARGUMENT naming the setting, and never its value when that may hold a password. */
export function placeOf(
  settings: Pick<PostgresSettings, 'url' | 'schema' | 'tls'>,
  env: NodeJS.ProcessEnv = process.env,
): Place {
  const { schema } = settings;
  if (!SCHEMA.test(schema)) {
    throw refused(
      'schema',
      'must be 1 to 63 of a-z, 0-9 and _, and none of the names that PostgreSQL keeps for itself',
    );
  }
  const given = settings.url === undefined ? {} : partsOf(settings.url);
  const host = given.host ?? (env.PGHOST || 'localhost');
  const port = given.port ?? portOf(env.PGPORT);
  const user = given.user ?? (env.PGUSER || ownName());
  const database = given.database ?? (env.PGDATABASE || user);
  if (host.includes(',')) {
    throw refused('url', 'must name one host; let a name or an address that moves stand for several servers');
  }
  const isSocket = host.startsWith('/');
  if (settings.tls === 'disable' && !isSocket && !isLoopback(host)) {
    throw refused('tls', 'disable is for Unix sockets and loopback addresses');
  }
  // A Unix socket has no TLS to offer; its folder's mode says who the server is.
  const tls = !isSocket && settings.tls !== 'disable';
  return { host, port, database, user, schema, tls, shown: `${host}:${port}/${database}` };
}

function partsOf(url: string): { host?: string; port?: number; user?: string; database?: string } {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (parsed === undefined || !/^postgres(ql)?:$/.test(parsed.protocol)) {
    throw refused('url', 'must be a URL such as postgres://dekd@db.example/dekd, with one host');
  }
  if (parsed.password !== '' || parsed.searchParams.has('password')) {
    throw refused('url', 'must not hold the password; put that into a file and name it in passwordFile');
  }
  for (const name of parsed.searchParams.keys()) {
    // Whoever writes sslmode=disable here believes in it: nothing is passed over.
    if (name !== 'host') {
      throw refused(
        'url',
        'knows the parameter host and no other; TLS, time limits and pool have settings of their own',
      );
    }
  }
  const host = parsed.searchParams.get('host') ?? decoded(parsed.hostname);
  const database = decoded(parsed.pathname.slice(1));
  return {
    ...(host !== '' && { host: host.replace(/^\[(.*)\]$/, '$1') }),
    ...(parsed.port !== '' && { port: Number(parsed.port) }),
    ...(parsed.username !== '' && { user: decoded(parsed.username) }),
    ...(database !== '' && { database }),
  };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw refused('url', 'has a percent sign without two hex digits');
  }
}

function portOf(text: string | undefined): number {
  const port = text ? Number(text) : DEFAULT_PORT;
  if (!Number.isInteger(port) || port < 1 || port > 65535) {
    throw refused('url', 'is not set, and PGPORT is not a port');
  }
  return port;
}

/** As libpq does; a container's uid often has no name. */
function ownName(): string {
  try {
    return userInfo().username;
  } catch {
    throw refused('url', 'names no user, and the own uid has no name: write postgres://USER@HOST/DATABASE');
  }
}

function refused(setting: string, message: string): DekdError {
  return new DekdError('INVALID_ARGUMENT', `keystore.postgres.${setting} ${message}`);
}
