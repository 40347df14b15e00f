import type { Group } from '../support/group.ts';
import { type Pace, type Row, runGroup } from '../support/run-group.ts';

/** Measures groups one after the other, and says on standard error which it is at. */
export async function measured(groups: readonly Group[], pace: Pace): Promise<Row[]> {
  const rows: Row[] = [];
  for (const group of groups) {
    process.stderr.write(`  ${group.name} …\n`);
    rows.push(...(await runGroup(group, pace)));
  }
  return rows;
}
