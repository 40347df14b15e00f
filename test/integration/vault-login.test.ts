import { randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { describe, expect, it, vi } from 'vitest';
import type { VaultSession } from '../../src/vault/client.ts';
import type { VaultConnection } from '../../src/vault/connection.ts';
import type { VaultAuth } from '../../src/vault/settings.ts';
import { VaultError } from '../../src/vault/vault-error.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';
import { AppRoleAuth } from '../support/vault-server/auth-approle.ts';
import { JwtAuth } from '../support/vault-server/auth-jwt.ts';
import { connectionOf, settingsFor, startVault, tokenOf, transitPolicy } from '../support/vault-server/fixture.ts';
import { ManualClock } from '../support/vault-server/manual-clock.ts';
import type { TokenOptions } from '../support/vault-server/tokens.ts';
import { TransitEngine } from '../support/vault-server/transit.ts';

const READ = 'transit/keys/root';
const LOGIN = 'auth/approle/login';
const HOUR = 3600;

const read = (connection: VaultConnection) => connection.request('GET', READ, undefined);

async function failureOf(work: Promise<unknown>): Promise<VaultError> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(VaultError);
  return error as VaultError;
}

/** A file with a secret of this test. */
function fileWith(text: string): string {
  const path = join(temporaryFolder(), 'secret');
  writeFileSync(path, `${text}\n`, { mode: 0o600 });
  return path;
}

type AppRole = Extract<VaultAuth, { method: 'approle' }>;

function appRole(changes: Partial<AppRole>): AppRole {
  return {
    method: 'approle',
    mount: 'approle',
    roleId: undefined,
    roleIdFile: undefined,
    secretIdFile: undefined,
    secretIdWrapped: false,
    secretIdAws: undefined,
    ...changes,
  };
}

/** A Vault with an AppRole `app`, whose tokens are as `token` says. */
async function startAppRole(token: Partial<TokenOptions> = {}) {
  const { vault, transit } = await startVault();
  const auth = new AppRoleAuth(vault);
  const roleId = auth.role('app', { policies: ['default', 'dekd'], ttl: HOUR, ...token });
  const settings = (changes: Partial<AppRole>) => settingsFor(vault.address, { auth: appRole({ roleId, ...changes }) });
  return { vault, transit, auth, roleId, settings };
}

