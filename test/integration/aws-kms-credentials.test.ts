/** Where credentials come from is the SDK's standard chain; what the provider makes of good, stale and absent ones. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { type AwsKmsProvider, type AwsKmsSettings, openAwsKms } from '../../src/providers/aws-kms.ts';
import { type Credentials, type KmsKey, KmsServer } from '../support/kms-server/kms-server.ts';
import { kmsSettings } from '../support/kms-server/kms-settings.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const SIGNAL = new AbortController().signal;
const CONTEXT = { tenant: 'acme' };
const SECRET = new Uint8Array(32).fill(5);

let kms: KmsServer;
let key: KmsKey;

beforeEach(async () => {
  kms = await KmsServer.start();
  key = kms.createKey();
  const leave = kms.enter();
  const folder = temporaryFolder();
  process.env.AWS_CONFIG_FILE = join(folder, 'config');
  process.env.AWS_SHARED_CREDENTIALS_FILE = join(folder, 'credentials');
  const started = kms;
  onTestFinished(async () => {
    leave();
    await started.stop();
  });
});

async function open(settings: Partial<AwsKmsSettings> = {}): Promise<AwsKmsProvider> {
  const provider = await openAwsKms('aws', kmsSettings(kms, { key: key.arn, ...settings }));
  onTestFinished(() => provider.close());
  return provider;
}

/** Nothing in the environment but what a source of credentials needs. */
function onlyFrom(variables: Record<string, string>): void {
  delete process.env.AWS_ACCESS_KEY_ID;
  delete process.env.AWS_SECRET_ACCESS_KEY;
  delete process.env.AWS_SESSION_TOKEN;
  Object.assign(process.env, variables);
}

async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function document({ accessKeyId, secretAccessKey, sessionToken }: Credentials): string {
  return JSON.stringify({
    Code: 'Success',
    AccessKeyId: accessKeyId,
    SecretAccessKey: secretAccessKey,
    Token: sessionToken,
    Expiration: new Date(Date.now() + 3_600_000).toISOString(),
  });
}

async function provesItself(): Promise<void> {
  const provider = await open();
  const { wrapped, reference } = await provider.wrap(SECRET, CONTEXT, SIGNAL);
  expect(await provider.unwrap(wrapped, reference, CONTEXT, SIGNAL)).toEqual(SECRET);
}

