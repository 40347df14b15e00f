import { writeFile } from 'node:fs/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { KeyRecord } from '../../src/keyring/record.ts';
import { BundleKeystore } from '../../src/keystores/bundle.ts';
import { readExport, writeExport } from '../../src/keystores/export-document.ts';
import { MemoryKeystore } from '../../src/keystores/memory.ts';
import { decodeRecord, encodeRecord, type RecordJson } from '../../src/keystores/record-codec.ts';
import { plain, recordLike } from '../contract/keystore.contract.ts';
import { Sandbox, type World } from './keyring-fixture.ts';

describe('Keyring backup', () => {
  let sandbox: Sandbox;

  beforeEach(async () => {
    sandbox = await Sandbox.make();
  });

  afterEach(() => sandbox.cleanUp());

  async function exported(world: World): Promise<KeyRecord[]> {
    const records: KeyRecord[] = [];
    for await (const record of world.keyring.exportRecords()) {
      records.push(record);
    }
    return records;
  }

  it('opens everything in an empty keystore after export and import, whatever the order of the records', async () => {
    sandbox.writeRoot('tenants.key');
    const options = {
      placement: {
        levels: ['tenant', 'service'] as const,
        rootOf: ({ tenant }: { tenant: string }) => (tenant === '' ? undefined : 'tenants.key'),
      },
      extraRoots: ['tenants.key'],
    };
    const world = await sandbox.world(options);
    const tokens = new Map<Uint8Array, string>();
    for (const partition of ['', 'acme']) {
      for (let i = 0; i < 5; i++) {
        tokens.set(await world.sealed('a', `${partition} ${i}`, partition), `${partition} ${i}`);
        await world.keyring.rotate({ name: 'a', partition, purpose: 'seal' });
      }
    }
    await world.keyring.create({ name: 'a', partition: '', purpose: 'mac' });
    await world.keyring.destroy('a', '', 1, 'seal');
    const records = await exported(world);
    const backwards = records.toSorted((a, b) => b.level - a.level);
    const fresh = await sandbox.world(options);
    const first = await fresh.keyring.importRecords(backwards, { acceptRollback: false });
    expect(first).toEqual({ imported: records.length, unchanged: 0, refused: [] });
    const second = await fresh.keyring.importRecords(records, { acceptRollback: false });
    expect(second).toEqual({ imported: 0, unchanged: records.length, refused: [] });
    for (const [token, text] of tokens) {
      const open = fresh.open(token);
      await (text === ' 0'
        ? expect(open).rejects.toMatchObject({ code: 'KEY_DISABLED' })
        : expect(open).resolves.toBe(text));
    }
    expect((await fresh.keyring.prepareSealing('a', 'acme', 'x', undefined)).version).toBe(6);
    expect((await exported(fresh)).map(plain)).toEqual(records.map(plain));
  });

  it('refuses what was changed in the export, and imports the rest', async () => {
    const world = await sandbox.world();
    const bad = await world.sealed('bad', 'x');
    const good = await world.sealed('good', 'x');
    const records = (await exported(world)).map((record) =>
      record.name === 'bad' ? { ...record, partition: 'other' } : record,
    );
    const fresh = await sandbox.world();
    const report = await fresh.keyring.importRecords(records, { acceptRollback: false });
    expect(report).toMatchObject({ imported: 2, refused: [{ reason: expect.stringContaining('MAC') }] });
    expect(await fresh.open(good)).toBe('x');
    expect(await fresh.open(bad)).toBeUndefined();
  });

  it('refuses records of another root, of a missing parent, and a version that is taken', async () => {
    const world = await sandbox.world();
    await world.sealed('a', 'x');
    const records = await exported(world);
    const other = await sandbox.world({ keyFile: sandbox.writeRoot('other.key') });
    const foreign = await other.keyring.importRecords(records, { acceptRollback: false });
    expect(foreign.refused.map(({ reason }) => reason)).toEqual([
      expect.stringContaining('made under root key'),
      expect.stringContaining('is not in the keystore'),
    ]);
    const taken = await sandbox.world();
    await taken.sealed('a', 'y');
    const report = await taken.keyring.importRecords(records, { acceptRollback: false });
    expect(report.imported).toBe(0);
    expect(report.refused.length).toBe(2);
  });

  it('brings back a row that was damaged', async () => {
    const keystore = new MemoryKeystore();
    const world = await sandbox.world({ keystore });
    const token = await world.sealed('a', 'x');
    const records = await exported(world);
    const row = (await keystore.retrieve(token.slice(2, 18)))!;
    await keystore.store({ ...row, wrapped: row.wrapped.toReversed(), mac: row.mac.toReversed() }, { seq: row.seq });
    const again = await sandbox.world({ keystore });
    expect(await again.open(token)).toBeUndefined();
    expect(await again.keyring.importRecords(records, { acceptRollback: false })).toMatchObject({ imported: 1 });
    expect(await again.open(token)).toBe('x');
  });

  it('takes an older state of a row only when it is asked to', async () => {
    const world = await sandbox.world();
    const token = await world.sealed('a', 'x');
    const records = await exported(world);
    await world.keyring.disable('a', '', undefined);
    const refused = await world.keyring.importRecords(records, { acceptRollback: false });
    expect(refused.refused).toMatchObject([{ reason: expect.stringContaining('--accept-rollback') }]);
    await expect(world.open(token)).rejects.toMatchObject({ code: 'KEY_DISABLED' });
    await world.keyring.importRecords(records, { acceptRollback: true });
    expect(await world.open(token)).toBe('x');
  });

  it('serves an export from a file, read-only, and takes over its replacement', async () => {
    const world = await sandbox.world();
    const token = await world.sealed('a', 'x');
    const path = sandbox.path('export.json');
    const write = async () => writeFile(path, await written(world.keyring.exportRecords()));
    await write();
    let elapsed = 0;
    const bundle = await BundleKeystore.open({ path, elapsedMs: () => elapsed });
    const reader = await sandbox.world({ keystore: bundle });
    expect(await reader.open(token)).toBe('x');
    expect(await reader.open(await reader.sealed('a', 'y'))).toBe('y');
    await expect(reader.sealed('b', 'x')).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    await expect(reader.keyring.rotate({ name: 'a', partition: '', purpose: 'seal' })).rejects.toMatchObject({
      code: 'UNSUPPORTED',
    });
    const later = await world.sealed('b', 'z');
    await write();
    elapsed += 10_000;
    expect(await reader.open(later)).toBe('z');
    await writeFile(path, '{');
    elapsed += 10_000;
    expect(await reader.open(token)).toBe('x');
    expect((await bundle.retrieve(later.slice(2, 18)))?.name).toBe('b');
    expect(await bundle.health()).toMatchObject({ ok: false, detail: expect.stringContaining('not JSON') });
  });
});

