/** The bulk lane from the client: buffers that the agent sees, and everything that may be missing. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { loadBinding } from '../../src/addon/binding.ts';
import { connect } from '../../src/client/index.ts';
import type { DekdClient } from '../../src/client/types.ts';
import { DekdError } from '../../src/errors.ts';
import { createTestAgent } from '../../src/testkit/index.ts';
import {
  childEnvironment,
  NODE,
  runYaml,
  spawnTestAgent,
  startTestAgent,
  type TestAgent,
  writeRunConfig,
} from '../support/agent.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const KEY = { key: 'lane', context: { row: '1' } };
const MIB = 1024 * 1024;
const OVERHEAD = 58;

/** A client that is closed with its test. */
function client(socket: string, options: Parameters<typeof connect>[0] = {}): DekdClient {
  const dekd = connect({ socket, ...options });
  onTestFinished(() => dekd.close());
  return dekd;
}

async function agentWith(yaml: string): Promise<TestAgent> {
  const folder = temporaryFolder();
  writeRunConfig(folder);
  const merged = yaml.startsWith('engine') ? runYaml().replace('engine: auto', yaml) : runYaml(yaml);
  const agent = await startTestAgent({ folder, yaml: merged });
  onTestFinished(() => agent.stop());
  return agent;
}