describe('AppRole', () => {
  it('logs in once for a thousand requests, with role id and secret id from files', async () => {
    const { vault, auth, roleId } = await startAppRole();
    const files = { roleId: undefined, roleIdFile: fileWith(roleId), secretIdFile: fileWith(auth.secretId('app')) };
    const connection = await connectionOf(settingsFor(vault.address, { auth: appRole(files) }));
    await Promise.all(Array.from({ length: 1000 }, () => read(connection)));
    expect(vault.seen(LOGIN).length).toBe(1);
    expect(connection.logins).toBe(1);
    expect(vault.seen('auth/token/lookup-self').length).toBe(0);
  });

  it('takes the secret id from the environment', async () => {
    const { auth, settings } = await startAppRole();
    const environment = { VAULT_SECRET_ID: auth.secretId('app') };
    expect((await read(await connectionOf(settings({}), { environment }))).status).toBe(200);
    const failure = await failureOf(read(await connectionOf(settings({}), { environment: {} })));
    expect(failure).toMatchObject({ code: 'UNAUTHENTICATED', message: expect.stringContaining('VAULT_SECRET_ID') });
  });

  it('unwraps a wrapped secret id once, and remembers it for later logins', async () => {
    const { vault, auth, settings } = await startAppRole();
    const secretIdFile = fileWith(auth.wrappedSecretId('app'));
    const connection = await connectionOf(settings({ secretIdFile, secretIdWrapped: true }));
    await read(connection);
    vault.tokens.revokeId(vault.tokens.live().find(({ policies }) => policies.includes('dekd'))!.id);
    await read(connection);
    expect(vault.seen(LOGIN).length).toBe(2);
    expect(vault.seen('sys/wrapping/unwrap').length).toBe(1);
  });

  it('opens a new wrapping token that was put in the place of the old one', async () => {
    const { vault, auth, settings } = await startAppRole();
    const secretIdFile = fileWith(auth.wrappedSecretId('app', { numUses: 1 }));
    const connection = await connectionOf(settings({ secretIdFile, secretIdWrapped: true }));
    await read(connection);
    writeFileSync(secretIdFile, auth.wrappedSecretId('app', { numUses: 1 }));
    vault.tokens.revokeId(vault.seen(READ)[0]!.headers['x-vault-token'] as string);
    expect((await read(connection)).status).toBe(200);
    expect(vault.seen('sys/wrapping/unwrap').length).toBe(2);
  });

  it('says that somebody else may have the secret id when its wrapping token was used before', async () => {
    const { vault, auth, settings } = await startAppRole();
    const wrapping = auth.wrappedSecretId('app');
    const thief = await connectionOf(settings({ secretIdFile: fileWith(wrapping), secretIdWrapped: true }));
    await read(thief);
    const connection = await connectionOf(
      settings({ secretIdFile: fileWith(wrapping), secretIdWrapped: true, mount: 'approle' }),
    );
    expect(await failureOf(read(connection))).toMatchObject({
      code: 'UNAUTHENTICATED',
      message: expect.stringMatching(/used or expired.*somebody else/),
    });
    expect(vault.seen(LOGIN).length).toBe(1);
  });

  it('does not use a wrapping token that was made elsewhere', async () => {
    const { vault, settings } = await startAppRole();
    const foreign = vault.wrap({ data: { secret_id: 'chosen' } }, 60, 'sys/wrapping/wrap');
    const connection = await connectionOf(settings({ secretIdFile: fileWith(foreign), secretIdWrapped: true }));
    expect(await failureOf(read(connection))).toMatchObject({ message: expect.stringContaining('was not made under') });
    expect(vault.seen('sys/wrapping/unwrap').length).toBe(0);
  });

  it('serves from one token when the secret id is good for one login', async () => {
    const { auth, vault, settings } = await startAppRole();
    const secretIdFile = fileWith(auth.secretId('app', { numUses: 1 }));
    const connection = await connectionOf(settings({ secretIdFile }));
    await read(connection);
    await read(connection);
    vault.tokens.revokeId(vault.seen(READ)[0]!.headers['x-vault-token'] as string);
    const failure = await failureOf(read(connection));
    expect(failure.code).toBe('UNAUTHENTICATED');
    writeFileSync(secretIdFile, auth.secretId('app', { numUses: 1 }));
    await vi.waitFor(async () => expect((await read(connection)).status).toBe(200), { timeout: 3000, interval: 200 });
  });

  it('gets the secret id from AWS Secrets Manager, in the Region that an ARN says', async () => {
    const { auth, settings } = await startAppRole();
    const secretIdAws = 'arn:aws:secretsmanager:eu-central-1:111122223333:secret:dekd-AbCdEf';
    const asked: unknown[] = [];
    let value = JSON.stringify({ secret_id: auth.secretId('app') });
    const openSecretsManager = async (region: string | undefined) => ({
      getSecretValue: async (id: string) => {
        asked.push([region, id]);
        return value;
      },
    });
    await read(await connectionOf(settings({ secretIdAws }), { openSecretsManager }));
    value = auth.secretId('app');
    await read(await connectionOf(settings({ secretIdAws: 'dekd' }), { openSecretsManager }));
    expect(asked).toEqual([
      ['eu-central-1', secretIdAws],
      [undefined, 'dekd'],
    ]);
  });

  it('tells a secret that AWS refuses from one that cannot be had now, and shows neither name nor text', async () => {
    const { settings } = await startAppRole();
    const failing = (name: string) => async () => ({
      getSecretValue: async () => {
        throw Object.assign(new Error('arn:aws:secretsmanager:x is not authorised'), { name });
      },
    });
    for (const [name, code] of [
      ['AccessDeniedException', 'UNAUTHENTICATED'],
      ['ResourceNotFoundException', 'UNAUTHENTICATED'],
      ['InternalServiceError', 'UNAVAILABLE'],
    ] as const) {
      const connection = await connectionOf(settings({ secretIdAws: 'dekd-id' }), {
        openSecretsManager: failing(name),
      });
      const failure = await failureOf(read(connection));
      expect(failure).toMatchObject({ code, message: expect.stringContaining(name) });
      expect(failure.message).not.toMatch(/arn:|dekd-id/);
    }
  });

  it('names the command that installs the client of AWS Secrets Manager when it is not there', async () => {
    const { settings } = await startAppRole();
    expect(await failureOf(read(await connectionOf(settings({ secretIdAws: 'dekd' }))))).toMatchObject({
      code: 'CONFIG',
      message: expect.stringContaining('npm install @aws-sdk/client-secrets-manager'),
    });
  });

  it('refuses settings that contradict each other', async () => {
    const { settings } = await startAppRole();
    for (const changes of [
      { roleId: undefined },
      { roleIdFile: '/role' },
      { secretIdFile: '/a', secretIdAws: 'b' },
      { secretIdAws: 'b', secretIdWrapped: true },
      { mount: '../sys' },
    ]) {
      expect((await failureOf(connectionOf(settings(changes)))).code).toBe('CONFIG');
    }
    const auth = { method: 'jwt', mount: 'jwt', role: 'a/b', jwtFile: '/jwt' } as const;
    expect((await failureOf(connectionOf(settingsFor('https://vault', { auth })))).code).toBe('CONFIG');
    expect((await failureOf(connectionOf(settingsFor('https://vault', { namespace: 'a b' })))).code).toBe('CONFIG');
  });

  it('logs in inside its namespace, and uses the token there', async () => {
    const { vault } = await startVault();
    const auth = new AppRoleAuth(vault, 'approle', 'team-a');
    const transit = new TransitEngine();
    transit.create('root');
    vault.mount('team-a/transit', transit);
    vault.policies.set('team-a/dekd', transitPolicy('root'));
    const roleId = auth.role('app', { policies: ['default', 'dekd'], ttl: HOUR });
    const environment = { VAULT_SECRET_ID: auth.secretId('app') };
    const settings = settingsFor(vault.address, { namespace: 'team-a', auth: appRole({ roleId }) });
    const connection = await connectionOf(settings, { environment });
    expect((await read(connection)).status).toBe(200);
    const outside = connection.request('GET', READ, undefined, { namespace: '' });
    expect((await failureOf(outside)).code).toBe('FORBIDDEN');
    await connection.close(false);
    expect(vault.tokens.revoked.length).toBe(1);
  });
});

