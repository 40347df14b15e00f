/**
 * A stand-in for the key-value engine, version 2, of Vault and OpenBao: versions with check-and-set, of which the oldest
 * are really deleted beyond max_versions, soft deletion, destruction, metadata, and listing page by page where the product
 * has it. What it keeps is what `dump` returns, so that a test can look for bytes that must be gone.
 */
import { type Engine, type EngineReply, type EngineRequest, failed, noContent, notFound, ok } from './engine.ts';
import type { Policy } from './policies.ts';

const DEFAULT_MAX_VERSIONS = 10;
/** Of one storage entry: what Consul takes, the smallest of the storage back ends. */
const DEFAULT_MAX_ENTRY_SIZE = 512 * 1024;
const CUSTOM_METADATA = { entries: 64, name: 128, value: 512 };

/** The least that dekd needs of a key-value engine, as docs/keys.md has it. */
export function kvPolicy(mount = 'secret', prefix = 'dekd'): Policy {
  return {
    [`${mount}/data/${prefix}/*`]: ['create', 'read', 'update'],
    [`${mount}/metadata/${prefix}/*`]: ['list', 'delete'],
    [`${mount}/destroy/${prefix}/*`]: ['update'],
  };
}

interface Version {
  /** JSON; undefined once destroyed. */
  data: string | undefined;
  readonly createdAt: number;
  /** Milliseconds since the epoch; past once deleted. */
  deletedAt: number | undefined;
  destroyed: boolean;
}

interface Settings {
  /** 0: what the mount says, and there 10. */
  maxVersions: number;
  casRequired: boolean;
  /** Milliseconds; 0 for never. */
  deleteVersionAfter: number;
}

interface Secret {
  readonly settings: Settings;
  readonly versions: Map<number, Version>;
  readonly createdAt: number;
  updatedAt: number;
  current: number;
  customMetadata: Readonly<Record<string, string>> | null;
}

export interface StandInKvOptions {
  /** `openbao` lists page by page (`after`, `limit`); `vault` always lists all. */
  readonly product?: 'vault' | 'openbao';
  readonly now?: () => number;
  readonly maxEntrySize?: number;
}

export class StandInKv implements Engine {
  readonly settings: Settings = { maxVersions: 0, casRequired: false, deleteVersionAfter: 0 };
  #secrets = new Map<string, Secret>();
  readonly #product: 'vault' | 'openbao';
  readonly #now: () => number;
  readonly #maxEntrySize: number;

  constructor(options: StandInKvOptions = {}) {
    this.#product = options.product ?? 'openbao';
    this.#now = options.now ?? Date.now;
    this.#maxEntrySize = options.maxEntrySize ?? DEFAULT_MAX_ENTRY_SIZE;
  }

