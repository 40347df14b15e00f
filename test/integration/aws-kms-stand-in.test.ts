/** The stand-in refuses what the service refuses, or nothing that is shown against it would mean anything. */
import { createHash, createHmac } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { KmsServer } from '../support/kms-server/kms-server.ts';

interface Sending {
  readonly service?: string;
  readonly date?: Date;
  readonly headers?: Record<string, string>;
  /** Signed headers beyond host and x-amz-date. */
  readonly signed?: readonly string[];
  /** What is sent instead of what was signed. */
  readonly body?: string;
  readonly authorization?: string | undefined;
}

let kms: KmsServer;

beforeAll(async () => {
  kms = await KmsServer.start();
});

afterAll(() => kms.stop());

/** Signs a request by hand, so that the SDK is not the only judge of the signatures. */
async function send(
  operation: string,
  input: object,
  sending: Sending = {},
): Promise<{ status: number; type: string }> {
  const { accessKeyId, secretAccessKey } = kms.credentials;
  const body = JSON.stringify(input);
  const date = (sending.date ?? new Date()).toISOString().replaceAll(/[:-]|\.\d{3}/g, '');
  const scope = [date.slice(0, 8), kms.region, sending.service ?? 'kms', 'aws4_request'];
  const headers: Record<string, string> = {
    'content-type': 'application/x-amz-json-1.1',
    host: kms.endpoint.replace('http://', ''),
    'x-amz-date': date,
    'x-amz-target': `TrentService.${operation}`,
  };
  const names = ['host', 'x-amz-date', ...(sending.signed ?? ['content-type', 'x-amz-target'])].sort();
  const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');
  const hmac = (key: Buffer, text: string) => createHmac('sha256', key).update(text).digest();
  const canonical = ['POST', '/', '', ...names.map((name) => `${name}:${headers[name]}`), '', names.join(';')];
  const toSign = ['AWS4-HMAC-SHA256', date, scope.join('/'), sha256([...canonical, sha256(body)].join('\n'))];
  const signingKey = scope.reduce((key: Buffer, part) => hmac(key, part), Buffer.from(`AWS4${secretAccessKey}`));
  const signature = hmac(signingKey, toSign.join('\n')).toString('hex');
  const authorization =
    `AWS4-HMAC-SHA256 Credential=${accessKeyId}/${scope.join('/')}, ` +
    `SignedHeaders=${names.join(';')}, Signature=${signature}`;
  const response = await fetch(kms.endpoint, {
    method: 'POST',
    body: sending.body ?? body,
    headers: {
      ...headers,
      ...sending.headers,
      ...('authorization' in sending ? {} : { authorization }),
    },
  });
  const reply = (await response.json()) as { __type?: string };
  return { status: response.status, type: reply.__type ?? 'ok' };
}

describe('the stand-in KMS', () => {
  it('takes a signature made by hand', async () => {
    expect(await send('DescribeKey', { KeyId: kms.createKey().arn })).toEqual({ status: 200, type: 'ok' });
  });

  it.each<[string, Sending, string]>([
    ['without a signature', { authorization: undefined }, 'MissingAuthenticationTokenException'],
    ['whose body was changed', { body: '{"KeyId":"alias/other"}' }, 'InvalidSignatureException'],
    [
      'whose operation was changed',
      { headers: { 'x-amz-target': 'TrentService.Decrypt' } },
      'InvalidSignatureException',
    ],
    ['that is ten minutes old', { date: new Date(Date.now() - 600_000) }, 'InvalidSignatureException'],
    ['for another service', { service: 's3' }, 'InvalidSignatureException'],
    ['whose operation is not signed', { signed: ['content-type'] }, 'InvalidSignatureException'],
    ['with a token nobody gave', { headers: { 'x-amz-security-token': 'x' } }, 'UnrecognizedClientException'],
  ])('refuses a request %s', async (_what, sending, type) => {
    expect(await send('DescribeKey', { KeyId: kms.createKey().arn }, sending)).toEqual({ status: 400, type });
  });

  it.each<[string, object, string]>([
    ['Encrypt', { Plaintext: 'AA==' }, 'ValidationException'],
    ['Encrypt', { KeyId: 'default', Plaintext: 'AA==' }, 'NotFoundException'],
    ['Encrypt', { KeyId: 'alias/none', Plaintext: 'AA==' }, 'NotFoundException'],
    ['Encrypt', { KeyId: 'KEY', Plaintext: 'A' }, 'SerializationException'],
    ['Encrypt', { KeyId: 'KEY', Plaintext: 'AA==', EncryptionContext: { a: 1 } }, 'SerializationException'],
    [
      'Encrypt',
      { KeyId: 'KEY', Plaintext: 'AA==', EncryptionAlgorithm: 'RSAES_OAEP_SHA_1' },
      'InvalidKeyUsageException',
    ],
    ['Decrypt', { KeyId: 'KEY', CiphertextBlob: 'AA==' }, 'InvalidCiphertextException'],
    ['DescribeKey', { KeyId: 'arn:aws:kms:us-east-1:111122223333:alias/root' }, 'NotFoundException'],
    ['DescribeKey', { KeyId: 'arn:aws:kms:eu-central-1:444455556666:alias/root' }, 'AccessDeniedException'],
    ['ScheduleKeyDeletion', { KeyId: 'KEY' }, 'UnknownOperationException'],
  ])('answers %s of %o with %s', async (operation, input, type) => {
    const { arn } = kms.createKey();
    const named = 'KeyId' in input && input.KeyId === 'KEY' ? { ...input, KeyId: arn } : input;
    expect((await send(operation, named)).type).toBe(type);
  });
});