describe('Kubernetes and JWT', () => {
  it.each(['kubernetes', 'jwt'] as const)('%s reads its token file again at each login', async (method) => {
    const { vault } = await startVault();
    const auth = new JwtAuth(vault, method);
    auth.role('app', { policies: ['default', 'dekd'], ttl: HOUR });
    auth.accepted.set('first.projected.jwt', 'app');
    const jwtFile = fileWith('first.projected.jwt');
    const settings = settingsFor(vault.address, { auth: { method, mount: method, role: 'app', jwtFile } });
    const connection = await connectionOf(settings);
    await read(connection);
    // The kubelet replaces it, and the old one ends.
    auth.accepted.clear();
    auth.accepted.set('second.projected.jwt', 'app');
    writeFileSync(jwtFile, 'second.projected.jwt\n');
    vault.advance(HOUR * 1000);
    expect((await read(connection)).status).toBe(200);
    expect(vault.seen(`auth/${method}/login`).map(({ body }) => JSON.parse(body))).toEqual([
      { role: 'app', jwt: 'first.projected.jwt' },
      { role: 'app', jwt: 'second.projected.jwt' },
    ]);
  });

  it('names the file that cannot be read, and shows nothing of one that holds something else', async () => {
    const { vault } = await startVault();
    const at = (jwtFile: string) =>
      connectionOf(settingsFor(vault.address, { auth: { method: 'jwt', mount: 'jwt', role: 'app', jwtFile } }));
    expect(await failureOf(read(await at('/nowhere/jwt')))).toMatchObject({
      code: 'UNAUTHENTICATED',
      message: expect.stringContaining('/nowhere/jwt (ENOENT)'),
    });
    const failure = await failureOf(read(await at(fileWith('correct horse\r\nX-Injected: yes'))));
    expect(failure.code).toBe('UNAUTHENTICATED');
    expect(failure.message).not.toMatch(/horse|Injected/);
    expect(vault.requests).toEqual([]);
  });
});

