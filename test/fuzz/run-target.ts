import { randomNumbers } from '../fault/support/random-numbers.ts';
import { mutate } from './mutate.ts';
import { Reach } from './reach.ts';
import { Finding, type FuzzTarget } from './target.ts';

/** Inputs between two looks at what was reached: a look costs about as much as they do. */
const BATCH = 64;
const MAX_CORPUS = 4_000;

export interface FuzzRun {
  readonly seed: number;
  /** Ends after so many inputs or so many seconds, whichever is first. */
  readonly inputs: number;
  readonly seconds: number;
  /** Inputs of earlier runs. */
  readonly corpus?: readonly Uint8Array[];
  /** Whether what reaches new code is kept to be changed again. */
  readonly guided: boolean;
}

export interface FuzzResult {
  readonly executions: number;
  /** Inputs that reached something new, seeds left out. */
  readonly found: readonly Uint8Array[];
  readonly reach: ReturnType<Reach['report']>;
  readonly finding: Finding | undefined;
}

/** Gives a target changed inputs until it breaks a promise or the run is over. Given the same seed, the same inputs. */
export function runTarget(target: FuzzTarget, run: FuzzRun): FuzzResult {
  const random = randomNumbers(run.seed);
  const words = target.words.map((word) => Buffer.from(word, 'latin1'));
  const corpus = [...target.seeds(), ...(run.corpus ?? [])];
  const found: Uint8Array[] = [];
  const reach = new Reach(run.guided ? target.covers : []);
  const until = performance.now() + run.seconds * 1_000;
  let executions = 0;
  const give = (bytes: Uint8Array): void => {
    executions++;
    try {
      target.read(bytes);
    } catch (cause) {
      throw new Finding(target.name, bytes, cause);
    }
  };
  let finding: Finding | undefined;
  try {
    for (const bytes of corpus) {
      give(bytes);
    }
    reach.isNew();
    while (executions < run.inputs && performance.now() < until) {
      const batch = Array.from({ length: BATCH }, () =>
        mutate(corpus[Math.floor(random() * corpus.length)]!, corpus, words, target.maxLength, random),
      );
      batch.forEach(give);
      if (run.guided && reach.isNew()) {
        // One of them did. Which one is not looked for: some are kept, and `reduced` finds it among all of them afterwards.
        for (const bytes of batch.slice(0, 8)) {
          corpus.push(bytes);
        }
        found.push(...batch);
        if (corpus.length > MAX_CORPUS) {
          corpus.splice(Math.floor(random() * MAX_CORPUS), 8);
        }
      }
    }
  } catch (error) {
    if (!(error instanceof Finding)) {
      throw error;
    }
    finding = error;
  }
  reach.isNew();
  const report = run.guided ? reach.report() : [];
  reach.close();
  return { executions, found, reach: report, finding };
}

/** Those of `inputs` that reach something which those before them did not. */
export function reduced(target: FuzzTarget, inputs: readonly Uint8Array[]): Uint8Array[] {
  const reach = new Reach(target.covers);
  for (const bytes of target.seeds()) {
    target.read(bytes);
  }
  reach.isNew();
  const kept = inputs
    .toSorted((a, b) => a.length - b.length)
    .filter((bytes) => {
      target.read(bytes);
      return reach.isNew();
    });
  reach.close();
  return kept;
}
