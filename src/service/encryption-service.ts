import { joined } from '../bytes.ts';
import {
  type CallOptions,
  type DekdClient,
  DekdError,
  type Encrypted,
  type EncryptionContext,
  type FieldPath,
  type KeyDescription,
} from '../client/index.ts';
import { type Environment, serviceSettings } from './environment.ts';
import { bytesOf, checkAlgorithm, digestOf, type HashAlgorithm, isDigestOf, KEYED } from './hashes.ts';
import { textsAt } from './object-tokens.ts';
import { ReencryptionOnAccess } from './re-encryption.ts';
import { type ClientHold, holdShared, retire } from './shared-clients.ts';
import type {
  AnyObjectOptions,
  Capability,
  LargeDataDecryptOptions,
  LargeDataOptions,
  ObjectOptions,
  OnAccessOptions,
  Provider,
  ServiceCallOptions,
  ServiceDecryptOptions,
  ServiceOptions,
  SetProviderOptions,
} from './types.ts';

/** Key, partition and context of a call, and what belongs to the call alone. */
interface Bound {
  readonly key: string;
  readonly partition: string;
  readonly context: EncryptionContext;
  readonly signal: AbortSignal | undefined;
  readonly timeoutMs: number | undefined;
}

type Row = Record<string, unknown>;

/** Of a `Fields` whose paths are known at run time only. */
interface AnyFields {
  encrypt(row: unknown, options: CallOptions): Promise<Row>;
  decrypt(row: unknown, options: CallOptions): Promise<Row>;
}

/**
 * Encryption for an application, under one object: values, large data, objects by field, hashes, and the root that new values go
 * under, which can be changed while it runs.
 *
 * Nothing is kept here but a connection, which services of the same settings share. Every operation rejects with DekdError, with
 * SERVICE_DISABLED for all of them where the service is disabled, and with UNSUPPORTED, naming the operation, for what the agent
 * or the provider of a key cannot do. Byte arguments must not change until the call settles.
 */
export class EncryptionService implements AsyncDisposable {
  readonly #options: ServiceOptions;
  readonly #onAccess: ReencryptionOnAccess;
  #hold: ClientHold | undefined;
  #root: string | undefined;
  #switches = 0;
  #isClosed = false;

  /** Nothing is connected before the first call. @throws INVALID_ARGUMENT */
  constructor(options: ServiceOptions) {
    if (typeof options?.key !== 'string' || options.key === '') {
      throw new DekdError('INVALID_ARGUMENT', 'key is a name, not empty');
    }
    this.#options = { ...options };
    this.#root = checkRoot(options.root);
    this.#onAccess = new ReencryptionOnAccess(options.onReencryptFailed);
  }

  /**
   * A service as variables say: `DEKD_KEY`, `DEKD_PARTITION`, `DEKD_SOCKET`, `ENCRYPTION_ROOT`, `ENCRYPTION_ENABLED`.
   * @param env default: those of the process
   * @param more what variables cannot say
   * @throws INVALID_ARGUMENT naming the variable and what it may be
   */
  static fromEnvironment(
    env: Environment = process.env,
    more: Partial<Pick<ServiceOptions, 'context' | 'client' | 'onReencryptFailed'>> = {},
  ): EncryptionService {
    const { client, ...rest } = more;
    const settings = { ...serviceSettings(env), ...rest };
    return new EncryptionService(client === undefined ? settings : { ...settings, client, connection: undefined });
  }

  get isEnabled(): boolean {
    return this.#options.enabled !== false;
  }

  /** Name of the root that new values go under; undefined where the agent says it. */
  get provider(): string | undefined {
    return this.#root;
  }