describe('a configured token', () => {
  it('is read from its file again when it is void, and never revoked', async () => {
    const { vault } = await startVault();
    const tokenFile = fileWith(tokenOf(vault));
    const settings = settingsFor(vault.address, { auth: { method: 'token', tokenFile } });
    const connection = await connectionOf(settings);
    await read(connection);
    vault.advance(HOUR * 1000);
    expect((await failureOf(read(connection))).code).toBe('UNAUTHENTICATED');
    writeFileSync(tokenFile, tokenOf(vault));
    await vi.waitFor(async () => expect((await read(connection)).status).toBe(200), { timeout: 3000, interval: 200 });
    await connection.close(false);
    expect(vault.tokens.revoked).toEqual([]);
  });

  it('serves although it may not look at itself', async () => {
    const { vault } = await startVault();
    const environment = { VAULT_TOKEN: tokenOf(vault, { policies: ['dekd'] }) };
    const connection = await connectionOf(settingsFor(vault.address), { environment });
    expect((await read(connection)).status).toBe(200);
  });
});

describe('a 403', () => {
  it('for a token that is void brings one login, however many requests it hit', async () => {
    const { vault, auth, settings } = await startAppRole();
    const connection = await connectionOf(settings({ secretIdFile: fileWith(auth.secretId('app')) }));
    await read(connection);
    vault.tokens.revokeId(vault.seen(READ)[0]!.headers['x-vault-token'] as string);
    const replies = await Promise.all(Array.from({ length: 64 }, () => read(connection)));
    expect(new Set(replies.map(({ status }) => status))).toEqual(new Set([200]));
    expect(vault.seen(LOGIN).length).toBe(2);
  });

  it('for a token that is good is FORBIDDEN, and brings no login', async () => {
    const { vault, auth, settings } = await startAppRole();
    const connection = await connectionOf(settings({ secretIdFile: fileWith(auth.secretId('app')) }));
    for (let request = 0; request < 20; request++) {
      expect((await failureOf(connection.request('GET', 'transit/keys/other', undefined))).code).toBe('FORBIDDEN');
    }
    expect(vault.seen(LOGIN).length).toBe(1);
  });

  it('is UNAUTHENTICATED when the new login is refused', async () => {
    const { vault, auth, settings } = await startAppRole();
    const secretId = auth.secretId('app');
    const connection = await connectionOf(settings({ secretIdFile: fileWith(secretId) }));
    await read(connection);
    auth.forget(secretId);
    vault.tokens.revokeId(vault.seen(READ)[0]!.headers['x-vault-token'] as string);
    const failure = await failureOf(read(connection));
    expect(failure).toMatchObject({ code: 'UNAUTHENTICATED', message: expect.stringContaining(LOGIN) });
    expect(inspect(failure, { depth: 9 })).not.toContain(secretId);
  });
});

