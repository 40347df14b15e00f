import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { recipientOutline } from '../../src/cli/recipient-outline.ts';

const ARN = 'arn:aws:kms:eu-central-1:111122223333:key/0d5b3bd0-3f4c-4f3c-9f0c-0f0e0d0c0b0a';
const LENGTHS = Buffer.from('000000800000000c', 'hex');

function outline(providerId: string, info: Buffer, ciphertext: Buffer = Buffer.alloc(48)): unknown {
  return recipientOutline({ providerId, providerInfo: info, ciphertext });
}

describe('the outline of an encrypted data key', () => {
  it('says whose it is and which key opens it', () => {
    const kid = `${'0a'.repeat(16)}.${'0b'.repeat(12)}`;
    const raw = (name: string) => Buffer.concat([Buffer.from(name), LENGTHS, randomBytes(12)]);
    expect(outline('dekd', raw(kid))).toEqual({ recipient: 'keystore', providerId: 'dekd', key: kid, bytes: 48 });
    expect(outline('acme', raw('files-2026'))).toMatchObject({ recipient: 'raw AES key', key: 'files-2026' });
    expect(outline('aws-kms', Buffer.from(ARN), Buffer.alloc(167))).toEqual({
      recipient: 'AWS KMS',
      providerId: 'aws-kms',
      key: ARN,
      bytes: 167,
    });
    const transit = Buffer.concat([randomBytes(73), Buffer.from('vault:v12:abcd')]);
    expect(outline('vault-transit', Buffer.from('vault-transit:transit/root'), transit)).toMatchObject({
      recipient: 'Vault Transit',
      key: 'vault-transit:transit/root',
      keyVersion: 12,
    });
    expect(outline('aws-kms-hierarchy', Buffer.from('branch'))).toMatchObject({ recipient: 'unknown', key: 'branch' });
  });

  it('shows nothing that plays with a terminal, and takes what is garbage', () => {
    for (const info of [
      Buffer.alloc(0),
      Buffer.from('\x1b[2Jx'),
      randomBytes(19),
      Buffer.concat([LENGTHS, randomBytes(12)]),
    ]) {
      for (const providerId of ['dekd', 'aws-kms', 'vault-transit', 'acme']) {
        const { key } = outline(providerId, info, Buffer.alloc(0)) as { key: string };
        expect([providerId, key]).toEqual([providerId, `0x${info.toString('hex')}`]);
      }
    }
    const name = Buffer.concat([Buffer.from('\x07bell'), LENGTHS, randomBytes(12)]);
    expect(outline('acme', name)).toMatchObject({ key: '0x0762656c6c' });
  });
});
