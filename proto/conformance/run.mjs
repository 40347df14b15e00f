// Puts a client through the vectors of this folder.
//
//   node run.mjs [--socket PATH] [--only TEXT] [--json] -- COMMAND…
//
// COMMAND starts the client, which is told what to call on its standard input (README.md). --socket names a real agent, whose
// caller may use every key: without it the cases that need one are left out. Exit code 0 when no case failed.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ActingAgent } from './acting-agent.mjs';
import { ClientProcess } from './client-process.mjs';
import { expanded, mismatch } from './expectation.mjs';

const DEFAULT_TIMEOUT_MS = 10_000;
/** What a client may take longer than its calls may. */
const PATIENCE_MS = 5_000;

const split = process.argv.indexOf('--');
const command = split < 0 ? [] : process.argv.slice(split + 1);
const { values: options } = parseArgs({
  args: process.argv.slice(2, split < 0 ? undefined : split),
  options: { socket: { type: 'string' }, only: { type: 'string' }, json: { type: 'boolean' } },
});
if (command.length === 0) {
  console.error('usage: node run.mjs [--socket PATH] [--only TEXT] [--json] -- COMMAND…');
  process.exit(2);
}

const folder = mkdtempSync(join(tmpdir(), 'dekd-kit-'));
const sockets = join(folder, 's');
mkdirSync(sockets, { mode: 0o700 });
let client = new ClientProcess(command);
const results = [];
let count = 0;

for (const file of readdirSync(new URL('vectors', import.meta.url)).toSorted()) {
  const { cases } = JSON.parse(readFileSync(new URL(`vectors/${file}`, import.meta.url), 'utf8'));
  for (const each of cases) {
    const name = `${file.replace('.json', '')}: ${each.name}`;
    if (options.only === undefined || name.includes(options.only)) {
      const began = performance.now();
      const outcome = await outcomeOf(expanded(each));
      results.push({ name, ...outcome, elapsedMs: Math.round(performance.now() - began) });
    }
  }
}
await client.stop();
rmSync(folder, { recursive: true, force: true });

const of = (state) => results.filter((each) => each.state === state);
if (options.json) {
  console.log(JSON.stringify(results));
} else {
  for (const { name, why } of of('skipped')) {
    console.log(`skipped  ${name}: ${why}`);
  }
  for (const { name, why } of of('failed')) {
    console.log(`failed   ${name}\n         ${why}`);
  }
  console.log(`${of('passed').length} passed, ${of('failed').length} failed, ${of('skipped').length} skipped`);
}
process.exitCode = of('failed').length > 0 || of('passed').length === 0 ? 1 : 0;

async function outcomeOf(scenario) {
  try {
    const why = scenario.real ? await againstReal(scenario) : await againstActing(scenario);
    return why === undefined ? { state: 'passed' } : why;
  } catch (error) {
    return { state: 'failed', why: error.message };
  }
}

async function againstActing(scenario) {
  const path = join(sockets, `${count++}.sock`);
  const agent = scenario.agent === undefined ? undefined : new ActingAgent(scenario);
  await agent?.listen(path);
  try {
    const called = calls(scenario, path, scenario.calls);
    called.catch(() => {});
    const wrong = await Promise.race([called, agent?.violated ?? called]);
    if (agent?.violation !== undefined) {
      // What the agent saw explains whatever the client says, which may be long in coming: the next case has a new one.
      client.kill();
      client = new ClientProcess(command);
      return { state: 'failed', why: agent.violation };
    }
    if (wrong !== undefined && wrong.state === 'skipped') {
      return wrong;
    }
    if (wrong === undefined && agent !== undefined && agent.left > 0) {
      return { state: 'failed', why: `${agent.left} requests that the case has were not made` };
    }
    return wrong;
  } finally {
    await agent?.close();
  }
}

/** Steps one after the other; a step may use a value of an earlier one, by `{ "$of": STEP }`. */
async function againstReal(scenario) {
  if (options.socket === undefined) {
    return { state: 'skipped', why: 'no agent was named: --socket' };
  }
  const values = [];
  const filled = (value) =>
    Array.isArray(value)
      ? value.map(filled)
      : value === null || typeof value !== 'object'
        ? value
        : '$of' in value
          ? value.item === undefined
            ? values[value.$of]
            : values[value.$of][value.item].value
          : Object.fromEntries(Object.entries(value).map(([name, each]) => [name, filled(each)]));
  await client.call({ op: 'connect', socket: options.socket }, PATIENCE_MS);
  try {
    for (const step of scenario.steps) {
      const answer = await client.call(filled(step.call), DEFAULT_TIMEOUT_MS + PATIENCE_MS);
      if (answer.unsupported) {
        return { state: 'skipped', why: `the client has no ${step.call.op}` };
      }
      const wrong = mismatch(answer, filled(step.result));
      if (wrong !== undefined) {
        return { state: 'failed', why: `${step.call.op}: ${wrong}` };
      }
      values.push(answer.value);
    }
    return undefined;
  } finally {
    await client.call({ op: 'close' }, DEFAULT_TIMEOUT_MS + PATIENCE_MS).catch(() => {});
  }
}

async function calls({ connect = {}, results: wanted }, socket, requests) {
  const patience = Math.max(...requests.map(({ timeoutMs }) => timeoutMs ?? connect.timeoutMs ?? DEFAULT_TIMEOUT_MS));
  await client.call({ op: 'connect', socket, ...connect }, PATIENCE_MS);
  try {
    const began = performance.now();
    const answers = await Promise.all(
      requests.map(async (request) => {
        const answer = await client.call(request, patience + PATIENCE_MS);
        return { answer, elapsedMs: performance.now() - began };
      }),
    );
    for (const [i, { answer, elapsedMs }] of answers.entries()) {
      if (answer.unsupported) {
        return { state: 'skipped', why: `the client has no ${requests[i].op}` };
      }
      const wrong = mismatch(answer, wanted[i]);
      if (wrong !== undefined) {
        return { state: 'failed', why: `${requests[i].op}: ${wrong}` };
      }
      const { afterMs = 0 } = wanted[i];
      if (elapsedMs < afterMs) {
        return {
          state: 'failed',
          why: `${requests[i].op} gave up after ${Math.round(elapsedMs)} ms, before ${afterMs}`,
        };
      }
    }
    return undefined;
  } finally {
    await client.call({ op: 'close' }, patience + PATIENCE_MS).catch(() => {});
  }
}
