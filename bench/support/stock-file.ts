/** `stock-file.ts FROM TO`: the stock AWS Encryption SDK with a raw AES key, frames of 1 MiB, flushed at the end. */
import { randomBytes } from 'node:crypto';
import { closeSync, createReadStream, createWriteStream, fsyncSync, openSync } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import {
  AlgorithmSuiteIdentifier,
  buildClient,
  CommitmentPolicy,
  RawAesKeyringNode,
  RawAesWrappingSuiteIdentifier,
} from '@aws-crypto/client-node';
import { CONTEXT } from './in-process.ts';
import { MIB } from './scenarios.ts';

const [from, to] = process.argv.slice(2) as [string, string];
const { encryptStream } = buildClient(CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT);
const keyring = new RawAesKeyringNode({
  keyName: 'bench',
  keyNamespace: 'bench',
  unencryptedMasterKey: randomBytes(32),
  wrappingSuite: RawAesWrappingSuiteIdentifier.AES256_GCM_IV12_TAG16_NO_PADDING,
});
const encrypt = encryptStream(keyring, {
  encryptionContext: CONTEXT,
  frameLength: MIB,
  suiteId: AlgorithmSuiteIdentifier.ALG_AES256_GCM_IV12_TAG16_HKDF_SHA512_COMMIT_KEY,
});
await pipeline(createReadStream(from, { highWaterMark: MIB }), encrypt, createWriteStream(to, { highWaterMark: MIB }));
const fd = openSync(to, 'r+');
fsyncSync(fd);
closeSync(fd);
