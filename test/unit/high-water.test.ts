import { appendFile, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { HighWater } from '../../src/keyring/high-water.ts';
import { recordLike } from '../contract/keystore.contract.ts';

describe('HighWater', () => {
  let folder: string;
  let file: string;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'dekd-high-water-'));
    file = join(folder, 'high-water');
  });

  afterEach(() => rm(folder, { recursive: true, force: true }));

  it('remembers seq and version over a restart, and only ever raises them', async () => {
    const record = recordLike({ name: 'a\n"b', partition: 'ö', version: 3, seq: 2n ** 64n - 1n });
    const first = await HighWater.open(folder);
    await first.raise([record]);
    await first.raise([{ ...record, seq: 4n, version: 2 }]);
    await first.close();
    const second = await HighWater.open(folder);
    expect(second.seq(record.kid)).toBe(2n ** 64n - 1n);
    expect(second.version('a\n"b', 'ö', 'seal')).toBe(3);
    expect(second.version('a\n"b', '', 'seal')).toBe(0);
    expect(second.seq(recordLike({}).kid)).toBe(0n);
    await second.close();
  });

  it('is on disk when raise returns', async () => {
    const highWater = await HighWater.open(folder);
    const records = Array.from({ length: 50 }, (_, i) => recordLike({ version: i + 1 }));
    await Promise.all(
      records.map(async (record) => {
        await highWater.raise([record]);
        expect(await readFile(file, 'utf8')).toContain(Buffer.from(record.kid).toString('hex'));
      }),
    );
    await highWater.close();
  });

  it('lowers only what the operator accepts', async () => {
    const record = recordLike({ version: 3, seq: 9n });
    const highWater = await HighWater.open(folder);
    await highWater.raise([record]);
    await highWater.accept({ ...record, seq: 2n }, 1);
    await highWater.close();
    const again = await HighWater.open(folder);
    expect([again.seq(record.kid), again.version('customers', '', 'seal')]).toEqual([2n, 1]);
    await again.close();
  });

  it('drops a last line that is cut short and refuses any other damage', async () => {
    const record = recordLike({});
    const highWater = await HighWater.open(folder);
    await highWater.raise([record]);
    await highWater.close();
    await appendFile(file, '["k","00');
    const again = await HighWater.open(folder);
    expect(again.seq(record.kid)).toBe(1n);
    await again.close();
    const text = await readFile(file, 'utf8');
    expect(text).not.toContain('["k","00');
    await writeFile(file, text.replace('"1"', '"0"'));
    await expect(HighWater.open(folder)).rejects.toMatchObject({
      code: 'KEYSTORE_UNAVAILABLE',
      message: expect.stringContaining('high-water is damaged at line 1: restore it'),
    });
  });

  it('is compacted when it is opened, and readable for its owner only', async () => {
    const record = recordLike({});
    const highWater = await HighWater.open(folder);
    for (let seq = 1n; seq <= 50n; seq++) {
      await highWater.raise([{ ...record, seq }]);
    }
    await highWater.close();
    const before = (await stat(file)).size;
    await (await HighWater.open(folder)).close();
    const after = await stat(file);
    expect(after.size).toBeLessThan(before / 10);
    expect(after.mode & 0o777).toBe(0o600);
  });

  it('fails the raise that it cannot write, and writes everything anew at the next', async () => {
    const record = recordLike({});
    const highWater = await HighWater.open(folder);
    await highWater.close();
    await rm(folder, { recursive: true });
    await expect(highWater.raise([record])).rejects.toMatchObject({ code: 'KEYSTORE_UNAVAILABLE' });
    await (await HighWater.open(folder)).close();
    await highWater.raise([record]);
    await highWater.close();
    const again = await HighWater.open(folder);
    expect(again.seq(record.kid)).toBe(1n);
    await again.close();
  });

  it('remembers nothing without a folder', async () => {
    const record = recordLike({});
    const highWater = await HighWater.open(undefined);
    await highWater.raise([record]);
    expect([highWater.detects, highWater.seq(record.kid)]).toEqual([false, 0n]);
  });
});
