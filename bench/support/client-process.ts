/**
 * Clients in a process of their own: `client-process.ts SOCKET SCENARIO CONNECTIONS`. Each line on standard input is a
 * number of calls to make, shared out among the connections; each is answered with the milliseconds they took.
 */
import { createInterface } from 'node:readline';
import { connect } from '../../src/client/index.ts';
import { calls, SCENARIOS, type ScenarioName } from './scenarios.ts';

const [socket, scenario, connections] = process.argv.slice(2) as [string, ScenarioName, string];
const lane = 'lane' in SCENARIOS[scenario];
const clients = Array.from({ length: Number(connections) }, () => connect({ socket, timeoutMs: 60_000, lane }));
const work = await Promise.all(clients.map((client) => calls(client, SCENARIOS[scenario])));
process.stdout.write('ready\n');
for await (const line of createInterface({ input: process.stdin })) {
  const share = Math.ceil(Number(line) / work.length);
  const begun = performance.now();
  await Promise.all(work.map((each) => each(share)));
  process.stdout.write(`${performance.now() - begun}\n`);
}
await Promise.all(clients.map((client) => client.close()));
