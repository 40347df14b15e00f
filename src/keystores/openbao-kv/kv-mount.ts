import { randomUUID } from 'node:crypto';
import type { KvSettings } from '../../config/config.ts';
import { DekdError } from '../../errors.ts';
import type { VaultClient, VaultMethod, VaultRequestOptions, VaultResponse } from '../../vault/client.ts';
import { VaultError } from '../../vault/vault-error.ts';

/** The newest version of one path. */
export interface KvRead {
  /** What was written; undefined when there is nothing, or when somebody deleted it. */
  readonly data: Readonly<Record<string, unknown>> | undefined;
  /** What the next write must name; 0 for a path never written. */
  readonly version: number;
}

export interface KvNames {
  /** In order. */
  readonly names: readonly string[];
  /** After which there may be more; undefined at the end. */
  readonly next: string | undefined;
}

/** Capabilities that each kind of path needs, as a policy writes them. */
const CAPABILITIES = {
  data: 'create, read, update',
  metadata: 'list, delete',
  destroy: 'update',
} as const;

/** Names that are ours; somebody else's need not be fit for a path. */
const NAME = /^[0-9a-z-]+$/;

type Verb = keyof typeof CAPABILITIES;

/**
 * One prefix in a key-value engine, version 2: the few of its calls that a keystore needs. Paths here are below the prefix,
 * made of segments of letters, digits and dashes.
 *
 * Throws DekdError with KEYSTORE_UNAVAILABLE and the remedy, and nothing else.
 */
export class KvMount {
  readonly #client: VaultClient;
  readonly #settings: KvSettings;
  /** When the engine said that what it just stored will be deleted. */
  #expiry: string | undefined;

  constructor(client: VaultClient, settings: KvSettings) {
    this.#client = client;
    this.#settings = settings;
  }

  /** Where it is, for messages. */
  get place(): string {
    return `${this.#settings.mount}/${this.#settings.prefix}`;
  }

  /** Why what is written here does not stay; undefined when it does. */
  get expiry(): string | undefined {
    return this.#expiry;
  }

  read(path: string): Promise<KvRead> {
    return this.#read(path, undefined);
  }

  /**
   * Writes when `cas` is the version there is. Each write carries a name of its own, by which one whose answer was lost is
   * recognised.
   * @returns the new version; undefined when it was not the version expected, and nothing was written
   */
  async write(path: string, data: Readonly<Record<string, unknown>>, cas: number): Promise<number | undefined> {
    const write = randomUUID();
    const body = { data: { ...data, write }, options: { cas } };
    let response: VaultResponse;
    try {
      // Once: a second time would meet the first one's version, and be taken for lost to somebody else.
      response = await this.#request('POST', 'data', path, body, { once: true });
    } catch (error) {
      const cause = DekdError.is(error) ? error.cause : undefined;
      if (VaultError.is(cause, 'BAD_REQUEST')) {
        // It has several meanings and their texts are no contract: the version that is there now tells.
        if ((await this.read(path)).version !== cas) {
          return undefined;
        }
      } else if (VaultError.is(cause, 'UNAVAILABLE') && cause.ambiguous) {
        const made = await this.#read(path, cas + 1).catch(() => undefined);
        if (made?.data !== undefined) {
          return made.data.write === write ? made.version : undefined;
        }
      }
      throw error;
    }
    const metadata = objectOf(objectOf(response.data).data);
    if (typeof metadata.version !== 'number') {
      // Version 1 takes any path and answers with nothing: what it was given lies where it does not belong.
      await this.#request('DELETE', 'data', path).catch(() => undefined);
      throw new DekdError(
        'KEYSTORE_UNAVAILABLE',
        `mount ${this.#settings.mount} is a key-value engine of version 1, which has no check-and-set: enable one of ` +
          'version 2 and name it in kv.mount',
      );
    }
    this.#noteExpiry(metadata);
    return metadata.version;
  }

