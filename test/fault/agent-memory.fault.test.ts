import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { type ChildAgent, residentBytes, spawnTestAgent } from '../support/agent.ts';
import { RawClient, requestFrame } from '../support/raw-client.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

let agent: ChildAgent | undefined;
afterEach(async () => {
  agent?.child.kill('SIGKILL');
  await agent?.exited;
});

async function start(limit?: string): Promise<ChildAgent> {
  agent = await spawnTestAgent(join(temporaryFolder(), 's', 'agent.sock'), undefined, limit);
  return agent;
}

/** Resident memory once it has stopped moving. */
async function settled(pid: number): Promise<number> {
  let last = residentBytes(pid);
  for (let i = 0; i < 20; i++) {
    await sleep(250);
    const now = residentBytes(pid);
    if (Math.abs(now - last) < 64 * KIB) {
      return now;
    }
    last = now;
  }
  return last;
}

/** The most memory seen while something runs. */
async function peakDuring(pid: number, run: () => Promise<void>): Promise<number> {
  let peak = 0;
  const timer = setInterval(() => {
    peak = Math.max(peak, residentBytes(pid));
  }, 20);
  await run();
  clearInterval(timer);
  return Math.max(peak, residentBytes(pid));
}

/** Once through every way, so that code and buffers are there before anything is measured. */
async function warmUp(socket: string): Promise<void> {
  const client = await RawClient.greeted(socket);
  for (let i = 0; i < 300; i++) {
    await client.ask({ encrypt: { key: 'k', data: Buffer.alloc(64 * KIB) } });
  }
  client.destroy();
}

describe('the memory of an agent', () => {
  it('grows by at most 8 MiB for a client that sends 300 MB and never reads', async () => {
    const { socket, pid } = await start();
    await warmUp(socket);
    const before = await settled(pid);
    const client = await RawClient.greeted(socket);
    client.socket.pause();
    const frame = requestFrame({ id: 1, encrypt: { key: 'k', data: Buffer.alloc(60 * KIB, 'x') } });
    const count = Math.ceil((300 * MIB) / frame.length);
    const peak = await peakDuring(pid, async () => {
      for (let i = 0; i < count; i++) {
        // Without waiting for the agent: what it does not take stays with the client.
        client.write(frame);
      }
      await sleep(3_000);
    });
    console.log(`grew by ${((peak - before) / MIB).toFixed(1)} MiB`);
    expect(peak - before).toBeLessThanOrEqual(8 * MIB);
    const other = await RawClient.greeted(socket);
    expect((await other.ask({ ping: {} })).document).toBeTruthy();
    other.destroy();
    client.destroy();
  });

  it('grows by at most 8 MiB for a client that asks much with little, 4,000,000 pings, and never reads', async () => {
    const { socket, pid } = await start();
    await warmUp(socket);
    const before = await settled(pid);
    const client = await RawClient.greeted(socket);
    client.socket.pause();
    const pings = Buffer.concat(Array.from({ length: 40_000 }, () => requestFrame({ id: 1, ping: {} })));
    const peak = await peakDuring(pid, async () => {
      for (let i = 0; i < 100; i++) {
        client.write(pings);
      }
      await sleep(3_000);
    });
    console.log(`grew by ${((peak - before) / MIB).toFixed(1)} MiB`);
    expect(peak - before).toBeLessThanOrEqual(8 * MIB);
    client.destroy();
  });

  it('grows by at most 64 KiB for each of 500 frames that claim 4 GiB', async () => {
    const { socket, pid } = await start();
    await warmUp(socket);
    const before = await settled(pid);
    const clients = await Promise.all(Array.from({ length: 500 }, () => RawClient.greeted(socket)));
    const peak = await peakDuring(pid, async () => {
      for (const client of clients) {
        client.write(Buffer.alloc(4, 0xff));
      }
      await Promise.all(clients.map(({ closed }) => closed));
    });
    console.log(`grew by ${((peak - before) / 500 / KIB).toFixed(1)} KiB each`);
    expect(peak - before).toBeLessThanOrEqual(500 * 64 * KIB);
    for (const client of clients) {
      expect(client.replies[0]!.error!.message).toMatch(/frame of 4294967295 bytes is over the limit/);
      client.destroy();
    }
  });

  it('grows by at most 24 KiB for each of 4,096 idle connections', async ({ skip }) => {
    const files = Number(spawnSync('sh', ['-c', 'ulimit -n']).stdout.toString()) || 0;
    skip(files < 9_000, `needs 9,000 open files, and the limit is ${files}`);
    const { socket, pid } = await start();
    await warmUp(socket);
    const before = await settled(pid);
    const clients: RawClient[] = [];
    for (let i = 0; i < 4_096; i += 64) {
      clients.push(...(await Promise.all(Array.from({ length: 64 }, () => RawClient.greeted(socket)))));
    }
    const each = ((await settled(pid)) - before) / clients.length;
    console.log(`${(each / KIB).toFixed(1)} KiB each`);
    expect(each).toBeLessThanOrEqual(24 * KIB);
    expect((await clients[4_000]!.ask({ encrypt: { key: 'k', data: Buffer.from('x') } })).value).toBeTruthy();
    for (const client of clients) {
      client.destroy();
    }
  });
});

