/** Files that the client passes to the agent by their descriptors. */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, openSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { loadBinding } from '../../src/addon/binding.ts';
import { connect } from '../../src/client/index.ts';
import type { DekdClient } from '../../src/client/types.ts';
import type { RequestFields } from '../../src/protocol/messages.ts';
import { createTestAgent } from '../../src/testkit/index.ts';
import { childEnvironment, NODE, startTestAgent, type TestAgent } from '../support/agent.ts';
import { type RawLane, rawLane } from '../support/lane.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const { binding } = loadBinding();
const MIB = 1024 * 1024;
const KEY = { key: 'files', context: { row: '1' } };
const INVALID_ARGUMENT = 1;
const MAIN = join(import.meta.dirname, '../../src/cli/main.ts');

/** The temporary folder of some machines is memory, and files to write there are sent as streams. */
const isOnDisk = spawnSync('stat', ['-f', '-c', '%T', '/tmp'], { encoding: 'utf8' }).stdout.trim() !== 'tmpfs';

describe.skipIf(binding === undefined || !isOnDisk)('files passed by descriptors', () => {
  let agent: TestAgent;
  let dekd: DekdClient;
  let sent: DekdClient;
  let folder: string;
  const at = (name: string) => join(folder, name);
  const temporary = () => readdirSync(folder).find((name) => name.endsWith('.tmp'));
  const openDescriptors = () => readdirSync('/proc/self/fd').length;
  const plaintext = randomBytes(3 * MIB + 5);

  beforeEach(async () => {
    agent = await startTestAgent();
    dekd = connect({ socket: agent.socket });
    sent = connect({ socket: agent.socket, lane: false });
    folder = temporaryFolder();
    writeFileSync(at('in'), plaintext);
  });

  afterEach(async () => {
    await dekd.close();
    await sent.close();
    await agent.stop();
  });

  it('are the messages that a stream makes, and open there, and the reverse', async () => {
    await dekd.encryptFile(at('in'), at('passed'), KEY);
    await sent.encryptFile(at('in'), at('sent'), KEY);
    expect(readFileSync(at('passed')).length).toBe(readFileSync(at('sent')).length);
    await sent.decryptFile(at('passed'), at('1'), KEY);
    await dekd.decryptFile(at('sent'), at('2'), KEY);
    for (const name of ['1', '2']) {
      expect(readFileSync(at(name)).equals(plaintext)).toBe(true);
    }
    expect(readdirSync(folder).sort()).toEqual(['1', '2', 'in', 'passed', 'sent']);
  });

  it('that hold a compressed value are opened as a stream, whole', async () => {
    const value = Buffer.concat([randomBytes(2 * MIB), Buffer.alloc(2 * MIB, 'value ')]);
    const message = await dekd.encryptLarge(value, { ...KEY, compression: true });
    expect(message.length).toBeGreaterThan(MIB);
    writeFileSync(at('m'), message);
    await dekd.decryptFile(at('m'), at('back'), KEY);
    expect(readFileSync(at('back')).equals(value)).toBe(true);
    expect(readdirSync(folder).sort()).toEqual(['back', 'in', 'm']);
  });

  it('have the frames that were asked for', async () => {
    await dekd.encryptFile(at('in'), at('passed'), { ...KEY, frameLength: 4096 });
    await dekd.decryptFile(at('passed'), at('out'), KEY);
    expect(readFileSync(at('out')).equals(plaintext)).toBe(true);
  });

  it.each<[string, (path: string) => void, object, string]>([
    ['another context', () => {}, { key: 'files', context: { row: '2' } }, 'DECRYPTION_FAILED'],
    ['another key', () => {}, { ...KEY, key: 'other' }, 'DECRYPTION_FAILED'],
    ['a message that is cut short', (path) => truncateSync(path, 2 * MIB), KEY, 'MALFORMED'],
    ['one byte changed', (path) => changeByte(path, 2 * MIB), KEY, 'DECRYPTION_FAILED'],
    ['bytes behind the end', (path) => writeFileSync(path, 'x', { flag: 'a' }), KEY, 'MALFORMED'],
    ['what is no message', (path) => writeFileSync(path, randomBytes(2 * MIB).fill(9, 0, 1)), KEY, 'MALFORMED'],
  ])('with %s leave the target as it was', async (_name, spoil, options, code) => {
    await dekd.encryptFile(at('in'), at('message'), KEY);
    spoil(at('message'));
    writeFileSync(at('target'), 'before');
    await expect(dekd.decryptFile(at('message'), at('target'), options as typeof KEY)).rejects.toMatchObject({ code });
    expect(readFileSync(at('target'), 'utf8')).toBe('before');
    expect(readdirSync(folder).sort()).toEqual(['in', 'message', 'target']);
  });

  it('are given up with the signal, and leave nothing open or behind', async () => {
    writeFileSync(at('large'), '');
    truncateSync(at('large'), 512 * MIB);
    await dekd.encryptFile(at('in'), at('first'), KEY);
    const before = openDescriptors();
    const stop = new AbortController();
    const call = dekd.encryptFile(at('large'), at('out'), { ...KEY, signal: stop.signal });
    const refused = expect(call).rejects.toThrow('enough');
    await expect.poll(() => statSync(at(temporary() ?? 'first')).size, { interval: 1 }).toBeGreaterThan(16 * MIB);
    stop.abort(new Error('enough'));
    await refused;
    await expect.poll(openDescriptors).toBeLessThanOrEqual(before);
    expect(readdirSync(folder).sort()).toEqual(['first', 'in', 'large']);
    // The agent's slots are free again.
    await Promise.all([1, 2, 3, 4].map((i) => dekd.encryptFile(at('in'), at(`out${i}`), KEY)));
  });

  it('more than the agent works on at once go as streams', async () => {
    const names = Array.from({ length: 8 }, (_, i) => `out${i}`);
    await Promise.all(names.map((name) => dekd.encryptFile(at('in'), at(name), KEY)));
    for (const name of names) {
      await sent.decryptFile(at(name), at('back'), KEY);
      expect(readFileSync(at('back')).equals(plaintext)).toBe(true);
    }
  });

  it('are lost with the agent, and the target is as it was', async () => {
    await using mortal = await createTestAgent({ node: NODE });
    const other = mortal.connect();
    await other.encryptFile(at('in'), at('first'), KEY);
    writeFileSync(at('large'), '');
    truncateSync(at('large'), 512 * MIB);
    const call = expect(other.encryptFile(at('large'), at('out'), KEY)).rejects.toMatchObject({
      code: 'AGENT_UNAVAILABLE',
    });
    await expect.poll(() => statSync(at(temporary() ?? 'in')).size, { interval: 1 }).toBeGreaterThan(16 * MIB);
    await mortal.kill();
    await call;
    expect(readdirSync(folder).sort()).toEqual(['first', 'in', 'large']);
  }, 60_000);

  it('are what the command line passes too', () => {
    const run = (...args: string[]) =>
      runCommand([MAIN, ...args, '--socket', agent.socket, '--key', 'files', '--context', 'row=1', '--json']);
    return (async () => {
      expect(await run('encrypt', '--message', at('in'), '-o', at('m'))).toMatchObject({ bytesRead: plaintext.length });
      expect(await run('decrypt', '--input', at('m'), '-o', at('back'))).toMatchObject({ output: at('back') });
      expect(readFileSync(at('back')).equals(plaintext)).toBe(true);
    })();
  });

  describe('by hand', () => {
    let lane: RawLane;

    beforeEach(async () => {
      lane = await rawLane(agent.socket);
    });

    afterEach(() => {
      lane.client.socket.destroy();
    });

    async function pass(
      source: string,
      sourceFlags: string,
      target: string,
      targetFlags: string,
      by = lane,
    ): Promise<number> {
      const fds = [openSync(source, sourceFlags), openSync(target, targetFlags)] as const;
      try {
        return await by.link.passFiles((fd, token) => by.native.shareFiles(fd, token, ...fds));
      } finally {
        fds.forEach(closeSync);
      }
    }

    it.each<[string, [string, string, string, string], RegExp]>([
      ['a source that is not open to be read', ['in', 'a', 'out', 'w'], /not open|O_APPEND/],
      ['a target that is not open to be written', ['in', 'r', 'in2', 'r'], /not open/],
      ['a target that only appends', ['in', 'r', 'out', 'a'], /O_APPEND/],
      ['one file as both', ['in', 'r', 'in', 'r+'], /one file/],
      ['a target that holds something', ['in', 'r', 'in2', 'r+'], /not empty/],
    ])('are refused with %s, with the next token all the same', async (_name, [source, how, target, how2], text) => {
      writeFileSync(at('in2'), 'x');
      await expect(pass(at(source), how, at(target), how2)).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        message: expect.stringMatching(text),
      });
      expect(await pass(at('in'), 'r', at('fine'), 'w')).toBeGreaterThan(0);
    });

    it('are no devices, and nothing that the kernel makes up', async () => {
      await expect(pass('/dev/null', 'r', at('out'), 'w')).rejects.toMatchObject({
        message: expect.stringContaining('not of a regular file'),
      });
      for (const path of ['/proc/self/status', '/sys/kernel/mm/transparent_hugepage/enabled']) {
        await expect(pass(path, 'r', at('out'), 'w')).rejects.toMatchObject({ code: 'UNSUPPORTED' });
      }
    });

    it('are good for one call, of the connection that passed them', async () => {
      const handle = await pass(at('in'), 'r', at('out'), 'w');
      const call = { fileEncrypt: { key: 'files', handle } } as RequestFields;
      const other = await rawLane(agent.socket);
      expect((await other.client.ask(call)).error?.code).toBe(INVALID_ARGUMENT);
      other.client.socket.destroy();
      const reply = await lane.client.ask(call);
      expect(JSON.parse(String(Buffer.from(reply.document!)))).toMatchObject({ bytesRead: plaintext.length });
      expect((await lane.client.ask(call)).error?.code).toBe(INVALID_ARGUMENT);
    });

    it('are no more than one caller may leave unnamed, on however many connections', async () => {
      const lanes = [lane];
      for (let i = 0; i < 32; i++) {
        if (i % 4 === 3) {
          lanes.push(await rawLane(agent.socket));
        }
        await pass(at('in'), 'r', at(`out${i}`), 'w', lanes[Math.floor(i / 4)]!);
      }
      const before = openDescriptors();
      const last = await rawLane(agent.socket);
      const one = pass(at('in'), 'r', at('last'), 'w', last);
      await expect(one).rejects.toMatchObject({ code: 'RESOURCE_EXHAUSTED' });
      await expect.poll(openDescriptors).toBeLessThanOrEqual(before + 2);
      lanes[1]!.client.socket.destroy();
      await expect.poll(() => pass(at('in'), 'r', at('last'), 'w', last).catch(() => 0)).toBeGreaterThan(0);
      for (const { client } of [...lanes, last]) {
        client.socket.destroy();
      }
    });

    it('are let go of when no call names them in time, and with their connection', async () => {
      const quick = await startTestAgent({ limits: { headerTimeout: 200 } });
      onTestFinished(() => quick.stop());
      lane.client.socket.destroy();
      lane = await rawLane(quick.socket);
      const before = openDescriptors();
      await pass(at('in'), 'r', at('out'), 'w');
      await expect.poll(openDescriptors).toBeLessThanOrEqual(before);
      for (let i = 0; i < 4; i++) {
        await pass(at('in'), 'r', at(`out${i}`), 'w');
      }
      await expect(pass(at('in'), 'r', at('out5'), 'w')).rejects.toMatchObject({ code: 'RESOURCE_EXHAUSTED' });
      lane.client.socket.destroy();
      await expect.poll(openDescriptors).toBeLessThanOrEqual(before);
    });
  });
});

function changeByte(path: string, at: number): void {
  const bytes = readFileSync(path);
  bytes[at]! ^= 1;
  writeFileSync(path, bytes);
}

/** What a command prints as JSON. The agent of this process must be able to answer meanwhile. */
async function runCommand(args: readonly string[]): Promise<unknown> {
  const { spawn } = await import('node:child_process');
  const child = spawn(NODE, args, { env: childEnvironment(), stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  let errors = '';
  child.stdout.on('data', (chunk: Buffer) => {
    output += String(chunk);
  });
  child.stderr.on('data', (chunk: Buffer) => {
    errors += String(chunk);
  });
  await new Promise((resolve) => child.once('close', resolve));
  return output === '' ? errors : JSON.parse(output);
}
