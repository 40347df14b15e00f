import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { spawnTestAgent } from '../support/agent.ts';
import { drainRound } from '../support/drain-round.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const ROUNDS = 200;

describe('SIGTERM', () => {
  it('200 times under load loses no reply of what had arrived, and ends with 0 within 5 s', async () => {
    const folder = temporaryFolder();
    for (let round = 0; round < ROUNDS; round++) {
      const agent = await spawnTestAgent(join(folder, `${round}`, 'agent.sock'));
      await sleep(Math.random() * 20);
      const began = performance.now();
      const outcome = await drainRound(agent, round % 2 === 0 ? 'SIGTERM' : 'SIGINT');
      expect(outcome, `round ${round}`).toEqual({ lost: 0, exit: 0 });
      expect(performance.now() - began).toBeLessThan(5_000);
    }
  });
});
