import { randomBytes, randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { ProviderError } from '../../src/providers/provider-error.ts';
import { openVaultTransit, VaultTransitProvider } from '../../src/providers/vault-transit.ts';
import type { VaultMethod } from '../../src/vault/client.ts';
import { VaultConnection } from '../../src/vault/connection.ts';
import { openVaultClient } from '../../src/vault/open-client.ts';
import type { VaultSettings } from '../../src/vault/settings.ts';
import { settingsFor, startVault, tokenOf, transitPolicy } from '../support/vault-server/fixture.ts';
import type { Capability, Policy } from '../support/vault-server/policies.ts';
import { StandInVault } from '../support/vault-server/server.ts';
import { SystemEngine } from '../support/vault-server/system.ts';
import { TransitEngine } from '../support/vault-server/transit.ts';

const SIGNAL = new AbortController().signal;
const CONTEXT = { tenant: 'acme' };

async function failureOf(work: Promise<unknown>): Promise<ProviderError> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(ProviderError);
  return error as ProviderError;
}

/** A server to run the suite against, and its root token. */
interface Place {
  readonly address: string;
  readonly token: string;
  readonly stop: () => Promise<void>;
}

async function standIn(product: 'vault' | 'openbao'): Promise<Place> {
  const vault = await StandInVault.start({ product });
  vault.mount('sys', new SystemEngine(vault));
  return { address: vault.address, token: vault.rootToken, stop: () => vault.stop() };
}

const places: [string, () => Promise<Place>][] = [
  ['a stand-in for Vault', () => standIn('vault')],
  ['a stand-in for OpenBao', () => standIn('openbao')],
];
const { DEKD_TEST_VAULT_ADDR: liveAddress, DEKD_TEST_VAULT_TOKEN: liveToken } = process.env;
if (liveAddress !== undefined && liveToken !== undefined) {
  const live = { address: liveAddress, token: liveToken, stop: async () => {} };
  places.push(['the server at DEKD_TEST_VAULT_ADDR', async () => live]);
}

