import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { type Engine, type EngineReply, type EngineRequest, failed, noContent, notFound, ok } from './engine.ts';

const NONCE_LENGTH = 12;
const TAG_LENGTH = 16;
/** Types that encrypt with associated data, and the cipher that stands for each. */
const AEAD: Readonly<Record<string, { readonly cipher: 'aes-128-gcm' | 'aes-256-gcm' | 'chacha20-poly1305' }>> = {
  'aes128-gcm96': { cipher: 'aes-128-gcm' },
  'aes256-gcm96': { cipher: 'aes-256-gcm' },
  'chacha20-poly1305': { cipher: 'chacha20-poly1305' },
};
const ASYMMETRIC = new Set(['rsa-2048', 'rsa-4096', 'ed25519', 'ecdsa-p256']);

export interface TransitKey {
  readonly name: string;
  readonly type: string;
  readonly derived: boolean;
  /** Material by version, from 1. */
  readonly versions: Map<number, Buffer>;
  latest: number;
  minDecryption: number;
  /** 0 for the latest. */
  minEncryption: number;
  deletionAllowed: boolean;
  exportable: boolean;
  allowPlaintextBackup: boolean;
  softDeleted: boolean;
}

export interface TransitOptions {
  readonly product?: 'vault' | 'openbao';
  /** As a server from before `associated_data`: the field is ignored without a word. */
  readonly ignoresAssociatedData?: boolean;
}

/** The Transit engine: symmetric keys with versions, real AEAD, and the same answers to mistakes. */
export class TransitEngine implements Engine {
  readonly keys = new Map<string, TransitKey>();
  /** `config/keys`. */
  disableUpsert = false;
  readonly #product: 'vault' | 'openbao';
  readonly #ignoresAssociatedData: boolean;

  constructor(options: TransitOptions = {}) {
    this.#product = options.product ?? 'vault';
    this.#ignoresAssociatedData = options.ignoresAssociatedData ?? false;
  }

  /** Makes a key unless it is there. */
  create(name: string, settings: { type?: string; derived?: boolean; exportable?: boolean } = {}): TransitKey {
    let key = this.keys.get(name);
    if (key === undefined) {
      key = {
        name,
        type: settings.type ?? 'aes256-gcm96',
        derived: settings.derived ?? false,
        versions: new Map(),
        latest: 0,
        minDecryption: 1,
        minEncryption: 0,
        deletionAllowed: false,
        exportable: settings.exportable ?? false,
        allowPlaintextBackup: false,
        softDeleted: false,
      };
      this.keys.set(name, key);
      this.rotate(name);
    }
    return key;
  }

  rotate(name: string): void {
    const key = this.keys.get(name)!;
    key.latest += 1;
    key.versions.set(key.latest, randomBytes(key.type === 'aes128-gcm96' ? 16 : 32));
  }

  exists(path: string): boolean {
    const [verb, name] = path.split('/');
    // Only encrypt looks: every other path is an update, whether its key is there or not.
    return verb !== 'encrypt' || name === undefined || this.keys.has(name);
  }

  handle(request: EngineRequest): EngineReply {
    const [verb = '', name = '', third = ''] = request.path.split('/');
    switch (verb) {
      case 'keys':
        return this.#keys(request, name, third);
      case 'encrypt':
        return this.#encrypt(request, name);
      case 'decrypt':
        return this.#decrypt(request, name);
      case 'rewrap':
        return this.#rewrap(request, name);
      case 'datakey':
        return this.#dataKey(request, name, third);
      case 'config':
        this.disableUpsert = request.body.disable_upsert === true;
        return noContent();
      default:
        return failed(404, `unsupported path`);
    }
  }

