/**
 * An agent of nothing but custody over an acting custodian, for tests that stop or kill it. It makes a call that reveals
 * a secret, leaves some under way where it is to be busy, and then says the process of its custodian.
 */
import type { CustodianTimes } from '../../../src/custody/succession.ts';
import { ACTING, openActing, pidOf } from './acting-custody.ts';

const { busy, times } = JSON.parse(process.argv[2]!) as { busy: boolean; times: Partial<CustodianTimes> };
const acting = await openActing({ entry: ACTING, times });
const { custody, engine } = acting;
const secret = engine.generateKey({ algorithm: 'hkdf-sha-256', purpose: 'wrap' });
await custody.defaultRoot.wrap(secret, {});
if (busy) {
  for (let call = 0; call < 10; call++) {
    void custody.defaultRoot.wrap(secret, { act: 'deaf' }).catch(() => {});
  }
}
process.stdout.write(`${pidOf(acting)}\n`);
