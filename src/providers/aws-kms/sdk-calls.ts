import type { KMSClient } from '@aws-sdk/client-kms';
import { currentTraceparent } from '../../trace.ts';
import type { KeyContext } from '../provider.ts';
import {
  type DecryptInput,
  type EncryptInput,
  InsecureEndpoint,
  type KeyDescription,
  type KmsCalls,
  MalformedReply,
  type ReEncryptInput,
} from './kms-calls.ts';
import { type ConnectionSettings, isConfidential } from './settings.ts';

type Sdk = typeof import('@aws-sdk/client-kms');

const SILENT = { trace() {}, debug() {}, info() {}, warn() {}, error() {} };

/**
 * Opens a client with a pool of its own. The SDK is loaded here and nowhere else; credentials are its standard chain.
 * @throws the SDK's own error when there is no Region.
 */
export async function openSdkCalls(settings: ConnectionSettings): Promise<KmsCalls> {
  const sdk = await import('@aws-sdk/client-kms');
  const agent = {
    keepAlive: settings.idleTimeout > 0,
    maxSockets: settings.connections,
    // Also what Node closes an unused connection after; it says nothing of one in use.
    ...(settings.idleTimeout > 0 && { timeout: settings.idleTimeout }),
  };
  const client = new sdk.KMSClient({
    ...(settings.region !== undefined && { region: settings.region }),
    ...(settings.endpoint !== undefined && { endpoint: settings.endpoint }),
    ...(settings.fips && { useFipsEndpoint: true }),
    // Retries are the provider's, inside its deadline: never one loop within another.
    maxAttempts: 1,
    retryMode: 'standard',
    // Options of the handler the SDK brings. Without a logger it writes to the console when the pool is busy.
    requestHandler: { httpAgent: agent, httpsAgent: agent, logger: SILENT },
  });
  client.middlewareStack.add(
    (next) => (args) => {
      const { protocol, hostname } = args.request as { protocol: string; hostname: string };
      if (!isConfidential(`${protocol}//${hostname}`)) {
        throw new InsecureEndpoint('plain http beyond loopback');
      }
      return next(args);
    },
    { step: 'finalizeRequest', name: 'dekdConfidentialEndpoint' },
  );
  client.middlewareStack.add(
    (next) => (args) => {
      const traceparent = currentTraceparent();
      if (traceparent !== undefined) {
        (args.request as { headers: Record<string, string> }).headers.traceparent = traceparent;
      }
      return next(args);
    },
    // Before the request is signed.
    { step: 'build', name: 'dekdTraceparent' },
  );
  return new SdkCalls(sdk, client, await client.config.region());
}

class SdkCalls implements KmsCalls {
  readonly region: string;
  readonly #sdk: Sdk;
  readonly #client: KMSClient;

  constructor(sdk: Sdk, client: KMSClient, region: string) {
    this.region = region;
    this.#sdk = sdk;
    this.#client = client;
  }

  async describeKey(key: string, signal: AbortSignal): Promise<KeyDescription> {
    const command = new this.#sdk.DescribeKeyCommand({ KeyId: key });
    const { KeyMetadata } = await ended(signal, this.#client.send(command, { abortSignal: signal }));
    return {
      arn: present(KeyMetadata?.Arn),
      state: present(KeyMetadata?.KeyState),
      usage: present(KeyMetadata?.KeyUsage),
      spec: present(KeyMetadata?.KeySpec),
      origin: KeyMetadata?.Origin ?? '',
      createdAt: KeyMetadata?.CreationDate,
      expiresAt: KeyMetadata?.ValidTo,
      materialId: KeyMetadata?.CurrentKeyMaterialId ?? '',
    };
  }

  async encrypt({ key, plaintext, context }: EncryptInput, signal: AbortSignal) {
    const command = new this.#sdk.EncryptCommand({ KeyId: key, Plaintext: plaintext, EncryptionContext: map(context) });
    const reply = await ended(signal, this.#client.send(command, { abortSignal: signal }));
    return { ciphertext: own(reply.CiphertextBlob), keyArn: present(reply.KeyId) };
  }

  async decrypt({ key, ciphertext, context }: DecryptInput, signal: AbortSignal) {
    const command = new this.#sdk.DecryptCommand({
      KeyId: key,
      CiphertextBlob: ciphertext,
      EncryptionContext: map(context),
    });
    const sent = this.#client.send(command, { abortSignal: signal });
    const reply = await ended(signal, sent, ({ Plaintext }) => Plaintext?.fill(0));
    try {
      return { plaintext: own(reply.Plaintext), keyArn: present(reply.KeyId) };
    } finally {
      // A view into a pool that Node shares between buffers: the copy above is the only one that leaves.
      reply.Plaintext?.fill(0);
    }
  }

  async reEncrypt({ from, to, ciphertext, context }: ReEncryptInput, signal: AbortSignal) {
    const command = new this.#sdk.ReEncryptCommand({
      SourceKeyId: from,
      DestinationKeyId: to,
      CiphertextBlob: ciphertext,
      SourceEncryptionContext: map(context),
      DestinationEncryptionContext: map(context),
    });
    const reply = await ended(signal, this.#client.send(command, { abortSignal: signal }));
    return {
      ciphertext: own(reply.CiphertextBlob),
      keyArn: present(reply.KeyId),
      sourceKeyArn: present(reply.SourceKeyId),
      materialId: reply.DestinationKeyMaterialId ?? '',
    };
  }

  async renewCredentials(signal: AbortSignal): Promise<boolean> {
    const { credentials } = this.#client.config;
    const before = await ended(signal, credentials());
    const after = await ended(signal, credentials({ forceRefresh: true }));
    return before.accessKeyId !== after.accessKeyId || before.sessionToken !== after.sessionToken;
  }

  close(): void {
    this.#client.destroy();
  }
}

/**
 * What `work` resolves to, or the reason of the abort: the SDK does not look at the signal while it gets credentials or
 * waits for a connection. What comes too late is given to `discard`.
 */
async function ended<T>(signal: AbortSignal, work: Promise<T>, discard?: (late: T) => void): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  const abort = () => {
    work.then(discard, () => {});
    aborted.reject(signal.reason);
  };
  if (signal.aborted) {
    abort();
  }
  signal.addEventListener('abort', abort, { once: true });
  try {
    return await Promise.race([aborted.promise, work]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

/** The service takes an absent context and an empty one for the same; only pairs go over the wire. */
function map(context: KeyContext): Record<string, string> | undefined {
  return Object.keys(context).length === 0 ? undefined : { ...context };
}

function own(bytes: Uint8Array | undefined): Uint8Array {
  if (bytes === undefined) {
    throw new MalformedReply('a field is missing');
  }
  return Uint8Array.from(bytes);
}

function present(text: string | undefined): string {
  if (text === undefined) {
    throw new MalformedReply('a field is missing');
  }
  return text;
}