  handle(request: EngineRequest): EngineReply {
    const { path, operation, body } = request;
    if (path === 'config') {
      return operation === 'read' ? ok(shownSettings(this.settings)) : this.#configure(body);
    }
    const slash = path.indexOf('/');
    const verb = slash < 0 ? path : path.slice(0, slash);
    const name = slash < 0 ? '' : path.slice(slash + 1);
    switch (`${verb} ${operation}`) {
      case 'data read':
        return this.#read(name, Number(request.query.get('version') ?? 0));
      case 'data create':
      case 'data update':
        return this.#write(name, body);
      case 'data patch':
        return this.#patch(name, body);
      case 'data delete':
        return this.#softDelete(name, undefined);
      case 'delete update':
        return this.#softDelete(name, versionsOf(body));
      case 'undelete update':
        return this.#each(name, versionsOf(body), (version) => {
          version.deletedAt = undefined;
        });
      case 'destroy update':
        return this.#each(name, versionsOf(body), (version) => {
          version.data = undefined;
          version.destroyed = true;
        });
      case 'metadata read':
        return this.#metadata(name);
      case 'metadata create':
      case 'metadata update':
        return this.#setMetadata(name, body);
      case 'metadata delete':
        this.#secrets.delete(name);
        return noContent();
      case 'metadata list':
        return this.#list(name, request.query);
      default:
        return failed(405, 'unsupported operation');
    }
  }

  exists(path: string): boolean {
    const [verb, ...rest] = path.split('/');
    return verb === 'data' || verb === 'metadata' ? this.#secrets.has(rest.join('/')) : true;
  }

  /** Goes back to what `earlier` holds now. */
  restore(earlier: StandInKv): void {
    this.#secrets = structuredClone(earlier.#secrets);
  }

  /** Everything that is stored, as the storage back end would have it. */
  dump(): string {
    return [...this.#secrets]
      .map(([path, secret]) => [path, ...[...secret.versions.values()].map(({ data }) => data ?? '')].join('\n'))
      .join('\n');
  }

  /** Paths with anything stored, in order. */
  paths(): string[] {
    return [...this.#secrets.keys()].sort();
  }

  /** What `path` holds now; undefined when there is nothing. */
  current(path: string): unknown {
    const secret = this.#secrets.get(path);
    const data = secret?.versions.get(secret.current)?.data;
    return data === undefined ? undefined : JSON.parse(data);
  }

  #configure(body: EngineRequest['body']): EngineReply {
    applySettings(this.settings, body);
    return noContent();
  }

  #read(name: string, wanted: number): EngineReply {
    const secret = this.#secrets.get(name);
    const number = wanted === 0 ? (secret?.current ?? 0) : wanted;
    const version = secret?.versions.get(number);
    if (secret === undefined || version === undefined) {
      return notFound();
    }
    const metadata = this.#shownVersion(secret, number, version);
    if (version.destroyed || this.#isDeleted(version)) {
      return { status: 404, body: { data: { data: null, metadata } } };
    }
    return ok({ data: JSON.parse(version.data!), metadata });
  }

  #write(name: string, body: EngineRequest['body']): EngineReply {
    const { data, options } = body as { data?: unknown; options?: { cas?: unknown } };
    if (typeof data !== 'object' || data === null) {
      return failed(400, 'no data provided');
    }
    const refused = this.#checkCas(this.#secrets.get(name), options?.cas);
    return refused ?? this.#put(name, JSON.stringify(data));
  }

  #patch(name: string, body: EngineRequest['body']): EngineReply {
    const { data, options } = body as { data?: object; options?: { cas?: unknown } };
    const secret = this.#secrets.get(name);
    const version = secret?.versions.get(secret.current);
    if (secret === undefined || version?.data === undefined || this.#isDeleted(version)) {
      return notFound();
    }
    const refused = this.#checkCas(secret, options?.cas);
    return refused ?? this.#put(name, JSON.stringify(mergePatch(JSON.parse(version.data), data ?? {})));
  }

  #checkCas(secret: Secret | undefined, cas: unknown): EngineReply | undefined {
    if (cas === undefined) {
      return this.settings.casRequired || secret?.settings.casRequired
        ? failed(400, 'check-and-set parameter required for this call')
        : undefined;
    }
    return cas === (secret?.current ?? 0)
      ? undefined
      : failed(400, 'check-and-set parameter did not match the current version');
  }

  #put(name: string, data: string): EngineReply {
    if (data.length > this.#maxEntrySize) {
      return failed(413, 'put failed due to value being too large');
    }
    const now = this.#now();
    const secret = this.#secretAt(name);
    const deleteAfter = secret.settings.deleteVersionAfter || this.settings.deleteVersionAfter;
    secret.current += 1;
    secret.updatedAt = now;
    const version: Version = {
      data,
      createdAt: now,
      deletedAt: deleteAfter > 0 ? now + deleteAfter : undefined,
      destroyed: false,
    };
    secret.versions.set(secret.current, version);
    const kept = secret.settings.maxVersions || this.settings.maxVersions || DEFAULT_MAX_VERSIONS;
    for (const number of secret.versions.keys()) {
      if (number <= secret.current - kept) {
        secret.versions.delete(number);
      }
    }
    return ok(this.#shownVersion(secret, secret.current, version));
  }

  #softDelete(name: string, versions: readonly number[] | undefined): EngineReply {
    const current = this.#secrets.get(name)?.current;
    return this.#each(name, versions ?? (current === undefined ? [] : [current]), (version) => {
      version.deletedAt ??= this.#now();
    });
  }

  #each(name: string, versions: readonly number[], change: (version: Version) => void): EngineReply {
    if (versions.length === 0 && this.#secrets.has(name)) {
      return failed(400, 'No version number provided');
    }
    for (const number of versions) {
      const version = this.#secrets.get(name)?.versions.get(number);
      if (version !== undefined) {
        change(version);
      }
    }
    return noContent();
  }

  #metadata(name: string): EngineReply {
    const secret = this.#secrets.get(name);
    if (secret === undefined) {
      return notFound();
    }
    const versions = [...secret.versions].map(([number, version]) => {
      const { created_time, deletion_time, destroyed } = this.#shownVersion(secret, number, version);
      return [number, { created_time, deletion_time, destroyed }];
    });
    return ok({
      ...shownSettings(secret.settings),
      created_time: new Date(secret.createdAt).toISOString(),
      updated_time: new Date(secret.updatedAt).toISOString(),
      current_version: secret.current,
      oldest_version: Math.min(...secret.versions.keys(), secret.current),
      custom_metadata: secret.customMetadata,
      versions: Object.fromEntries(versions),
    });
  }

  #setMetadata(name: string, body: EngineRequest['body']): EngineReply {
    const custom = body.custom_metadata as Record<string, unknown> | undefined;
    const entries = Object.entries(custom ?? {});
    const fits = entries.every(
      ([key, value]) =>
        typeof value === 'string' && key.length <= CUSTOM_METADATA.name && value.length <= CUSTOM_METADATA.value,
    );
    if (entries.length > CUSTOM_METADATA.entries || !fits) {
      return failed(400, 'custom_metadata validation failed');
    }
    const secret = this.#secretAt(name);
    applySettings(secret.settings, body);
    if (custom !== undefined) {
      secret.customMetadata = custom as Record<string, string>;
    }
    return noContent();
  }

  #list(folder: string, query: URLSearchParams): EngineReply {
    const prefix = folder === '' ? '' : `${folder.replace(/\/$/, '')}/`;
    const names = new Set<string>();
    for (const path of this.#secrets.keys()) {
      if (path.startsWith(prefix)) {
        const rest = path.slice(prefix.length);
        const slash = rest.indexOf('/');
        names.add(slash < 0 ? rest : rest.slice(0, slash + 1));
      }
    }
    let keys = [...names].sort();
    if (this.#product === 'openbao') {
      const after = query.get('after') ?? '';
      const limit = Number(query.get('limit') ?? 0);
      keys = keys.filter((key) => key > after);
      keys = limit > 0 ? keys.slice(0, limit) : keys;
    }
    return keys.length === 0 ? notFound() : ok({ keys });
  }

  #secretAt(name: string): Secret {
    let secret = this.#secrets.get(name);
    if (secret === undefined) {
      const now = this.#now();
      secret = {
        settings: { maxVersions: 0, casRequired: false, deleteVersionAfter: 0 },
        versions: new Map(),
        createdAt: now,
        updatedAt: now,
        current: 0,
        customMetadata: null,
      };
      this.#secrets.set(name, secret);
    }
    return secret;
  }

  #isDeleted({ deletedAt }: Version): boolean {
    return deletedAt !== undefined && deletedAt <= this.#now();
  }

  #shownVersion(secret: Secret, version: number, { createdAt, deletedAt, destroyed }: Version) {
    return {
      version,
      created_time: new Date(createdAt).toISOString(),
      deletion_time: deletedAt === undefined ? '' : new Date(deletedAt).toISOString(),
      destroyed,
      custom_metadata: secret.customMetadata,
    };
  }
}

function versionsOf(body: EngineRequest['body']): number[] {
  return Array.isArray(body.versions) ? body.versions.map(Number) : [];
}

function applySettings(settings: Settings, body: EngineRequest['body']): void {
  if (typeof body.max_versions === 'number') {
    settings.maxVersions = body.max_versions;
  }
  if (typeof body.cas_required === 'boolean') {
    settings.casRequired = body.cas_required;
  }
  if (typeof body.delete_version_after === 'string') {
    settings.deleteVersionAfter = Number.parseInt(body.delete_version_after, 10) * 1000;
  }
}

function shownSettings({ maxVersions, casRequired, deleteVersionAfter }: Settings) {
  return {
    max_versions: maxVersions,
    cas_required: casRequired,
    delete_version_after: `${deleteVersionAfter / 1000}s`,
  };
}

/** RFC 7396. */
function mergePatch(target: Record<string, unknown>, patch: object): Record<string, unknown> {
  const merged = { ...target };
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) {
      delete merged[name];
    } else if (typeof value === 'object' && !Array.isArray(value)) {
      merged[name] = mergePatch((merged[name] ?? {}) as Record<string, unknown>, value);
    } else {
      merged[name] = value;
    }
  }
  return merged;
}
