import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { inspect, promisify } from 'node:util';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { openVaultClient } from '../../src/vault/open-client.ts';
import { VaultError } from '../../src/vault/vault-error.ts';
import { selfSigned } from '../support/kms-server/certificate.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';
import { clientOf, settingsFor, startVault, tokenClient, tokenOf } from '../support/vault-server/fixture.ts';

const READ = 'transit/keys/root';
const BODY = { plaintext: Buffer.from('the plaintext').toString('base64') };

afterEach(() => {
  vi.unstubAllEnvs();
});

async function failureOf(work: Promise<unknown>): Promise<VaultError> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(VaultError);
  return error as VaultError;
}

describe('a request', () => {
  it('carries token, namespace and the request header, and comes back with status, body and headers', async () => {
    const { vault } = await startVault();
    const client = await tokenClient(vault);
    const { status, data, headers } = await client.request('GET', READ);
    expect(status).toBe(200);
    expect(data).toMatchObject({ data: { name: 'root', latest_version: 1 } });
    expect(headers['content-type']).toBe('application/json');
    const seen = vault.seen(READ)[0]!;
    expect(seen.headers['x-vault-request']).toBe('true');
    expect(seen.headers['x-vault-token']).toMatch(/^hvs\./);
    expect(seen.headers['x-vault-namespace']).toBeUndefined();
    await failureOf(client.request('GET', READ, undefined, { namespace: 'team-a', wrapTtl: '60s' }));
    expect(vault.seen(READ)[1]!.headers).toMatchObject({ 'x-vault-namespace': 'team-a', 'x-vault-wrap-ttl': '60s' });
  });

  it('refuses names that would become another path, before anything is sent', async () => {
    const { vault } = await startVault();
    const client = await tokenClient(vault);
    for (const name of ["a=b's", 'a&b', 'a#b', 'a?list=true', '..', 'a%2fb', '<a>', '{{{b}}}', '']) {
      expect((await failureOf(client.request('GET', `transit/keys/${name}`))).code).toBe('CONFIG');
    }
    expect(vault.requests).toEqual([]);
  });

  it('fails when a path only looks like sys/health', async () => {
    const { vault } = await startVault();
    const client = await tokenClient(vault);
    expect((await failureOf(client.request('GET', 'transit/keys/sys/health'))).code).toBe('FORBIDDEN');
  });

  it('takes nothing from the environment but what its auth method says', async () => {
    const { vault } = await startVault();
    const environment = {
      VAULT_TOKEN: 'hvs.ambient',
      VAULT_NAMESPACE: 'ambient',
      VAULT_PREFIX: '/ambient',
      VAULT_ADDR: 'http://127.0.0.1:1',
      HTTP_PROXY: 'http://127.0.0.1:1',
      http_proxy: 'http://127.0.0.1:1',
    };
    for (const [name, value] of Object.entries(environment)) {
      vi.stubEnv(name, value);
    }
    const auth = { method: 'jwt', mount: 'jwt', role: 'app', jwtFile: join(temporaryFolder(), 'jwt') } as const;
    writeFileSync(auth.jwtFile, 'a.b.c');
    const client = await clientOf(settingsFor(vault.address, { auth }));
    expect((await failureOf(client.request('GET', READ))).code).toBe('UNAUTHENTICATED');
    expect(vault.requests.map(({ path }) => path)).toEqual(['auth/jwt/login']);
    expect(JSON.stringify(vault.requests)).not.toContain('ambient');
  });
});

