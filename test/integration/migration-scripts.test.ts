import { spawn } from 'node:child_process';
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { connect, type DekdClient } from '../../src/client/index.ts';
import { childEnvironment, NODE, startTestAgent, type TestAgent } from '../support/agent.ts';
import { KmsServer } from '../support/kms-server/kms-server.ts';
import { legacyVectors, legacyYaml } from '../support/legacy-vectors.ts';
import { type DatabaseAccess, describeDatabase, dropSchema, freshSchema, startDatabase } from '../support/postgres.ts';
import { makeFolder, removeFolder } from '../support/temporary-folder.ts';
import { StandInVault } from '../support/vault-server/server.ts';
import { TransitEngine } from '../support/vault-server/transit.ts';

const SCRIPTS = fileURLToPath(new URL('../../examples/migration/', import.meta.url));
const DOORS = fileURLToPath(new URL('../support/source-doors.mjs', import.meta.url));
const RULES = `
    - { name: script, callers: { socket: data }, keys: customers, operations: [encrypt, decrypt, migrateLegacy], create: { max: 100 } }`;

interface Counts {
  readonly examined: number;
  readonly migrated: number;
  readonly failed: number;
  readonly changedMeanwhile: number;
  readonly dryRun: boolean;
  readonly stopped: boolean;
}

interface Ran {
  readonly code: number | null;
  readonly counts: Counts | undefined;
  readonly said: string;
}

interface AsherahVectors {
  readonly masterKeyHex: string;
  readonly keys: readonly { id: string; created: string; record: { Created: number; Key: string } }[];
  readonly records: readonly { partition: string; plaintext: string; record: unknown }[];
}

