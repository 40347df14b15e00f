/** Every adapter that a custodian runs, with its own library in it, against what these tests have of its service. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import type { ServiceRootConfig } from '../../src/config/config.ts';
import type { Engine } from '../../src/crypto/engine.ts';
import { NativeEngine } from '../../src/crypto/native.ts';
import { CustodianKeystore } from '../../src/custody/custodian-keystore.ts';
import { Custodians } from '../../src/custody/custodians.ts';
import { ProcessCustody } from '../../src/custody/process.ts';
import { type CustodianTimes, Succession } from '../../src/custody/succession.ts';
import { MemoryKeystore } from '../../src/keystores/memory.ts';
import { recordLike } from '../contract/keystore.contract.ts';
import { UNABLE, until } from '../support/custodian/acting-custody.ts';
import { describeDatabase, dropSchema, freshSchema, startDatabase } from '../support/postgres.ts';
import { isRunning } from '../support/processes.ts';
import { NEEDS_SOFTHSM, SOFTHSM, SoftHsm } from '../support/softhsm.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';
import { AppRoleAuth } from '../support/vault-server/auth-approle.ts';
import { settingsFor, startVault } from '../support/vault-server/fixture.ts';

const CONTEXT = { tenant: 'acme' };

beforeEach(({ skip }) => {
  if (UNABLE !== undefined) {
    skip(UNABLE);
  }
});

function newEngine(): Engine {
  const engine = new NativeEngine();
  onTestFinished(() => engine.close());
  return engine;
}

async function openRoot(engine: Engine, root: ServiceRootConfig, times?: CustodianTimes | Partial<CustodianTimes>) {
  const keystore = new MemoryKeystore();
  const warn = () => undefined;
  const custodians = Custodians.start({ engine, roots: [root], keystores: new Map(), notice: warn, times });
  onTestFinished(() => custodians.close());
  const custody = await ProcessCustody.open({ engine, roots: [root], keystore, warn, custodians });
  onTestFinished(() => custody.close());
  return custody;
}

async function roundTrip(engine: Engine, { defaultRoot: root }: ProcessCustody): Promise<void> {
  const secret = engine.generateKey({ algorithm: 'hkdf-sha-256', purpose: 'wrap' });
  const { wrapped, reference } = await root.wrap(secret, CONTEXT);
  const again = await root.unwrap(wrapped, reference, CONTEXT);
  expect(engine.kid(again)).toEqual(engine.kid(secret));
}

describe('vault-transit in custodians', () => {
  it('logs in once for all of them, and revokes its token when the last one ends', async () => {
    const { vault } = await startVault();
    const auth = new AppRoleAuth(vault);
    const roleId = auth.role('app', { policies: ['default', 'dekd'], ttl: 3_600, renewable: true });
    const secretIdFile = join(temporaryFolder(), 'secret-id');
    writeFileSync(secretIdFile, auth.secretId('app', { numUses: 1 }));
    const engine = newEngine();
    const custody = await openRoot(
      engine,
      {
        name: 'vault',
        formerly: [],
        provider: 'vault-transit',
        transit: { mount: 'transit', key: 'root' },
        vault: settingsFor(vault.address, {
          auth: {
            method: 'approle',
            mount: 'approle',
            roleId,
            roleIdFile: undefined,
            secretIdFile,
            secretIdWrapped: false,
            secretIdAws: undefined,
          },
        }),
      },
      { idle: 300 },
    );
    for (let round = 0; round < 3; round++) {
      await roundTrip(engine, custody);
      const { pid } = custody.custodians()[0]!;
      await until(() => !isRunning(pid), 3_000);
      expect(vault.tokens.revoked).toEqual([]);
    }
    const logins = vault.requests.filter(({ path }) => path.endsWith('auth/approle/login'));
    expect(logins).toHaveLength(1);
    expect(custody.custodians()[0]).toMatchObject({ started: 3, crashes: 0 });
    await custody.close();
    expect(vault.tokens.revoked).toHaveLength(1);
  });
});

describe('pkcs11 in custodians', () => {
  it('wraps and unwraps on the token, in one custodian after the other', async ({ skip }) => {
    skip(SOFTHSM === undefined, NEEDS_SOFTHSM);
    const hsm = new SoftHsm([{ label: 'dekd', keys: [{ label: 'root', id: '01' }] }]);
    onTestFinished(() => hsm.remove());
    const engine = newEngine();
    const pkcs11 = hsm.settings({ key: 'root', mechanism: 'aes-gcm', mechanismNumber: undefined });
    const custody = await openRoot(engine, { name: 'hsm', formerly: [], provider: 'pkcs11', pkcs11 }, { idle: 300 });
    for (let round = 0; round < 2; round++) {
      await roundTrip(engine, custody);
      const { pid } = custody.custodians()[0]!;
      await until(() => !isRunning(pid), 5_000);
    }
    expect(custody.custodians()[0]).toMatchObject({ started: 2, crashes: 0 });
  });
});

describeDatabase('postgres in custodians', () => {
  it('keeps rows from one custodian to the next', async () => {
    const database = await startDatabase();
    onTestFinished(() => database.stop());
    const schema = freshSchema();
    onTestFinished(() => dropSchema(database, schema));
    const keystores = { default: { kind: 'postgres', postgres: { ...database.settings, schema } } } as const;
    const targets = { role: 'keystore', keystores } as const;
    const custodians = new Succession({ engine: newEngine(), targets, notice: () => undefined, times: { idle: 300 } });
    onTestFinished(() => custodians.close());
    const keystore = await CustodianKeystore.open('default', custodians);
    const record = recordLike({ name: 'a' });
    await keystore.store(record, { absent: true });
    const { pid } = custodians.standing;
    await until(() => !isRunning(pid), 3_000);
    expect((await keystore.retrieve(record.kid))?.seq).toBe(record.seq);
    await expect(keystore.store(record, { absent: true })).rejects.toMatchObject({ code: 'CONFLICT' });
    expect(custodians.standing).toMatchObject({ started: 2, crashes: 0 });
  });
});
