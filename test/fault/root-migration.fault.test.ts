import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { MigrationPlace } from '../support/root-migration.ts';

const RECORDS = 10_000;
const CALLERS = 6;

describe('a migration of 10,000 key records under load', () => {
  it('goes from local to AWS and on to Vault, each interrupted three times, without a failed request', async () => {
    await using place = await MigrationPlace.open(RECORDS);
    await place.start('aws', 'main');
    const load = place.beginLoad(CALLERS);
    await sleep(1_000);
    await place.dekd('roots', 'default', 'aws');

    const steps = [
      ['main', 'aws', () => place.start('main', 'aws')],
      ['aws', 'vault', () => place.start('aws', 'vault')],
    ] as const;
    for (const [from, to, start] of steps) {
      // Killed as it moves records: by whom has the terminal, with the agent that does it, and by whom has the terminal.
      await place.interrupted(from, to, RECORDS / 5, (command) => command.kill('SIGKILL'));
      await place.interrupted(from, to, RECORDS / 5, async (command) => {
        await place.stopAgent('SIGKILL');
        command.kill('SIGKILL');
        await start();
      });
      await place.interrupted(from, to, RECORDS / 5, (command) => command.kill('SIGINT'));
      const { moved, verified, removable } = await place.migrate(from, to);
      expect(moved.failed).toEqual([]);
      expect(moved.done).toBeGreaterThanOrEqual((RECORDS * 3) / 5);
      expect(moved.moved + moved.done).toBeGreaterThanOrEqual(RECORDS);
      expect(verified).toMatchObject({ left: 0, failed: [] });
      expect(verified.done).toBeGreaterThanOrEqual(moved.moved + moved.done);
      expect(removable).toBe(true);
      if (from === 'main') {
        place.removeRootKey();
        await place.start('aws', 'vault');
      }
    }

    await place.start('vault');
    await load.stop();
    expect(load.failures).toEqual([]);
    expect(load.requests).toBeGreaterThan(RECORDS);
    await place.kms.stop();
    expect(await place.unopened()).toEqual([]);
  });
});
