import { afterAll, beforeAll, beforeEach } from 'vitest';
import { NodeEngine } from '../../src/crypto/node.ts';
import { InlineHandleProvider } from '../../src/custody/inline-provider.ts';
import { Pkcs11Provider } from '../../src/providers/pkcs11.ts';
import { NEEDS_SOFTHSM, SOFTHSM, SOFTHSM_KWP, SoftHsm } from '../support/softhsm.ts';
import { providerContract } from './provider.contract.ts';

let hsm: SoftHsm;

beforeAll(() => {
  if (SOFTHSM !== undefined) {
    hsm = new SoftHsm([
      {
        label: 'dekd',
        keys: [
          { label: 'root', id: '01' },
          { label: 'other', id: '02' },
        ],
      },
    ]);
  }
});

beforeEach(({ skip }) => skip(SOFTHSM === undefined, NEEDS_SOFTHSM));

afterAll(() => hsm?.remove());

for (const { mechanism, mechanismNumber } of [
  { mechanism: 'aes-gcm', mechanismNumber: undefined },
  { mechanism: 'aes-kwp', mechanismNumber: SOFTHSM_KWP },
] as const) {
  providerContract(`pkcs11 ${mechanism}`, async () => {
    const engine = new NodeEngine();
    const make = (key: string) => {
      const settings = hsm.settings({ key, mechanism, mechanismNumber });
      return new InlineHandleProvider(new Pkcs11Provider({ root: 'hsm', settings }), engine);
    };
    return { engine, provider: make('root'), other: make('other'), cleanUp: async () => engine.close() };
  });
}
