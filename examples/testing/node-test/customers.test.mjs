// node --test
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createTestAgent } from 'dekd/testkit';
import { Customers } from '../customers.mjs';

let agent;
before(async () => {
  agent = await createTestAgent({ keep: true });
});
after(() => agent.close());

test('an address is not in the row, and comes back', async () => {
  const rows = new Map();
  const customers = new Customers(agent.connect(), rows);
  await customers.add('7', 'ada@example.org');
  assert.match(rows.get('7').email, /^dk1\./);
  assert.equal(await customers.emailOf('7'), 'ada@example.org');
});

test('an address copied into another row does not open', async () => {
  const rows = new Map();
  const customers = new Customers(agent.connect(), rows);
  await customers.add('7', 'ada@example.org');
  rows.set('8', rows.get('7'));
  await assert.rejects(customers.emailOf('8'), { code: 'DECRYPTION_FAILED' });
});

test('addresses from before a rotation still open', async () => {
  const customers = new Customers(agent.connect(), new Map());
  await customers.add('7', 'ada@example.org');
  await agent.rotate('customers');
  assert.equal(await customers.emailOf('7'), 'ada@example.org');
});

test('a call that meets the death of the agent is answered by the next one', async () => {
  const customers = new Customers(agent.connect(), new Map());
  await customers.add('7', 'ada@example.org');
  await agent.kill();
  const email = customers.emailOf('7');
  await agent.restart();
  assert.equal(await email, 'ada@example.org');
});

test('an agent that does not answer is an error within the time that the application allows', async () => {
  const customers = new Customers(agent.connect({ timeoutMs: 200 }), new Map());
  await customers.add('7', 'ada@example.org');
  agent.pause();
  try {
    await assert.rejects(customers.emailOf('7'), { code: 'DEADLINE_EXCEEDED', retryable: true });
  } finally {
    agent.resume();
  }
});
