/** Signature Version 4 as the service checks it: every signed header, the hash of the body, scope, date and token. */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { KmsFault } from './kms-fault.ts';

export interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

export type Recognise = (accessKeyId: string) => (Credentials & { readonly expired: boolean }) | undefined;

const MAX_SKEW_MS = 5 * 60_000;
const MUST_BE_SIGNED = ['host', 'x-amz-date', 'x-amz-target', 'content-type'];

/** @returns the Region that the request is signed for. @throws KmsFault */
export function verifySignature(request: IncomingMessage, body: Buffer, recognise: Recognise): string {
  const { authorization } = request.headers;
  if (authorization === undefined) {
    throw new KmsFault('MissingAuthenticationTokenException', 'Missing Authentication Token');
  }
  const match =
    /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/([^/]+)\/aws4_request, SignedHeaders=([^,]+), Signature=([0-9a-f]{64})$/.exec(
      authorization,
    );
  if (match === null) {
    throw new KmsFault('IncompleteSignatureException', 'Authorization header is not complete');
  }
  const [, accessKeyId, day, region, service, signedHeaders, signature] = match as unknown as string[];
  if (service !== 'kms') {
    throw new KmsFault('InvalidSignatureException', `Credential should be scoped to correct service: 'kms'.`);
  }
  const names = signedHeaders!.split(';');
  for (const name of MUST_BE_SIGNED) {
    if (!names.includes(name)) {
      throw new KmsFault('InvalidSignatureException', `'${name}' must be a signed header`);
    }
  }
  const date = header(request, 'x-amz-date');
  checkDate(date, day!);
  const credentials = recognise(accessKeyId!);
  if (credentials === undefined) {
    throw new KmsFault('UnrecognizedClientException', 'The security token included in the request is invalid.');
  }
  const canonicalRequest = [
    request.method,
    '/',
    '',
    ...names.map((name) => `${name}:${header(request, name).trim().replace(/ +/g, ' ')}`),
    '',
    signedHeaders,
    createHash('sha256').update(body).digest('hex'),
  ].join('\n');
  const scope = `${day}/${region}/${service}/aws4_request`;
  const digest = createHash('sha256').update(canonicalRequest).digest('hex');
  const expected = hmac(
    signingKey(credentials.secretAccessKey, [day!, region!, service, 'aws4_request']),
    `AWS4-HMAC-SHA256\n${date}\n${scope}\n${digest}`,
  );
  if (!timingSafeEqual(expected, Buffer.from(signature!, 'hex'))) {
    throw new KmsFault('InvalidSignatureException', 'The request signature we calculated does not match');
  }
  if (request.headers['x-amz-security-token'] !== credentials.sessionToken) {
    throw new KmsFault('UnrecognizedClientException', 'The security token included in the request is invalid.');
  }
  if (credentials.expired) {
    throw new KmsFault('ExpiredTokenException', 'The security token included in the request is expired');
  }
  return region!;
}

function checkDate(date: string, day: string): void {
  const match = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(date);
  const time = match === null ? Number.NaN : Date.UTC(+match[1]!, +match[2]! - 1, +match[3]!, ...hours(match));
  if (!date.startsWith(day) || !(Math.abs(Date.now() - time) <= MAX_SKEW_MS)) {
    throw new KmsFault('InvalidSignatureException', 'Signature expired');
  }
}

function hours(match: RegExpExecArray): [number, number, number] {
  return [+match[4]!, +match[5]!, +match[6]!];
}

function header(request: IncomingMessage, name: string): string {
  const value = request.headers[name];
  return Array.isArray(value) ? value.join(',') : (value ?? '');
}

function signingKey(secret: string, parts: readonly string[]): Buffer {
  return parts.reduce<Buffer>((key, part) => hmac(key, part), Buffer.from(`AWS4${secret}`));
}

function hmac(key: Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest();
}