describe.skipIf(loadBinding().binding === undefined)('the lane', () => {
  let agent: TestAgent;
  let dekd: DekdClient;

  beforeEach(async () => {
    agent = await startTestAgent();
    dekd = connect({ socket: agent.socket });
  });

  afterEach(async () => {
    await dekd.close();
    await agent.stop();
  });

  it('gives buffers whose results lie beside them, and tokens that open everywhere', async () => {
    const plaintext = randomBytes(100_000);
    const buffer = await dekd.allocate(plaintext.length);
    expect(dekd.capabilities).toEqual({ lane: true });
    expect(buffer).toEqual(new Uint8Array(plaintext.length));
    buffer.set(plaintext);
    const token = await dekd.encrypt(buffer, KEY);
    expect([token.length, token.buffer]).toEqual([plaintext.length + OVERHEAD, buffer.buffer]);
    const sent = client(agent.socket, { lane: false });
    expect(Buffer.from(await sent.decrypt(token, KEY)).equals(plaintext)).toBe(true);
    const again = await dekd.allocate(token.length);
    again.set(token);
    const opened = await dekd.decrypt(again, KEY);
    expect([Buffer.from(opened).equals(plaintext), opened.buffer]).toEqual([true, again.buffer]);
    // What was given stays: only the next call with the same buffer writes there.
    expect(Buffer.from(buffer).equals(plaintext)).toBe(true);
  });

  it('takes a part of a buffer, and a result as the next input', async () => {
    const buffer = await dekd.allocate(1_000);
    buffer.fill(7);
    const part = await dekd.encrypt(buffer.subarray(100, 200), KEY);
    expect(Buffer.from(await dekd.decrypt(part, KEY))).toEqual(Buffer.alloc(100, 7));
    expect(buffer.every((byte) => byte === 7)).toBe(true);
    const empty = await dekd.encrypt(buffer.subarray(0, 0), KEY);
    expect(await dekd.decrypt(empty, KEY)).toHaveLength(0);
  });

  it('carries what the socket would not, and names both limits for what is larger still', async () => {
    const large = randomBytes(3 * MIB);
    const token = await dekd.encrypt(large, KEY);
    expect(token.length).toBe(large.length + OVERHEAD);
    expect(token.buffer.byteLength).toBe(token.length);
    expect(Buffer.from(await dekd.decrypt(token, KEY)).equals(large)).toBe(true);
    const calls = [() => dekd.encrypt(new Uint8Array(16 * MIB + 1), KEY), () => dekd.allocate(16 * MIB + OVERHEAD + 1)];
    for (const call of calls) {
      await expect(call()).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        message: expect.stringMatching(/1048576.*lane\.maxPayload of 16777216|lane\.maxPayload of 16777216.*1048576/),
      });
    }
  });

  it('has one call at a time with a buffer, and frees it when a call that was given up is answered', async () => {
    const buffer = await dekd.allocate(MIB);
    const first = dekd.encrypt(buffer, KEY);
    await expect(dekd.encrypt(buffer, KEY)).rejects.toThrow(/in use by a call/);
    await first;
    const stop = new AbortController();
    const given = dekd.encrypt(buffer, { ...KEY, signal: stop.signal });
    await Promise.resolve();
    stop.abort(new Error('enough'));
    await expect(given).rejects.toThrow('enough');
    // Answers come in order here: after this one, the agent has done with the buffer.
    await dekd.ping();
    expect(await dekd.encrypt(buffer, KEY)).toHaveLength(MIB + OVERHEAD);
  });

  it('says what went wrong as the socket does, and writes nothing of a token that does not open', async () => {
    const buffer = await dekd.allocate(5_000);
    const token = await dekd.encrypt(buffer, KEY);
    const held = await dekd.allocate(token.length);
    held.set(token);
    const before = new Uint8Array(held.buffer.slice(0));
    await expect(dekd.decrypt(held, { ...KEY, context: { row: '2' } })).rejects.toMatchObject({
      code: 'DECRYPTION_FAILED',
    });
    held[3]! ^= 1;
    await expect(dekd.decrypt(held, KEY)).rejects.toMatchObject({ code: 'DECRYPTION_FAILED' });
    held[3]! ^= 1;
    expect(new Uint8Array(held.buffer)).toEqual(before);
    held[0] = 0;
    await expect(dekd.decrypt(held, KEY)).rejects.toMatchObject({ code: 'MALFORMED' });
    await expect(dekd.decrypt(held.subarray(0, 57), KEY)).rejects.toMatchObject({ code: 'MALFORMED' });
  });

  it('is switched off by connect({ lane: false }), which then is what every client is', async () => {
    const off = client(agent.socket, { lane: false });
    const buffer = await off.allocate(100);
    expect(off.capabilities).toEqual({ lane: false, reason: expect.stringContaining('switched off') });
    expect(buffer.buffer.byteLength).toBe(100);
    expect(await off.decrypt(await off.encrypt(buffer, KEY), KEY)).toEqual(buffer);
    await expect(off.encrypt(new Uint8Array(MIB + 1), KEY)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });

  it('is done without by a client that has no addon', () => {
    const code = `
      import { connect } from ${JSON.stringify(join(import.meta.dirname, '../../src/client/index.ts'))};
      await using dekd = connect({ socket: ${JSON.stringify(agent.socket)} });
      const data = (await dekd.allocate(300_000)).fill(5);
      const back = await dekd.decrypt(await dekd.encrypt(data, { key: 'lane' }), { key: 'lane' });
      console.log(JSON.stringify([Buffer.compare(back, data), dekd.capabilities]));
    `;
    // The agent of this process must be able to answer meanwhile.
    return expect(runNode(code, { DEKD_NATIVE_PATH: '/nowhere/addon.node' })).resolves.toEqual([
      0,
      { lane: false, reason: expect.stringContaining('/nowhere/addon.node') },
    ]);
  });

  it.each([
    ['another engine', 'engine: node'],
    ['lane.enabled: false', 'lane: { enabled: false }'],
  ])('is not offered with %s, and clients send', async (_name, yaml) => {
    const other = await agentWith(yaml);
    const sending = client(other.socket);
    const buffer = (await sending.allocate(300_000)).fill(9);
    expect(sending.capabilities).toEqual({ lane: false, reason: 'the agent offers no lane' });
    expect(await sending.decrypt(await sending.encrypt(buffer, KEY), KEY)).toEqual(buffer);
  });

  it('gives ordinary buffers when its budget is used up, and the socket carries on', async () => {
    const small = await agentWith('lane: { budget: 2MiB, callerBudget: 2MiB }');
    const dekdOfSmall = client(small.socket);
    const inLane = await dekdOfSmall.allocate(MIB - 100);
    const beside = await dekdOfSmall.allocate(MIB - 100);
    expect([inLane.buffer.byteLength > inLane.length, beside.buffer.byteLength === beside.length]).toEqual([
      true,
      true,
    ]);
    for (const buffer of [inLane, beside, randomBytes(MIB)]) {
      expect(Buffer.compare(await dekdOfSmall.decrypt(await dekdOfSmall.encrypt(buffer, KEY), KEY), buffer)).toBe(0);
    }
  });

  it('takes buffers back when nobody holds them, so that they never run out', async () => {
    setFlagsFromString('--expose-gc');
    const gc = runInNewContext('gc') as () => void;
    for (let i = 0; i < 40; i++) {
      const buffer = await dekd.allocate(4 * MIB);
      expect(buffer.buffer.byteLength).toBeGreaterThan(buffer.length);
      buffer[0] = 1;
      await dekd.encrypt(buffer.subarray(0, 10), KEY);
      if (i % 4 === 3) {
        gc();
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
  });
});

describe.skipIf(loadBinding().binding === undefined)('a lane whose agent goes away', () => {
  it('is joined again with the next agent: buffers keep what is in them, and calls in flight are sent again', async () => {
    const folder = temporaryFolder();
    const socket = join(folder, 's', 'agent.sock');
    const args = ['run', '--config', writeRunConfig(folder)];
    const first = await spawnTestAgent(socket, args);
    const dekd = client(socket);
    const buffers = await Promise.all(Array.from({ length: 8 }, () => dekd.allocate(MIB)));
    for (const [i, buffer] of buffers.entries()) {
      buffer.fill(i + 1);
    }
    await dekd.encrypt(buffers[0]!, KEY);
    const plain = randomBytes(3 * MIB);
    const calls = buffers.map((buffer) => dekd.encrypt(buffer, { ...KEY, timeoutMs: 30_000 }));
    const copied = dekd.encrypt(plain, { ...KEY, timeoutMs: 30_000 });
    first.child.kill('SIGKILL');
    await first.exited;
    const second = await spawnTestAgent(socket, args);
    try {
      const tokens = await Promise.all(calls);
      expect(dekd.capabilities).toEqual({ lane: true });
      for (const [i, token] of tokens.entries()) {
        expect(token.buffer).toBe(buffers[i]!.buffer);
        expect(Buffer.compare(await dekd.decrypt(token, KEY), Buffer.alloc(MIB, i + 1))).toBe(0);
      }
      expect(Buffer.compare(await dekd.decrypt(await copied, KEY), plain)).toBe(0);
    } finally {
      second.child.kill('SIGKILL');
      await second.exited;
    }
  }, 60_000);

  it('keeps to the time and the signal of a call while it is opened, at an agent that has stopped', async () => {
    await using stopped = await createTestAgent({ node: NODE });
    const [late, left, allocating, unconnected] = Array.from({ length: 4 }, () => stopped.connect());
    await Promise.all([late!, left!, allocating!].map((each) => each.ping()));
    stopped.pause();
    const large = new Uint8Array(300_000);
    const begun = performance.now();
    const codes = [
      late!.encrypt(large, { ...KEY, timeoutMs: 200 }),
      left!.encrypt(large, { ...KEY, signal: AbortSignal.timeout(200) }),
      allocating!.allocate(100, { timeoutMs: 200 }),
      unconnected!.encrypt(large, { ...KEY, timeoutMs: 200 }),
    ].map((call) => call.catch((error: { code?: string; name: string }) => error.code ?? error.name));
    expect(await Promise.all(codes)).toEqual(['DEADLINE_EXCEEDED', 23, 'DEADLINE_EXCEEDED', 'DEADLINE_EXCEEDED']);
    expect(performance.now() - begun).toBeLessThan(2_000);
    stopped.resume();
    expect(await late!.encrypt(large, KEY)).toHaveLength(large.length + OVERHEAD);
  });

  it('leaves what lies in it to the socket when the next agent has no lane', async () => {
    const folder = temporaryFolder();
    const socket = join(folder, 's', 'agent.sock');
    writeRunConfig(folder);
    const first = await startTestAgent({ folder, yaml: runYaml() });
    const dekd = client(socket);
    const small = (await dekd.allocate(1_000)).fill(1);
    const large = (await dekd.allocate(2 * MIB)).fill(2);
    await dekd.encrypt(small, KEY);
    await first.stop();
    const second = await startTestAgent({ folder, yaml: runYaml('lane: { enabled: false }') });
    onTestFinished(() => second.stop());
    expect(await dekd.decrypt(await dekd.encrypt(small, KEY), KEY)).toEqual(new Uint8Array(1_000).fill(1));
    expect(dekd.capabilities).toMatchObject({ lane: false });
    await expect(dekd.encrypt(large, KEY)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(DekdError.is(await dekd.encrypt(large, KEY).catch((error: unknown) => error))).toBe(true);
  });
});

/** Runs a module in a process of its own and parses what it prints. */
async function runNode(code: string, env: Record<string, string>): Promise<unknown> {
  const { spawn } = await import('node:child_process');
  const child = spawn(NODE, ['--input-type=module', '-e', code], { env: { ...childEnvironment(), ...env } });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => {
    output += String(chunk);
  });
  let errors = '';
  child.stderr.on('data', (chunk: Buffer) => {
    errors += String(chunk);
  });
  await new Promise((resolve) => child.once('close', resolve));
  return output === '' ? errors : JSON.parse(output);
}
