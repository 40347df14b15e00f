import { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { describe, expect, it } from 'vitest';
import { HeaderGate, isAsMade, Unchanged } from '../../src/cli/reencrypt/header-gate.ts';
import { encodeContext } from '../../src/envelope/context.ts';
import {
  type EncryptedDataKey,
  encodeMessageHeader,
  type MessageHeader,
  readMessageHeader,
} from '../../src/envelope/message-header.ts';

const KID = 'ab'.repeat(16);

function dekd(kid: string, epoch: number): EncryptedDataKey {
  const name = Buffer.from(`${kid}.${epoch.toString(16).padStart(24, '0')}`);
  return rawKey('dekd', name, epoch);
}

/** In the layout of a raw AES keyring. */
function rawKey(providerId: string, name: Buffer, nonce: number): EncryptedDataKey {
  const lengths = Buffer.from([0, 0, 0, 128, 0, 0, 0, 12]);
  return {
    providerId,
    providerInfo: Buffer.concat([name, lengths, Buffer.alloc(12, nonce)]),
    ciphertext: Buffer.alloc(48, nonce),
  };
}

function kms(arn: string, byte: number): EncryptedDataKey {
  return { providerId: 'aws-kms', providerInfo: Buffer.from(arn), ciphertext: Buffer.alloc(150, byte) };
}

function vault(version: number, byte: number): EncryptedDataKey {
  const ciphertext = Buffer.from(`vault:v${version}:${Buffer.alloc(40, byte).toString('base64')}`);
  return { providerId: 'vault-transit', providerInfo: Buffer.from('transit/files'), ciphertext };
}

function header(dataKeys: EncryptedDataKey[], context: Record<string, string> = {}, frameLength = 65_536, id = 1) {
  const body = encodeMessageHeader({
    messageId: Buffer.alloc(32, id),
    context: encodeContext(context),
    dataKeys,
    frameLength,
    commitment: Buffer.alloc(32, id),
  });
  return readMessageHeader(Buffer.concat([body, Buffer.alloc(16, id)]))!;
}

describe('isAsMade', () => {
  const other = 'cd'.repeat(16);
  const arn = 'arn:aws:kms:eu-central-1:111122223333:key/one';

  it('does not look at what is drawn anew for each message', () => {
    const raw = Buffer.from('escrow');
    const before = header([dekd(KID, 1), kms(arn, 1), vault(3, 1), rawKey('own', raw, 1)], { use: 'files' });
    const made = header([rawKey('own', raw, 2), dekd(KID, 2), vault(3, 2), kms(arn, 2)], { use: 'files' }, 65_536, 2);
    expect(isAsMade(before, made)).toBe(true);
  });

  it.each([
    ['another version of the key', [dekd(KID, 1)], [dekd(other, 1)]],
    ['a recipient more', [dekd(KID, 1)], [dekd(KID, 1), kms(arn, 1)]],
    ['a recipient less', [dekd(KID, 1), kms(arn, 1)], [dekd(KID, 1)]],
    ['another key of the KMS', [kms(arn, 1)], [kms(`${arn}-other`, 1)]],
    ['another version of the key in Vault', [vault(3, 1)], [vault(4, 1)]],
    ['another raw key', [rawKey('own', Buffer.from('a'), 1)], [rawKey('own', Buffer.from('b'), 1)]],
    ['another namespace', [rawKey('own', Buffer.from('a'), 1)], [rawKey('other', Buffer.from('a'), 1)]],
    ['one recipient in the place of two', [dekd(KID, 1), dekd(KID, 2)], [dekd(KID, 1)]],
  ])('sees %s', (_, before, made) => {
    expect(isAsMade(header(before), header(made))).toBe(false);
  });

  it('sees another stored context, and another length of frames', () => {
    const keys = [dekd(KID, 1)];
    expect(isAsMade(header(keys), header(keys, { use: 'files' }))).toBe(false);
    expect(isAsMade(header(keys), header(keys, {}, 1_000))).toBe(false);
  });
});

describe('HeaderGate', () => {
  const before = header([dekd(KID, 1)]);

  /** What comes through for a message that is given byte by byte. */
  async function through(bytes: Uint8Array): Promise<Buffer> {
    const pieces: Buffer[] = [];
    const sink = new Writable({
      write(piece: Buffer, _encoding, done) {
        pieces.push(piece);
        done();
      },
    });
    await pipeline(Readable.from([...bytes].map((byte) => Buffer.from([byte]))), new HeaderGate(before), sink);
    return Buffer.concat(pieces);
  }

  const messageOf = ({ body, tag }: MessageHeader) => Buffer.concat([body, tag, Buffer.from('frames')]);

  it('lets a message of another key pass whole, and nothing of one that is as it was', async () => {
    const other = messageOf(header([dekd('cd'.repeat(16), 1)]));
    expect((await through(other)).equals(other)).toBe(true);
    await expect(through(messageOf(header([dekd(KID, 2)], {}, 65_536, 2)))).rejects.toBeInstanceOf(Unchanged);
  });

  it('takes what is no message, or ends within its header, for an error', async () => {
    await expect(through(Buffer.from('no message'))).rejects.toMatchObject({ code: 'MALFORMED' });
    await expect(through(messageOf(before).subarray(0, 40))).rejects.toMatchObject({ code: 'INTERNAL' });
  });
});
