/** The bulk lane by hand: who may join it, what may be named in it, and what is left behind by those who may not. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, copyFileSync, readdirSync } from 'node:fs';
import { connect as connectSocket, type Socket } from 'node:net';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { loadBinding } from '../../src/addon/binding.ts';
import type { RequestFields } from '../../src/protocol/messages.ts';
import { NODE, startTestAgent, type TestAgent } from '../support/agent.ts';
import { linkOf, type RawLane, type RawLaneReply, rawLane } from '../support/lane.ts';
import { HELLO, RawClient } from '../support/raw-client.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const { binding, path: addon } = loadBinding();
const MIB = 1024 * 1024;
const INVALID_ARGUMENT = 1;
const DECRYPTION_FAILED = 8;
const RESOURCE_EXHAUSTED = 13;

type Range = { handle: number; offset: number; length: number };

/** A request as generated code writes it, whatever it says. */
const call = (name: 'laneEncrypt' | 'laneDecrypt', input: object, result: object, more: object = {}): RequestFields =>
  ({ [name]: { key: 'wire', input, result, ...more } }) as RequestFields;

/** 2^64 - `less`, as the generated code takes it. */
const nearTheEnd = (less: number) => ({ low: -less, high: -1, unsigned: true });

const openDescriptors = () => readdirSync('/proc/self/fd').length;