// Everything here is set up over HTTP, so that it runs against a real server too.
describe.each(places)('VaultTransitProvider at %s', (_, start) => {
  const mount = `dekd-test-${randomUUID().slice(0, 8)}`;
  let place: Place;
  let admin: VaultConnection;
  let settings: VaultSettings;
  let key: string;

  const call = (method: VaultMethod, path: string, body?: object) => admin.request(method, path, body);
  const keyCall = (path: string, body: object = {}) => call('POST', `${mount}/keys/${key}${path}`, body);

  /** A provider whose token has `policy`. */
  async function open(name = key, policy: Policy = transitPolicy(name, mount)): Promise<VaultTransitProvider> {
    const policyName = `dekd-test-${randomUUID().slice(0, 8)}`;
    const path = Object.fromEntries(
      Object.entries(policy).map(([pattern, capabilities]) => [pattern, { capabilities }]),
    );
    await call('PUT', `sys/policies/acl/${policyName}`, { policy: JSON.stringify({ path }) });
    const { data } = await call('POST', 'auth/token/create', { policies: [policyName], ttl: '600s' });
    const VAULT_TOKEN = (data as { auth: { client_token: string } }).auth.client_token;
    // A time-out of its own keeps each client from sharing the login of another.
    const own = { ...settings, timeout: 5000 + Math.floor(Math.random() * 1e6) };
    const client = await openVaultClient(own, { environment: { VAULT_TOKEN } });
    const provider = new VaultTransitProvider('vault', { mount, key: name }, client);
    onTestFinished(() => provider.close());
    return provider;
  }

  async function keyNames(): Promise<string[]> {
    const { data } = await admin.request('LIST', `${mount}/keys`, undefined, { accept: [404] });
    return (data as { data?: { keys?: string[] } } | undefined)?.data?.keys ?? [];
  }

  beforeAll(async () => {
    place = await start();
    settings = settingsFor(place.address, {
      ...(process.env.VAULT_CACERT === undefined ? {} : { caFile: process.env.VAULT_CACERT }),
    });
    admin = await VaultConnection.open(settings, { environment: { VAULT_TOKEN: place.token } });
    await call('POST', `sys/mounts/${mount}`, { type: 'transit' });
  });

  afterAll(async () => {
    await call('DELETE', `sys/mounts/${mount}`);
    await admin.close(false);
    await place.stop();
  });

  beforeEach(async () => {
    key = `root-${randomUUID().slice(0, 8)}`;
    await keyCall('');
  });

  it('describes the key by mount, name and newest version', async () => {
    const provider = await open();
    await keyCall('/rotate');
    expect(await provider.describe(SIGNAL)).toEqual({
      kind: 'vault-transit',
      resolvedId: `vault-transit:${mount}/${key}`,
      materialVersion: '2',
      warnings: [],
    });
  });

  it('never makes a key out of a misspelt name, although the policy allows it', async () => {
    const everything: Policy = { [`${mount}/*`]: ['create', 'read', 'update', 'delete', 'list'] };
    const provider = await open(`${key}x`, everything);
    expect(await failureOf(provider.describe(SIGNAL))).toMatchObject({
      code: 'KEY_NOT_FOUND',
      message: expect.stringContaining('check the spelling'),
    });
    expect((await failureOf(provider.wrap(randomBytes(32), CONTEXT, SIGNAL))).code).toBe('KEY_NOT_FOUND');
    expect((await failureOf(provider.encrypt(randomBytes(32), CONTEXT, SIGNAL))).code).toBe('KEY_NOT_FOUND');
    expect((await failureOf(provider.generate(SIGNAL))).code).toBe('KEY_NOT_FOUND');
    expect(await provider.health('deep', SIGNAL)).toMatchObject({ ok: false });
    const names = await keyNames();
    expect(names).toContain(key);
    expect(names).not.toContain(`${key}x`);
  });

  it('does not bring back a key that was deleted while it ran', async () => {
    const everything: Policy = { [`${mount}/*`]: ['create', 'read', 'update'] };
    const [mighty, modest] = [await open(key, everything), await open()];
    const { wrapped, reference } = await mighty.wrap(randomBytes(32), CONTEXT, SIGNAL);
    await keyCall('/config', { deletion_allowed: true });
    expect((await mighty.describe(SIGNAL)).warnings).toEqual([expect.stringContaining('may be deleted')]);
    await call('DELETE', `${mount}/keys/${key}`);
    for (const provider of [mighty, modest]) {
      expect((await failureOf(provider.wrap(randomBytes(32), CONTEXT, SIGNAL))).code).toBe('KEY_NOT_FOUND');
      expect((await failureOf(provider.unwrap(wrapped, reference, CONTEXT, SIGNAL))).code).toBe('KEY_NOT_FOUND');
    }
    expect(await keyNames()).not.toContain(key);
  });

  it('wraps under the newest version, unwraps every older one, and rewraps without revealing', async () => {
    const provider = await open();
    const secret = randomBytes(32);
    const first = await provider.wrap(secret, CONTEXT, SIGNAL);
    expect(first.reference).toEqual({
      root: 'vault',
      resolvedId: `vault-transit:${mount}/${key}`,
      materialVersion: '1',
    });
    await keyCall('/rotate');
    const second = await provider.rewrap(first.wrapped, first.reference, CONTEXT, SIGNAL);
    expect(second.reference.materialVersion).toBe('2');
    expect((await provider.wrap(secret, CONTEXT, SIGNAL)).reference.materialVersion).toBe('2');
    for (const { wrapped, reference } of [first, second]) {
      expect(await provider.unwrap(wrapped, reference, CONTEXT, SIGNAL)).toEqual(secret);
    }
  });

  it('calls a version below min_decryption_version disabled, and serves the newer ones', async () => {
    const provider = await open();
    const old = await provider.wrap(randomBytes(32), CONTEXT, SIGNAL);
    await keyCall('/rotate');
    const current = await provider.wrap(randomBytes(32), CONTEXT, SIGNAL);
    await keyCall('/config', { min_decryption_version: 2 });
    for (const refused of [
      provider.unwrap(old.wrapped, old.reference, CONTEXT, SIGNAL),
      provider.rewrap(old.wrapped, old.reference, CONTEXT, SIGNAL),
    ]) {
      expect(await failureOf(refused)).toMatchObject({
        code: 'KEY_DISABLED',
        message: expect.stringContaining('version 1 is below min_decryption_version 2'),
      });
    }
    expect((await provider.unwrap(current.wrapped, current.reference, CONTEXT, SIGNAL)).length).toBe(32);
  });

  it('refuses damage, a version from the future and the ciphertext of another key as CORRUPT', async () => {
    const provider = await open();
    const { wrapped, reference } = await provider.wrap(randomBytes(32), CONTEXT, SIGNAL);
    const text = Buffer.from(wrapped).toString();
    const changed = `${text.slice(0, 20)}${text[20] === 'A' ? 'B' : 'A'}${text.slice(21)}`;
    await call('POST', `${mount}/keys/${key}-other`, {});
    const other = await (await open(`${key}-other`)).wrap(randomBytes(32), CONTEXT, SIGNAL);
    for (const bad of [changed, text.replace('v1', 'v9'), Buffer.from(other.wrapped).toString()]) {
      expect((await failureOf(provider.unwrap(Buffer.from(bad), reference, CONTEXT, SIGNAL))).code).toBe('CORRUPT');
    }
  });

  it('refuses key types without associated data, and derived keys', async () => {
    await call('POST', `${mount}/keys/${key}-rsa`, { type: 'rsa-2048' });
    await call('POST', `${mount}/keys/${key}-derived`, { derived: true });
    expect(await failureOf((await open(`${key}-rsa`)).describe(SIGNAL))).toMatchObject({
      code: 'CONFIG',
      message: expect.stringMatching(/type rsa-2048; it must be one of aes128-gcm96/),
    });
    expect(await failureOf((await open(`${key}-derived`)).describe(SIGNAL))).toMatchObject({
      code: 'CONFIG',
      message: expect.stringContaining('derived'),
    });
  });

  it('warns of a key that can be exported or backed up in plaintext', async () => {
    await keyCall('/config', { exportable: true, allow_plaintext_backup: true });
    const { warnings } = await (await open()).describe(SIGNAL);
    expect(warnings).toEqual([expect.stringContaining('exportable'), expect.stringContaining('backups in plaintext')]);
  });

  it('binds the context in direct mode, and takes the empty plaintext and the longest', async () => {
    const provider = await open();
    const { directLimit } = provider.capabilities();
    for (const plaintext of [Buffer.alloc(0), Buffer.from([7]), randomBytes(directLimit)]) {
      const { wrapped, reference } = await provider.encrypt(plaintext, { a: 'b', c: 'd' }, SIGNAL);
      expect(plaintext.equals(await provider.decrypt(wrapped, reference, { c: 'd', a: 'b' }, SIGNAL))).toBe(true);
      for (const context of [{}, { a: 'b' }, { a: 'b', c: 'D' }, { a: 'bc', d: '' }]) {
        expect((await failureOf(provider.decrypt(wrapped, reference, context, SIGNAL))).code).toBe('CORRUPT');
      }
    }
    expect(await failureOf(provider.encrypt(Buffer.alloc(directLimit + 1), CONTEXT, SIGNAL))).toMatchObject({
      code: 'TOO_LARGE',
      message: expect.stringContaining(String(directLimit)),
    });
  });

  it('takes a secret that the Vault drew', async () => {
    const provider = await open();
    const { secret, wrapped } = await provider.generate(SIGNAL);
    expect(secret.length).toBe(32);
    expect(await provider.unwrap(wrapped.wrapped, wrapped.reference, CONTEXT, SIGNAL)).toEqual(secret);
    expect((await provider.generate(SIGNAL)).secret).not.toEqual(secret);
  });

  it('names the rights that its policy lacks', async () => {
    const nothing: Policy = { [`${mount}/encrypt/${key}`]: ['update'] as Capability[] };
    const provider = await open(key, nothing);
    expect(await failureOf(provider.describe(SIGNAL))).toMatchObject({
      code: 'FORBIDDEN',
      message: expect.stringContaining(`lacks read on ${mount}/keys/${key}`),
    });
    const { wrapped, reference } = await provider.wrap(randomBytes(32), CONTEXT, SIGNAL);
    expect((await failureOf(provider.unwrap(wrapped, reference, CONTEXT, SIGNAL))).code).toBe('FORBIDDEN');
  });

  it('is healthy by a look at node and key, and by a round trip', async () => {
    const provider = await open();
    expect(await provider.health('cheap', SIGNAL)).toEqual({ ok: true, detail: `vault-transit:${mount}/${key}` });
    expect(await provider.health('deep', SIGNAL)).toMatchObject({ ok: true });
  });
});

