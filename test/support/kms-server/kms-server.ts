/**
 * A stand-in for AWS KMS, not the service: a protocol server (JSON 1.1 with X-Amz-Target) that enforces what the service
 * enforces, so that the real SDK can be driven against it. Signatures are verified, keys are AES-256-GCM keys, and
 * context, sizes, states, aliases, key material versions, Regions and permissions are held to what is documented. What
 * it does not know: grants, policies as documents, eventual consistency, quotas of an account, asymmetric cryptography.
 *
 *     const kms = await KmsServer.start();                       // or { tls: true }: trust kms.certificate
 *     const key = kms.createKey();                               // key.arn, key.id
 *     kms.alias('alias/root', key);                              // again with another key = repointed
 *     const leave = kms.enter();                                 // credentials and Region for the SDK of this process
 *     spawn(..., { env: { ...env, ...kms.environment() } });     // or of another
 *     open({ endpoint: kms.endpoint, key: key.arn, ... });
 *     kms.disable(key); kms.rotate(key); kms.deny('Decrypt');    // and enable, setState, allow
 *     kms.fail(2, 'throttle'); kms.fail(Infinity, 'reset');      // the next requests; recover() ends it
 *     kms.requests; kms.count('Encrypt'); kms.handshakes;        // what arrived
 *     await kms.down(); await kms.up();                          // connections refused, then the same port again
 *     await kms.stop();
 */

