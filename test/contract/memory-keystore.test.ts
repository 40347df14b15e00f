import { MemoryKeystore } from '../../src/keystores/memory.ts';
import { keystoreContract } from './keystore.contract.ts';

keystoreContract('memory', async () => ({ keystore: new MemoryKeystore(), cleanUp: async () => undefined }));
