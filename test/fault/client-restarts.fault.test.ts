import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { connect } from '../../src/client/index.ts';
import { spawnTestAgent, writeRunConfig } from '../support/agent.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const KILLS = 100;

describe('a client', () => {
  it('finishes every call over 100 kills of its agent', async () => {
    const folder = temporaryFolder();
    const config = writeRunConfig(folder);
    const socket = join(folder, 's', 'agent.sock');
    let agent = await spawnTestAgent(socket, ['run', '--config', config]);
    const dekd = connect({ socket, timeoutMs: 30_000 });
    const sealed = await dekd.encrypt(Buffer.from('before'), { key: 'k' });
    const failures: unknown[] = [];
    let served = 0;
    let stop = false;
    const load = Array.from({ length: 8 }, async (_, i) => {
      while (!stop) {
        try {
          const token = i % 2 === 0 ? sealed : await dekd.encrypt(Buffer.from('before'), { key: 'k' });
          expect(Buffer.from(await dekd.decrypt(token, { key: 'k' })).toString()).toBe('before');
          served++;
        } catch (error) {
          failures.push(error);
        }
      }
    });
    for (let kill = 0; kill < KILLS; kill++) {
      await sleep(Math.random() * 50);
      agent.child.kill('SIGKILL');
      await agent.exited;
      const before = served;
      agent = await spawnTestAgent(socket, ['run', '--config', config]);
      while (served < before + 10 && failures.length === 0) {
        await sleep(2);
      }
    }
    stop = true;
    await Promise.all(load);
    expect(failures).toEqual([]);
    await dekd.close();
    agent.child.kill('SIGTERM');
    expect(await agent.exited).toBe(0);
  });
});