import { randomBytes, randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { selfSigned } from './certificate.ts';
import { contextOf, KeySpace, type KeySpecification, type KeyState, type KmsKey } from './key-space.ts';
import { KmsFault } from './kms-fault.ts';
import { type Credentials, verifySignature } from './signature.ts';

export type { KeySpecification, KeyState, KmsKey } from './key-space.ts';
export type { Credentials } from './signature.ts';

export type Operation = 'Encrypt' | 'Decrypt' | 'ReEncrypt' | 'GenerateDataKey' | 'DescribeKey';

/** What may go wrong with a request, whatever it asks for. */
export type FailureKind =
  | 'throttle' //        400 ThrottlingException
  | 'limit' //           400 LimitExceededException
  | 'internal' //        500 KMSInternalException
  | 'dependency' //      503 DependencyTimeoutException
  | 'key-unavailable' // 500 KeyUnavailableException
  | 'unavailable' //     503 without a body
  | 'expired' //         400 ExpiredTokenException
  | 'unrecognized' //    400 UnrecognizedClientException
  | 'denied' //          400 AccessDeniedException
  | 'hang' //            no answer, ever
  | 'trickle' //         an answer of one byte each 20 ms that does not end
  | 'half-close' //      half an answer, then the end of the connection
  | 'reset' //           a reset connection
  | 'bad-json' //        200 with JSON that stops in the middle
  | 'html' //            403 with a page, as a proxy in between writes it
  | 'redirect' //        307 to `redirectTo`
  | 'other-key'; //      200, answered in the name of another key

/** Or any error of the service by its name. */
export interface NamedFailure {
  readonly error: string;
  readonly status?: number;
  readonly retryAfterSeconds?: number;
  readonly text?: string;
}

export interface KmsRequest {
  readonly operation: string;
  /** `KeyId`, or `SourceKeyId` of a ReEncrypt, as it was asked for. */
  readonly keyId: string | undefined;
  readonly context: Readonly<Record<string, string>> | undefined;
  /** The whole body. */
  readonly input: Readonly<Record<string, unknown>>;
  /** Region of the signature; empty when that was refused. */
  readonly region: string;
  /** Number of the connection, from 1. */
  readonly connection: number;
  readonly headers: IncomingMessage['headers'];
  /** Milliseconds of performance.now(). */
  readonly at: number;
  /** `ok`, or the name of the error or failure. */
  outcome: string;
}

export interface KmsServerOptions {
  readonly region?: string;
  readonly tls?: boolean;
  /** Milliseconds before each answer. */
  readonly delayMs?: number;
}

interface Failure {
  left: number;
  readonly kind: FailureKind | NamedFailure;
  readonly operation: Operation | undefined;
}

const FAULTS: Partial<Record<FailureKind, KmsFault>> = {
  throttle: new KmsFault('ThrottlingException', 'Rate exceeded'),
  limit: new KmsFault('LimitExceededException', 'A quota was exceeded'),
  internal: new KmsFault('KMSInternalException', null, 500),
  dependency: new KmsFault('DependencyTimeoutException', null, 503),
  'key-unavailable': new KmsFault('KeyUnavailableException', null, 500),
  expired: new KmsFault('ExpiredTokenException', 'The security token included in the request is expired'),
  unrecognized: new KmsFault('UnrecognizedClientException', 'The security token included in the request is invalid.'),
  denied: new KmsFault('AccessDeniedException', 'User is not authorized to perform this operation'),
};

export class KmsServer {
  readonly region: string;
  /** PEM, with `tls`. */
  readonly certificate: string | undefined;
  readonly requests: KmsRequest[] = [];
  /** Where `redirect` points. */
  redirectTo = 'http://127.0.0.1:1/';
  delayMs: number;
  /** TCP connections accepted, and TLS handshakes finished, since the start. */
  connections = 0;
  handshakes = 0;
  /** Requests that are being answered now, and the most there ever were. */
  inFlight = 0;
  maxInFlight = 0;

  readonly #server: Server;
  readonly #keys = new KeySpace();
  readonly #credentials = new Map<string, Credentials & { expired: boolean }>();
  readonly #denied = new Set<string>();
  readonly #failures: Failure[] = [];
  readonly #sockets = new Map<Socket, number>();
  readonly #stopping = new AbortController();
  #current: Credentials;
  #port = 0;

  private constructor(options: KmsServerOptions) {
    this.region = options.region ?? 'eu-central-1';
    this.delayMs = options.delayMs ?? 0;
    const answer = (request: IncomingMessage, response: ServerResponse) => void this.#answer(request, response);
    if (options.tls === true) {
      const { certificate, key } = selfSigned();
      this.certificate = certificate;
      this.#server = createTlsServer({ cert: certificate, key }, answer);
    } else {
      this.#server = createServer(answer);
    }
    // Idle connections are for the client to close.
    this.#server.keepAliveTimeout = 0;
    this.#server.on('secureConnection', () => {
      this.handshakes++;
    });
    this.#server.on('connection', (socket: Socket) => {
      this.connections++;
      this.#sockets.set(socket, this.connections);
      socket.on('error', () => {});
      socket.on('close', () => this.#sockets.delete(socket));
    });
    this.#current = this.issueCredentials();
  }

  static async start(options: KmsServerOptions = {}): Promise<KmsServer> {
    const server = new KmsServer(options);
    await server.up();
    return server;
  }

  get endpoint(): string {
    return `${this.certificate === undefined ? 'http' : 'https'}://127.0.0.1:${this.#port}`;
  }

  get openConnections(): number {
    return this.#sockets.size;
  }

  /** Credentials that the server knows: the ones made last. */
  get credentials(): Credentials {
    return this.#current;
  }

  /** Variables for a process whose SDK shall reach this server with good credentials and nothing else. */
  environment(): Record<string, string> {
    const { accessKeyId, secretAccessKey, sessionToken } = this.#current;
    return {
      AWS_REGION: this.region,
      AWS_ACCESS_KEY_ID: accessKeyId,
      AWS_SECRET_ACCESS_KEY: secretAccessKey,
      ...(sessionToken === undefined ? {} : { AWS_SESSION_TOKEN: sessionToken }),
      AWS_EC2_METADATA_DISABLED: 'true',
    };
  }

  /** Puts `environment` in the place of whatever this process has for AWS. @returns what puts that back. */
  enter(): () => void {
    const before = { ...process.env };
    const clear = () => {
      for (const name of Object.keys(process.env).filter((each) => each.startsWith('AWS_'))) {
        delete process.env[name];
      }
    };
    clear();
    Object.assign(process.env, this.environment());
    return () => {
      clear();
      Object.assign(process.env, before);
    };
  }

  /** New credentials, good beside the older ones until those are expired. */
  issueCredentials(options: { session?: boolean } = {}): Credentials {
    const credentials: Credentials = {
      accessKeyId: `AKIA${randomBytes(8).toString('hex').toUpperCase()}`,
      secretAccessKey: randomBytes(30).toString('base64'),
      ...(options.session === true ? { sessionToken: randomBytes(48).toString('base64') } : {}),
    };
    this.#credentials.set(credentials.accessKeyId, { ...credentials, expired: false });
    this.#current = credentials;
    return credentials;
  }

  expireCredentials(credentials: Credentials = this.#current): void {
    this.#credentials.set(credentials.accessKeyId, { ...credentials, expired: true });
  }

  revokeCredentials(credentials: Credentials = this.#current): void {
    this.#credentials.delete(credentials.accessKeyId);
  }

  createKey(specification: KeySpecification = {}): KmsKey {
    return this.#keys.create(specification.region ?? this.region, specification);
  }

  /** The same multi-Region key in another Region: same id and material, a state of its own. */
  replicate(key: KmsKey, region: string): KmsKey {
    return this.#keys.replicate(key, region);
  }

  /** Makes `alias/NAME` point to a key, or repoints it. @returns its ARN. */
  alias(name: `alias/${string}`, key: KmsKey): string {
    return this.#keys.alias(key.region, name, key);
  }

  /** New key material; the old still decrypts. @returns its id. */
  rotate(key: KmsKey): string {
    return this.#keys.rotate(key);
  }

  disable(key: KmsKey): void {
    key.state = 'Disabled';
  }

  enable(key: KmsKey): void {
    key.state = 'Enabled';
  }

  setState(key: KmsKey, state: KeyState): void {
    key.state = state;
  }

  /** Denies an operation, for one key or for all, until it is allowed again. */
  deny(operation: Operation, key?: KmsKey): void {
    this.#denied.add(denial(operation, key));
  }

  allow(operation: Operation, key?: KmsKey): void {
    this.#denied.delete(denial(operation, key));
  }

  /** Fails the next `count` requests (of one operation); Infinity for an outage. Failures queue up. */
  fail(count: number, kind: FailureKind | NamedFailure, operation?: Operation): void {
    this.#failures.push({ left: count, kind, operation });
  }

  /** Forgets every failure that is left. */
  recover(): void {
    this.#failures.length = 0;
  }

  count(operation?: Operation): number {
    return operation === undefined
      ? this.requests.length
      : this.requests.filter((request) => request.operation === operation).length;
  }

  /** Connections are refused from here on, and those that are open are cut. */
  async down(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#sockets.keys()) {
      socket.destroy();
    }
    await closed;
  }

  /** Listens, on the same port as before. */
  async up(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(this.#port, '127.0.0.1', () => {
        this.#server.off('error', reject);
        resolve();
      });
    });
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    if (this.#server.listening) {
      await this.down();
    }
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.inFlight++;
    this.maxInFlight = Math.max(this.maxInFlight, this.inFlight);
    response.on('close', () => {
      this.inFlight--;
    });
    try {
      await this.#handle(request, response);
    } catch {
      // The client went away, or the server stops.
      response.destroy();
    }
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = Buffer.concat((await request.toArray()) as Buffer[]);
    const record = this.#record(request, body);
    this.requests.push(record);
    if (this.delayMs > 0) {
      await sleep(this.delayMs, undefined, { signal: this.#stopping.signal });
    }
    const failure = this.#nextFailure(record.operation);
    try {
      if (typeof failure === 'object') {
        record.outcome = failure.error;
        if (failure.retryAfterSeconds !== undefined) {
          response.setHeader('retry-after', String(failure.retryAfterSeconds));
        }
        throw new KmsFault(failure.error, failure.text ?? null, failure.status);
      }
      if (failure !== undefined && failure in FAULTS) {
        throw FAULTS[failure]!;
      }
      Object.assign(record, { region: verifySignature(request, body, (id) => this.#credentials.get(id)) });
      const output = this.#perform(record, request);
      record.outcome = failure ?? 'ok';
      await this.#send(response, output, failure);
    } catch (error) {
      if (!(error instanceof KmsFault)) {
        throw error;
      }
      record.outcome = error.type;
      const message = error.text === null ? {} : { message: error.text };
      reply(response, error.status, JSON.stringify({ __type: error.type, ...message }));
    }
  }

  #record(request: IncomingMessage, body: Buffer): KmsRequest {
    let input: Record<string, unknown> = {};
    try {
      input = JSON.parse(body.toString('utf8'));
    } catch {
      // Refused below, after the signature.
    }
    return {
      operation: String(request.headers['x-amz-target'] ?? '').replace(/^TrentService\./, ''),
      keyId: (input.KeyId ?? input.SourceKeyId) as string | undefined,
      context: (input.EncryptionContext ?? input.SourceEncryptionContext) as Record<string, string> | undefined,
      input,
      region: '',
      connection: this.#sockets.get(request.socket) ?? this.connections,
      headers: request.headers,
      at: performance.now(),
      outcome: '',
    };
  }

  #nextFailure(operation: string): FailureKind | NamedFailure | undefined {
    const failure = this.#failures.find((each) => each.operation === undefined || each.operation === operation);
    if (failure === undefined) {
      return undefined;
    }
    failure.left--;
    if (failure.left <= 0) {
      this.#failures.splice(this.#failures.indexOf(failure), 1);
    }
    return failure.kind;
  }

  #perform({ operation, input, region }: KmsRequest, request: IncomingMessage): object {
    if (request.method !== 'POST' || request.url !== '/') {
      throw new KmsFault('UnknownOperationException', null, 404);
    }
    if (request.headers['content-type'] !== 'application/x-amz-json-1.1') {
      throw new KmsFault('SerializationException', 'the content type is not application/x-amz-json-1.1');
    }
    switch (operation) {
      case 'DescribeKey': {
        const key = this.#permitted(region, operation, input.KeyId);
        return { KeyMetadata: this.#keys.metadata(key) };
      }
      case 'Encrypt': {
        checkAlgorithm(input.EncryptionAlgorithm);
        const key = this.#permitted(region, operation, input.KeyId);
        const ciphertext = this.#keys.encrypt(key, bytesOf(input, 'Plaintext'), contextOf(input.EncryptionContext));
        return {
          CiphertextBlob: ciphertext.toString('base64'),
          EncryptionAlgorithm: 'SYMMETRIC_DEFAULT',
          KeyId: key.arn,
        };
      }
      case 'GenerateDataKey': {
        const key = this.#permitted(region, operation, input.KeyId);
        if (input.NumberOfBytes !== 32 && input.KeySpec !== 'AES_256') {
          throw new KmsFault('ValidationException', 'this stand-in makes data keys of 32 bytes');
        }
        const plaintext = randomBytes(32);
        const ciphertext = this.#keys.encrypt(key, plaintext, contextOf(input.EncryptionContext));
        return {
          CiphertextBlob: ciphertext.toString('base64'),
          KeyId: key.arn,
          KeyMaterialId: key.materials[0]!.id,
          Plaintext: plaintext.toString('base64'),
        };
      }
      case 'Decrypt': {
        checkAlgorithm(input.EncryptionAlgorithm);
        const { key, materialId, plaintext } = this.#opened(operation, region, input, 'KeyId', 'EncryptionContext');
        return {
          EncryptionAlgorithm: 'SYMMETRIC_DEFAULT',
          KeyId: key.arn,
          KeyMaterialId: materialId,
          Plaintext: plaintext.toString('base64'),
        };
      }
      case 'ReEncrypt': {
        const source = this.#opened(operation, region, input, 'SourceKeyId', 'SourceEncryptionContext');
        const key = this.#permitted(region, operation, input.DestinationKeyId);
        const context = contextOf(input.DestinationEncryptionContext);
        return {
          CiphertextBlob: this.#keys.encrypt(key, source.plaintext, context).toString('base64'),
          DestinationEncryptionAlgorithm: 'SYMMETRIC_DEFAULT',
          DestinationKeyMaterialId: key.materials[0]!.id,
          KeyId: key.arn,
          SourceEncryptionAlgorithm: 'SYMMETRIC_DEFAULT',
          SourceKeyId: source.key.arn,
          SourceKeyMaterialId: source.materialId,
        };
      }
      default:
        throw new KmsFault('UnknownOperationException', null);
    }
  }

  #opened(
    operation: Operation,
    region: string,
    input: KmsRequest['input'],
    keyField: string,
    contextField: string,
  ): ReturnType<KeySpace['decrypt']> {
    const ciphertext = bytesOf(input, 'CiphertextBlob');
    const opened = this.#keys.decrypt(region, ciphertext, contextOf(input[contextField]), input[keyField]);
    this.#permitted(region, operation, opened.key.arn);
    return opened;
  }

  #permitted(region: string, operation: Operation, keyId: unknown): KmsKey {
    const key = this.#keys.resolve(region, keyId);
    if (this.#denied.has(denial(operation)) || this.#denied.has(denial(operation, key))) {
      throw new KmsFault('AccessDeniedException', `User is not authorized to perform: kms:${operation} on ${key.arn}`);
    }
    return key;
  }

  async #send(response: ServerResponse, output: object, failure: FailureKind | undefined): Promise<void> {
    const text = JSON.stringify(output);
    switch (failure) {
      case undefined:
        return reply(response, 200, text);
      case 'unavailable':
        return reply(response, 503, '');
      case 'bad-json':
        return reply(response, 200, text.slice(0, -2));
      case 'html':
        response.setHeader('content-type', 'text/html');
        return reply(response, 403, '<html><body>blocked</body></html>');
      case 'redirect':
        response.setHeader('location', this.redirectTo);
        return reply(response, 307, '');
      case 'other-key': {
        const arn = `arn:aws:kms:${this.region}:111122223333:key/${randomUUID()}`;
        const metadata =
          'KeyMetadata' in output ? { KeyMetadata: { ...(output.KeyMetadata as object), Arn: arn } } : {};
        const named = { ...output, KeyId: arn, ...metadata };
        return reply(response, 200, JSON.stringify(named));
      }
      case 'hang':
        return;
      case 'reset':
        response.socket?.resetAndDestroy();
        return;
      case 'half-close':
        response.writeHead(200, { 'content-length': Buffer.byteLength(text) });
        response.write(text.slice(0, text.length / 2));
        response.socket?.end();
        return;
      case 'trickle':
        response.writeHead(200, { 'content-type': 'application/x-amz-json-1.1' });
        while (!response.destroyed) {
          response.write(' ');
          await sleep(20, undefined, { signal: this.#stopping.signal });
        }
        return;
      default:
        throw new Error(`no such failure: ${failure}`);
    }
  }
}

function denial(operation: Operation, key?: KmsKey): string {
  return key === undefined ? operation : `${operation} ${key.arn}`;
}

function checkAlgorithm(algorithm: unknown): void {
  if (algorithm !== undefined && algorithm !== 'SYMMETRIC_DEFAULT') {
    throw new KmsFault('InvalidKeyUsageException', 'the algorithm does not fit the key');
  }
}

function bytesOf(input: KmsRequest['input'], field: string): Buffer {
  const text = input[field];
  if (typeof text !== 'string') {
    throw new KmsFault(
      'ValidationException',
      `Value null at '${field}' failed to satisfy constraint: must not be null`,
    );
  }
  const bytes = Buffer.from(text, 'base64');
  if (bytes.toString('base64') !== text) {
    throw new KmsFault('SerializationException', `${field} is not base64`);
  }
  return bytes;
}

function reply(response: ServerResponse, status: number, body: string): void {
  if (!response.hasHeader('content-type')) {
    response.setHeader('content-type', 'application/x-amz-json-1.1');
  }
  response.setHeader('x-amzn-requestid', randomUUID());
  response.writeHead(status, { 'content-length': Buffer.byteLength(body) });
  response.end(body);
}
