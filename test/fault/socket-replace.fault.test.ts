import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadBinding } from '../../src/addon/binding.ts';
import { connect } from '../../src/client/index.ts';
import { spawnTestAgent, writeRunConfig } from '../support/agent.ts';
import { RawClient } from '../support/raw-client.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const ROUNDS = 25;

describe('a successor', () => {
  it('takes over 25 times under load: no call fails, and no connect is refused', async ({ skip }) => {
    skip(loadBinding().binding === undefined, 'the addon is not built: there is no flock');
    const folder = temporaryFolder();
    const config = writeRunConfig(folder);
    const socket = join(folder, 's', 'agent.sock');
    let agent = await spawnTestAgent(socket, ['run', '--config', config]);
    const dekd = connect({ socket });
    const token = await dekd.encrypt(Buffer.from('x'), { key: 'k' });
    const failures: unknown[] = [];
    let refused = 0;
    let connects = 0;
    let stop = false;
    const calls = Array.from({ length: 4 }, async () => {
      while (!stop) {
        await dekd.decrypt(token, { key: 'k' }).catch((error: unknown) => failures.push(error));
      }
    });
    const knocking = (async () => {
      while (!stop) {
        await RawClient.connect(socket).then(
          (client) => client.destroy(),
          () => refused++,
        );
        connects++;
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
    })();
    for (let round = 0; round < ROUNDS; round++) {
      const successor = await spawnTestAgent(socket, ['run', '--config', config, '--replace']);
      agent.child.kill('SIGTERM');
      expect(await agent.exited).toBe(0);
      agent = successor;
    }
    stop = true;
    await Promise.all([...calls, knocking]);
    expect(failures).toEqual([]);
    expect(connects).toBeGreaterThan(ROUNDS);
    expect(refused).toBe(0);
    await dekd.close();
    agent.child.kill('SIGTERM');
    await agent.exited;
  });
});
