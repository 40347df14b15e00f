/** A file to the disk, with fsync, beside the programs and libraries that people use for it. */
import { openFileContest } from './support/file-contestants.ts';
import type { Group } from './support/group.ts';
import { MIB } from './support/scenarios.ts';

const BYTES = 256 * MIB;

export const groups: readonly Group[] = [
  {
    name: 'file 256MiB',
    baseline: 'dd/256MiB',
    async open() {
      const contest = await openFileContest(BYTES);
      return {
        subjects: contest.contestants.map(({ name, run, prepare }) => ({
          name: `${name}/256MiB`,
          bytes: BYTES,
          prepare,
          // One at a time: what prepares a run does so for one.
          work: async (count: number) => {
            for (let i = 0; i < count; i++) {
              await run();
            }
          },
        })),
        close: () => contest.close(),
      };
    },
  },
];
