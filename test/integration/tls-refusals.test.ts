/** Servers that are not what they should be, to the clients of AWS KMS and Vault: each is refused, and nothing was sent. */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer as createNetServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import {
  createServer as createTlsServer,
  getCACertificates,
  setDefaultCACertificates,
  type TlsOptions,
} from 'node:tls';
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { openAwsKms } from '../../src/providers/aws-kms.ts';
import { selfSigned } from '../support/kms-server/certificate.ts';
import { kmsSettings } from '../support/kms-server/kms-settings.ts';
import { makeFolder, removeFolder } from '../support/temporary-folder.ts';
import { clientOf, settingsFor } from '../support/vault-server/fixture.ts';

const SIGNAL = new AbortController().signal;
const GARBAGE = Buffer.from('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}');

interface Identity {
  readonly cert: string;
  readonly key: string;
}

let folder: string;
let authority: string;
let named: Identity;
let misnamed: Identity;
let expired: Identity;

function openssl(...args: readonly string[]): void {
  execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' });
}

/** A certificate by the authority that both clients trust. */
function issued(name: string, altName: string, dates: readonly string[]): Identity {
  openssl(
    'req',
    '-new',
    '-nodes',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:prime256v1',
    '-subj',
    `/CN=${name}`,
    '-keyout',
    `${name}.key`,
    '-out',
    `${name}.csr`,
  );
  writeFileSync(join(folder, `${name}.ext`), `subjectAltName=${altName}\n`);
  openssl(
    'x509',
    '-req',
    '-in',
    `${name}.csr`,
    '-CA',
    'ca.pem',
    '-CAkey',
    'ca.key',
    '-extfile',
    `${name}.ext`,
    '-out',
    `${name}.pem`,
    ...dates,
  );
  return {
    cert: readFileSync(join(folder, `${name}.pem`), 'utf8'),
    key: readFileSync(join(folder, `${name}.key`), 'utf8'),
  };
}

async function listening(server: Server): Promise<number> {
  const open = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    open.add(socket);
    socket.on('error', () => {});
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    for (const socket of open) {
      socket.destroy();
    }
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

/** Counts bytes of requests: there must be none. */
let received = 0;

function tlsServer(options: TlsOptions): Server {
  return createTlsServer(options, (socket) => {
    socket.on('data', (chunk: Buffer) => {
      received += chunk.length;
    });
    socket.on('error', () => {});
  }).on('tlsClientError', () => {});
}

/** What there is at the other end, by what is wrong with it. */
const WRONG: Readonly<Record<string, () => Server>> = {
  'a certificate that nobody vouches for': () => {
    const { certificate, key } = selfSigned();
    return tlsServer({ cert: certificate, key });
  },
  'a certificate of another host': () => tlsServer(misnamed),
  'a certificate that has expired': () => tlsServer(expired),
  'TLS 1.1 and nothing newer': () =>
    tlsServer({ ...named, minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' }),
  'a reset in the handshake': () => createNetServer((socket) => socket.once('data', () => socket.resetAndDestroy())),
  'an answer that is no TLS': () => createNetServer((socket) => socket.once('data', () => socket.write(GARBAGE))),
};

const trusted = getCACertificates('default');

beforeAll(() => {
  folder = makeFolder();
  openssl(
    'req',
    '-x509',
    '-nodes',
    '-days',
    '3650',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:prime256v1',
    '-subj',
    '/CN=authority',
    '-keyout',
    'ca.key',
    '-out',
    'ca.pem',
  );
  authority = readFileSync(join(folder, 'ca.pem'), 'utf8');
  named = issued('named', 'IP:127.0.0.1,DNS:localhost', ['-days', '2']);
  misnamed = issued('misnamed', 'DNS:elsewhere.example', ['-days', '2']);
  // Ended a day before it began to be looked at.
  expired = issued('expired', 'IP:127.0.0.1,DNS:localhost', ['-days', '-1']);
  setDefaultCACertificates([...trusted, authority]);
});

beforeEach(() => {
  vi.stubEnv('AWS_ACCESS_KEY_ID', 'id');
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'secret');
});

afterAll(() => {
  vi.unstubAllEnvs();
  setDefaultCACertificates(trusted);
  removeFolder(folder);
});

describe.each(Object.entries(WRONG))('%s', (_what, make) => {
  it('is refused by the client of AWS KMS, and gets no request', async () => {
    const port = await listening(make());
    received = 0;
    const provider = await openAwsKms(
      'aws',
      kmsSettings(
        { endpoint: `https://127.0.0.1:${port}` },
        { key: 'arn:aws:kms:eu-central-1:000000000000:key/0', region: 'eu-central-1', timeout: 4_000 },
      ),
    );
    onTestFinished(() => provider.close());
    await expect(provider.describe(SIGNAL)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(received).toBe(0);
  });

  it('is refused by the client of Vault, and gets no request', async () => {
    const port = await listening(make());
    received = 0;
    const settings = settingsFor(`https://127.0.0.1:${port}`, { caFile: join(folder, 'ca.pem') });
    const client = await clientOf(settings, { environment: { VAULT_TOKEN: 'token' } });
    await expect(client.request('GET', 'transit/keys/root')).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(received).toBe(0);
  });
});

describe('the same servers with what is right', () => {
  it('get requests: it is the certificate that the others were refused for', async () => {
    const port = await listening(tlsServer(named));
    received = 0;
    const provider = await openAwsKms(
      'aws',
      kmsSettings(
        { endpoint: `https://127.0.0.1:${port}` },
        { key: 'arn:aws:kms:eu-central-1:000000000000:key/0', region: 'eu-central-1', timeout: 1_000 },
      ),
    );
    onTestFinished(() => provider.close());
    await expect(provider.describe(SIGNAL)).rejects.toMatchObject({ code: 'TIMEOUT' });
    expect(received).toBeGreaterThan(0);
  });
});
