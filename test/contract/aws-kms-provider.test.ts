import { NodeEngine } from '../../src/crypto/node.ts';
import { InlineHandleProvider } from '../../src/custody/inline-provider.ts';
import { openAwsKms } from '../../src/providers/aws-kms.ts';
import { KmsServer } from '../support/kms-server/kms-server.ts';
import { kmsSettings } from '../support/kms-server/kms-settings.ts';
import { providerContract } from './provider.contract.ts';

providerContract('aws-kms', async () => {
  const kms = await KmsServer.start();
  const restore = kms.enter();
  const engine = new NodeEngine();
  const open = async () => {
    const settings = kmsSettings(kms, { key: kms.createKey().arn });
    return new InlineHandleProvider(await openAwsKms('aws', settings), engine);
  };
  return {
    engine,
    provider: await open(),
    other: await open(),
    cleanUp: async () => {
      engine.close();
      restore();
      await kms.stop();
    },
  };
});
