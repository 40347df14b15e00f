/** Bars of a large file, to the disk with fsync. */
import { type FileContest, openFileContest } from '../support/file-contestants.ts';
import { median } from '../support/interleave.ts';
import { MIB } from '../support/scenarios.ts';
import { missingTools } from '../support/tools.ts';
import { type Bar, figure, type Measured } from './bar.ts';

const BYTES = 1024 * MIB;
const ROUNDS = 5;
const SUBJECT = 'dekd encryptFile';
const RIVALS = ['age', 'stock AWS SDK', 'dd'] as const;

type Rival = (typeof RIVALS)[number];

let measured: Promise<ReadonlyMap<string, readonly number[]>> | undefined;

/** Seconds of every round, by contestant: one run for all bars of this file. */
function seconds(): Promise<ReadonlyMap<string, readonly number[]>> {
  measured ??= measure();
  return measured;
}

async function measure(): Promise<ReadonlyMap<string, readonly number[]>> {
  const contest: FileContest = await openFileContest(BYTES);
  try {
    const chosen = contest.contestants.filter(({ name }) => name === SUBJECT || RIVALS.includes(name as Rival));
    const taken = new Map<string, number[]>(chosen.map(({ name }) => [name, []]));
    // The first round is for the disk, and for code that is not compiled yet.
    for (let round = -1; round < ROUNDS; round++) {
      for (const { name, run, prepare } of chosen) {
        prepare();
        const begun = performance.now();
        await run();
        if (round >= 0) {
          taken.get(name)!.push((performance.now() - begun) / 1_000);
        }
        prepare();
      }
    }
    return taken;
  } finally {
    await contest.close();
  }
}

/** How many times as long the first takes. */
async function times(slower: string, quicker: string): Promise<Measured> {
  const taken = await seconds();
  const [a, b] = [taken.get(slower), taken.get(quicker)];
  if (a === undefined || b === undefined) {
    throw new Error(missingTools().join('; '));
  }
  const spoken = (name: string, values: readonly number[]) => `${name} ${figure(median(values))} s`;
  return { ratio: median(a.map((value, i) => value / b[i]!)), detail: `${spoken(slower, a)}, ${spoken(quicker, b)}` };
}

export const fileBars: readonly Bar[] = [
  {
    name: '1 GiB file to disk with fsync, against age and sync',
    atLeast: 1.3,
    measure: () => times('age', SUBJECT),
  },
  {
    name: '1 GiB file to disk with fsync, against the stock AWS Encryption SDK in the same format',
    atLeast: 3,
    measure: () => times('stock AWS SDK', SUBJECT),
  },
  {
    name: '1 GiB file to disk with fsync, time by that of dd bs=1M conv=fsync',
    atMost: 1.5,
    measure: () => times(SUBJECT, 'dd'),
  },
];
