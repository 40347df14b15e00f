import { describe, expect, it } from 'vitest';
import type { DekdClient } from '../../src/client/index.ts';
import { EncryptionService, type HashAlgorithm } from '../../src/service/index.ts';

/** FIPS 180-4 and FIPS 202, examples of NIST for "abc", and the digests of nothing. */
const VECTORS: readonly (readonly [HashAlgorithm, abc: string, nothing: string])[] = [
  [
    'sha-256',
    'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
    'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
  ],
  [
    'sha-384',
    'cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7',
    '38b060a751ac96384cd9327eb1b1e36a21fdb71114be07434c0cc7bf63f6e1da274edebfe76f65fbd51ad2f14898b95b',
  ],
  [
    'sha-512',
    'ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f',
    'cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e',
  ],
  [
    'sha3-256',
    '3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532',
    'a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a',
  ],
  [
    'sha3-384',
    'ec01498288516fc926459f58e2c6ad8df9b473cb0fc08c2596da7cf0e49be4b298d88cea927ac7f539f1edf228376d25',
    '0c63a75b845e4f7d01107d852e4c2485c51a50aaaa94fc61995e71bbee983a2ac3713831264adb47fb6bd1e058d5f004',
  ],
  [
    'sha3-512',
    'b751850b1a57168a5693cd924b6b096e08f621827444f70d884f5d0240d2712e10e116e9192af3c91a7ec57647e3934057340b4cf408d5a56592f8274eec53f0',
    'a69f73cca23a9ac5c8b567dc185a756e97c982164fe25859e0d1dcc1475c80a615b2123af1f5f94c11e3e9402c3ac558f500199d95b6d3e301758586281dcd26',
  ],
];

const NONE = {} as DekdClient;

function service(client = NONE): EncryptionService {
  return new EncryptionService({ key: 'k', client });
}

describe('checksums', () => {
  it.each(VECTORS)('%s are those that NIST gives', async (algorithm, abc, nothing) => {
    expect(await service().generateHash('abc', algorithm)).toBe(abc);
    expect(await service().generateHash(Buffer.from('abc'), algorithm)).toBe(abc);
    expect(await service().generateHash('', algorithm)).toBe(nothing);
    expect(await service().verifyHash('abc', abc, algorithm)).toBe(true);
    expect(await service().verifyHash('abc', abc.toUpperCase(), algorithm)).toBe(true);
    expect(await service().verifyHash('abd', abc, algorithm)).toBe(false);
  });

  it('are not equal to what is no such digest, and that is no error', async () => {
    const [, abc] = VECTORS[0]!;
    for (const hash of [
      '',
      abc.slice(2),
      `${abc}00`,
      `${abc.slice(0, 62)}zz`,
      VECTORS[3]![1],
      VECTORS[2]![1],
      '💥'.repeat(32),
    ]) {
      expect(await service().verifyHash('abc', hash, 'sha-256'), hash).toBe(false);
    }
  });

  it('of an algorithm that is not known are UNSUPPORTED, naming it and those there are', async () => {
    for (const algorithm of ['md5', 'SHA-256', 'sha256', '__proto__', 'toString', '']) {
      const error = {
        code: 'UNSUPPORTED',
        message: `generateHash: the algorithm ${JSON.stringify(algorithm)} is not known; there are hmac-sha-256, sha-256, sha-384, sha-512, sha3-256, sha3-384, sha3-512`,
      };
      await expect(service().generateHash('x', algorithm as HashAlgorithm)).rejects.toMatchObject(error);
      await expect(service().verifyHash('x', 'y', algorithm as HashAlgorithm)).rejects.toMatchObject({
        ...error,
        message: error.message.replace('generateHash', 'verifyHash'),
      });
    }
  });

  it('are of texts and bytes, and of nothing else', async () => {
    for (const value of [undefined, null, 7, {}, '\ud800']) {
      await expect(service().generateHash(value as string, 'sha-256')).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
      });
    }
    await expect(service().verifyHash('x', undefined as unknown as string, 'sha-256')).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
  });
});

describe('a keyed hash', () => {
  it('is the MAC of the client as text, asked for with key, partition and context', async () => {
    const asked: unknown[] = [];
    const client = {
      hmacText: async (data: Uint8Array, options: unknown) => {
        asked.push([Buffer.from(data).toString(), options]);
        return 'dm1.x';
      },
      verifyHmac: async (data: Uint8Array, mac: string, options: unknown) => {
        asked.push([Buffer.from(data).toString(), mac, options]);
        return mac === 'dm1.x';
      },
    } as unknown as DekdClient;
    const hashes = new EncryptionService({ key: 'k', partition: 'acme', context: { app: 'shop' }, client });
    const binding = { key: 'k', partition: 'acme', context: { app: 'shop', use: 'dedupe' } };
    const options = { context: { use: 'dedupe' } };
    expect(await hashes.generateHash('x', 'hmac-sha-256', options)).toBe('dm1.x');
    expect(await hashes.verifyHash('x', 'dm1.x', undefined, options)).toBe(true);
    expect(await hashes.verifyHash('x', 'ba7816bf', undefined, options)).toBe(false);
    expect(asked).toMatchObject([
      ['x', binding],
      ['x', 'dm1.x', binding],
      ['x', 'ba7816bf', binding],
    ]);
  });
});
