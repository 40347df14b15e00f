/** The keys of the stand-in KMS: material, states, aliases and what may be done with them. Knows nothing of HTTP. */
import { createCipheriv, createDecipheriv, randomBytes, randomUUID } from 'node:crypto';
import { KmsFault } from './kms-fault.ts';

export type KeyState =
  | 'Enabled'
  | 'Disabled'
  | 'PendingDeletion'
  | 'PendingImport'
  | 'Unavailable'
  | 'Creating'
  | 'Updating';

export interface KeySpecification {
  readonly region?: string;
  readonly multiRegion?: boolean;
  /** SYMMETRIC_DEFAULT with ENCRYPT_DECRYPT unless said otherwise; other keys exist but have no working material. */
  readonly spec?: 'SYMMETRIC_DEFAULT' | 'RSA_2048' | 'HMAC_256';
  readonly usage?: 'ENCRYPT_DECRYPT' | 'SIGN_VERIFY' | 'GENERATE_VERIFY_MAC';
  readonly origin?: 'AWS_KMS' | 'EXTERNAL' | 'AWS_CLOUDHSM' | 'EXTERNAL_KEY_STORE';
  /** When imported material expires. */
  readonly validTo?: Date;
}

interface Material {
  /** 64 hexadecimal digits. */
  readonly id: string;
  readonly key: Buffer;
}

export interface KmsKey {
  readonly id: string;
  readonly arn: string;
  readonly region: string;
  readonly multiRegion: boolean;
  readonly spec: string;
  readonly usage: string;
  readonly origin: string;
  readonly validTo: Date | undefined;
  readonly createdAt: Date;
  /** The current one first; shared by the replicas of a multi-Region key. */
  readonly materials: Material[];
  state: KeyState;
}

export type Context = Readonly<Record<string, string>>;

export const ACCOUNT = '111122223333';
export const MAX_PLAINTEXT_BYTES = 4096;
export const MAX_CIPHERTEXT_BYTES = 6144;
const MAX_CONTEXT_BYTES = 8192;

const MAGIC = Buffer.from([1, 2]);
const KEY_REFERENCE_BYTES = 16;
const MATERIAL_ID_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const PREFIX_BYTES = MAGIC.length + KEY_REFERENCE_BYTES + MATERIAL_ID_BYTES;

export class KeySpace {
  readonly #keys: KmsKey[] = [];
  /** `region/alias/NAME` to the id of a key. */
  readonly #aliases = new Map<string, string>();

  create(region: string, specification: KeySpecification): KmsKey {
    const multiRegion = specification.multiRegion ?? false;
    const id = multiRegion ? `mrk-${randomBytes(16).toString('hex')}` : randomUUID();
    const key: KmsKey = {
      id,
      arn: arnOf(region, `key/${id}`),
      region,
      multiRegion,
      spec: specification.spec ?? 'SYMMETRIC_DEFAULT',
      usage: specification.usage ?? 'ENCRYPT_DECRYPT',
      origin: specification.origin ?? 'AWS_KMS',
      validTo: specification.validTo,
      createdAt: new Date(),
      materials: [newMaterial()],
      state: 'Enabled',
    };
    this.#keys.push(key);
    return key;
  }

  replicate(key: KmsKey, region: string): KmsKey {
    if (!key.multiRegion) {
      throw new Error(`${key.arn} is not a multi-Region key`);
    }
    const replica: KmsKey = { ...key, region, arn: arnOf(region, `key/${key.id}`), state: 'Enabled' };
    this.#keys.push(replica);
    return replica;
  }

  alias(region: string, name: string, key: KmsKey): string {
    this.#aliases.set(`${region}/${name}`, key.id);
    return arnOf(region, name);
  }

  rotate(key: KmsKey): string {
    const material = newMaterial();
    key.materials.unshift(material);
    return material.id;
  }

