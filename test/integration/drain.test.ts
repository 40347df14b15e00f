import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { connect } from '../../src/client/index.ts';
import { type ChildAgent, spawnTestAgent, startTestAgent, writeRunConfig } from '../support/agent.ts';
import { drainRound } from '../support/drain-round.ts';
import { RawClient, requestFrame } from '../support/raw-client.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const children: ChildAgent[] = [];
afterEach(async () => {
  for (const { child, exited } of children.splice(0)) {
    child.kill('SIGKILL');
    await exited;
  }
});

async function child(): Promise<ChildAgent> {
  const agent = await spawnTestAgent(join(temporaryFolder(), 's', 'agent.sock'));
  children.push(agent);
  return agent;
}

describe('an agent that is told to stop', () => {
  it('answers what has arrived, closes idle connections, and exits with 0', async () => {
    const agent = await child();
    const idle = await RawClient.greeted(agent.socket);
    expect(await drainRound(agent, 'SIGTERM')).toEqual({ lost: 0, exit: 0 });
    await idle.closed;
  });

  it('does the same for SIGINT', async () => {
    expect(await drainRound(await child(), 'SIGINT')).toEqual({ lost: 0, exit: 0 });
  });

  it('answers what the kernel holds and it has not read yet', async () => {
    const agent = await startTestAgent();
    const clients = await Promise.all(Array.from({ length: 8 }, () => RawClient.greeted(agent.socket)));
    for (const client of clients) {
      client.send({ id: 1_001, encrypt: { key: 'k', data: Buffer.from('x') } });
    }
    await agent.stop();
    for (const client of clients) {
      expect((await client.reply(1_001)).value).toBeTruthy();
      client.destroy();
    }
  });

  it('answers a request that waits for its key to be made', async () => {
    const agent = await startTestAgent();
    const client = await RawClient.greeted(agent.socket);
    const requests = Array.from({ length: 50 }, (_, i) =>
      requestFrame({ id: i + 1, encrypt: { key: `cold-${i}`, data: Buffer.from('x') } }),
    );
    client.write(Buffer.concat(requests));
    await sleep(0);
    await agent.stop();
    await client.closed;
    expect(client.replies.map(({ id }) => id).sort((a, b) => a - b)).toEqual(requests.map((_, i) => i + 1));
    expect(client.replies.filter(({ value }) => !value)).toEqual([]);
  });

  it('cuts a client that never reads when its time is over', async () => {
    const agent = await startTestAgent({ limits: { drain: 200 } });
    const client = await RawClient.greeted(agent.socket);
    client.socket.pause();
    const data = Buffer.alloc(1 << 20);
    for (let i = 1; i <= 8; i++) {
      client.send({ id: i, encrypt: { key: 'k', data } });
    }
    await sleep(100);
    const began = performance.now();
    await agent.stop();
    expect(performance.now() - began).toBeLessThan(3_000);
    client.destroy();
  });

  it('exits at once on the second signal', async () => {
    const agent = await child();
    const client = await RawClient.greeted(agent.socket);
    client.socket.pause();
    const data = Buffer.alloc(1 << 20);
    for (let i = 1; i <= 8; i++) {
      client.send({ id: i, encrypt: { key: 'k', data } });
    }
    await sleep(200);
    agent.child.kill('SIGTERM');
    await sleep(100);
    const began = performance.now();
    agent.child.kill('SIGTERM');
    expect(await agent.exited).toBe(1);
    // The first signal alone would wait for the client: 5 s.
    expect(performance.now() - began).toBeLessThan(3_000);
    client.destroy();
  });

  it('and is started again loses no call of a client: they are sent again', async () => {
    const folder = temporaryFolder();
    const config = writeRunConfig(folder);
    const socket = join(folder, 's', 'agent.sock');
    let agent = await spawnTestAgent(socket, ['run', '--config', config]);
    children.push(agent);
    const dekd = connect({ socket });
    const token = await dekd.encrypt(Buffer.from('x'), { key: 'k' });
    let stop = false;
    let served = 0;
    const failures: unknown[] = [];
    const load = Array.from({ length: 4 }, async () => {
      while (!stop) {
        await dekd.decrypt(token, { key: 'k' }).then(
          () => served++,
          (error: unknown) => failures.push(error),
        );
      }
    });
    for (const signal of ['SIGTERM', 'SIGKILL', 'SIGTERM'] as const) {
      agent.child.kill(signal);
      await agent.exited;
      agent = await spawnTestAgent(socket, ['run', '--config', config]);
      children.push(agent);
      const before = served;
      while (served < before + 20) {
        await sleep(5);
      }
    }
    stop = true;
    await Promise.all(load);
    expect(failures).toEqual([]);
    await dekd.close();
  });
});