describe('export document', () => {
  it('holds every field of a record', async () => {
    const records = [
      recordLike({ seq: 2n ** 64n - 1n, keyContext: { a: 'ö' } }),
      recordLike({
        parent: {
          kind: 'root',
          reference: { root: 'r', resolvedId: 'i', materialVersion: 'm' },
          wrappedSecret: new Uint8Array(73).fill(255),
        },
      }),
    ];
    const text = await written(records);
    expect(readExport(text).map(plain)).toEqual(records.map(plain));
    expect(readExport(await written([]))).toEqual([]);
  });

  it('refuses another document, a newer one and one that is cut short, and says which record is wrong', async () => {
    const text = await written([recordLike({}), recordLike({ version: 2 })]);
    expect(() => readExport(text.slice(0, -3))).toThrow(/not JSON: it may be cut short/);
    expect(() => readExport('{}')).toThrow(/is no dekd-export/);
    expect(() => readExport('null')).toThrow(/is no dekd-export/);
    expect(() => readExport('{"format":"dekd-export","version":2,"records":[]}')).toThrow(
      /has version 2; this dekd reads 1/,
    );
    expect(() => readExport(text.replace('"version":2', '"version":-2'))).toThrow(
      /record 2 of the export: version is not a whole number/,
    );
  });

  it('refuses every field of another type', () => {
    const json = encodeRecord(recordLike({})) as unknown as Record<string, unknown>;
    for (const field of Object.keys(json)) {
      for (const wrong of [undefined, null, [], true]) {
        expect(() => decodeRecord({ ...json, [field]: wrong })).toThrow(/ is not /);
      }
    }
    for (const change of [
      { wrapped: 'AA' },
      { kid: 'AB' },
      { seq: '01' },
      { seq: '18446744073709551616' },
      { level: 5 },
    ]) {
      expect(() => decodeRecord({ ...json, ...change })).toThrow(/ is not /);
    }
  });
});

async function written(records: AsyncIterable<KeyRecord> | Iterable<KeyRecord>): Promise<string> {
  const encoded: RecordJson[] = [];
  for await (const record of records) {
    encoded.push(encodeRecord(record));
  }
  let text = '';
  for await (const piece of writeExport(encoded)) {
    text += piece;
  }
  return text;
}
