/** CVE-2020-8897 and CVE-2025-14760: without commitment to a key, one ciphertext opens to two plaintexts. */
import { createDecipheriv, hkdfSync, randomBytes } from 'node:crypto';
import { beforeEach, describe, expect, it } from 'vitest';
import { DATA_KEY_USE, TOKEN_OVERHEAD } from '../../src/crypto/engine.ts';
import { ENGINE_NAMES, engineUnderTest, importKey } from '../support/engines.ts';
import { salamander, xaesSubkey } from '../support/salamander.ts';

const SEAL = { algorithm: 'xaes-256-gcm', purpose: 'seal' } as const;
const KEYS = [randomBytes(32), randomBytes(32)] as const;

function gcmOpened(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, sealed: Uint8Array): Buffer {
  const decipher = createDecipheriv('aes-256-gcm', key, nonce).setAAD(aad).setAuthTag(sealed.subarray(-16));
  return Buffer.concat([decipher.update(sealed.subarray(0, -16)), decipher.final()]);
}

describe.each(ENGINE_NAMES)('a ciphertext that two keys open, in the %s engine', async (name) => {
  const subject = await engineUnderTest(name);

  beforeEach(({ skip }) => {
    if (subject.missing !== undefined) {
      skip(subject.missing);
    }
  });

  it.each([0, 1])('opens as a token under the key that its head names and no other, named key %i', (named) => {
    if (subject.missing !== undefined) {
      return;
    }
    const engine = subject.create();
    const handles = KEYS.map((key) => importKey(engine, Uint8Array.from(key), SEAL));
    const head = Buffer.concat([Buffer.from([0xc1, 1]), engine.kid(handles[named]!)]);
    const nonce = randomBytes(24);
    const subkeys = KEYS.map((key) => xaesSubkey(key, nonce)) as [Buffer, Buffer];
    const sealed = salamander(subkeys, nonce.subarray(12), head);
    const token = Buffer.concat([head, nonce, sealed]);
    // The cipher itself takes it under both.
    const plaintexts = KEYS.map((key) => subject.primitives.xaesOpen(key, nonce, head, sealed));
    expect(plaintexts.map((each) => each?.length)).toEqual([48, 48]);
    expect(plaintexts[0]).not.toEqual(plaintexts[1]);
    const opened = handles.map((handle) => {
      const out = new Uint8Array(token.length - TOKEN_OVERHEAD).fill(0x55);
      const ok = engine.open(handle, token, 0, 0, 0, token.length, out, 0);
      return { ok, zeros: out.every((byte) => byte === 0) };
    });
    expect(opened[named]).toEqual({ ok: true, zeros: false });
    expect(opened[1 - named]).toEqual({ ok: false, zeros: true });
    engine.close();
  });

  it('is refused as a message before any frame is opened, by whichever data key its header does not commit to', () => {
    if (subject.missing !== undefined) {
      return;
    }
    const engine = subject.create();
    const id = randomBytes(32);
    const bodyKeys = KEYS.map((key) =>
      Buffer.from(hkdfSync('sha512', key, id, Buffer.from('\x04\x78DERIVEKEY', 'latin1'), 32)),
    ) as [Buffer, Buffer];
    const nonce = Buffer.from('000000000000000000000001', 'hex');
    const length = Buffer.alloc(8);
    length.writeBigUInt64BE(48n);
    const aad = Buffer.concat([
      id,
      Buffer.from('AWSKMSEncryptionClient Final Frame'),
      Buffer.from([0, 0, 0, 1]),
      length,
    ]);
    const frame = salamander(bodyKeys, nonce, aad);
    const plaintexts = bodyKeys.map((key) => gcmOpened(key, nonce, aad, frame).toString('hex'));
    expect(plaintexts[0]).not.toBe(plaintexts[1]);
    const handles = KEYS.map((key) => importKey(engine, Uint8Array.from(key), DATA_KEY_USE));
    for (const named of [0, 1]) {
      const commitment = new Uint8Array(hkdfSync('sha512', KEYS[named]!, id, Buffer.from('COMMITKEY'), 32));
      const message = engine.resumeMessage(handles[named]!, 0x0478, id, 4096, commitment);
      engine.destroyKey(message);
      const used = engine.stats().used;
      expect(() => engine.resumeMessage(handles[1 - named]!, 0x0478, id, 4096, commitment)).toThrow(
        expect.objectContaining({ code: 'DECRYPTION_FAILED' }),
      );
      expect(engine.stats().used).toBe(used);
    }
    engine.close();
  });
});
