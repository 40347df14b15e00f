/** The stock AWS Encryption SDK for JavaScript, with a raw AES key: the same format as dekd's messages, suite 0x0478. */
import { randomBytes } from 'node:crypto';
import type { Duplex } from 'node:stream';
import {
  AlgorithmSuiteIdentifier,
  buildClient,
  CommitmentPolicy,
  RawAesKeyringNode,
  RawAesWrappingSuiteIdentifier,
} from '@aws-crypto/client-node';
import { CONTEXT } from './in-process.ts';

/** @returns what makes a stream that encrypts to messages with frames of this many bytes */
export function stockSealing(frameLength: number): () => Duplex {
  const { encryptStream } = buildClient(CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT);
  const unencryptedMasterKey = new Uint8Array(randomBytes(32));
  const keyring = new RawAesKeyringNode({
    keyName: 'bench',
    keyNamespace: 'dekd-bench',
    unencryptedMasterKey,
    wrappingSuite: RawAesWrappingSuiteIdentifier.AES256_GCM_IV12_TAG16_NO_PADDING,
  });
  return () =>
    encryptStream(keyring, {
      frameLength,
      encryptionContext: { ...CONTEXT },
      suiteId: AlgorithmSuiteIdentifier.ALG_AES256_GCM_IV12_TAG16_HKDF_SHA512_COMMIT_KEY,
    }) as Duplex;
}