describe('VaultTransitProvider', () => {
  /** A provider for the key `root` of a stand-in. */
  async function open(changes: Partial<VaultSettings> = {}, product: 'vault' | 'openbao' = 'vault') {
    const { vault, transit } = await startVault({ product });
    const environment = { VAULT_TOKEN: tokenOf(vault) };
    const client = await openVaultClient(settingsFor(vault.address, changes), { environment });
    const provider = new VaultTransitProvider('vault', { mount: 'transit', key: 'root' }, client);
    onTestFinished(() => provider.close());
    return { vault, transit, provider };
  }

  it('sends neither associated data nor context with W, so that rewrap works', async () => {
    const { vault, provider } = await open();
    await provider.wrap(Buffer.alloc(32, 1), CONTEXT, SIGNAL);
    expect(JSON.parse(vault.seen('transit/encrypt/root')[0]!.body)).toEqual({
      plaintext: Buffer.alloc(32, 1).toString('base64'),
      convergent_encryption: true,
    });
    expect(provider.capabilities()).toMatchObject({ nativeContext: false, serverRewrap: true, versioned: true });
  });

  it('refuses what another service wrote before anything is sent', async () => {
    const { vault, provider } = await open();
    const { reference } = await provider.wrap(randomBytes(32), CONTEXT, SIGNAL);
    const before = vault.requests.length;
    for (const foreign of ['aws:v1:AAAA', 'vault:v1:AAAA', 'vault:v0:', '', 'x'.repeat(2 ** 21)]) {
      const bytes = Buffer.from(foreign);
      expect((await failureOf(provider.unwrap(bytes, reference, CONTEXT, SIGNAL))).code).toBe('CORRUPT');
    }
    const elsewhere = { ...reference, resolvedId: 'vault-transit:transit/../sys/root' };
    const { wrapped } = await provider.wrap(randomBytes(32), CONTEXT, SIGNAL);
    expect((await failureOf(provider.unwrap(wrapped, elsewhere, CONTEXT, SIGNAL))).code).toBe('CORRUPT');
    expect(vault.requests.length).toBe(before + 1);
  });

  it('unwraps with the key that the reference names, and rewraps under no other', async () => {
    const { vault, transit, provider } = await open();
    transit.create('former');
    vault.policies.set('dekd', { ...transitPolicy('root'), ...transitPolicy('former') });
    const client = await openVaultClient(settingsFor(vault.address, { timeout: 2999 }), {
      environment: { VAULT_TOKEN: tokenOf(vault) },
    });
    const former = new VaultTransitProvider('vault', { mount: 'transit', key: 'former' }, client);
    onTestFinished(() => former.close());
    const secret = randomBytes(32);
    const { wrapped, reference } = await former.wrap(secret, CONTEXT, SIGNAL);
    expect(await provider.unwrap(wrapped, reference, CONTEXT, SIGNAL)).toEqual(secret);
    expect((await failureOf(provider.rewrap(wrapped, reference, CONTEXT, SIGNAL))).code).toBe('UNSUPPORTED');
  });

  it('has no direct mode on a server that ignores associated data', async () => {
    const { vault, provider } = await open();
    const old = new TransitEngine({ ignoresAssociatedData: true });
    old.create('root');
    vault.mount('transit', old);
    const refused = provider.encrypt(Buffer.from('x'), CONTEXT, SIGNAL);
    expect(await failureOf(refused)).toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('too old'),
    });
  });

  it('proves the binding of direct mode once, not at every call', async () => {
    const { vault, provider } = await open();
    for (let call = 0; call < 3; call++) {
      await provider.encrypt(Buffer.from('x'), CONTEXT, SIGNAL);
    }
    expect(vault.seen('transit/encrypt/root').length).toBe(3);
    expect(vault.seen('transit/decrypt/root').length).toBe(1);
  });

  it('spends no cryptography on cheap health, and reports every state that serves nothing', async () => {
    const { vault, transit, provider } = await open();
    expect(await provider.health('cheap', SIGNAL)).toMatchObject({ ok: true });
    expect(vault.seen(/encrypt|decrypt/)).toEqual([]);
    vault.state = 'standby';
    expect(await provider.health('cheap', SIGNAL)).toMatchObject({ ok: true });
    for (const [state, word, code] of [
      ['sealed', 'sealed', 'SEALED'],
      ['secondary', 'secondary', 'UNAVAILABLE'],
      ['uninitialized', 'not initialized', 'SEALED'],
    ] as const) {
      vault.state = state;
      const health = await provider.health('cheap', SIGNAL);
      expect(health).toEqual({ ok: false, detail: expect.stringContaining(word), code });
    }
    vault.state = 'active';
    transit.keys.delete('root');
    expect(await provider.health('cheap', SIGNAL)).toMatchObject({ ok: false, code: 'KEY_NOT_FOUND' });
    await vault.stop();
    expect(await provider.health('cheap', SIGNAL)).toMatchObject({ ok: false, code: 'UNAVAILABLE' });
  });

  it('tells unreachable, sealed, throttled and late apart', async () => {
    const { vault, provider } = await open({ timeout: 400 });
    await provider.describe(SIGNAL);
    vault.state = 'sealed';
    expect(await failureOf(provider.wrap(randomBytes(32), CONTEXT, SIGNAL))).toMatchObject({
      code: 'SEALED',
      trip: true,
    });
    vault.state = 'active';
    const path = 'transit/encrypt/root';
    vault.misbehave(path, { kind: 'answer', reply: { status: 429, headers: { 'retry-after': '2' } } });
    expect(await failureOf(provider.wrap(randomBytes(32), CONTEXT, SIGNAL))).toMatchObject({
      code: 'RATE_LIMITED',
      retryAfterMs: 2000,
      detail: 'status 429',
    });
    vault.misbehave(path, { kind: 'hang' });
    expect((await failureOf(provider.wrap(randomBytes(32), CONTEXT, SIGNAL))).code).toBe('TIMEOUT');
    vault.misbehave(path, { kind: 'hang' });
    const cancelled = provider.wrap(randomBytes(32), CONTEXT, AbortSignal.abort());
    expect(await failureOf(cancelled)).toMatchObject({ code: 'CANCELLED', trip: false });
    await vault.stop();
    expect((await failureOf(provider.describe(SIGNAL))).code).toBe('UNAVAILABLE');
  });

  it('calls a key of OpenBao that is softly deleted pending deletion', async () => {
    const { transit, provider } = await open({}, 'openbao');
    const { wrapped, reference } = await provider.wrap(randomBytes(32), CONTEXT, SIGNAL);
    transit.keys.get('root')!.softDeleted = true;
    for (const refused of [
      provider.describe(SIGNAL),
      provider.unwrap(wrapped, reference, CONTEXT, SIGNAL),
      provider.wrap(randomBytes(32), CONTEXT, SIGNAL),
    ]) {
      expect((await failureOf(refused)).code).toBe('KEY_PENDING_DELETION');
    }
  });

  it('never takes a wrong answer for a key', async () => {
    const { vault, provider } = await open();
    const { wrapped, reference } = await provider.wrap(randomBytes(32), CONTEXT, SIGNAL);
    for (const data of [{}, { plaintext: 7 }, { ciphertext: 'x' }]) {
      vault.misbehave(/encrypt|decrypt/, { kind: 'answer', reply: { status: 200, body: { data } } }, 2);
      expect((await failureOf(provider.wrap(randomBytes(32), CONTEXT, SIGNAL))).code).toBe('UNAVAILABLE');
      expect((await failureOf(provider.unwrap(wrapped, reference, CONTEXT, SIGNAL))).code).toBe('UNAVAILABLE');
    }
    vault.misbehave('transit/keys/root', { kind: 'answer', reply: { status: 200, body: { data: { keys: [] } } } });
    expect(await failureOf(provider.describe(SIGNAL))).toMatchObject({
      code: 'CONFIG',
      message: expect.stringContaining('not a transit engine'),
    });
  });
});

