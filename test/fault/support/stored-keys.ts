/**
 * Unwraps every key of a state folder from its files alone, with node:crypto and the text of docs/formats.md: what the
 * agent under test computes is not asked. For proofs that must know the bytes they look for.
 */
import { createCipheriv, createDecipheriv, createHmac, hkdfSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';

export interface StoredKey {
  /** `root`, or name and version of the record, and which key of it. */
  readonly label: string;
  readonly level: number;
  readonly bytes: Buffer;
}

type Row = Record<string, Uint8Array | string | number | null>;

/** Root key, every record's key, the W of those under the root, and all that is derived to wrap and authenticate. */
export function storedKeys(stateFolder: string): StoredKey[] {
  const root = Buffer.from(readFileSync(join(stateFolder, 'root.key'), 'utf8').trim(), 'base64');
  const found: StoredKey[] = [{ label: 'root', level: 1, bytes: root }];
  const local = derived(root, 'dekd/v1/local');
  found.push({ label: 'root/local', level: 1, bytes: local });
  const byKid = new Map<string, Buffer>();
  for (const row of rowsOf(stateFolder)) {
    const name = `${row.name}#${row.version}`;
    const level = Number(row.level);
    let parent: Buffer;
    if (row.parent_kid === null) {
      const context = canonical(JSON.parse(String(row.key_context)) as Record<string, string>);
      parent = xaesOpen(local, row.wrapped_secret as Uint8Array, context);
      found.push({ label: `${name}/W`, level: 1, bytes: parent });
    } else {
      parent = byKid.get(hex(row.parent_kid))!;
    }
    const key = xaesOpen(derived(parent, 'dekd/v1/wrap'), row.wrapped as Uint8Array, recordAad(row));
    if (!kidOf(key, String(row.algorithm), String(row.purpose)).equals(row.kid as Uint8Array)) {
      throw new Error(`the key of ${name} is not the one that its kid commits to`);
    }
    byKid.set(hex(row.kid), key);
    found.push({ label: name, level, bytes: key });
    if (row.parent_kid === null) {
      found.push({ label: `${name}/W/wrap`, level: 1, bytes: derived(parent, 'dekd/v1/wrap') });
      found.push({ label: `${name}/W/meta`, level: 1, bytes: derived(parent, 'dekd/v1/meta') });
    }
    if (row.purpose === 'wrap') {
      found.push({ label: `${name}/wrap`, level, bytes: derived(key, 'dekd/v1/wrap') });
      found.push({ label: `${name}/meta`, level, bytes: derived(key, 'dekd/v1/meta') });
    }
  }
  return found;
}

function rowsOf(stateFolder: string): Row[] {
  const db = new DatabaseSync(join(stateFolder, 'keystore.sqlite'), { readOnly: true });
  try {
    return db.prepare('SELECT * FROM record ORDER BY level, version').all() as Row[];
  } finally {
    db.close();
  }
}

function recordAad(row: Row): Buffer {
  const map: Record<string, string> = {
    level: String(row.level),
    kid: hex(row.kid),
    name: String(row.name),
    partition: String(row.partition),
    version: String(row.version),
    algorithm: String(row.algorithm),
    purpose: String(row.purpose),
    tenant: String(row.tenant),
    service: String(row.service),
    node: String(row.node),
    parent: row.parent_kid === null ? 'root' : hex(row.parent_kid),
  };
  for (const [name, value] of Object.entries(JSON.parse(String(row.key_context)) as Record<string, string>)) {
    map[`ctx.${name}`] = value;
  }
  const pairs = Object.entries(map).filter(([, value]) => value !== '');
  return Buffer.concat([Buffer.from('dekd/v1/record'), canonical(Object.fromEntries(pairs))]);
}

function canonical(map: Record<string, string>): Buffer {
  const pairs = Object.entries(map)
    .map(([name, value]) => [Buffer.from(name), Buffer.from(value)] as const)
    .sort(([a], [b]) => Buffer.compare(a, b));
  if (pairs.length === 0) {
    return Buffer.alloc(0);
  }
  return Buffer.concat([u16(pairs.length), ...pairs.flatMap(([a, b]) => [u16(a.length), a, u16(b.length), b])]);
}

function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

function derived(secret: Buffer, label: string): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, Buffer.alloc(0), label, 32));
}

/** `01` ‖ nonce 24 ‖ ciphertext ‖ tag 16. */
function xaesOpen(key: Buffer, wrapped: Uint8Array, aad: Buffer): Buffer {
  if (wrapped[0] !== 1) {
    throw new Error(`wrapped key of an unknown format ${wrapped[0]}`);
  }
  const nonce = Buffer.from(wrapped.subarray(1, 25));
  const decipher = createDecipheriv('aes-256-gcm', xaesSubkey(key, nonce.subarray(0, 12)), nonce.subarray(12));
  decipher.setAAD(aad).setAuthTag(Buffer.from(wrapped.subarray(wrapped.length - 16)));
  return Buffer.concat([decipher.update(wrapped.subarray(25, wrapped.length - 16)), decipher.final()]);
}

/** CMAC-AES-256 over two one-block inputs (C2SP XAES-256-GCM). */
function xaesSubkey(key: Buffer, prefix: Buffer): Buffer {
  const block = (input: Buffer): Buffer => createCipheriv('aes-256-ecb', key, null).setAutoPadding(false).update(input);
  const l = BigInt(`0x${block(Buffer.alloc(16)).toString('hex')}`);
  const k1 = ((l << 1n) ^ (l >> 127n === 1n ? 0x87n : 0n)) & ((1n << 128n) - 1n);
  const half = (counter: number): Buffer => {
    const input = BigInt(`0x${Buffer.concat([Buffer.from([0, counter, 0x58, 0]), prefix]).toString('hex')}`);
    return block(Buffer.from((input ^ k1).toString(16).padStart(32, '0'), 'hex'));
  };
  return Buffer.concat([half(1), half(2)]);
}

/** HMAC by which a kid commits to a key. */
function kidOf(key: Buffer, algorithm: string, purpose: string): Buffer {
  const part = (text: string): Buffer => Buffer.from([text.length, ...Buffer.from(text)]);
  return createHmac('sha256', key)
    .update(Buffer.concat([Buffer.from('dekd/v1/kid'), part(algorithm), part(purpose)]))
    .digest()
    .subarray(0, 16);
}

function hex(bytes: Row[string] | undefined): string {
  return Buffer.from(bytes as Uint8Array).toString('hex');
}
