import { randomBytes, timingSafeEqual } from 'node:crypto';
import { answersTo, isSameMultiRegionKey, parseKeyArn } from './aws-kms/arn.ts';
import { attempted } from './aws-kms/attempts.ts';
import type { KeyDescription, KmsCalls } from './aws-kms/kms-calls.ts';
import {
  abortError,
  type FailedCall,
  isStateRefusal,
  type KmsOperation,
  kmsError,
  stateError,
} from './aws-kms/kms-errors.ts';
import { type AwsKmsSettings, connectionSettings } from './aws-kms/settings.ts';
import { type Lease, lease } from './aws-kms/shared-connections.ts';
import type {
  KeyContext,
  Provider,
  ProviderCapabilities,
  ProviderDescription,
  ProviderHealth,
  RootReference,
  WrappedSecret,
} from './provider.ts';
import { ProviderError } from './provider-error.ts';

export type { AwsKmsSettings } from './aws-kms/settings.ts';

/** What Encrypt takes in all: in direct mode the digest of the AAD comes out of it, and leaves 4,064. */
const MAX_PLAINTEXT_BYTES = 4096;
const MAX_CIPHERTEXT_BYTES = 6144;
const PROBE_BYTES = 32;
/** Bound to what a deep health check encrypts, so that it stands out in the trail. */
const PROBE_CONTEXT: KeyContext = { purpose: 'dekd-health' };

/**
 * Opens a root in AWS KMS; nothing is sent yet. Roots with equal settings share their connections.
 * @throws ProviderError CONFIG with the remedy.
 */
export async function openAwsKms(root: string, settings: AwsKmsSettings): Promise<AwsKmsProvider> {
  const connection = connectionSettings(root, settings);
  try {
    return new AwsKmsProvider(root, settings, await lease(connection));
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ERR_MODULE_NOT_FOUND';
    const what = missing
      ? 'the package @aws-sdk/client-kms is not installed'
      : 'no AWS Region: set region, AWS_REGION or a profile that has one';
    throw new ProviderError('CONFIG', `root ${root}: ${what}`, { cause: error });
  }
}

/**
 * A symmetric key in AWS KMS. W is wrapped by Encrypt, with the key context for its encryption context, and unwrapped by
 * Decrypt under the ARN that wrapped it: an alias that points elsewhere today strands nothing.
 *
 * Encrypt does not say which material it used; the reference takes the one that was last seen to be current, which may be
 * older, never newer: at worst a rewrap is one more than needed.
 */
export class AwsKmsProvider implements Provider {
  readonly root: string;
  readonly #settings: AwsKmsSettings;
  readonly #lease: Lease;
  /** The configured key as the service last described it. */
  #seen: { readonly arn: string; readonly materialId: string } | undefined;
  #closed = false;

  constructor(root: string, settings: AwsKmsSettings, lease: Lease) {
    this.root = root;
    this.#settings = settings;
    this.#lease = lease;
  }

  async describe(signal: AbortSignal): Promise<ProviderDescription> {
    const key = await this.#usableKey(signal);
    const warnings: string[] = [];
    if (key.expiresAt !== undefined) {
      warnings.push(
        `the imported material of this KMS key expires at ${key.expiresAt.toISOString()}: ` +
          'import it again before then, or nothing under this root opens any more',
      );
    }
    return { kind: 'aws-kms', resolvedId: key.arn, materialVersion: key.materialId, warnings };
  }

  /** @throws TOO_LARGE, UNSUPPORTED for no bytes at all: the service takes 1 to 4,096. */
  async wrap(secret: Uint8Array, context: KeyContext, signal: AbortSignal): Promise<WrappedSecret> {
    if (secret.length === 0 || secret.length > MAX_PLAINTEXT_BYTES) {
      throw new ProviderError(
        secret.length === 0 ? 'UNSUPPORTED' : 'TOO_LARGE',
        `root ${this.root}: AWS KMS encrypts 1 to ${MAX_PLAINTEXT_BYTES} bytes, not ${secret.length}`,
      );
    }
    const { key } = this.#settings;
    const { ciphertext, keyArn } = await this.#call('Encrypt', key, signal, (calls, deadline) =>
      calls.encrypt({ key, plaintext: secret, context }, deadline),
    );
    this.#checkConfigured(keyArn);
    const materialId = this.#seen?.arn === keyArn ? this.#seen.materialId : '';
    return { wrapped: ciphertext, reference: this.#reference(keyArn, materialId) };
  }