describe('openVaultTransit', () => {
  it('refuses names that are not safe in a path, with the setting that has them', async () => {
    for (const [changes, setting] of [
      [{ key: "a=b's" }, /key must be/],
      [{ mount: 'transit/../sys' }, /mount must be/],
      [{ address: 'http://vault.example' }, /address must be https/],
    ] as const) {
      const settings = { ...settingsFor('https://vault'), mount: 'transit', key: 'root', ...changes };
      expect(await failureOf(openVaultTransit('vault', settings))).toMatchObject({
        code: 'CONFIG',
        message: expect.stringMatching(setting),
      });
    }
  });

  it('hands the login from one process to the next by way of the keeper', async () => {
    const { vault } = await startVault();
    process.env.VAULT_TOKEN = tokenOf(vault);
    onTestFinished(() => {
      delete process.env.VAULT_TOKEN;
    });
    let kept: Uint8Array | undefined;
    const keeper = {
      load: () => kept?.slice(),
      save: (session: Uint8Array) => {
        kept = session.slice();
      },
    };
    const settings = { ...settingsFor(vault.address), mount: 'transit', key: 'root' };
    for (let custodian = 0; custodian < 3; custodian++) {
      const provider = await openVaultTransit('vault', settings, keeper);
      await provider.describe(SIGNAL);
      await provider.closeKeepingSession();
    }
    expect(vault.seen('auth/token/lookup-self').length).toBe(1);
    expect(vault.seen('transit/keys/root').length).toBe(3);
  });
});