describe.skipIf(binding === undefined)('the lane socket', () => {
  let agent: TestAgent;
  let lane: RawLane;
  let laneSocket: string;

  beforeEach(async () => {
    agent = await startTestAgent({
      limits: { headerTimeout: 300 },
      lane: { budget: 64 * MIB, callerBudget: 48 * MIB },
    });
    lane = await rawLane(agent.socket);
    laneSocket = join(dirname(agent.socket), lane.offer.laneSocket);
  });

  afterEach(async () => {
    lane.client.socket.destroy();
    await agent.stop();
  });

  const ask = async (fields: RequestFields) => (await lane.client.ask(fields)) as RawLaneReply;
  const reasons = () =>
    agent.log.filter(({ message }) => message === 'lane connection refused').map(({ reason }) => reason);

  it('is told of in the greeting: a token, a limit, what is left of the budget, and its name', () => {
    expect(lane.offer).toMatchObject({ laneMaxPayload: 16 * MIB, laneSocket: 'lane.sock' });
    expect(lane.offer.laneToken).toHaveLength(32);
    expect(lane.offer.laneRegionLimit).toBeGreaterThan(16 * MIB);
  });

  it('takes each token once, and none that it did not give', async () => {
    await lane.share(MIB);
    const share = (token: Uint8Array) => {
      const region = lane.native.create(4096);
      return linkOf(agent.socket, token).share(region, (fd, given) => lane.native.share(fd, given, region));
    };
    await expect(share(lane.offer.laneToken)).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
    await expect(share(randomBytes(32))).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
    const gone = await rawLane(agent.socket);
    gone.client.socket.destroy();
    await gone.client.closed;
    await rawLane(agent.socket).then(({ client }) => client.socket.destroy());
    await expect(share(gone.offer.laneToken)).rejects.toMatchObject({ message: 'the token joins no connection' });
    // The answer to a good one had the next.
    await lane.share(MIB);
    expect(reasons()).toHaveLength(3);
  });

  it.skipIf(process.getuid?.() !== 0)('takes no token from another uid', async () => {
    const folder = temporaryFolder();
    chmodSync(folder, 0o755);
    copyFileSync(addon!, join(folder, 'addon.node'));
    chmodSync(join(folder, 'addon.node'), 0o755);
    for (const path of [agent.folder, dirname(agent.socket)]) {
      chmodSync(path, 0o755);
    }
    chmodSync(laneSocket, 0o666);
    const code = `
      const addon = { exports: {} };
      process.dlopen(addon, ${JSON.stringify(join(folder, 'addon.node'))});
      const { region } = addon.exports.laneCreate(4096);
      const socket = require('node:net').connect(${JSON.stringify(laneSocket)});
      const token = Buffer.from('${Buffer.from(lane.offer.laneToken).toString('hex')}', 'hex');
      socket.on('connect', () => addon.exports.laneShare(socket._handle.fd, token, region));
      socket.on('data', (data) => process.stdout.write(data));
      socket.on('error', (error) => process.stdout.write(error.code));
    `;
    const child = spawn(NODE, ['-e', code], { uid: 1000, gid: 1000, cwd: '/', env: {} });
    let answer = '';
    child.stdout.on('data', (chunk: Buffer) => {
      answer += String(chunk);
    });
    await new Promise((resolve) => child.once('close', resolve));
    expect(answer).toContain('the token joins no connection');
    expect(reasons()).toEqual([expect.stringContaining('came from uid 1000')]);
    // It was not used up by that.
    await lane.share(MIB);
  });

  it('takes a region that is over what is left with an error that names the budget, and gives it back at the end', async () => {
    const limit = lane.offer.laneRegionLimit;
    const { handle } = await lane.share(MIB);
    expect(handle).toBe(1);
    const admin = await RawClient.greeted(agent.admin);
    const { document } = await admin.ask({ admin: { status: {} } });
    expect(JSON.parse(Buffer.from(document!).toString()).lane).toEqual({
      open: true,
      budget: 64 * MIB,
      heldBytes: MIB,
      waitingFiles: 0,
    });
    admin.socket.destroy();
    const fresh = await rawLane(agent.socket);
    expect(fresh.offer.laneRegionLimit).toBe(limit - MIB);
    lane.client.socket.destroy();
    await fresh.client.ask({ ping: {} });
    const again = await rawLane(agent.socket);
    expect(again.offer.laneRegionLimit).toBe(limit);
    for (const { client } of [fresh, again]) {
      client.socket.destroy();
    }
  });

  it('takes sixteen regions of one connection', async () => {
    for (let i = 1; i <= 16; i++) {
      expect((await lane.share(4096)).handle).toBe(i);
    }
    await expect(lane.share(4096)).rejects.toMatchObject({ code: 'RESOURCE_EXHAUSTED' });
  });

  it('closes a connection that is silent, and says why', async () => {
    const socket = connectSocket(laneSocket).resume();
    await new Promise((resolve) => socket.on('close', resolve));
    expect(socket.bytesRead).toBeGreaterThan(0);
    expect(reasons()).toContainEqual(expect.stringContaining('no greeting on the lane within 300 ms'));
    // Each has its place until the agent has seen the end of it.
    const joins = async () => {
      const fresh = await rawLane(agent.socket);
      return fresh.share(MIB).then(
        () => true,
        () => false,
      );
    };
    await expect.poll(joins).toBe(true);
  });

  it('keeps no more than 64 that are silent, and closes the others at once', async () => {
    const patient = await startTestAgent({ limits: { headerTimeout: 60_000 } });
    onTestFinished(() => patient.stop());
    const { client, offer } = await rawLane(patient.socket);
    const open = new Set<Socket>();
    await new Promise<void>((resolve) => {
      for (let i = 0; i < 80; i++) {
        const socket = connectSocket(join(dirname(patient.socket), offer.laneSocket));
        open.add(socket);
        socket
          .on('error', () => {})
          .on('close', () => {
            open.delete(socket);
            if (open.size === 64) {
              resolve();
            }
          })
          .resume();
      }
    });
    // Whoever is closed beyond those was waiting in this moment: a round trip later all 64 are still there.
    await client.ask({ ping: {} });
    expect(open.size).toBe(64);
    for (const socket of [...open, client.socket]) {
      socket.destroy();
    }
  });

  it('is left with no descriptor more by a thousand hostile connections', async () => {
    const region = lane.native.create(4096);
    await lane.share(MIB);
    const before = openDescriptors();
    const good = Buffer.concat([Buffer.from('DKL1\x01\0\0\0'), randomBytes(32)]);
    const words = [
      good,
      good.subarray(0, 39),
      Buffer.concat([good, good]),
      randomBytes(40),
      Buffer.alloc(1),
      Buffer.alloc(70_000),
    ];
    for (let round = 0; round < 20; round++) {
      await Promise.all(
        Array.from({ length: 50 }, (_, i) => {
          const socket = connectSocket(laneSocket);
          return new Promise<void>((resolve) => {
            socket
              .on('error', () => {})
              .on('close', () => resolve())
              .resume();
            socket.on('connect', () => {
              const { fd } = (socket as unknown as { _handle: { fd: number } })._handle;
              if (i % 3 === 0) {
                lane.native.share(fd, randomBytes(32), region);
              } else if (i % 3 === 1) {
                binding!.laneShareFiles(fd, randomBytes(32), fd, fd);
              } else {
                socket.write(words[(round + i) % words.length]!);
              }
              if (i % 7 === 0) {
                socket.destroy();
              }
            });
          });
        }),
      );
    }
    await lane.client.ask({ ping: {} });
    await expect.poll(openDescriptors).toBeLessThanOrEqual(before);
    await lane.share(4096);
  }, 60_000);

  describe('and a request that names', () => {
    let handle: number;
    let region: number;
    const room: Omit<Range, 'handle'> = { offset: MIB / 2, length: 4096 };

    beforeEach(async () => {
      ({ handle, region } = await lane.share(MIB));
      lane.native.copyIn(region, 0, Buffer.alloc(MIB, 3));
    });

    it('ranges in its regions has its result where it said', async () => {
      const sealed = await ask(call('laneEncrypt', { handle, offset: 0, length: 1_000 }, { handle, ...room }));
      expect(Number(sealed.laneResult!.length)).toBe(1_058);
      const second = await lane.share(MIB);
      const opened = await ask(
        call(
          'laneDecrypt',
          { handle, offset: room.offset, length: 1_058 },
          { handle: second.handle, offset: 5, length: 1_000 },
        ),
      );
      expect(Number(opened.laneResult!.length)).toBe(1_000);
      const out = new Uint8Array(1_000);
      lane.native.copyOut(second.region, 5, out);
      expect(out).toEqual(new Uint8Array(1_000).fill(3));
    });

    it.each<[string, object, object]>([
      ['bytes beyond the region', { offset: MIB - 10, length: 11 }, room],
      ['an offset beyond the region', { offset: MIB + 1, length: 0 }, room],
      ['a result beyond the region', { offset: 0, length: 10 }, { offset: MIB - 67, length: 68 }],
      ['a sum that overflows 64 bits', { offset: nearTheEnd(8), length: 16 }, room],
      ['a length that overflows 64 bits', { offset: 16, length: nearTheEnd(8) }, room],
      ['a result whose sum overflows', { offset: 0, length: 16 }, { offset: nearTheEnd(16), length: 80 }],
      ['a result over its input', { offset: 0, length: 4096 }, { offset: 4095, length: 5000 }],
      ['a result that ends in its input', { offset: 4096, length: 4096 }, { offset: 0, length: 4097 }],
      ['the same range twice', { offset: 0, length: 4096 }, { offset: 0, length: 4096 }],
      ['too little room', { offset: 0, length: 1_000 }, { offset: MIB / 2, length: 1_057 }],
      ['another region', { handle: 99, offset: 0, length: 10 }, room],
      ['no region', { handle: 0, offset: 0, length: 10 }, room],
    ])('%s is refused, and nothing is written', async (_name, input, result) => {
      const reply = await ask(call('laneEncrypt', { handle, ...input }, { handle, ...result }));
      expect(reply.error?.code).toBe(INVALID_ARGUMENT);
      const bytes = new Uint8Array(MIB);
      lane.native.copyOut(region, 0, bytes);
      expect(bytes.every((byte) => byte === 3)).toBe(true);
    });

    it('the region of another connection is refused', async () => {
      const other = await rawLane(agent.socket);
      const reply = await other.client.ask(call('laneEncrypt', { handle, offset: 0, length: 10 }, { handle, ...room }));
      expect(reply.error?.code).toBe(INVALID_ARGUMENT);
      other.client.socket.destroy();
    });

    it('more than lane.maxPayload is refused, and exactly that much is not', async () => {
      const large = await lane.share(33 * MIB);
      const result = { handle: large.handle, offset: 17 * MIB - 64, length: 16 * MIB - 1 + 58 };
      const over = await ask(call('laneEncrypt', { handle: large.handle, offset: 0, length: 16 * MIB + 1 }, result));
      expect(over.error).toMatchObject({ code: INVALID_ARGUMENT, message: expect.stringContaining('lane.maxPayload') });
      const least = { handle: large.handle, offset: 0, length: 16 * MIB - 1 };
      expect((await ask(call('laneEncrypt', least, result))).laneResult).toBeDefined();
    });

    it('a token in another context writes no byte', async () => {
      await ask(call('laneEncrypt', { handle, offset: 0, length: 1_000 }, { handle, ...room }));
      const input = { handle, offset: room.offset, length: 1_058 };
      const reply = await ask(
        call(
          'laneDecrypt',
          input,
          { handle, offset: 2_000, length: 1_000 },
          { context: Buffer.from('0001000161000162', 'hex') },
        ),
      );
      expect(reply.error?.code).toBe(DECRYPTION_FAILED);
      const out = new Uint8Array(1_000);
      lane.native.copyOut(region, 2_000, out);
      expect(out.every((byte) => byte === 3)).toBe(true);
    });
  });

  it('is nothing to a connection that never joined it', async () => {
    const client = await RawClient.connect(agent.socket);
    onTestFinished(() => void client.socket.destroy());
    await client.ask({ hello: HELLO });
    const range = { handle: 1, offset: 0, length: 10 };
    expect((await client.ask(call('laneEncrypt', range, { ...range, offset: 100 }))).error?.code).toBe(
      INVALID_ARGUMENT,
    );
  });

  it('refuses more memory than one caller may have', async () => {
    await expect(lane.share(lane.offer.laneRegionLimit + 4096)).rejects.toMatchObject({
      code: 'RESOURCE_EXHAUSTED',
      message: expect.stringMatching(/lane\.budget.*lane\.callerBudget/),
    });
    expect(RESOURCE_EXHAUSTED).toBe(13);
  });
});
