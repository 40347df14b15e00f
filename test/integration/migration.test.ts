import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { MigrationPlace } from '../support/root-migration.ts';

const TENANTS = 300;

describe('dekd roots migrate', () => {
  it('moves every record from a local root to KMS and on to Vault, under load and interrupted, and no request fails', async () => {
    await using place = await MigrationPlace.open(TENANTS);
    await place.start('aws', 'main');
    const load = place.beginLoad(4);
    await sleep(200);
    await place.dekd('roots', 'default', 'aws');
    await place.interrupted('main', 'aws', 50, (command) => command.kill('SIGKILL'));
    const first = await place.migrate('main', 'aws');
    expect(first.moved.done).toBeGreaterThanOrEqual(50);
    expect(first.moved.moved + first.moved.done).toBeGreaterThanOrEqual(TENANTS);
    expect(first.verified).toMatchObject({ left: 0, failed: [] });
    expect(first.removable).toBe(true);

    place.removeRootKey();
    await place.start('aws', 'vault');
    const second = await place.migrate('aws', 'vault');
    expect(second.verified).toMatchObject({ left: 0, failed: [] });
    await place.start('vault');
    await load.stop();
    expect(load.failures).toEqual([]);
    expect(load.requests).toBeGreaterThan(200);
    await place.kms.stop();
    expect(await place.unopened()).toEqual([]);
  }, 120_000);

  it('ends after its page at Ctrl-C, says how to go on, and keeps to its rate', async () => {
    await using place = await MigrationPlace.open(60);
    await place.start('aws', 'main');
    const started = performance.now();
    const run = place.command('roots', 'migrate', '--from', 'main', '--to', 'aws', '--rate', '20', '--json');
    const moved = await run.moved(20);
    run.child.kill('SIGINT');
    expect(await run.exited).toBe(1);
    expect(performance.now() - started).toBeGreaterThan(1_000);
    const error = JSON.parse(run.said().trim().split('\n').at(-1)!) as { error: Record<string, string> };
    expect(error.error).toEqual({
      code: 'CANCELLED',
      message: expect.stringMatching(/^interrupted: (20|40) records were moved$/) as string,
      remedy: 'run the same command again: it goes on where it stopped',
    });
    expect(moved).toBeLessThan(60);
    const rest = await place.migrate('main', 'aws');
    expect(rest.moved.moved + rest.moved.done).toBe(60);
    // New keys would still come under it.
    expect(rest).toMatchObject({ verified: { left: 0 }, removable: false });
  }, 60_000);
});