describeDatabase('the scripts of examples/migration', () => {
  let database: DatabaseAccess;
  let admin: pg.Client;
  let schema: string;
  let folder: string;
  let agent: TestAgent;
  let dekd: DekdClient;

  beforeAll(async () => {
    database = await startDatabase();
    admin = await database.admin();
  }, 60_000);

  afterAll(async () => {
    await admin?.end();
    await database?.stop();
  });

  beforeEach(async () => {
    schema = freshSchema();
    await admin.query(`CREATE SCHEMA "${schema}"`);
    folder = makeFolder();
    agent = await startTestAgent({ folder, yaml: legacyYaml(folder, RULES) });
    dekd = connect({ socket: agent.socket });
  });

  afterEach(async () => {
    await dekd.close();
    await agent.stop();
    removeFolder(folder);
    await dropSchema(database, schema);
  });

  async function run(
    script: string,
    args: readonly string[],
    env: NodeJS.ProcessEnv = {},
    during?: () => unknown,
  ): Promise<Ran> {
    const { child, finished } = begin(script, args, env);
    await during?.();
    const ran = await finished;
    expect(child.exitCode).toBe(ran.code);
    return ran;
  }

  function begin(script: string, args: readonly string[], env: NodeJS.ProcessEnv = {}) {
    const common = ['--database', database.settings.url!, '--table', `${schema}.users`, '--key', 'customers'];
    const child = spawn(NODE, ['--import', DOORS, join(SCRIPTS, script), ...common, ...args], {
      env: { ...childEnvironment(), DEKD_SOCKET: agent.socket, ...env },
    });
    let printed = '';
    let said = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      printed += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    const finished = once(child, 'close').then(([code]): Ran => {
      const counts = printed === '' ? undefined : (JSON.parse(printed) as Counts);
      return { code: code as number | null, counts, said };
    });
    return { child, finished, said: () => said };
  }

  const tokens = async (): Promise<Map<string, string | null>> => {
    const { rows } = await admin.query<{ id: string; token: string | null }>(
      `SELECT id::text, token FROM "${schema}".users ORDER BY id`,
    );
    return new Map(rows.map(({ id, token }) => [id, token]));
  };

  /** What the application reads of a row. */
  const readBack = (id: string, token: string, partition?: string): Promise<string> =>
    dekd.decryptText(token, {
      key: 'customers',
      partition,
      context: { table: `${schema}.users`, column: 'token', row: id },
    });

  /** Rows that an application sealed itself, in three columns. */
  async function sealedRows(count: number): Promise<void> {
    await admin.query(
      `CREATE TABLE "${schema}".users (id bigint PRIMARY KEY, tenant text, iv bytea, ciphertext bytea, tag bytea, token text)`,
    );
    const key = Buffer.from(legacyVectors.keys.v1!, 'base64');
    for (let id = 1; id <= count; id++) {
      const iv = randomBytes(12);
      const cipher = createCipheriv('aes-256-gcm', key, iv);
      const ciphertext = Buffer.concat([cipher.update(`user ${id} of canary-4711`), cipher.final()]);
      await admin.query(`INSERT INTO "${schema}".users VALUES ($1, $2, $3, $4, $5)`, [
        id,
        id % 2 === 0 ? 'acme' : null,
        iv,
        ciphertext,
        cipher.getAuthTag(),
      ]);
    }
  }

  const COLUMNS = ['--kid', 'v1', '--iv', 'iv', '--ciphertext', 'ciphertext', '--tag', 'tag'];

  it('move columns of node:crypto without their key or a plaintext, and a second run finds nothing left', async () => {
    await sealedRows(25);
    const args = [...COLUMNS, '--partition-column', 'tenant', '--batch', '10'];
    const tried = await run('node-crypto-columns.mjs', [...args, '--dry-run']);
    expect(tried).toMatchObject({ code: 0, counts: { examined: 25, migrated: 25, failed: 0, dryRun: true } });
    expect([...(await tokens()).values()].every((token) => token === null)).toBe(true);
    const ran = await run('node-crypto-columns.mjs', args);
    expect(ran).toMatchObject({ code: 0, counts: { examined: 25, migrated: 25, failed: 0, changedMeanwhile: 0 } });
    expect(ran.said).not.toContain('canary');
    for (const [id, token] of await tokens()) {
      const partition = Number(id) % 2 === 0 ? 'acme' : undefined;
      expect(await readBack(id, token!, partition)).toBe(`user ${id} of canary-4711`);
    }
    const again = await run('node-crypto-columns.mjs', args);
    expect(again.counts).toMatchObject({ examined: 0, migrated: 0 });
  }, 60_000);

  it('name what does not open, do all the rest, and take it up again when it was mended', async () => {
    await sealedRows(6);
    await admin.query(`UPDATE "${schema}".users SET tag = set_byte(tag, 0, get_byte(tag, 0) # 1) WHERE id = 3`);
    await admin.query(`UPDATE "${schema}".users SET iv = '\\x00' WHERE id = 4`);
    const ran = await run('node-crypto-columns.mjs', COLUMNS);
    expect(ran).toMatchObject({ code: 1, counts: { examined: 6, migrated: 4, failed: 2 } });
    expect(ran.said).toContain('row 3: DECRYPTION_FAILED');
    expect(ran.said).toContain('row 4: INVALID_ARGUMENT: an envelope has an iv of 12 bytes');
    await admin.query(`UPDATE "${schema}".users SET tag = set_byte(tag, 0, get_byte(tag, 0) # 1) WHERE id = 3`);
    expect(await run('node-crypto-columns.mjs', COLUMNS)).toMatchObject({
      code: 1,
      counts: { examined: 2, migrated: 1 },
    });
    expect(await readBack('3', (await tokens()).get('3')!)).toContain('user 3');
  }, 60_000);

  it('go on where they were killed, and leave a row alone that somebody wrote meanwhile', async () => {
    await sealedRows(60);
    const begun = begin('node-crypto-columns.mjs', [...COLUMNS, '--batch', '1']);
    while ([...(await tokens()).values()].filter((token) => token !== null).length < 5) {
      await sleep(5);
    }
    begun.child.kill('SIGKILL');
    await begun.finished;
    const done = [...(await tokens()).values()].filter((token) => token !== null).length;
    expect(done).toBeLessThan(60);
    const before = await tokens();
    // One row is held by a writer while the script makes its token.
    const writer = await database.admin();
    await writer.query('BEGIN');
    await writer.query(`UPDATE "${schema}".users SET tenant = 'moved' WHERE id = 60`);
    const ran = await run('node-crypto-columns.mjs', COLUMNS, {}, async () => {
      const waiting =
        "SELECT 1 FROM pg_stat_activity WHERE application_name = 'dekd migration' AND wait_event_type = 'Lock'";
      while ((await admin.query(waiting)).rowCount === 0) {
        await sleep(5);
      }
      await writer.query('COMMIT');
      await writer.end();
    });
    expect(ran.counts).toMatchObject({ examined: 60 - done, migrated: 59 - done, changedMeanwhile: 1 });
    expect((await tokens()).get('60')).toBeNull();
    for (const [id, token] of before) {
      expect(token === null || token === (await tokens()).get(id)).toBe(true);
    }
    expect((await run('node-crypto-columns.mjs', COLUMNS)).counts).toMatchObject({ examined: 1, migrated: 1 });
  }, 60_000);

  it('say how they are called', async () => {
    expect(await run('node-crypto-columns.mjs', ['--kid', 'v1'])).toMatchObject({ code: 2, said: '--iv is missing\n' });
    expect(await run('node-crypto-columns.mjs', [...COLUMNS, '--batch', '0'])).toMatchObject({ code: 2 });
    expect(await run('vault-transit.mjs', ['--column', 'c', '--transit-key', 'k'])).toMatchObject({ code: 2 });
    expect(await run('asherah.mjs', ['--column', 'c'])).toMatchObject({ code: 2 });
  }, 60_000);

  it('move ciphertexts of Transit, of every version of its key, by the batch (against a stand-in)', async () => {
    const vault = await StandInVault.start();
    try {
      const transit = new TransitEngine();
      vault.mount('transit', transit);
      transit.create('app');
      vault.policies.set('migration', { 'transit/decrypt/app': ['update'] });
      const token = vault.tokens.issue({ policies: ['migration'], ttl: 600 }).id;
      await admin.query(`CREATE TABLE "${schema}".users (id uuid PRIMARY KEY, email text, token text)`);
      const plain = new Map<string, string>();
      for (let i = 0; i < 12; i++) {
        if (i === 6) {
          transit.rotate('app');
        }
        const email = i === 0 ? '' : `ada+${i}@example.org`;
        const response = await fetch(`${vault.address}/v1/transit/encrypt/app`, {
          method: 'POST',
          headers: { 'x-vault-token': vault.rootToken, 'x-vault-request': 'true' },
          body: JSON.stringify({ plaintext: Buffer.from(email).toString('base64') }),
        });
        const { data } = (await response.json()) as { data: { ciphertext: string } };
        const id = `00000000-0000-4000-8000-0000000000${String(i).padStart(2, '0')}`;
        plain.set(id, email);
        await admin.query(`INSERT INTO "${schema}".users VALUES ($1, $2)`, [id, data.ciphertext]);
      }
      const broken = '00000000-0000-4000-8000-000000000099';
      await admin.query(`INSERT INTO "${schema}".users VALUES ($1, $2), ($3, NULL)`, [
        broken,
        'vault:v1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=',
        '00000000-0000-4000-8000-000000000098',
      ]);
      const requests = vault.requests.length;
      const env = { VAULT_ADDR: vault.address, VAULT_TOKEN: token };
      const ran = await run('vault-transit.mjs', ['--column', 'email', '--transit-key', 'app', '--batch', '5'], env);
      expect(ran).toMatchObject({ code: 1, counts: { examined: 13, migrated: 12, failed: 1 } });
      expect(ran.said).toContain(`row ${broken}: error:`);
      // Three batches, three calls.
      expect(vault.requests.length - requests).toBe(3);
      for (const [id, made] of await tokens()) {
        const email = plain.get(id);
        expect(made === null ? undefined : await readBack(id, made)).toBe(email);
      }
      const denied = await run('vault-transit.mjs', ['--column', 'email', '--transit-key', 'other'], env);
      expect(denied).toMatchObject({ code: 1, counts: undefined });
      expect(denied.said).toContain('Transit answered 403');
    } finally {
      await vault.stop();
    }
  }, 60_000);

  it('move records that Asherah itself made, under a static master key, and none of another partition', async () => {
    const { masterKeyHex, keys, records } = asherah();
    writeFileSync(join(folder, 'master.hex'), `${masterKeyHex}\n`, { mode: 0o600 });
    await asherahTables(keys, records);
    const args = ['--column', 'record', '--key-table', `${schema}.encryption_key`, '--partition-column', 'tenant'];
    const ran = await run('asherah.mjs', [...args, '--master-key-file', join(folder, 'master.hex')]);
    expect(ran).toMatchObject({
      code: 1,
      counts: { examined: records.length + 1, migrated: records.length, failed: 1 },
    });
    expect(ran.said).toContain('the record is of _IK_acme_shop_orders, not of partition globex');
    await expectAsherah(records);
    writeFileSync(join(folder, 'wrong.hex'), '11'.repeat(32), { mode: 0o600 });
    await admin.query(`UPDATE "${schema}".users SET token = NULL`);
    const wrong = await run('asherah.mjs', [...args, '--master-key-file', join(folder, 'wrong.hex')]);
    expect(wrong).toMatchObject({ code: 1, counts: { migrated: 0, failed: records.length + 1 } });
  }, 60_000);

  it('move no record of Asherah whose partition only begins like that of the row', async () => {
    const { masterKeyHex, keys, records } = asherah();
    writeFileSync(join(folder, 'master.hex'), `${masterKeyHex}\n`, { mode: 0o600 });
    const ofAcme = keys.find(({ id }) => id === '_IK_acme_shop_orders')!;
    await asherahTables([...keys, { ...ofAcme, id: '_IK_acme_west_shop_orders' }], records);
    const foreign = JSON.stringify(records[0]!.record).replace('_IK_acme_', '_IK_acme_west_');
    for (const [id, tenant] of [
      [100, 'acme'],
      [101, 'acme_west'],
    ]) {
      await admin.query(`INSERT INTO "${schema}".users VALUES ($1, $2, $3)`, [id, tenant, foreign]);
    }
    const args = ['--column', 'record', '--key-table', `${schema}.encryption_key`, '--partition-column', 'tenant'];
    const ran = await run('asherah.mjs', [...args, '--master-key-file', join(folder, 'master.hex')]);
    expect(ran.said).toContain('row 100: error: the record is of _IK_acme_west_shop_orders, not of partition acme\n');
    expect(ran).toMatchObject({ counts: { migrated: records.length + 1, failed: 2 } });
  }, 60_000);

  it('move records of Asherah whose system key is under AWS KMS (against a stand-in, the envelope as its documents say)', async () => {
    const kms = await KmsServer.start();
    try {
      const { masterKeyHex, keys, records } = asherah();
      const { arn } = kms.createKey();
      const { KMSClient, GenerateDataKeyCommand } = await import('@aws-sdk/client-kms');
      const environment = kms.environment();
      const client = new KMSClient({
        region: environment.AWS_REGION!,
        endpoint: kms.endpoint,
        credentials: {
          accessKeyId: environment.AWS_ACCESS_KEY_ID!,
          secretAccessKey: environment.AWS_SECRET_ACCESS_KEY!,
        },
      });
      const made = await client.send(new GenerateDataKeyCommand({ KeyId: arn, KeySpec: 'AES_256' }));
      client.destroy();
      const inKms = keys.map((each) => {
        if (!each.id.startsWith('_SK_')) {
          return each;
        }
        const systemKey = open(Buffer.from(masterKeyHex, 'hex'), each.record.Key);
        const envelope = {
          encryptedKey: wrap(made.Plaintext!, systemKey).toString('base64'),
          kmsKeks: [
            { region: 'us-east-9', arn: 'arn:aws:kms:us-east-9:1:key/x', encryptedKek: 'AAAA' },
            { region: environment.AWS_REGION, arn, encryptedKek: Buffer.from(made.CiphertextBlob!).toString('base64') },
          ],
        };
        return { ...each, record: { ...each.record, Key: Buffer.from(JSON.stringify(envelope)).toString('base64') } };
      });
      await asherahTables(inKms, records);
      const args = ['--column', 'record', '--key-table', `${schema}.encryption_key`, '--partition-column', 'tenant'];
      const env = { ...environment, AWS_ENDPOINT_URL_KMS: kms.endpoint };
      const elsewhere = await run('asherah.mjs', [...args, '--aws-region', 'us-west-9'], env);
      expect(elsewhere.said).toContain('not for us-west-9');
      const ran = await run('asherah.mjs', [...args, '--aws-region', environment.AWS_REGION!], env);
      expect(ran).toMatchObject({ counts: { migrated: records.length, failed: 1 } });
      await expectAsherah(records);
      expect(kms.count('Decrypt')).toBe(1);
    } finally {
      await kms.stop();
    }
  }, 60_000);

  function asherah(): AsherahVectors {
    return JSON.parse(
      readFileSync(new URL('../vectors/legacy/asherah.json', import.meta.url), 'utf8'),
    ) as AsherahVectors;
  }

  /** The metastore and the records, and one of them in the row of another partition. */
  async function asherahTables(keys: AsherahVectors['keys'], records: AsherahVectors['records']): Promise<void> {
    await admin.query(
      `CREATE TABLE "${schema}".encryption_key (id text, created timestamp, key_record jsonb, PRIMARY KEY (id, created))`,
    );
    for (const { id, created, record } of keys) {
      await admin.query(`INSERT INTO "${schema}".encryption_key VALUES ($1, $2, $3)`, [
        id,
        created,
        JSON.stringify(record),
      ]);
    }
    await admin.query(`CREATE TABLE "${schema}".users (id int PRIMARY KEY, tenant text, record jsonb, token text)`);
    const stray = { ...records[0]!, partition: 'globex' };
    for (const [id, { partition, record }] of [...records, stray].entries()) {
      await admin.query(`INSERT INTO "${schema}".users VALUES ($1, $2, $3)`, [id, partition, JSON.stringify(record)]);
    }
  }

  async function expectAsherah(records: AsherahVectors['records']): Promise<void> {
    for (const [id, token] of await tokens()) {
      const record = records[Number(id)];
      expect(token === null ? undefined : await readBack(id, token, record!.partition)).toBe(record?.plaintext);
    }
  }
});

/** As Asherah wraps: ciphertext, tag, nonce. */
function wrap(key: Uint8Array, data: Uint8Array): Buffer {
  const nonce = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', key, nonce);
  return Buffer.concat([cipher.update(data), cipher.final(), cipher.getAuthTag(), nonce]);
}

function open(key: Uint8Array, wrapped: string): Buffer {
  const bytes = Buffer.from(wrapped, 'base64');
  const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(-12));
  decipher.setAuthTag(bytes.subarray(-28, -12));
  return Buffer.concat([decipher.update(bytes.subarray(0, -28)), decipher.final()]);
}