  // ── values ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** A text becomes a text token, `dk1.…`; bytes become a token of bytes. */
  encrypt(data: string, options?: ServiceCallOptions): Promise<string>;
  encrypt(data: Uint8Array, options?: ServiceCallOptions): Promise<Uint8Array>;
  encrypt(data: string | Uint8Array, options: ServiceCallOptions = {}): Promise<string | Uint8Array> {
    return this.#run<string | Uint8Array>('encrypt', (client) => {
      const sealing = { ...this.#bound(options), root: this.#root };
      return typeof data === 'string' ? client.encryptText(data, sealing) : client.encrypt(data, sealing);
    });
  }

  /**
   * The reverse, whichever version and root the token is of. With `onReencrypted`, a token that is not under the version which
   * encrypts now, under the root of this service, is made anew and given to that callback before this resolves.
   */
  decrypt(token: string, options?: ServiceDecryptOptions<string>): Promise<string>;
  decrypt(token: Uint8Array, options?: ServiceDecryptOptions<Uint8Array>): Promise<Uint8Array>;
  decrypt(
    token: string | Uint8Array,
    options: ServiceDecryptOptions<string> | ServiceDecryptOptions<Uint8Array> = {},
  ): Promise<string | Uint8Array> {
    return this.#run('decrypt', async (client) => {
      const bound = this.#bound(options);
      const root = this.#root;
      const plain = await (typeof token === 'string' ? client.decryptText(token, bound) : client.decrypt(token, bound));
      await this.#onAccess.run<string | Uint8Array>(
        {
          operation: 'decrypt',
          place: { kind: 'token', ...placeOf(bound), root },
          stored: token,
          make: () => this.#reencrypted(client, token, bound, root),
          ciphertexts: (stored) => [stored],
        },
        options as OnAccessOptions<string | Uint8Array>,
      );
      return plain;
    });
  }

  /** Moves a token to the version that encrypts now, under the root of this service; the plaintext stays in the agent. */
  reencrypt(token: string, options?: ServiceCallOptions): Promise<string>;
  reencrypt(token: Uint8Array, options?: ServiceCallOptions): Promise<Uint8Array>;
  reencrypt(token: string | Uint8Array, options: ServiceCallOptions = {}): Promise<string | Uint8Array> {
    return this.#run('reencrypt', (client) => this.#reencrypted(client, token, this.#bound(options), this.#root));
  }

  // ── large data ──────────────────────────────────────────────────────────────────────────────────────────────────

  /** Bytes, or what JSON can carry, of any size, as one message: see `DekdClient.encryptLarge`. */
  encryptLargeData(data: unknown, options: LargeDataOptions = {}): Promise<Uint8Array> {
    return this.#runLarge('encryptLargeData', options, (client) => {
      const { compression } = options;
      return client.encryptLarge(data, { ...this.#bound(options), root: this.#root, compression });
    });
  }

  /** The value that `encryptLargeData` was given. */
  decryptLargeData<T = unknown>(message: Uint8Array, options: LargeDataDecryptOptions = {}): Promise<T> {
    return this.#runLarge('decryptLargeData', options, async (client) => {
      const { maxOutput } = options;
      const bound = this.#bound(options);
      const root = this.#root;
      const value = await client.decryptLarge<T>(message, { ...bound, maxOutput });
      await this.#onAccess.run(
        {
          operation: 'decryptLargeData',
          place: { kind: 'message', ...placeOf(bound), root },
          stored: message,
          make: () => reencryptedMessage(client, message, bound, root),
          ciphertexts: (stored) => [stored],
        },
        options,
      );
      return value;
    });
  }

  /** Makes of a message a new one with the same value, as `reencrypt` does of a token. */
  reencryptLargeData(message: Uint8Array, options: ServiceCallOptions = {}): Promise<Uint8Array> {
    return this.#runLarge('reencryptLargeData', options, (client) =>
      reencryptedMessage(client, message, this.#bound(options), this.#root),
    );
  }

  // ── objects ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * A copy of the object with the values at the listed paths encrypted, each bound to its path and to the context, which has to
   * say whose object it is: without an id there, the same field of two objects can be exchanged.
   * For many objects at once, and for types that know what is encrypted, there is `DekdClient.fields`.
   */
  encryptObject<T extends object, const P extends FieldPath<T>>(
    object: T,
    fields: readonly P[],
    options?: ObjectOptions<T, P>,
  ): Promise<Encrypted<T, P>>;
  encryptObject(object: object, fields: readonly string[], options?: AnyObjectOptions): Promise<Row>;
  encryptObject(object: object, fields: readonly string[], options: AnyObjectOptions = {}): Promise<unknown> {
    return this.#run('encryptObject', (client) => {
      const bound = this.#bound(options);
      return this.#fields(client, fields, bound, options, this.#root).encrypt(object, callOf(bound));
    });
  }

  /** The reverse: values come back as what they were. `onReencrypted` is given the whole object. */
  decryptObject<T extends object, const P extends FieldPath<T>>(
    object: Encrypted<T, P>,
    fields: readonly P[],
    options?: ObjectOptions<T, P> & OnAccessOptions<Encrypted<T, P>>,
  ): Promise<T>;
  decryptObject<T extends object = Row>(
    object: object,
    fields: readonly string[],
    options?: AnyObjectOptions & OnAccessOptions<Row>,
  ): Promise<T>;
  decryptObject(
    object: object,
    fields: readonly string[],
    options: AnyObjectOptions & OnAccessOptions<never> = {},
  ): Promise<unknown> {
    return this.#run('decryptObject', async (client) => {
      const bound = this.#bound(options);
      const root = this.#root;
      const plain = await this.#fields(client, fields, bound, options, root).decrypt(object, callOf(bound));
      await this.#onAccess.run(
        {
          operation: 'decryptObject',
          place: { kind: 'token', ...placeOf(bound), root },
          stored: object as Row,
          make: () => this.#fields(client, fields, bound, options, root).encrypt(plain, callOf(bound)),
          ciphertexts: (stored) => textsAt(stored, fields),
        },
        options as OnAccessOptions<Row>,
      );
      return plain;
    });
  }

  // ── hashes ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * A hash of a text (its UTF-8) or of bytes. `hmac-sha-256`, unless told otherwise, is made by the agent under a key that never
   * leaves it, and bound to key, partition and context: text, `dm1.…`, which names the version of the key. The others are checksums,
   * lower hex: anybody who guesses the value can compute them, so they are for finding out whether bytes changed by accident,
   * and never for passwords, identifiers or anything else that can be guessed.
   */
  generateHash(
    value: string | Uint8Array,
    algorithm: HashAlgorithm = KEYED,
    options: ServiceCallOptions = {},
  ): Promise<string> {
    return this.#run('generateHash', async (client) => {
      const chosen = checkAlgorithm(algorithm, 'generateHash');
      const bytes = bytesOf(value);
      if (chosen !== KEYED) {
        return digestOf(chosen, bytes);
      }
      return client.hmacText(bytes, this.#bound(options));
    });
  }

  /** Whether `hash` is that of the value; compared in constant time. What is no hash of that algorithm at all is not equal. */
  verifyHash(
    value: string | Uint8Array,
    hash: string,
    algorithm: HashAlgorithm = KEYED,
    options: ServiceCallOptions = {},
  ): Promise<boolean> {
    return this.#run('verifyHash', async (client) => {
      const chosen = checkAlgorithm(algorithm, 'verifyHash');
      if (typeof hash !== 'string') {
        throw new DekdError('INVALID_ARGUMENT', `the hash is a text, not ${hash === null ? 'null' : typeof hash}`);
      }
      const bytes = bytesOf(value);
      if (chosen !== KEYED) {
        return isDigestOf(chosen, bytes, hash);
      }
      return client.verifyHmac(bytes, hash, this.#bound(options));
    });
  }

  // ── the root ────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The roots that this service may be switched to. */
  providers(options: CallOptions = {}): Promise<readonly Provider[]> {
    return this.#run('providers', (client) => client.roots({ ...callOf(options), ...this.#named() }));
  }

  /**
   * Sends new values under another root, for this service alone and from now on; undefined goes back to what the agent says.
   * Nothing stops meanwhile, and old values open as before. The root is tried out first: where it cannot be reached, nothing is
   * switched. Of two switches at once the one that was asked for later holds.
   * Rejects with PERMISSION_DENIED, listing the roots that may be chosen; with what encrypting rejects with.
   */
  setProvider(name: string | undefined, options: SetProviderOptions = {}): Promise<void> {
    const mine = ++this.#switches;
    return this.#run('setProvider', async (client) => {
      const root = checkRoot(name);
      if (root !== undefined) {
        await this.#checkChoice(client, root, options);
      }
      if (mine === this.#switches) {
        this.#root = root;
      }
    });
  }

  // ── what it is ──────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Whether the service can work, for the start of an application: the agent answers, something is granted on the key, and the
   * root may be chosen. Rejects with what is wrong, and what there is instead.
   */
  check(options: CallOptions = {}): Promise<void> {
    return this.#run('check', async (client) => {
      const { operations, roots } = await client.rights(this.#options.key, { ...callOf(options), ...this.#tenant() });
      if (operations.length === 0) {
        throw new DekdError(
          'PERMISSION_DENIED',
          `check: nothing is granted to this caller on key '${this.#options.key}': it needs a rule in the agent's policy`,
        );
      }
      if (this.#root !== undefined && !roots.includes(this.#root)) {
        throw notChoosable('check', this.#root, this.#options.key, roots);
      }
    });
  }

  /** What this service can do with its key; an operation that is not listed is refused. Empty where it is disabled. */
  async capabilities(options: CallOptions = {}): Promise<readonly Capability[]> {
    if (!this.isEnabled) {
      return [];
    }
    return this.#run('capabilities', async (client) => {
      const { operations, roots, direct } = await client.rights(this.#options.key, {
        ...callOf(options),
        ...this.#tenant(),
      });
      const may = (operation: string): boolean => operations.includes(operation);
      const able: Readonly<Record<Capability, boolean>> = {
        encrypt: may('encrypt'),
        decrypt: may('decrypt'),
        reencrypt: may('reencrypt'),
        encryptLargeData: may('encrypt') && !direct,
        decryptLargeData: may('decrypt') && !direct,
        reencryptLargeData: may('reencrypt') && !direct,
        encryptObject: may('encrypt'),
        decryptObject: may('decrypt'),
        generateHash: may('hmac') && !direct,
        verifyHash: may('verifyHmac') && !direct,
        setProvider: roots.length > 0,
        keyInfo: may('keyInfo'),
      };
      return (Object.keys(able) as Capability[]).filter((name) => able[name]);
    });
  }

  /** Versions of the key, their ids, states and roots, and the context that it requires. */
  keyInfo(options: CallOptions = {}): Promise<KeyDescription> {
    return this.#run('keyInfo', (client) =>
      client.keyInfo(this.#options.key, { ...callOf(options), ...this.#tenant() }),
    );
  }

  /**
   * Connects anew with the next call, and forgets which versions encrypt; calls under way finish. There are no keys here to
   * forget: those are in the agent. Resolves when the connection before is closed, or left to other services that use it.
   */
  async clearCache(): Promise<void> {
    this.#onAccess.clear();
    const hold = this.#hold;
    this.#hold = undefined;
    if (hold !== undefined && this.#options.client === undefined) {
      retire(this.#options.connection ?? {});
      await hold.release();
    }
  }

  /** Waits for calls under way; later ones reject with AGENT_UNAVAILABLE. A client that was given stays open. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const hold = this.#hold;
    this.#hold = undefined;
    await hold?.release();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Runs an operation, unless there are none. What is thrown inside rejects. */
  async #run<T>(operation: string, work: (client: DekdClient) => Promise<T>): Promise<T> {
    if (!this.isEnabled) {
      throw new DekdError('SERVICE_DISABLED', `${operation}: the encryption service is disabled`);
    }
    if (this.#isClosed) {
      throw new DekdError('AGENT_UNAVAILABLE', `${operation}: the encryption service was closed`);
    }
    try {
      return await work(this.#client());
    } catch (error) {
      throw DekdError.is(error, 'UNSUPPORTED') ? named(operation, error) : error;
    }
  }

  /** The same of messages, which keys without data keys have none of. */
  #runLarge<T>(operation: string, options: ServiceCallOptions, work: (client: DekdClient) => Promise<T>): Promise<T> {
    return this.#run(operation, async (client) => {
      try {
        return await work(client);
      } catch (error) {
        if (DekdError.is(error, 'INVALID_ARGUMENT') && (await this.#isDirect(client, options))) {
          throw new DekdError('UNSUPPORTED', error.message, { cause: error });
        }
        throw error;
      }
    });
  }

  async #isDirect(client: DekdClient, options: ServiceCallOptions): Promise<boolean> {
    const { key, partition } = this.#bound(options);
    return client.rights(key, { partition }).then(
      ({ direct }) => direct,
      () => false,
    );
  }

  #client(): DekdClient {
    const { client, connection } = this.#options;
    if (client !== undefined) {
      return client;
    }
    this.#hold ??= holdShared(connection ?? {});
    return this.#hold.client;
  }

  #bound({ key, partition, context, signal, timeoutMs }: ServiceCallOptions): Bound {
    const own = this.#options;
    return {
      key: key ?? own.key,
      partition: partition ?? own.partition ?? '',
      context: { ...own.context, ...context },
      signal,
      timeoutMs,
    };
  }

  #named(): { readonly key: string; readonly partition: string } {
    return { key: this.#options.key, ...this.#tenant() };
  }

  #tenant(): { readonly partition: string } {
    return { partition: this.#options.partition ?? '' };
  }

  #reencrypted(
    client: DekdClient,
    token: string | Uint8Array,
    bound: Bound,
    root: string | undefined,
  ): Promise<string | Uint8Array> {
    const sealing = { ...bound, root };
    return typeof token === 'string' ? client.reencryptText(token, sealing) : client.reencrypt(token, sealing);
  }

  #fields(
    client: DekdClient,
    fields: readonly string[],
    { key, partition, context }: Bound,
    { codecs, nulls, bindPositions }: AnyObjectOptions,
    root: string | undefined,
  ): AnyFields {
    return client.fields<never>()({
      key,
      partition,
      fields: fields as never,
      context: () => context,
      codecs: codecs as never,
      nulls,
      bindPositions,
      root,
    }) as unknown as AnyFields;
  }

  /** @throws PERMISSION_DENIED; what encrypting under the root throws */
  async #checkChoice(client: DekdClient, root: string, { context, ...call }: SetProviderOptions): Promise<void> {
    const { key } = this.#options;
    const { operations, roots } = await client.rights(key, { ...callOf(call), ...this.#tenant() });
    if (!roots.includes(root)) {
      throw notChoosable('setProvider', root, key, roots);
    }
    if (operations.includes('encrypt')) {
      const bound = this.#bound({ ...call, context });
      await client.encrypt(new Uint8Array(0), { ...bound, root }).catch((error: unknown) => {
        // The key was found under the root, and misses a pair that it requires: that is for the calls to give.
        if (!DekdError.is(error, 'INVALID_ARGUMENT')) {
          throw error;
        }
      });
    }
  }
}

