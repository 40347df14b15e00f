// vitest run
import { connect } from 'dekd/client';
import { createTestAgent } from 'dekd/testkit';
import { afterAll, expect, test } from 'vitest';
import { Customers } from '../customers.mjs';

const dekd = connect();
afterAll(() => dekd.close());

test('an address is not in the row, and comes back', async () => {
  const rows = new Map();
  const customers = new Customers(dekd, rows);
  await customers.add('7', 'ada@example.org');
  expect(rows.get('7').email).toMatch(/^dk1\./);
  expect(await customers.emailOf('7')).toBe('ada@example.org');
});

test('an address copied into another row does not open', async () => {
  const rows = new Map();
  const customers = new Customers(dekd, rows);
  await customers.add('7', 'ada@example.org');
  rows.set('8', rows.get('7'));
  await expect(customers.emailOf('8')).rejects.toMatchObject({ code: 'DECRYPTION_FAILED' });
});

test('under the policy of production, an application that may only encrypt cannot read', async () => {
  const policy = {
    rules: [
      { name: 'writer', callers: { socket: 'data' }, keys: 'customers', operations: 'encrypt', create: { max: 1 } },
    ],
  };
  await using agent = await createTestAgent({ config: { policy } });
  const customers = new Customers(agent.connect(), new Map());
  await customers.add('7', 'ada@example.org');
  await expect(customers.emailOf('7')).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
});