  /** Names in `folder` after `after`; about `limit`, or all where the server knows no pages. */
  async list(folder: string, after: string, limit: number): Promise<KvNames> {
    const query = { limit: String(limit), ...(after === '' ? {} : { after }) };
    const { status, data } = await this.#request('LIST', 'metadata', folder, undefined, { accept: [404], query });
    if (status === 404) {
      this.#checkMounted(data);
    }
    const keys = status === 404 ? [] : objectOf(objectOf(data).data).keys;
    const all = (Array.isArray(keys) ? keys : []).filter((key): key is string => typeof key === 'string');
    const fresh = all.filter((name) => name > after).sort();
    // A server that knows no pages gives everything each time, so a full page alone does not say that there is more.
    return { names: fresh.filter((name) => NAME.test(name)), next: all.length === limit ? fresh.at(-1) : undefined };
  }

  /** Deletes for good what the versions 1 to `last` of `path` held. */
  async destroy(path: string, last: number): Promise<void> {
    const versions = Array.from({ length: last }, (_, index) => index + 1);
    await this.#request('POST', 'destroy', path, { versions });
  }

  /** Deletes `path` with all its versions. There is no check-and-set: only for what nobody writes any more. */
  async remove(path: string): Promise<void> {
    await this.#request('DELETE', 'metadata', path);
  }

  async #read(path: string, wanted: number | undefined): Promise<KvRead> {
    const query = wanted === undefined ? {} : { version: String(wanted) };
    const { status, data } = await this.#request('GET', 'data', path, undefined, { accept: [404], query });
    if (status === 404) {
      this.#checkMounted(data);
    }
    const answer = objectOf(objectOf(data).data);
    const metadata = objectOf(answer.metadata);
    // A deleted or destroyed newest version is a 404 too, with a body that has its number.
    const version = typeof metadata.version === 'number' ? metadata.version : 0;
    if (status === 404) {
      return { data: undefined, version };
    }
    this.#noteExpiry(metadata);
    return { data: objectOf(answer.data), version };
  }

  /** @throws when a 404 gives a reason: nothing being there has none, no engine being there has. */
  #checkMounted(body: unknown): void {
    const { errors } = objectOf(body);
    if (Array.isArray(errors) && errors.length > 0) {
      throw new DekdError('KEYSTORE_UNAVAILABLE', this.#noEngine());
    }
  }

  #noEngine(): string {
    const { mount } = this.#settings;
    return `keystore openbao-kv finds no key-value engine of version 2 at mount ${mount}: name it in kv.mount`;
  }

  async #request(
    method: VaultMethod,
    verb: Verb,
    path: string,
    body?: unknown,
    options?: VaultRequestOptions,
  ): Promise<VaultResponse> {
    const { mount, prefix } = this.#settings;
    try {
      return await this.#client.request(method, `${mount}/${verb}/${prefix}/${path}`, body, options);
    } catch (error) {
      throw this.#translate(error, method, verb);
    }
  }

  #translate(error: unknown, method: VaultMethod, verb: Verb): unknown {
    if (!(error instanceof VaultError)) {
      return error;
    }
    const { mount, prefix } = this.#settings;
    const message = () => {
      switch (error.code) {
        case 'FORBIDDEN':
          return (
            `keystore openbao-kv may not ${method} below ${mount}/${verb}/${prefix}: its policy needs ` +
            `path "${mount}/${verb}/${prefix}/*" with the capabilities ${CAPABILITIES[verb]}`
          );
        case 'NOT_FOUND':
        case 'UNSUPPORTED':
          return this.#noEngine();
        case 'TOO_LARGE':
          return `keystore openbao-kv was given a row that is larger than an entry of ${mount} may be`;
        default:
          return `keystore openbao-kv: ${error.message}`;
      }
    };
    const { retryAfterMs } = error;
    return new DekdError('KEYSTORE_UNAVAILABLE', message(), {
      cause: error,
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    });
  }

  #noteExpiry({ deletion_time: time }: Readonly<Record<string, unknown>>): void {
    if (typeof time === 'string' && time !== '') {
      this.#expiry =
        `mount ${this.#settings.mount} deletes what it holds after a time: set delete_version_after of the mount to 0s, ` +
        'and write its keys anew (dekd keys export, dekd keys import)';
    }
  }
}

function objectOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}