describe('a lease', () => {
  it('is renewed past many terms, then replaced at the maximum, and no request fails meanwhile', async () => {
    const { vault, auth, settings } = await startAppRole({ ttl: HOUR, maxTtl: 10 * HOUR });
    const clock = new ManualClock();
    const connection = await connectionOf(settings({ secretIdFile: fileWith(auth.secretId('app')) }), { clock });
    for (let minute = 0; minute < 24 * 60; minute += 5) {
      expect((await read(connection)).status).toBe(200);
      vault.advance(5 * 60_000);
      await clock.advance(5 * 60_000);
      // What fell due is a request of its own.
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    expect(vault.seen(LOGIN).length).toBe(3);
    expect(vault.seen('auth/token/renew-self').length).toBeGreaterThan(24);
    expect(vault.seen('auth/token/renew-self').length).toBeLessThan(60);
    await connection.close(false);
    expect(vault.tokens.live().filter(({ policies }) => policies.includes('dekd'))).toEqual([]);
  });

  it.each([
    ['a batch token', { type: 'batch', ttl: 600 }, 0],
    ['a token with few uses', { numUses: 5 }, 0],
    ['a periodic token that an explicit maximum ends', { period: 600, explicitMaxTtl: 1500 }, 1],
  ] as const)('of %s is followed by another in time', async (_, token, renewals) => {
    const { vault, auth, settings } = await startAppRole(token);
    const clock = new ManualClock();
    const connection = await connectionOf(settings({ secretIdFile: fileWith(auth.secretId('app')) }), { clock });
    for (let minute = 0; minute < 60; minute++) {
      expect((await read(connection)).status).toBe(200);
      vault.advance(60_000);
      await clock.advance(60_000);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    expect(vault.seen(LOGIN).length).toBeGreaterThan(1);
    expect(vault.seen(LOGIN).length).toBeLessThan(16);
    expect(vault.seen('auth/token/renew-self').length > 0 ? 1 : 0).toBe(renewals);
    expect(vault.seen(/./).filter(({ path }) => path === 'auth/token/lookup-self')).toEqual([]);
  });
});

describe('a session', () => {
  const setting = async () => {
    const role = await startAppRole();
    const kept: VaultSession[] = [];
    const settings = role.settings({ secretIdFile: fileWith(role.auth.wrappedSecretId('app')), secretIdWrapped: true });
    const first = await connectionOf(settings, { onSession: (session) => kept.push(session.slice()) });
    await read(first);
    return { ...role, settings, first, kept };
  };

  it('lets the next process go on without a login', async () => {
    const { vault, first, kept, settings } = await setting();
    await first.close(true);
    expect(vault.tokens.revoked).toEqual([]);
    const second = await connectionOf(settings, { resume: kept.at(-1)! });
    expect((await read(second)).status).toBe(200);
    expect(vault.seen(LOGIN).length).toBe(1);
    await second.close(false);
    expect(vault.tokens.revoked.length).toBe(1);
  });

  it('that is void brings one login, with the secret id that an earlier process unwrapped', async () => {
    const { vault, first, kept, settings } = await setting();
    await first.close(true);
    vault.tokens.revokeId(vault.seen(READ)[0]!.headers['x-vault-token'] as string);
    const second = await connectionOf(settings, { resume: kept.at(-1)! });
    await Promise.all(Array.from({ length: 20 }, () => read(second)));
    expect(vault.seen(LOGIN).length).toBe(2);
    expect(vault.seen('sys/wrapping/unwrap').length).toBe(1);
  });

  it('is of no use under other settings', async () => {
    const { vault, kept, settings } = await setting();
    const other = await connectionOf({ ...settings, namespace: 'team-a' }, { resume: kept.at(-1)! });
    await failureOf(read(other));
    const used = vault.seen(READ)[0]!.headers['x-vault-token'];
    const inside = vault.requests.filter(({ headers }) => headers['x-vault-namespace'] === 'team-a');
    expect(inside.length).toBeGreaterThan(0);
    expect(inside.filter(({ headers }) => headers['x-vault-token'] === used)).toEqual([]);
  });

  it('of a configured token is dropped when another token is configured', async () => {
    const { vault } = await startVault();
    const tokenFile = fileWith(tokenOf(vault));
    const settings = settingsFor(vault.address, { auth: { method: 'token', tokenFile } });
    const kept: VaultSession[] = [];
    await read(await connectionOf(settings, { onSession: (session) => kept.push(session.slice()) }));
    await read(await connectionOf(settings, { resume: kept.at(-1)! }));
    expect(vault.seen('auth/token/lookup-self').length).toBe(1);
    const replaced = tokenOf(vault);
    writeFileSync(tokenFile, replaced);
    await read(await connectionOf(settings, { resume: kept.at(-1)! }));
    expect(vault.seen(READ).at(-1)!.headers['x-vault-token']).toBe(replaced);
  });
});

describe('the end', () => {
  it('revokes every token that was logged in for, and is not held up by a Vault that hangs', async () => {
    const { vault, auth, settings } = await startAppRole();
    const patient = await connectionOf(settings({ secretIdFile: fileWith(auth.secretId('app')) }));
    await read(patient);
    await patient.close(false);
    expect(vault.tokens.live().map(({ policies }) => policies)).toEqual([['root']]);
    const held = await connectionOf(settings({ secretIdFile: fileWith(auth.secretId('app')) }));
    await read(held);
    vault.misbehave('auth/token/revoke-self', { kind: 'hang' });
    const started = performance.now();
    await held.close(false);
    expect(performance.now() - started).toBeLessThan(2900);
  });

  it('leaves no failure that shows a secret', async () => {
    const { vault, auth, settings } = await startAppRole();
    const secrets = { roleId: randomUUID(), secretId: auth.secretId('app') };
    const wrong = settings({ roleId: secrets.roleId, secretIdFile: fileWith(secrets.secretId) });
    const failures = [await failureOf(read(await connectionOf(wrong)))];
    for (const kind of ['reset', 'half-close', 'hang'] as const) {
      vault.misbehave(LOGIN, { kind });
      failures.push(await failureOf(read(await connectionOf({ ...wrong, timeout: 200 }))));
    }
    for (const failure of failures) {
      const shown = inspect(failure, { depth: 9 }) + JSON.stringify(failure) + failure.stack;
      expect(shown).not.toContain(secrets.roleId);
      expect(shown).not.toContain(secrets.secretId);
    }
  });
});