  #keys(request: EngineRequest, name: string, action: string): EngineReply {
    if (request.operation === 'list') {
      return this.keys.size === 0 ? notFound() : ok({ keys: [...this.keys.keys()].sort() });
    }
    const key = this.keys.get(name);
    if (request.operation === 'update' && action === '') {
      const { type, derived, exportable } = request.body as { type?: string; derived?: boolean; exportable?: boolean };
      const made = this.create(name, {
        ...(type === undefined ? {} : { type }),
        ...(derived === undefined ? {} : { derived }),
        ...(exportable === undefined ? {} : { exportable }),
      });
      return ok(about(made));
    }
    if (key === undefined) {
      return request.operation === 'read' || request.operation === 'delete'
        ? notFound()
        : failed(400, `no existing key named ${name} could be found`);
    }
    if (request.operation === 'read') {
      return ok({ ...about(key), ...(this.#product === 'openbao' ? { soft_deleted: key.softDeleted } : {}) });
    }
    if (request.operation === 'delete') {
      if (!key.deletionAllowed) {
        return failed(400, `error deleting policy ${name}: deletion is not allowed for this key`);
      }
      this.keys.delete(name);
      return noContent();
    }
    switch (action) {
      case 'rotate':
        this.rotate(name);
        return ok(about(key));
      case 'config':
        return configure(key, request.body);
      case 'soft-delete':
        key.softDeleted = true;
        return noContent();
      case 'trim': {
        const min = Number(request.body.min_available_version);
        for (const version of key.versions.keys()) {
          if (version < min) {
            key.versions.delete(version);
          }
        }
        return ok(about(key));
      }
      default:
        return failed(404, 'unsupported path');
    }
  }

  #encrypt({ operation, body }: EngineRequest, name: string): EngineReply {
    if (typeof body.plaintext !== 'string') {
      return failed(400, 'missing plaintext to encrypt');
    }
    const plaintext = decodeBase64(body.plaintext);
    if (plaintext === undefined) {
      return failed(400, 'illegal base64 data at input byte 0');
    }
    const contextSet = typeof body.context === 'string' && body.context !== '';
    if (operation === 'create') {
      if (body.convergent_encryption === true && !contextSet) {
        return failed(400, 'convergent encryption requires derivation to be enabled, so context is required');
      }
      const type = typeof body.type === 'string' ? body.type : 'aes256-gcm96';
      if (AEAD[type] === undefined) {
        return failed(400, `unknown key type ${type}`);
      }
      if (!this.disableUpsert) {
        // What a misspelt name does to a client that is allowed to create.
        this.create(name, { type, derived: contextSet });
      }
    }
    const key = this.keys.get(name);
    const refusal = unusable(key, contextSet);
    if (refusal !== undefined) {
      return refusal;
    }
    const version = Number(body.key_version ?? 0) || key!.latest;
    if (version > key!.latest) {
      return failed(400, 'requested version for encryption is higher than the latest key version');
    }
    if (version < key!.minEncryption) {
      return failed(400, 'requested version for encryption is less than the minimum encryption key version');
    }
    const ciphertext = this.#seal(key!, version, plaintext, body.associated_data);
    return ok({ ciphertext, key_version: version });
  }

  #decrypt({ body }: EngineRequest, name: string): EngineReply {
    if (Array.isArray(body.batch_input)) {
      return this.#decryptBatch(body.batch_input as Readonly<Record<string, unknown>>[], name);
    }
    const opened = this.#open(name, body, body.associated_data);
    return Buffer.isBuffer(opened) ? ok({ plaintext: opened.toString('base64') }) : opened;
  }

  /** A result each, in order; the whole is 400 as soon as one failed. */
  #decryptBatch(items: readonly Readonly<Record<string, unknown>>[], name: string): EngineReply {
    const opened = items.map((item) => this.#open(name, item, item.associated_data));
    const results = opened.map((each) =>
      Buffer.isBuffer(each)
        ? { plaintext: each.toString('base64') }
        : { plaintext: '', error: (each.body?.errors as string[] | undefined)?.[0] },
    );
    return {
      status: opened.every((each) => Buffer.isBuffer(each)) ? 200 : 400,
      body: { data: { batch_results: results } },
    };
  }

  #rewrap({ body }: EngineRequest, name: string): EngineReply {
    // As the real one: no associated_data here, so what was encrypted with one cannot be moved.
    const opened = this.#open(name, body, undefined);
    if (!Buffer.isBuffer(opened)) {
      return opened;
    }
    const key = this.keys.get(name)!;
    return ok({ ciphertext: this.#seal(key, key.latest, opened, undefined), key_version: key.latest });
  }

  #dataKey({ body }: EngineRequest, form: string, name: string): EngineReply {
    if (form !== 'plaintext' && form !== 'wrapped') {
      return failed(400, `Invalid path, must be 'plaintext' or 'wrapped'`);
    }
    const key = this.keys.get(name);
    const refusal = unusable(key, false);
    if (refusal !== undefined) {
      return refusal;
    }
    const bits = Number(body.bits ?? 256);
    if (![128, 256, 512].includes(bits)) {
      return failed(400, 'invalid bit length');
    }
    const plaintext = randomBytes(bits / 8);
    const associated = this.#product === 'openbao' ? body.associated_data : undefined;
    const ciphertext = this.#seal(key!, key!.latest, plaintext, associated);
    return ok({
      ciphertext,
      key_version: key!.latest,
      ...(form === 'plaintext' ? { plaintext: plaintext.toString('base64') } : {}),
    });
  }

