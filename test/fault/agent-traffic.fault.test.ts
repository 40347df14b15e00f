import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { startTestAgent } from '../support/agent.ts';
import { anyTraffic, sendTraffic } from '../support/garbage.ts';
import { RawClient, requestFrame } from '../support/raw-client.ts';

const RUNS = 20_000;
const KILLS = 1_000;

describe('an agent', () => {
  it('survives 20,000 connections of random splits and garbage without a defect', async () => {
    const rejections: unknown[] = [];
    const onRejection = (reason: unknown): void => void rejections.push(reason);
    process.on('unhandledRejection', onRejection);
    const agent = await startTestAgent();
    await fc.assert(
      fc.asyncProperty(anyTraffic, async (traffic) => {
        await sendTraffic(agent.socket, traffic);
      }),
      { numRuns: RUNS },
    );
    const client = await RawClient.greeted(agent.socket);
    expect((await client.ask({ encrypt: { key: 'k', data: Buffer.from('x') } })).value).toBeTruthy();
    expect(agent.log.filter(({ level }) => level === 'error')).toEqual([]);
    expect(rejections).toEqual([]);
    client.destroy();
    await agent.stop();
    process.off('unhandledRejection', onRejection);
  });

  it('keeps nothing of 1,000 clients cut in the middle of a batch', async () => {
    const agent = await startTestAgent();
    const items = Array.from({ length: 200 }, (_, i) => ({ data: Buffer.alloc(100), key: `k-${i % 7}` }));
    const frame = requestFrame({ id: 1, encryptMany: { items } });
    for (let i = 0; i < KILLS; i++) {
      const client = await RawClient.greeted(agent.socket);
      client.write(frame);
      client.write(frame.subarray(0, Math.floor(Math.random() * frame.length)));
      if (i % 3 === 0) {
        await new Promise((resolve) => setImmediate(resolve));
      }
      client.destroy();
    }
    const admin = await RawClient.greeted(agent.admin);
    for (let i = 0; ; i++) {
      const { document } = await admin.ask({ admin: { status: {} } });
      const { counters, keys } = JSON.parse(Buffer.from(document!).toString());
      if (counters.connectionsOpen === 1) {
        expect(keys.loaded).toBe(7);
        break;
      }
      expect(i).toBeLessThan(200);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    admin.destroy();
    await agent.stop();
  });
});
