import { type CommandLine, count, warn } from '../terminal.ts';
import { type RewrapFields, RewrapRun } from './rewrap-run.ts';

type Options = Record<string, unknown>;

/** Every record, or those of one key, under the newest material of what is above it. */
export async function rewrap(line: CommandLine, options: Options, name: string | undefined): Promise<number> {
  const fields: RewrapFields = { name: name ?? '', partition: (options.partition as string | undefined) ?? '' };
  await using run = await RewrapRun.open(line, fields, options);
  if (options.verify === true) {
    const verified = await run.pass('verify');
    return run.finish(
      { verified },
      verified.left === 0,
      verified.left === 0
        ? `${count(verified.done)} records open, each under the newest version of what is above it`
        : `${count(verified.done)} records are where they should be, ${count(verified.left)} are not: dekd rewrap moves them`,
    );
  }
  const counted = await run.pass('dry-run');
  if (options.dryRun === true) {
    return run.finish(
      { dryRun: true, counted },
      true,
      `${count(counted.moved)} records would be wrapped anew, ${count(counted.done)} are where they should be`,
    );
  }
  const moved = await run.pass('move', counted.moved);
  if (moved.failed.length > 0) {
    warn('what failed is still where it was, and opens as before');
  }
  return run.finish(
    { moved },
    true,
    `${count(moved.moved)} records wrapped anew, ${count(moved.done)} were where they should be`,
  );
}
