/** Rows with fields to encrypt, and both ways of doing it. */
import { createCipheriv, createDecipheriv, createSecretKey, randomBytes } from 'node:crypto';
import type { DekdClient } from '../../src/client/index.ts';
import { encodeContext } from '../../src/envelope/context.ts';
import type { Work } from './interleave.ts';

export const ROWS = 1_000;
const FIELDS = ['email', 'name', 'phone'] as const;
export const VALUES = ROWS * FIELDS.length;

export type FieldDirection = 'encrypt' | 'decrypt';

interface User {
  readonly id: string;
  readonly email: string;
  readonly name: string;
  readonly phone: string;
  readonly created: string;
  readonly visits: number;
}

function rowsToSeal(): User[] {
  return Array.from({ length: ROWS }, (_, i) => ({
    id: `0b9c6c1e-7a51-4a7e-9a50-${String(i).padStart(12, '0')}`,
    email: `ada.lovelace.${i}@example.org`,
    name: 'Ada Lovelace',
    phone: '+44 20 7946 0958',
    created: '2026-01-01T00:00:00.000Z',
    visits: i,
  }));
}

/** Checks once that what comes back is what was given, and @returns whole calls of `ROWS` rows for a timed loop. */
export async function fieldCalls(client: DekdClient, direction: FieldDirection): Promise<Work> {
  const users = client.fields<User>()({ key: 'customers', fields: FIELDS, context: ({ id }) => ({ user: id }) });
  const rows = rowsToSeal();
  const sealed = await users.encryptMany(rows);
  if (JSON.stringify(await users.decryptMany(sealed)) !== JSON.stringify(rows)) {
    throw new Error('rows do not come back as they were');
  }
  return async (count) => {
    for (let i = 0; i < count; i++) {
      await (direction === 'encrypt' ? users.encryptMany(rows) : users.decryptMany(sealed));
    }
  };
}

/**
 * What an application does by itself: for each value JSON, AES-256-GCM of node:crypto under a KeyObject with the row and the
 * field as additional data, and base64url of IV, ciphertext and tag.
 */
export function fieldsInProcess(direction: FieldDirection): Work {
  const key = createSecretKey(randomBytes(32));
  const aadOf = (row: User, field: string): Uint8Array => encodeContext({ field, user: row.id });
  const seal = (row: User): User => {
    const copy: Record<string, unknown> = { ...row };
    for (const field of FIELDS) {
      const iv = randomBytes(12);
      const cipher = createCipheriv('aes-256-gcm', key, iv).setAAD(aadOf(row, field));
      const body = cipher.update(JSON.stringify(row[field]), 'utf8');
      cipher.final();
      copy[field] = Buffer.concat([iv, body, cipher.getAuthTag()]).toString('base64url');
    }
    return copy as unknown as User;
  };
  const open = (row: User): User => {
    const copy: Record<string, unknown> = { ...row };
    for (const field of FIELDS) {
      const bytes = Buffer.from(row[field], 'base64url');
      const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(0, 12)).setAAD(aadOf(row, field));
      decipher.setAuthTag(bytes.subarray(-16));
      const text = decipher.update(bytes.subarray(12, -16), undefined, 'utf8') + decipher.final('utf8');
      copy[field] = JSON.parse(text);
    }
    return copy as unknown as User;
  };
  const rows = rowsToSeal();
  const sealed = rows.map(seal);
  if (JSON.stringify(sealed.map(open)) !== JSON.stringify(rows)) {
    throw new Error('the baseline does not open what it sealed');
  }
  return (count) => {
    for (let i = 0; i < count; i++) {
      direction === 'encrypt' ? rows.map(seal) : sealed.map(open);
    }
  };
}
