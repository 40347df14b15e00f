import { expect, it, onTestFinished } from 'vitest';
import { NodeEngine } from '../../src/crypto/node.ts';
import { CustodianKeystore } from '../../src/custody/custodian-keystore.ts';
import { Succession } from '../../src/custody/succession.ts';
import { recordLike } from '../contract/keystore.contract.ts';
import { UNABLE, until } from '../support/custodian/acting-custody.ts';
import { describeOwnServer, PostgresServer } from '../support/postgres.ts';
import { isRunning } from '../support/processes.ts';

describeOwnServer('a PostgreSQL keystore in a custodian', () => {
  it('that came back empty is refused by the next custodian too, and not made anew', async ({ skip }) => {
    skip(UNABLE !== undefined, UNABLE);
    const server = await PostgresServer.start();
    const engine = new NodeEngine();
    const custodians = new Succession({
      engine,
      targets: { role: 'keystore', keystores: { pg: { kind: 'postgres', postgres: server.settings } } },
      notice: () => undefined,
      times: { idle: 100 },
    });
    onTestFinished(async () => {
      await custodians.close();
      engine.close();
      await server.stop();
    });
    const keystore = await CustodianKeystore.open('pg', custodians);
    const record = recordLike({ name: 'a' });
    await keystore.store(record, { absent: true });
    const { pid } = custodians.standing;
    await until(() => !isRunning(pid), 5_000);

    // As after a failover to a server without the data: what has no tables would be given some.
    await server.sql('DROP SCHEMA dekd CASCADE');
    await expect(keystore.retrieve(record.kid)).rejects.toMatchObject({ code: 'KEYSTORE_UNAVAILABLE' });
    expect(await server.sql("SELECT 1 FROM pg_namespace WHERE nspname = 'dekd'")).toEqual([]);
    // An agent that starts now knows of nothing, and may make it.
    const fresh = await CustodianKeystore.open('pg', custodians);
    expect(await fresh.retrieve(record.kid)).toBeUndefined();
  });
});
