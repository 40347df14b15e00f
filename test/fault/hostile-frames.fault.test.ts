/** Frames, lengths and maps that are made to cost more than they should: rows P3, P4, P7 and P8 of docs/test-plan.md. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { connect } from '../../src/client/index.ts';
import { decodeContext, encodeContext, MAX_CONTEXT_BYTES } from '../../src/envelope/context.ts';
import { errorCodeOf } from '../../src/errors.ts';
import { type ChildAgent, residentBytes, spawnTestAgent } from '../support/agent.ts';
import { frameOf, HELLO, RawClient, requestFrame } from '../support/raw-client.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const CONNECTIONS = Number(process.env.DEKD_FAULT_CONNECTIONS ?? 500);
const SLOW = Number(process.env.DEKD_FAULT_SLOW_CONNECTIONS ?? 4_096);

let agent: ChildAgent | undefined;
afterEach(async () => {
  agent?.child.kill('SIGKILL');
  await agent?.exited;
});

async function start(): Promise<ChildAgent> {
  agent = await spawnTestAgent(join(temporaryFolder(), 's', 'agent.sock'), undefined, 'ulimit -n 20000');
  // Code and buffers are there before anything is measured.
  const client = await RawClient.greeted(agent.socket);
  for (let i = 0; i < 300; i++) {
    await client.ask({ encrypt: { key: 'k', data: Buffer.alloc(64 * KIB) } });
  }
  client.destroy();
  return agent;
}

async function peakDuring(pid: number, run: () => Promise<void>): Promise<number> {
  let peak = residentBytes(pid);
  const timer = setInterval(() => {
    peak = Math.max(peak, residentBytes(pid));
  }, 5);
  await run();
  clearInterval(timer);
  return Math.max(peak, residentBytes(pid));
}

/** The longest that a client waited for a small answer while something ran, in milliseconds. */
async function longestWait(socket: string, run: () => Promise<void>): Promise<number> {
  const client = await RawClient.greeted(socket);
  let over = false;
  let longest = 0;
  const asking = (async () => {
    while (!over) {
      const before = performance.now();
      await client.ask({ ping: {} });
      longest = Math.max(longest, performance.now() - before);
      await sleep(1);
    }
  })();
  await run();
  over = true;
  await asking;
  client.destroy();
  return longest;
}

async function stillAnswers(socket: string): Promise<void> {
  const client = await RawClient.greeted(socket);
  expect((await client.ask({ ping: {} })).document).toBeTruthy();
  client.destroy();
}

describe('a frame that says to be large', () => {
  it.each([2 ** 31, 2 ** 32 - 1, 16 * MIB + 1])(
    `of %i bytes is refused on its prefix, on ${CONNECTIONS} connections at once, for no memory`,
    async (length) => {
      const { socket, pid } = await start();
      const prefix = Buffer.alloc(4);
      prefix.writeUInt32BE(length);
      const before = residentBytes(pid);
      const clients: RawClient[] = [];
      const peak = await peakDuring(pid, async () => {
        for (let i = 0; i < CONNECTIONS; i++) {
          clients.push(await RawClient.greeted(socket));
        }
        for (const client of clients) {
          client.write(prefix);
        }
        await Promise.all(clients.map((client) => client.closed));
      });
      const each = (peak - before) / CONNECTIONS / KIB;
      console.log(`${CONNECTIONS} refused frames of ${length} bytes: ${each.toFixed(1)} KiB resident each`);
      for (const client of clients) {
        expect(client.replies.at(-1)!.error!.message).toMatch(/over the limit/);
        client.destroy();
      }
      expect(each).toBeLessThan(64);
      await stillAnswers(socket);
    },
  );

  it('before the hello is refused alike', async () => {
    const { socket } = await start();
    const client = await RawClient.connect(socket);
    client.write(Buffer.from([0x7f, 0xff, 0xff, 0xff]));
    await client.closed;
    expect(client.replies.at(-1)!.error!.message).toMatch(/over the limit/);
  });
});