  /** The key that `keyId` (an id, ARN, alias or alias ARN) names in a Region. */
  resolve(region: string, keyId: unknown): KmsKey {
    if (typeof keyId !== 'string' || keyId.length < 1 || keyId.length > 2048) {
      throw new KmsFault('ValidationException', `1 validation error detected: Value at 'keyId' failed to satisfy`);
    }
    let name = keyId;
    if (keyId.startsWith('arn:')) {
      const [, partition, service, arnRegion, account, ...rest] = keyId.split(':');
      if (partition !== 'aws' || service !== 'kms' || arnRegion !== region || rest.length !== 1) {
        throw new KmsFault('NotFoundException', `Invalid arn ${arnRegion}`);
      }
      if (account !== ACCOUNT) {
        throw new KmsFault('AccessDeniedException', 'The account of this key does not allow this operation');
      }
      name = rest[0]!.replace(/^key\//, '');
    }
    if (name.startsWith('alias/')) {
      const target = this.#aliases.get(`${region}/${name}`);
      if (target === undefined) {
        throw new KmsFault('NotFoundException', `Alias ${arnOf(region, name)} is not found.`);
      }
      name = target;
    } else if (!/^(mrk-[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$/.test(name)) {
      throw new KmsFault('NotFoundException', `Invalid keyId '${name}'`);
    }
    const key = this.#keys.find((each) => each.region === region && each.id === name);
    if (key === undefined) {
      throw new KmsFault('NotFoundException', `Key '${arnOf(region, `key/${name}`)}' does not exist`);
    }
    return key;
  }

  encrypt(key: KmsKey, plaintext: Buffer, context: Context): Buffer {
    if (plaintext.length < 1 || plaintext.length > MAX_PLAINTEXT_BYTES) {
      throw new KmsFault('ValidationException', `'plaintext' must have length between 1 and ${MAX_PLAINTEXT_BYTES}`);
    }
    checkUsable(key);
    const material = key.materials[0]!;
    const prefix = Buffer.concat([MAGIC, keyReference(key.id), Buffer.from(material.id, 'hex')]);
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv('aes-256-gcm', material.key, nonce);
    cipher.setAAD(Buffer.concat([prefix, canonical(context)]));
    return Buffer.concat([prefix, nonce, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
  }

  /** `keyId` is optional, as at the service: without it, the ciphertext names the key. */
  decrypt(
    region: string,
    ciphertext: Buffer,
    context: Context,
    keyId: unknown,
  ): { key: KmsKey; materialId: string; plaintext: Buffer } {
    if (ciphertext.length < 1 || ciphertext.length > MAX_CIPHERTEXT_BYTES) {
      throw new KmsFault('ValidationException', `'ciphertextBlob' must have length between 1 and 6144`);
    }
    const asked = keyId === undefined ? undefined : this.resolve(region, keyId);
    const invalid = new KmsFault('InvalidCiphertextException', null);
    if (
      ciphertext.length < PREFIX_BYTES + NONCE_BYTES + TAG_BYTES ||
      !ciphertext.subarray(0, MAGIC.length).equals(MAGIC)
    ) {
      throw invalid;
    }
    const reference = ciphertext.subarray(MAGIC.length, MAGIC.length + KEY_REFERENCE_BYTES);
    const key = this.#keys.find((each) => each.region === region && keyReference(each.id).equals(reference));
    if (key === undefined) {
      throw invalid;
    }
    if (asked !== undefined && asked !== key) {
      throw new KmsFault(
        'IncorrectKeyException',
        'The key ID in the request does not identify a key that can perform this operation',
      );
    }
    checkUsable(key);
    const materialId = ciphertext.subarray(MAGIC.length + KEY_REFERENCE_BYTES, PREFIX_BYTES).toString('hex');
    const material = key.materials.find(({ id }) => id === materialId);
    if (material === undefined) {
      throw invalid;
    }
    const nonce = ciphertext.subarray(PREFIX_BYTES, PREFIX_BYTES + NONCE_BYTES);
    const decipher = createDecipheriv('aes-256-gcm', material.key, nonce);
    decipher.setAAD(Buffer.concat([ciphertext.subarray(0, PREFIX_BYTES), canonical(context)]));
    decipher.setAuthTag(ciphertext.subarray(-TAG_BYTES));
    try {
      const sealed = ciphertext.subarray(PREFIX_BYTES + NONCE_BYTES, -TAG_BYTES);
      return { key, materialId, plaintext: Buffer.concat([decipher.update(sealed), decipher.final()]) };
    } catch {
      throw invalid;
    }
  }

  metadata(key: KmsKey): object {
    return {
      AWSAccountId: ACCOUNT,
      Arn: key.arn,
      CreationDate: key.createdAt.getTime() / 1000,
      CurrentKeyMaterialId: key.spec === 'SYMMETRIC_DEFAULT' ? key.materials[0]!.id : undefined,
      CustomerMasterKeySpec: key.spec,
      Description: '',
      Enabled: key.state === 'Enabled',
      EncryptionAlgorithms: key.usage === 'ENCRYPT_DECRYPT' ? [algorithmOf(key.spec)] : undefined,
      ExpirationModel: key.validTo && 'KEY_MATERIAL_EXPIRES',
      KeyId: key.id,
      KeyManager: 'CUSTOMER',
      KeySpec: key.spec,
      KeyState: key.state,
      KeyUsage: key.usage,
      MultiRegion: key.multiRegion,
      Origin: key.origin,
      ValidTo: key.validTo && key.validTo.getTime() / 1000,
    };
  }
}

/** Reads an encryption context from a request. */
export function contextOf(value: unknown): Context {
  if (value === undefined) {
    return {};
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new KmsFault('SerializationException', 'EncryptionContext is not a map');
  }
  let bytes = 0;
  for (const [name, text] of Object.entries(value)) {
    if (typeof text !== 'string') {
      throw new KmsFault('SerializationException', 'a value of EncryptionContext is not a string');
    }
    if (name.toLowerCase().startsWith('aws:')) {
      throw new KmsFault('ValidationException', 'aws: is reserved in an EncryptionContext');
    }
    bytes += Buffer.byteLength(name) + Buffer.byteLength(text);
  }
  if (bytes > MAX_CONTEXT_BYTES) {
    throw new KmsFault('ValidationException', `EncryptionContext is longer than ${MAX_CONTEXT_BYTES} bytes`);
  }
  return value as Context;
}

/** Every field has its length before it, so that no two contexts share an encoding. */
function canonical(context: Context): Buffer {
  const fields = Object.entries(context)
    .map(([name, value]) => [Buffer.from(name), Buffer.from(value)] as const)
    .sort(([a], [b]) => Buffer.compare(a, b))
    .flat();
  return Buffer.concat(fields.flatMap((field) => [lengthOf(field), field]));
}

function lengthOf(field: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(field.length);
  return length;
}

/** States and usages are the same for Encrypt, Decrypt and ReEncrypt. */
function checkUsable(key: KmsKey): void {
  if (key.state === 'Disabled') {
    throw new KmsFault('DisabledException', `${key.arn} is disabled.`);
  }
  if (key.state !== 'Enabled') {
    throw new KmsFault('KMSInvalidStateException', `${key.arn} is ${key.state}.`);
  }
  if (key.usage !== 'ENCRYPT_DECRYPT' || key.spec !== 'SYMMETRIC_DEFAULT') {
    throw new KmsFault('InvalidKeyUsageException', `${key.arn} key usage is ${key.usage}, spec ${key.spec}`);
  }
}

function algorithmOf(spec: string): string {
  return spec === 'SYMMETRIC_DEFAULT' ? spec : 'RSAES_OAEP_SHA_256';
}

function newMaterial(): Material {
  return { id: randomBytes(MATERIAL_ID_BYTES).toString('hex'), key: randomBytes(32) };
}

function keyReference(id: string): Buffer {
  return Buffer.from(id.replace(/^mrk-|-/g, ''), 'hex');
}

function arnOf(region: string, resource: string): string {
  return `arn:aws:kms:${region}:${ACCOUNT}:${resource}`;
}
