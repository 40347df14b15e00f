/** A provider behind a custodian is a provider like any other: here AWS KMS, the SDK against the stand-in. */
import { loadBinding } from '../../src/addon/binding.ts';
import { NativeEngine } from '../../src/crypto/native.ts';
import { CustodianProvider } from '../../src/custody/custodian-provider.ts';
import { Succession } from '../../src/custody/succession.ts';
import { KmsServer } from '../support/kms-server/kms-server.ts';
import { kmsSettings } from '../support/kms-server/kms-settings.ts';
import { providerContract } from './provider.contract.ts';

if (loadBinding().binding !== undefined) {
  providerContract('aws-kms in a custodian', async () => {
    const kms = await KmsServer.start();
    const restore = kms.enter();
    const engine = new NativeEngine();
    const root = () => ({
      name: 'aws',
      formerly: [],
      provider: 'aws-kms' as const,
      aws: kmsSettings(kms, { key: kms.createKey().arn }),
    });
    // One custodian for each: the contract's two roots have one name.
    const lines = [root(), root()].map(
      (each) => new Succession({ engine, targets: { role: 'provider', roots: [each] }, notice: () => undefined }),
    );
    return {
      engine,
      provider: new CustodianProvider('aws', lines[0]!),
      other: new CustodianProvider('aws', lines[1]!),
      cleanUp: async () => {
        await Promise.all(lines.map((line) => line.close()));
        engine.close();
        restore();
        await kms.stop();
      },
    };
  });
}