describe('connections', () => {
  it('are made once for many requests over TLS with an own authority', async () => {
    const { certificate, key } = selfSigned();
    const { vault } = await startVault({ tls: { key, cert: certificate } });
    const caFile = join(temporaryFolder(), 'ca.pem');
    writeFileSync(caFile, certificate);
    const client = await tokenClient(vault, { caFile });
    for (let request = 0; request < 200; request++) {
      await client.request('GET', READ);
    }
    expect(vault.handshakes).toBe(1);
    await Promise.all(Array.from({ length: 100 }, () => client.request('GET', READ)));
    expect(vault.handshakes).toBeLessThanOrEqual(8);
    expect(vault.peakConnections).toBeLessThanOrEqual(8);
  });

  it('are closed when they were not used for the idle time-out', async () => {
    const { vault } = await startVault();
    const client = await tokenClient(vault, { idleTimeout: 100 });
    await client.request('GET', READ);
    expect(vault.openConnections).toBe(1);
    await vi.waitFor(() => expect(vault.openConnections).toBe(0), { timeout: 2000 });
    await client.request('GET', READ);
    expect(vault.handshakes).toBe(2);
  });

  it('end with the client', async () => {
    const { vault } = await startVault();
    const client = await tokenClient(vault);
    await client.request('GET', READ);
    await client.close();
    await vi.waitFor(() => expect(vault.openConnections).toBe(0));
    expect((await failureOf(client.request('GET', READ))).code).toBe('UNAVAILABLE');
  });

  it('are refused to a certificate that is not trusted, whatever the environment says', async () => {
    vi.stubEnv('NODE_TLS_REJECT_UNAUTHORIZED', '0');
    vi.stubEnv('VAULT_SKIP_VERIFY', '1');
    const { certificate, key } = selfSigned();
    const { vault } = await startVault({ tls: { key, cert: certificate } });
    const caFile = join(temporaryFolder(), 'ca.pem');
    writeFileSync(caFile, certificate);
    const untrusted = await failureOf((await tokenClient(vault)).request('GET', READ));
    expect(untrusted).toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringMatching(/not trusted .*set caFile/),
    });
    const misnamed = await tokenClient(vault, { caFile, serverName: 'vault.example' });
    expect(await failureOf(misnamed.request('GET', READ))).toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringMatching(/serverName/),
    });
    const named = await tokenClient(vault, { caFile, serverName: 'localhost' });
    expect((await named.request('GET', READ)).status).toBe(200);
    expect(vault.requests.filter(({ path }) => path === READ).length).toBe(1);
  });
});

describe('a deadline', () => {
  it('ends a request that is never answered', async () => {
    const { vault } = await startVault();
    const client = await tokenClient(vault, { timeout: 300 });
    await client.request('GET', READ);
    vault.misbehave(READ, { kind: 'hang' });
    const started = performance.now();
    expect((await failureOf(client.request('GET', READ))).code).toBe('TIMEOUT');
    expect(performance.now() - started).toBeLessThan(1500);
  });

  it('includes waiting for a connection', async () => {
    const { vault } = await startVault();
    const client = await tokenClient(vault, { connections: 1, timeout: 10_000 });
    await client.request('GET', READ);
    vault.misbehave(READ, { kind: 'hang' });
    const holder = new AbortController();
    const first = failureOf(client.request('GET', READ, undefined, { signal: holder.signal }));
    const waiting = client.request('GET', READ, undefined, { signal: AbortSignal.timeout(200) });
    expect((await failureOf(waiting)).code).toBe('TIMEOUT');
    holder.abort();
    expect((await first).code).toBe('CANCELLED');
    expect((await client.request('GET', READ)).status).toBe(200);
  });

  it('includes the login', async () => {
    const { vault } = await startVault();
    const client = await tokenClient(vault, { timeout: 5000 });
    vault.misbehave('auth/token/lookup-self', { kind: 'slow', ms: 600 });
    const hurried = client.request('GET', READ, undefined, { signal: AbortSignal.timeout(100) });
    expect((await failureOf(hurried)).code).toBe('TIMEOUT');
    expect((await client.request('GET', READ)).status).toBe(200);
    expect(vault.seen('auth/token/lookup-self').length).toBe(1);
  });
});