  #seal(key: TransitKey, version: number, plaintext: Buffer, associated: unknown): string {
    const nonce = randomBytes(NONCE_LENGTH);
    const cipher = createCipheriv(cipherOf(key), key.versions.get(version)!, nonce, { authTagLength: TAG_LENGTH });
    cipher.setAAD(this.#associated(associated), { plaintextLength: plaintext.length });
    const sealed = Buffer.concat([nonce, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
    return `vault:v${version}:${sealed.toString('base64')}`;
  }

  #open(name: string, body: Readonly<Record<string, unknown>>, associated: unknown): Buffer | EngineReply {
    const { ciphertext } = body;
    if (typeof ciphertext !== 'string' || ciphertext === '') {
      return failed(400, 'missing ciphertext to decrypt');
    }
    const key = this.keys.get(name);
    const refusal = unusable(key, typeof body.context === 'string' && body.context !== '');
    if (refusal !== undefined) {
      return refusal;
    }
    const parts = /^vault:v(\d+):(.*)$/s.exec(ciphertext);
    if (parts === null) {
      return failed(400, 'invalid ciphertext: no prefix');
    }
    // Version 0 is what the first release wrote for 1.
    const version = Number(parts[1]) || 1;
    if (version > key!.latest) {
      return failed(400, 'invalid ciphertext: version is too new');
    }
    if (version < key!.minDecryption) {
      return failed(400, 'ciphertext or signature version is disallowed by policy (too old)');
    }
    const material = key!.versions.get(version);
    if (material === undefined) {
      return failed(400, 'ciphertext version is no longer available');
    }
    const sealed = decodeBase64(parts[2]!);
    if (sealed === undefined) {
      return failed(400, 'invalid ciphertext: could not decode base64');
    }
    if (sealed.length < NONCE_LENGTH + TAG_LENGTH) {
      return failed(400, 'invalid ciphertext length');
    }
    const decipher = createDecipheriv(cipherOf(key!), material, sealed.subarray(0, NONCE_LENGTH), {
      authTagLength: TAG_LENGTH,
    });
    const text = sealed.subarray(NONCE_LENGTH, -TAG_LENGTH);
    decipher.setAAD(this.#associated(associated), { plaintextLength: text.length });
    decipher.setAuthTag(sealed.subarray(-TAG_LENGTH));
    try {
      return Buffer.concat([decipher.update(text), decipher.final()]);
    } catch {
      return failed(400, 'cipher: message authentication failed');
    }
  }

  #associated(data: unknown): Buffer {
    return typeof data === 'string' && !this.#ignoresAssociatedData ? Buffer.from(data, 'base64') : Buffer.alloc(0);
  }
}

function unusable(key: TransitKey | undefined, contextSet: boolean): EngineReply | undefined {
  if (key === undefined) {
    return failed(400, 'encryption key not found');
  }
  if (key.softDeleted) {
    return failed(400, 'key is soft deleted');
  }
  if (AEAD[key.type] === undefined) {
    return failed(400, `message encryption not supported for key type ${key.type}`);
  }
  return key.derived && !contextSet ? failed(400, `missing 'context' for key derivation`) : undefined;
}

function configure(key: TransitKey, body: Readonly<Record<string, unknown>>): EngineReply {
  if (body.min_decryption_version !== undefined) {
    const min = Number(body.min_decryption_version) || 1;
    if (min > key.latest) {
      return failed(400, `cannot set min decryption version of ${min}, latest key version is ${key.latest}`);
    }
    key.minDecryption = min;
  }
  if (body.min_encryption_version !== undefined) {
    key.minEncryption = Number(body.min_encryption_version);
  }
  if (typeof body.deletion_allowed === 'boolean') {
    key.deletionAllowed = body.deletion_allowed;
  }
  // One way only.
  key.exportable ||= body.exportable === true;
  key.allowPlaintextBackup ||= body.allow_plaintext_backup === true;
  return ok(about(key));
}

function about(key: TransitKey): Record<string, unknown> {
  const symmetric = !ASYMMETRIC.has(key.type);
  return {
    name: key.name,
    type: key.type,
    derived: key.derived,
    deletion_allowed: key.deletionAllowed,
    exportable: key.exportable,
    allow_plaintext_backup: key.allowPlaintextBackup,
    min_decryption_version: key.minDecryption,
    min_encryption_version: key.minEncryption,
    latest_version: key.latest,
    keys: Object.fromEntries([...key.versions.keys()].map((version) => [String(version), 1_700_000_000 + version])),
    supports_encryption: symmetric || key.type.startsWith('rsa'),
    supports_decryption: symmetric || key.type.startsWith('rsa'),
    supports_derivation: symmetric,
    supports_signing: !symmetric,
  };
}

function cipherOf(key: TransitKey): 'aes-256-gcm' {
  // The overloads of node:crypto want one literal; all three ciphers take the same options.
  return AEAD[key.type]!.cipher as 'aes-256-gcm';
}

/** As Go reads it: padding is needed, line breaks are passed over, and spare bits at the end are not looked at. */
function decodeBase64(text: string): Buffer | undefined {
  const plain = text.replace(/[\r\n]/g, '');
  return /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(plain)
    ? Buffer.from(plain, 'base64')
    : undefined;
}
