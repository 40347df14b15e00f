// NODE_OPTIONS=--experimental-vm-modules jest
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { createTestAgent } from 'dekd/testkit';
import { Customers } from '../customers.mjs';

let agent;
beforeAll(async () => {
  agent = await createTestAgent();
});
afterAll(() => agent.close());

test('an address is not in the row, and comes back', async () => {
  const rows = new Map();
  const customers = new Customers(agent.connect(), rows);
  await customers.add('7', 'ada@example.org');
  expect(rows.get('7').email).toMatch(/^dk1\./);
  expect(await customers.emailOf('7')).toBe('ada@example.org');
});

test('an address copied into another row does not open', async () => {
  const rows = new Map();
  const customers = new Customers(agent.connect(), rows);
  await customers.add('7', 'ada@example.org');
  rows.set('8', rows.get('7'));
  await expect(customers.emailOf('8')).rejects.toMatchObject({ code: 'DECRYPTION_FAILED' });
});