function checkRoot(root: unknown): string | undefined {
  if (root !== undefined && (typeof root !== 'string' || root === '')) {
    throw new DekdError('INVALID_ARGUMENT', 'the provider is the name of a root, not empty');
  }
  return root;
}

function callOf({ signal, timeoutMs }: CallOptions): CallOptions {
  return { signal, timeoutMs };
}

function placeOf({ key, partition }: Bound): { readonly key: string; readonly partition: string } {
  return { key, partition };
}

function notChoosable(operation: string, root: string, key: string, roots: readonly string[]): DekdError {
  const instead = roots.length === 0 ? 'it may choose none' : `it may choose ${roots.join(', ')}`;
  return new DekdError(
    'PERMISSION_DENIED',
    `${operation}: this caller may not choose root ${JSON.stringify(root)} for key '${key}': ${instead}`,
  );
}

function named(operation: string, error: DekdError): DekdError {
  if (error.message.startsWith(`${operation}: `)) {
    return error;
  }
  const { incident } = error;
  return new DekdError('UNSUPPORTED', `${operation}: ${error.message}`, {
    cause: error,
    ...(incident === undefined ? {} : { incident }),
  });
}

async function reencryptedMessage(
  client: DekdClient,
  message: Uint8Array,
  bound: Bound,
  root: string | undefined,
): Promise<Uint8Array> {
  const stream = client.reencryptStream({ ...bound, root }) as NodeJS.ReadWriteStream & AsyncIterable<Uint8Array>;
  const made: Uint8Array[] = [];
  stream.end(message);
  for await (const piece of stream) {
    made.push(piece);
  }
  return joined(made);
}