describe('a burst of connections', () => {
  it('of 1,500 while the agent stands still for 1.2 s: none is refused', async () => {
    const { socket, pid } = await start();
    process.kill(pid, 'SIGSTOP');
    const connecting = Array.from({ length: 1_500 }, () => RawClient.connect(socket));
    const outcome = Promise.allSettled(connecting);
    await sleep(1_200);
    process.kill(pid, 'SIGCONT');
    const clients = (await outcome).flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    expect(clients).toHaveLength(1_500);
    const greeted = await Promise.allSettled(
      clients.map((client) => client.ask({ hello: { minVersion: 1, maxVersion: 1 } })),
    );
    expect(greeted.filter((result) => result.status === 'rejected' || !result.value.hello)).toEqual([]);
    for (const client of clients) {
      client.destroy();
    }
  });
});

describe('an agent with 64 descriptors', () => {
  it('refuses what it cannot hold, never exits, and serves again within a second', async () => {
    const { socket, child } = await start('ulimit -n 64');
    const clients = await Promise.allSettled(Array.from({ length: 100 }, () => RawClient.connect(socket)));
    const open = clients.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    const answers = await Promise.allSettled(
      open.map((client) => client.ask({ hello: { minVersion: 1, maxVersion: 1 } })),
    );
    const greeted = answers.filter((result) => result.status === 'fulfilled' && result.value.hello).length;
    expect(greeted).toBeGreaterThanOrEqual(8);
    expect(greeted).toBeLessThanOrEqual(64 - 20);
    expect(open.some(({ replies }) => replies[0]?.error?.message.startsWith('over the limit of'))).toBe(true);
    expect(child.exitCode).toBeNull();
    for (const client of open) {
      client.destroy();
    }
    await sleep(1_000);
    const next = await RawClient.greeted(socket);
    expect((await next.ask({ encrypt: { key: 'k', data: Buffer.from('x') } })).value).toBeTruthy();
    next.destroy();
  });
});

describe('a client that half-closes while its key is made and never reads', () => {
  it('is cut after some seconds, and its descriptor is free', async () => {
    const { socket, pid } = await start();
    const client = await RawClient.greeted(socket, { allowHalfOpen: true });
    client.socket.pause();
    const before = descriptors(pid);
    client.send({ encrypt: { key: 'cold', data: Buffer.alloc(1 << 20) } });
    client.socket.end();
    await sleep(1_000);
    expect(descriptors(pid)).toBe(before);
    await sleep(6_000);
    expect(descriptors(pid)).toBe(before - 1);
    client.destroy();
  });
});

function descriptors(pid: number): number {
  return spawnSync('ls', [`/proc/${pid}/fd`])
    .stdout.toString()
    .trim()
    .split('\n').length;
}