describe('an answer', () => {
  it.each([
    [400, {}, 'BAD_REQUEST'],
    [404, {}, 'NOT_FOUND'],
    [405, {}, 'UNSUPPORTED'],
    [412, {}, 'UNAVAILABLE'],
    [413, {}, 'TOO_LARGE'],
    [429, { 'retry-after': '7' }, 'RATE_LIMITED'],
    [472, {}, 'UNAVAILABLE'],
    [473, {}, 'UNAVAILABLE'],
    [500, {}, 'UNAVAILABLE'],
    [502, {}, 'UNAVAILABLE'],
    [503, {}, 'UNAVAILABLE'],
    [504, {}, 'UNAVAILABLE'],
  ] as const)('of status %i is %s', async (status, headers, code) => {
    const { vault } = await startVault();
    const client = await tokenClient(vault);
    vault.misbehave(READ, { kind: 'raw', status, headers, body: '<html>what a proxy says</html>' });
    const failure = await failureOf(client.request('GET', READ));
    expect(failure).toMatchObject({ code, status });
    expect(failure.message).not.toContain('proxy');
    expect(failure.retryAfterMs).toBe(status === 429 ? 7000 : undefined);
  });

  it('that says sealed is SEALED, and so is any 503 of a vault whose health says it', async () => {
    const { vault } = await startVault();
    const client = await tokenClient(vault);
    await client.request('GET', READ);
    vault.state = 'sealed';
    expect((await failureOf(client.request('GET', READ))).code).toBe('SEALED');
    expect(vault.seen('sys/health').length).toBe(0);
    vault.misbehave(READ, { kind: 'raw', status: 503, body: '' });
    expect((await failureOf(client.request('GET', READ))).code).toBe('SEALED');
    expect(vault.seen('sys/health').length).toBe(1);
  });

  it('keeps every reason for matching, and shows none to a logger', async () => {
    const { vault } = await startVault();
    const client = await tokenClient(vault);
    vault.misbehave(READ, { kind: 'answer', reply: { status: 400, body: { errors: ['first', 'secret-echo'] } } });
    const failure = await failureOf(client.request('GET', READ));
    expect(failure.said).toEqual(['first', 'secret-echo']);
    expect(inspect(failure, { depth: 9, showHidden: true }) + JSON.stringify(failure)).not.toContain('secret-echo');
  });

  it.each([
    ['half of it', { kind: 'half-close' }],
    ['none, the connection being reset', { kind: 'reset' }],
    ['no JSON', { kind: 'raw', status: 200, body: '<html>' }],
    ['nothing', { kind: 'raw', status: 200, body: '' }],
  ] as const)('of which there is %s is UNAVAILABLE', async (_, misbehaviour) => {
    const { vault } = await startVault();
    const client = await tokenClient(vault);
    await client.request('GET', READ);
    vault.misbehave(READ, misbehaviour);
    expect((await failureOf(client.request('GET', READ))).code).toBe('UNAVAILABLE');
    expect((await client.request('GET', READ)).status).toBe(200);
  });

  it('that redirects is not followed: the other host never sees the token, nor anything', async () => {
    const { vault } = await startVault();
    const { vault: other } = await startVault();
    const client = await tokenClient(vault);
    for (const status of [301, 302, 307, 308]) {
      const location = `${other.address}/v1/${READ}`;
      vault.misbehave(READ, { kind: 'raw', status, headers: { location }, body: '' });
      expect(await failureOf(client.request('GET', READ))).toMatchObject({
        code: 'UNAVAILABLE',
        message: expect.stringMatching(/redirects.*set address to the active node/),
      });
    }
    expect(other.requests).toEqual([]);
    expect(other.handshakes).toBe(0);
  });
});

describe('attempts', () => {
  it('are exactly one with no retries, and as many more as are configured', async () => {
    const { vault } = await startVault();
    const single = await tokenClient(vault);
    vault.misbehave(READ, { kind: 'answer', reply: { status: 500 } }, 9);
    await failureOf(single.request('GET', READ));
    expect(vault.seen(READ).length).toBe(1);
    const retrying = await tokenClient(vault, { retries: 2 });
    await failureOf(retrying.request('GET', READ));
    expect(vault.seen(READ).length).toBe(4);
  });

  it('are repeated for what may pass, and never for a refusal', async () => {
    const { vault } = await startVault();
    const client = await tokenClient(vault, { retries: 3 });
    vault.misbehave(READ, { kind: 'reset' });
    vault.misbehave(READ, { kind: 'answer', reply: { status: 473 } });
    expect((await client.request('GET', READ)).status).toBe(200);
    expect(vault.seen(READ).length).toBe(3);
    vault.misbehave(READ, { kind: 'answer', reply: { status: 400 } });
    await failureOf(client.request('GET', READ));
    expect(vault.seen(READ).length).toBe(4);
  });

  it('wait as long as the server asks, and fail at once when that is longer than the time-out', async () => {
    const { vault } = await startVault();
    const client = await tokenClient(vault, { retries: 1, timeout: 3000 });
    await client.request('GET', READ);
    vault.misbehave(READ, { kind: 'answer', reply: { status: 429, headers: { 'retry-after': '1' } } });
    const started = performance.now();
    await client.request('GET', READ);
    expect(performance.now() - started).toBeGreaterThan(990);
    vault.misbehave(READ, { kind: 'answer', reply: { status: 429, headers: { 'retry-after': '60' } } });
    const failure = await failureOf(client.request('GET', READ));
    expect(failure).toMatchObject({ code: 'RATE_LIMITED', retryAfterMs: 60_000 });
    expect(performance.now() - started).toBeLessThan(2500);
  });

  it('are not repeated for a write that must happen once and may have, and are for one that cannot have', async () => {
    const { vault } = await startVault();
    const client = await tokenClient(vault, { retries: 2 });
    const path = 'transit/encrypt/root';
    vault.misbehave(path, { kind: 'lost-answer' });
    await failureOf(client.request('POST', path, BODY, { once: true }));
    expect(vault.seen(path).length).toBe(1);
    vault.misbehave(path, { kind: 'answer', reply: { status: 429 } });
    await client.request('POST', path, BODY, { once: true });
    expect(vault.seen(path).length).toBe(3);
  });
});