describe('a frame that means more than it weighs', () => {
  const encryptMany = (items: Buffer): Buffer => {
    const operation = Buffer.concat([Buffer.from([0x0a, 1, 0x6b]), items]);
    const length: number[] = [];
    for (let left = operation.length; ; left >>>= 7) {
      length.push(left < 128 ? left : (left & 127) | 128);
      if (left < 128) {
        break;
      }
    }
    return frameOf(Buffer.concat([Buffer.from([0x08, 9, 0x5a, ...length]), operation]));
  };
  const nested = (depth: number): Buffer =>
    frameOf(Buffer.concat([Buffer.from([0x08, 9]), Buffer.alloc(depth, 0xa3).fill(Buffer.from([0xa3, 0x06]))]));

  it.each([
    ['a MiB of empty items', encryptMany(Buffer.alloc(MIB - 64, Buffer.from([0x7a, 0]))), 'INVALID_ARGUMENT'],
    [
      '200,000 items of a byte',
      encryptMany(Buffer.alloc(1_000_000, Buffer.from([0x7a, 3, 0x7a, 1, 0x61]))),
      'INVALID_ARGUMENT',
    ],
    ['groups in groups, 10,000 deep', nested(20_000), 'PROTOCOL_ERROR'],
    [
      'an unknown field of a MiB',
      frameOf(Buffer.concat([Buffer.from([0x08, 9, 0xfa, 0x3f, 0xf0, 0xff, 0x3f]), Buffer.alloc(0xffff0)])),
      'UNSUPPORTED',
    ],
  ])('is refused: %s', async (name, frame, code) => {
    const { socket, pid } = await start();
    const client = await RawClient.greeted(socket);
    const before = residentBytes(pid);
    let longest = 0;
    const peak = await peakDuring(pid, async () => {
      longest = await longestWait(socket, async () => {
        client.write(frame);
        while (client.replies.length === 0 && !client.isClosed) {
          await sleep(1);
        }
      });
    });
    const { error } = client.replies[0]!;
    console.log(
      `${name}: ${((peak - before) / frame.length).toFixed(1)}x its wire size resident, others waited ${longest.toFixed(0)} ms at most`,
    );
    expect(errorCodeOf(error!.code)).toBe(code);
    expect(peak - before).toBeLessThan(8 * Math.max(frame.length, MIB));
    client.destroy();
    await stillAnswers(socket);
  });
});

describe('clients that send a byte now and then', () => {
  it(`are gone after the time for a hello, ${SLOW} of them, and others go on`, async () => {
    const { socket } = await start();
    const usual = await longestWait(socket, () => sleep(3_000));
    const hello = requestFrame({ id: 1, hello: { ...HELLO, client: 'x'.repeat(60) } });
    const clients: RawClient[] = [];
    let refused = 0;
    const began = performance.now();
    const beside = await longestWait(socket, async () => {
      for (let i = 0; i < SLOW; i++) {
        clients.push(await RawClient.connect(socket));
      }
      for (let at = 0; at < 4 && clients.some((client) => !client.isClosed); at++) {
        for (const client of clients) {
          if (!client.isClosed) {
            client.write(hello.subarray(at, at + 1));
          }
        }
        await sleep(5_000);
      }
      await Promise.all(clients.map((client) => client.closed));
    });
    for (const client of clients) {
      refused += /no complete hello|too many/.test(client.replies[0]?.error?.message ?? '') ? 1 : 0;
      client.destroy();
    }
    console.log(
      `${SLOW} slow clients gone after ${((performance.now() - began) / 1_000).toFixed(1)} s; longest wait of another ${beside.toFixed(0)} ms, ${usual.toFixed(0)} ms before`,
    );
    expect(refused).toBe(SLOW);
    await stillAnswers(socket);
  });
});

describe('names that meet in a hash table', () => {
  // V8 hashes what looks like an array index by its number: such names are easily made to meet (CVE-2026-21717).
  const names = (count: number): string[] => Array.from({ length: count }, (_, i) => String(i * 65_536));

  it('are refused by the limit of a context when there are 100,000', () => {
    const context = Object.fromEntries(names(100_000).map((name) => [name, '']));
    expect(() => encodeContext(context)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
  });

  it('cost no more than others where they fit', async () => {
    const fits = Math.floor((MAX_CONTEXT_BYTES - 2) / (4 + 9)) - 100;
    const context = Object.fromEntries(names(fits).map((name) => [name, '']));
    const bytes = encodeContext(context);
    const before = performance.now();
    expect(Object.keys(decodeContext(bytes))).toHaveLength(fits);
    const took = performance.now() - before;
    const { socket } = await start();
    const dekd = connect({ socket });
    const token = await dekd.encrypt(Buffer.from('value'), { key: 'k', context });
    const longest = await longestWait(socket, async () => {
      for (let i = 0; i < 20; i++) {
        await dekd.decrypt(token, { key: 'k', context });
      }
    });
    console.log(
      `${fits} colliding names: decoded in ${took.toFixed(1)} ms, others waited ${longest.toFixed(1)} ms at most`,
    );
    expect(took).toBeLessThan(50);
    await dekd.close();
  });
});