describe('credentials', () => {
  it('come from the environment, with a session token', async () => {
    kms.issueCredentials({ session: true });
    onlyFrom(kms.environment());
    await provesItself();
  });

  it('come from a profile, and so does the Region', async () => {
    const { accessKeyId, secretAccessKey } = kms.credentials;
    writeFileSync(process.env.AWS_CONFIG_FILE!, '[profile team]\nregion = eu-central-1\n');
    writeFileSync(
      process.env.AWS_SHARED_CREDENTIALS_FILE!,
      `[team]\naws_access_key_id = ${accessKeyId}\naws_secret_access_key = ${secretAccessKey}\n`,
    );
    onlyFrom({ AWS_PROFILE: 'team' });
    delete process.env.AWS_REGION;
    kms.alias('alias/team', key);
    const provider = await open({ key: 'alias/team' });
    expect((await provider.describe(SIGNAL)).resolvedId).toBe(key.arn);
  });

  it('come from the container', async () => {
    const credentials = kms.issueCredentials({ session: true });
    const url = await serve((_request, response) => response.end(document(credentials)));
    onlyFrom({ AWS_CONTAINER_CREDENTIALS_FULL_URI: `${url}/credentials` });
    await provesItself();
  });

  it('come from the metadata service of the machine', async () => {
    const credentials = kms.issueCredentials({ session: true });
    const url = await serve((request, response) => {
      if (request.method === 'PUT') {
        response.end('metadata-token');
      } else {
        response.end(request.url?.endsWith('/node-role') === true ? document(credentials) : 'node-role');
      }
    });
    onlyFrom({ AWS_EC2_METADATA_DISABLED: 'false', AWS_EC2_METADATA_SERVICE_ENDPOINT: url });
    await provesItself();
  });

  it('come from a projected token by way of the token service', async () => {
    const { accessKeyId, secretAccessKey, sessionToken } = kms.issueCredentials({ session: true });
    const tokenFile = join(temporaryFolder(), 'token');
    writeFileSync(tokenFile, 'a.projected.token');
    let asked = '';
    const url = await serve(async (request, response) => {
      asked = Buffer.concat((await request.toArray()) as Buffer[]).toString();
      response.setHeader('content-type', 'text/xml');
      response.end(
        '<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">' +
          '<AssumeRoleWithWebIdentityResult><Credentials>' +
          `<AccessKeyId>${accessKeyId}</AccessKeyId><SecretAccessKey>${secretAccessKey}</SecretAccessKey>` +
          `<SessionToken>${sessionToken}</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>` +
          '</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>',
      );
    });
    onlyFrom({
      AWS_WEB_IDENTITY_TOKEN_FILE: tokenFile,
      AWS_ROLE_ARN: 'arn:aws:iam::111122223333:role/dekd',
      AWS_ENDPOINT_URL_STS: url,
    });
    await provesItself();
    expect(asked).toContain('WebIdentityToken=a.projected.token');
  });

  it('that nobody has are silence, not a refusal: whoever gives them may come back', async () => {
    onlyFrom({});
    const provider = await open();
    await expect(provider.describe(SIGNAL)).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      detail: expect.stringContaining('CredentialsProviderError'),
    });
    expect(kms.count()).toBe(0);
  });

  it('that do not come count in the deadline', async () => {
    const url = await serve(() => {});
    onlyFrom({ AWS_CONTAINER_CREDENTIALS_FULL_URI: `${url}/credentials` });
    const provider = await open({ timeout: 200 });
    const start = performance.now();
    await expect(provider.wrap(SECRET, CONTEXT, SIGNAL)).rejects.toMatchObject({ code: 'TIMEOUT' });
    expect(performance.now() - start).toBeLessThan(1000);
  });

  it('that are expired, unknown or wrong are UNAUTHENTICATED, and never trip the breaker', async () => {
    const provider = await open();
    await provider.describe(SIGNAL);
    kms.expireCredentials();
    const refused = { code: 'UNAUTHENTICATED', trip: false, retry: false };
    await expect(provider.wrap(SECRET, CONTEXT, SIGNAL)).rejects.toMatchObject(refused);
    kms.revokeCredentials();
    await expect(provider.wrap(SECRET, CONTEXT, SIGNAL)).rejects.toMatchObject(refused);
    const { accessKeyId } = kms.issueCredentials();
    onlyFrom({ AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: 'wrong' });
    const other = await open({ connections: 7 });
    await expect(other.wrap(SECRET, CONTEXT, SIGNAL)).rejects.toMatchObject(refused);
    expect(kms.requests.at(-1)!.outcome).toBe('InvalidSignatureException');
  });

  it('that were replaced are fetched once after a refusal, and the call goes through', async () => {
    let credentials = kms.issueCredentials({ session: true });
    let asked = 0;
    const url = await serve((_request, response) => {
      asked++;
      response.end(document(credentials));
    });
    onlyFrom({ AWS_CONTAINER_CREDENTIALS_FULL_URI: `${url}/credentials` });
    const provider = await open({ retries: 1 });
    await provider.describe(SIGNAL);
    kms.expireCredentials();
    credentials = kms.issueCredentials({ session: true });
    kms.requests.length = 0;
    const wraps = await Promise.all([1, 2, 3].map(() => provider.wrap(SECRET, CONTEXT, SIGNAL)));
    expect(wraps.length).toBe(3);
    expect(asked).toBeLessThanOrEqual(4);
    expect(kms.requests.at(-1)!.outcome).toBe('ok');
    await provider.wrap(SECRET, CONTEXT, SIGNAL);
    expect(kms.requests.filter(({ outcome }) => outcome === 'ExpiredTokenException').length).toBeLessThanOrEqual(3);
  });

  it('that stay the same after a refusal are not sent again', async () => {
    const provider = await open({ retries: 3 });
    kms.expireCredentials();
    await expect(provider.wrap(SECRET, CONTEXT, SIGNAL)).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
    expect(kms.count()).toBe(1);
  });

  it('never show in an error', async () => {
    kms.expireCredentials();
    const provider = await open();
    const error = await provider.describe(SIGNAL).catch((reason) => reason);
    const { accessKeyId, secretAccessKey } = kms.credentials;
    const { name, code, message, detail } = error;
    const shown = JSON.stringify({ name, code, message, detail });
    expect(shown).not.toContain(accessKeyId);
    expect(shown).not.toContain(secretAccessKey);
  });
});

describe('endpoints', () => {
  it('of the environment with FIPS are refused as a mistake of the configuration', async () => {
    process.env.AWS_ENDPOINT_URL_KMS = kms.endpoint;
    const provider = await open({ endpoint: undefined, fips: true });
    await expect(provider.describe(SIGNAL)).rejects.toMatchObject({ code: 'CONFIG' });
    expect(kms.count()).toBe(0);
  });

  it('of the environment are used', async () => {
    process.env.AWS_ENDPOINT_URL_KMS = kms.endpoint;
    const provider = await open({ endpoint: undefined });
    expect((await provider.describe(SIGNAL)).resolvedId).toBe(key.arn);
  });

  it('of the environment in clear beyond loopback are refused before anything is sent', async () => {
    process.env.AWS_ENDPOINT_URL_KMS = 'http://kms.example.invalid';
    const provider = await open({ endpoint: undefined });
    await expect(provider.wrap(SECRET, CONTEXT, SIGNAL)).rejects.toMatchObject({
      code: 'CONFIG',
      detail: expect.stringContaining('InsecureEndpoint'),
    });
  });
});

describe('the SDK', () => {
  it('is loaded when a root is opened, and not before', () => {
    const code = `
      import Module from 'node:module';
      const loaded = () => Object.keys(Module._cache).some((path) => path.includes('client-kms'));
      const { openAwsKms } = await import('./src/providers/aws-kms.ts');
      const before = loaded();
      await openAwsKms('aws', { key: 'alias/a', region: 'eu-central-1', fips: false, connections: 1, idleTimeout: 1 });
      console.log(before, loaded());`;
    const root = new URL('../..', import.meta.url);
    const output = execFileSync(process.execPath, ['--input-type=module', '-e', code], { cwd: root, encoding: 'utf8' });
    expect(output.trim()).toBe('false true');
  });
});