describe('openVaultClient', () => {
  it('shares one login and one pool among equal settings, until the last of them closes', async () => {
    const { vault } = await startVault();
    const environment = { VAULT_TOKEN: tokenOf(vault) };
    const settings = settingsFor(vault.address);
    const first = await openVaultClient(settings, { environment });
    const second = await openVaultClient({ ...settings }, { environment });
    const other = await openVaultClient({ ...settings, timeout: 2000 }, { environment });
    await Promise.all([first, second].map((client) => client.request('GET', READ)));
    expect(first.logins).toBe(1);
    expect(vault.seen('auth/token/lookup-self').length).toBe(1);
    await other.request('GET', READ);
    expect(vault.seen('auth/token/lookup-self').length).toBe(2);
    await first.close();
    await first.close();
    expect((await failureOf(first.request('GET', READ))).code).toBe('UNAVAILABLE');
    expect((await second.request('GET', READ)).status).toBe(200);
    await second.close();
    await other.close();
    await vi.waitFor(() => expect(vault.openConnections).toBe(0));
  });

  it('says of health what the node says, in every state and without a login', async () => {
    const { vault } = await startVault();
    const client = await clientOf(settingsFor(vault.address, { namespace: 'team-a' }), { environment: {} });
    const states = ['active', 'standby', 'performance-standby', 'secondary', 'sealed', 'uninitialized'] as const;
    const health = [];
    for (const state of states) {
      vault.state = state;
      health.push(await client.health());
    }
    expect(health.map(({ sealed }) => sealed)).toEqual([false, false, false, false, true, true]);
    expect(health.map(({ standby }) => standby)).toEqual([false, true, true, false, false, false]);
    expect(health.map(({ secondary }) => secondary)).toEqual([false, false, false, true, false, false]);
    expect(health.map(({ initialized }) => initialized)).toEqual([true, true, true, true, true, false]);
    expect(vault.requests.every(({ headers }) => headers['x-vault-token'] === undefined)).toBe(true);
    expect(vault.requests.every(({ headers }) => headers['x-vault-namespace'] === undefined)).toBe(true);
    vault.misbehave('sys/health', { kind: 'raw', status: 200, body: '{"status":"UP"}' });
    expect((await failureOf(client.health())).code).toBe('UNAVAILABLE');
  });
});

describe('DEBUG', () => {
  it('makes nothing print a body or a token', async () => {
    const { vault } = await startVault();
    const source = (name: string) => fileURLToPath(new URL(`../../src/vault/${name}`, import.meta.url));
    const code = `
      import { openVaultClient } from ${JSON.stringify(source('open-client.ts'))};
      const client = await openVaultClient(${JSON.stringify(settingsFor(vault.address))});
      await client.request('POST', 'transit/encrypt/root', ${JSON.stringify(BODY)});
      await client.request('POST', 'transit/encrypt/none', ${JSON.stringify(BODY)}).catch(() => {});
      await client.close();
      console.log('done');`;
    const token = tokenOf(vault);
    const { stdout, stderr } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', code], {
      env: { PATH: process.env.PATH, DEBUG: '*,node-vault', NODE_DEBUG: '', VAULT_TOKEN: token },
    });
    expect(stdout).toBe('done\n');
    expect(stderr).not.toContain(BODY.plaintext);
    expect(stderr).not.toContain(token);
    expect(stderr).not.toContain('node-vault');
    expect(vault.seen('transit/encrypt/root').length).toBe(1);
  });
});