  async unwrap(
    wrapped: Uint8Array,
    reference: RootReference,
    context: KeyContext,
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    this.#checkCiphertext(wrapped);
    const key = await this.#storedKey(reference, signal);
    const { plaintext, keyArn } = await this.#call('Decrypt', key, signal, (calls, deadline) =>
      calls.decrypt({ key, ciphertext: wrapped, context }, deadline),
    );
    if (keyArn !== key) {
      plaintext.fill(0);
      throw this.#wrongKey();
    }
    return plaintext;
  }

  async rewrap(
    wrapped: Uint8Array,
    reference: RootReference,
    context: KeyContext,
    signal: AbortSignal,
  ): Promise<WrappedSecret> {
    this.#checkCiphertext(wrapped);
    const from = await this.#storedKey(reference, signal);
    const to = this.#settings.key;
    const { ciphertext, keyArn, sourceKeyArn, materialId } = await this.#call(
      'ReEncrypt',
      from,
      signal,
      (calls, deadline) => calls.reEncrypt({ from, to, ciphertext: wrapped, context }, deadline),
    );
    if (sourceKeyArn !== from) {
      throw this.#wrongKey();
    }
    this.#checkConfigured(keyArn);
    this.#seen = { arn: keyArn, materialId };
    return { wrapped: ciphertext, reference: this.#reference(keyArn, materialId) };
  }

  /** Direct mode is the same call on other bytes. */
  encrypt(plaintext: Uint8Array, context: KeyContext, signal: AbortSignal): Promise<WrappedSecret> {
    return this.wrap(plaintext, context, signal);
  }

  decrypt(
    ciphertext: Uint8Array,
    reference: RootReference,
    context: KeyContext,
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    return this.unwrap(ciphertext, reference, context, signal);
  }

  /**
   * `cheap` is one DescribeKey, which costs nothing and has a quota of its own; `deep` encrypts and decrypts random bytes.
   * What fails is told in the result; only CANCELLED is thrown.
   */
  async health(depth: 'cheap' | 'deep', signal: AbortSignal): Promise<ProviderHealth> {
    try {
      const key = await this.#usableKey(signal);
      if (depth === 'deep') {
        await this.#proveRoundTrip(signal);
      }
      return { ok: true, detail: summary(key) };
    } catch (error) {
      if (!(error instanceof ProviderError) || error.code === 'CANCELLED') {
        throw error;
      }
      return { ok: false, detail: `${error.code}: ${error.message}`, code: error.code };
    }
  }

  capabilities(): ProviderCapabilities {
    return { nativeContext: true, serverRewrap: true, directLimit: MAX_PLAINTEXT_BYTES, versioned: true };
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#lease.release();
  }

  /** Describes the configured key and remembers what it is. @throws CONFIG for a key of another kind, or by its state. */
  async #usableKey(signal: AbortSignal): Promise<KeyDescription> {
    const key = await this.#describeKey(this.#settings.key, signal);
    this.#checkConfigured(key.arn);
    if (key.usage !== 'ENCRYPT_DECRYPT' || key.spec !== 'SYMMETRIC_DEFAULT') {
      throw new ProviderError(
        'CONFIG',
        `root ${this.root}: the KMS key is ${key.spec} for ${key.usage}: a root is a symmetric key for encryption ` +
          '(SYMMETRIC_DEFAULT, ENCRYPT_DECRYPT)',
      );
    }
    const unusable = stateError(key.state, this.#failed('DescribeKey'));
    if (unusable !== undefined) {
      throw unusable;
    }
    this.#seen = key;
    return key;
  }

  #describeKey(key: string, signal: AbortSignal): Promise<KeyDescription> {
    return this.#call('DescribeKey', key, signal, (calls, deadline) => calls.describeKey(key, deadline));
  }

  /**
   * The ARN to unwrap with: the stored one. A multi-Region key that another Region wrapped with is asked for by the name
   * it has here, when the configured key is its replica.
   */
  async #storedKey({ resolvedId }: RootReference, signal: AbortSignal): Promise<string> {
    const stored = parseKeyArn(resolvedId);
    if (stored === undefined) {
      throw this.#wrongKey();
    }
    const { region } = this.#lease.calls;
    if (stored.region === region) {
      return resolvedId;
    }
    if (this.#seen === undefined) {
      await this.#usableKey(signal);
    }
    const { arn } = this.#seen!;
    if (isSameMultiRegionKey(resolvedId, arn)) {
      return arn;
    }
    throw new ProviderError(
      'KEY_NOT_FOUND',
      `root ${this.root}: what is to be unwrapped is of a key in ${stored.region}, and this root speaks to ${region}: ` +
        'add a root for that Region',
    );
  }

  async #proveRoundTrip(signal: AbortSignal): Promise<void> {
    const probe = randomBytes(PROBE_BYTES);
    let opened: Uint8Array | undefined;
    try {
      const { wrapped, reference } = await this.wrap(probe, PROBE_CONTEXT, signal);
      opened = await this.unwrap(wrapped, reference, PROBE_CONTEXT, signal);
      if (opened.length !== probe.length || !timingSafeEqual(opened, probe)) {
        throw new ProviderError('CORRUPT', `root ${this.root}: AWS KMS decrypted to something else than it encrypted`);
      }
    } finally {
      probe.fill(0);
      opened?.fill(0);
    }
  }

  /** One call about `key`, with its deadline, retries and errors. */
  #call<T>(
    operation: KmsOperation,
    key: string,
    signal: AbortSignal,
    request: (calls: KmsCalls, deadline: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const { calls } = this.#lease;
    const failed = this.#failed(operation);
    const { retries, timeout } = this.#settings;
    return withDeadline(signal, timeout, (deadline) => {
      const attempt = async () => {
        try {
          deadline.throwIfAborted();
          this.#checkOpen();
          return await request(calls, deadline);
        } catch (error) {
          throw deadline.aborted ? abortError(deadline.reason, failed) : kmsError(error, failed);
        }
      };
      const renewCredentials = () => calls.renewCredentials(deadline).catch(() => false);
      const endsAt = performance.now() + timeout;
      return attempted({ retries, signal: deadline, endsAt, renewCredentials }, attempt).catch(
        async (error: ProviderError) => {
          const ended = abortError(signal.reason, failed);
          if (signal.aborted && ended.code === 'CANCELLED') {
            throw ended;
          }
          throw isStateRefusal(error) ? await this.#stateErrorOf(key, error, failed, deadline) : error;
        },
      );
    });
  }

  /**
   * What lies behind "the state of the key is wrong", for which the service has one name: a key that is to be deleted, or a
   * key store that is disconnected, which is no refusal. Where DescribeKey does not tell, the refusal stands.
   */
  async #stateErrorOf(
    key: string,
    refusal: ProviderError,
    failed: FailedCall,
    deadline: AbortSignal,
  ): Promise<ProviderError> {
    try {
      const { state } = await this.#lease.calls.describeKey(key, deadline);
      return stateError(state, failed) ?? refusal;
    } catch {
      return refusal;
    }
  }

  #checkOpen(): void {
    if (this.#closed) {
      throw new ProviderError('UNAVAILABLE', `root ${this.root} is closed`);
    }
  }

  /** @throws WRONG_KEY when the service answers in the name of a key that nobody asked for. */
  #checkConfigured(keyArn: string): void {
    const arn = parseKeyArn(keyArn);
    if (arn === undefined || arn.region !== this.#lease.calls.region || !answersTo(this.#settings.key, arn)) {
      throw this.#wrongKey();
    }
  }

  /** What cannot be a ciphertext is not sent. */
  #checkCiphertext(ciphertext: Uint8Array): void {
    if (ciphertext.length === 0 || ciphertext.length > MAX_CIPHERTEXT_BYTES) {
      throw new ProviderError(
        'CORRUPT',
        `root ${this.root}: a ciphertext of AWS KMS has 1 to ${MAX_CIPHERTEXT_BYTES} bytes, not ${ciphertext.length}`,
      );
    }
  }

  #wrongKey(): ProviderError {
    return new ProviderError('WRONG_KEY', `root ${this.root}: this is not of the KMS key that was asked for`);
  }

  #reference(resolvedId: string, materialVersion: string): RootReference {
    return { root: this.root, resolvedId, materialVersion };
  }

  #failed(operation: KmsOperation): FailedCall {
    return { root: this.root, operation, region: this.#lease.calls.region };
  }
}

/** Algorithm, state, origin and age of a key, for people. */
function summary({ state, origin, createdAt }: KeyDescription): string {
  const age = createdAt === undefined ? '' : `, made ${createdAt.toISOString().slice(0, 10)}`;
  return `aes-256-gcm, ${state}, origin ${origin}${age}`;
}

/** Runs `work` under a signal that ends with `signal`, or with a TimeoutError after `ms`. Leaves no timer behind. */
async function withDeadline<T>(
  signal: AbortSignal,
  ms: number,
  work: (deadline: AbortSignal) => Promise<T>,
): Promise<T> {
  const deadline = new AbortController();
  const cancel = () => deadline.abort(signal.reason);
  const timer = setTimeout(() => deadline.abort(new DOMException('time is up', 'TimeoutError')), ms);
  if (signal.aborted) {
    cancel();
  }
  signal.addEventListener('abort', cancel, { once: true });
  try {
    return await work(deadline.signal);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', cancel);
  }
}
