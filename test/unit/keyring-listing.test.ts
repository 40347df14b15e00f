import { expect, test } from 'vitest';
import { allRecords } from '../../src/keyring/listing.ts';
import { MemoryKeystore } from '../../src/keystores/memory.ts';
import { recordLike } from '../contract/keystore.contract.ts';

const SEVERAL_PAGES = 1_201;

test('every record of several pages comes once, in order of kid, and the filter holds on every page', async () => {
  const keystore = new MemoryKeystore();
  const wanted: string[] = [];
  for (let index = 0; index < SEVERAL_PAGES; index++) {
    const record = recordLike({ name: index % 2 === 0 ? 'even' : 'odd', partition: `p${index}` });
    await keystore.store(record, { absent: true });
    if (index % 2 === 0) wanted.push(hex(record.kid));
  }
  expect((await kidsOf(keystore, {})).length).toBe(SEVERAL_PAGES);
  expect(await kidsOf(keystore, { name: 'even' })).toEqual(wanted.sort());
});

async function kidsOf(keystore: MemoryKeystore, filter: { name?: string }): Promise<string[]> {
  const kids: string[] = [];
  for await (const { kid } of allRecords(keystore, filter)) kids.push(hex(kid));
  return kids;
}

function hex(kid: Uint8Array): string {
  return Buffer.from(kid).toString('hex');
}
