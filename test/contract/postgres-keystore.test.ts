import { afterAll, beforeAll } from 'vitest';
import { PostgresKeystore } from '../../src/keystores/postgres.ts';
import { type DatabaseAccess, describeDatabase, dropSchema, freshSchema, startDatabase } from '../support/postgres.ts';
import { keystoreContract } from './keystore.contract.ts';

describeDatabase('postgres', () => {
  let database: DatabaseAccess;

  beforeAll(async () => {
    database = await startDatabase();
  }, 60_000);

  afterAll(() => database?.stop());

  keystoreContract('postgres', async () => {
    const settings = { ...database.settings, schema: freshSchema() };
    return {
      keystore: await PostgresKeystore.open(settings),
      reopen: () => PostgresKeystore.open(settings),
      cleanUp: () => dropSchema(database, settings.schema),
    };
  });
});
