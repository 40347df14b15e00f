/** Where the database is and how it is reached: from a URL without its password, a file, or the variables of libpq. */
import { readFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { isLoopback } from '../../loopback.ts';
import { type CommandError, usageError } from '../exit.ts';

const DEFAULT_PORT = 5432;
/** What other drivers take and this one could not keep to: passed over, it would mean less safety than was asked for. */
const REFUSED_PARAMETERS = ['sslcert', 'sslkey', 'options', 'target_session_attrs'] as const;
/** Each is met by a certificate that is verified; only `disable` asks for less than that. */
const SSL_MODES: ReadonlySet<string> = new Set([
  'disable',
  'allow',
  'prefer',
  'require',
  'verify-ca',
  'verify-full',
  '',
]);

export interface DatabasePlace {
  /** A name, an address, or the absolute path of the folder with the server's Unix socket. */
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly user: string;
  /** Undefined where none is given: then the driver looks into the password file of libpq. */
  readonly password: string | undefined;
  readonly tls: boolean;
  /** Certificates in PEM. */
  readonly ca: string | undefined;
  /** For messages: no user, no password. */
  readonly shown: string;
}

export interface PlaceOptions {
  /** Of the command line, so without a password. */
  readonly url: string | undefined;
  readonly urlFile: string | undefined;
  readonly caFile: string | undefined;
}

/** @throws CommandError (usage) that never repeats a URL, and errors of the file system as they are */
export async function databasePlace(
  { url, urlFile, caFile }: PlaceOptions,
  env: NodeJS.ProcessEnv = process.env,
): Promise<DatabasePlace> {
  if (url !== undefined && urlFile !== undefined) {
    throw usageError('both --pg and --pg-url-file are given');
  }
  const given = partsOf(url, await urlOf(url, urlFile, env));
  const host = given.host ?? (env.PGHOST || 'localhost');
  const port = given.port ?? portOf(env.PGPORT);
  const user = given.user ?? (env.PGUSER || ownName());
  const database = given.database ?? (env.PGDATABASE || user);
  if (host.includes(',')) {
    throw usageError('the URL of the database names several hosts', 'name the primary');
  }
  const tls = isWithTls(host, given.sslMode ?? env.PGSSLMODE ?? '');
  const rootCertificates = caFile ?? given.sslRootCert ?? (env.PGSSLROOTCERT || undefined);
  return {
    host,
    port,
    database,
    user,
    password: given.password ?? (env.PGPASSWORD || undefined),
    tls,
    ca: tls && rootCertificates !== undefined ? await readFile(rootCertificates, 'utf8') : undefined,
    shown: `${host}:${port}/${database}`,
  };
}

async function urlOf(
  url: string | undefined,
  urlFile: string | undefined,
  env: NodeJS.ProcessEnv,
): Promise<string | undefined> {
  if (urlFile !== undefined) {
    return (await readFile(urlFile, 'utf8')).trim();
  }
  return url ?? (env.DATABASE_URL || undefined);
}

interface Parts {
  readonly host?: string;
  readonly port?: number;
  readonly user?: string;
  readonly password?: string;
  readonly database?: string;
  readonly sslMode?: string;
  readonly sslRootCert?: string;
}

function partsOf(named: string | undefined, url: string | undefined): Parts {
  if (url === undefined) {
    return {};
  }
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (parsed === undefined || !/^postgres(ql)?:$/.test(parsed.protocol)) {
    throw badUrl('is none', 'it is like postgres://user@db.example/shop');
  }
  const { searchParams } = parsed;
  if (named !== undefined && (parsed.password !== '' || searchParams.has('password'))) {
    throw badUrl(
      'has the password on the command line, which every user of the machine can see',
      'put the URL into DATABASE_URL or a file for --pg-url-file, or the password into PGPASSWORD',
    );
  }
  const refused = REFUSED_PARAMETERS.find((name) => searchParams.has(name));
  if (refused !== undefined) {
    throw badUrl(`has the parameter ${refused}, which this command does not know`);
  }
  const host = searchParams.get('host') ?? decoded(parsed.hostname).replace(/^\[(.*)\]$/, '$1');
  const database = decoded(parsed.pathname.slice(1));
  const password = searchParams.get('password') ?? decoded(parsed.password);
  const sslMode = searchParams.get('sslmode');
  const sslRootCert = searchParams.get('sslrootcert');
  return {
    ...(host !== '' && { host }),
    ...(parsed.port !== '' && { port: Number(parsed.port) }),
    ...(parsed.username !== '' && { user: decoded(parsed.username) }),
    ...(password !== '' && { password }),
    ...(database !== '' && { database }),
    ...(sslMode !== null && { sslMode }),
    ...(sslRootCert !== null && { sslRootCert }),
  };
}

/** A Unix socket has no TLS to offer; anything else is verified, whatever weaker mode is named. */
function isWithTls(host: string, mode: string): boolean {
  if (!SSL_MODES.has(mode)) {
    throw usageError(`sslmode '${mode}' is none of PostgreSQL's`);
  }
  if (host.startsWith('/')) {
    return false;
  }
  if (mode === 'disable' && !isLoopback(host)) {
    throw usageError('sslmode disable is for Unix sockets and loopback addresses');
  }
  return mode !== 'disable' && !(isLoopback(host) && mode === '');
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw badUrl('has a percent sign without two hex digits');
  }
}

function portOf(text: string | undefined): number {
  const port = text ? Number(text) : DEFAULT_PORT;
  if (!Number.isInteger(port) || port < 1 || port > 65_535) {
    throw usageError('PGPORT is no port');
  }
  return port;
}

function ownName(): string {
  try {
    return userInfo().username;
  } catch {
    throw usageError('no user of the database is named', 'set PGUSER, or name one in the URL');
  }
}

function badUrl(what: string, remedy?: string): CommandError {
  return usageError(`the URL of the database ${what}`, remedy);
}
