/** `dekd status --watch`: what the agent does, again each second. */
import { setTimeout as sleep } from 'node:timers/promises';
import { DekdError } from '../../errors.ts';
import type { LiveFigures } from '../../telemetry/live-figures.ts';
import { liveRates } from '../../telemetry/live-rates.ts';
import { administer } from '../admin.ts';
import type { CommandLine } from '../terminal.ts';
import { painter, plain, Screen } from './screen.ts';
import { viewOf } from './view.ts';

const INTERVAL_MS = 1_000;
/** Rates are of so many intervals: of one alone they jump. */
const INTERVALS = 5;
/** Where nobody says how wide it is. */
const PLAIN_SIZE = { width: 80, rows: Number.POSITIVE_INFINITY };

export interface WatchOptions {
  /** Ends after so many looks; undefined for as long as it is wanted. */
  readonly count?: number | undefined;
}

/**
 * In a terminal a view that is redrawn, until `q`; else one block of text a second, and with `--json` one object a line: the
 * figures, and the rates since the look five seconds before.
 * @throws AGENT_UNAVAILABLE when there is no agent at the beginning, or later where nobody looks on
 */
export async function watch(line: CommandLine, { count = Number.POSITIVE_INFINITY }: WatchOptions): Promise<void> {
  const looks: LiveFigures[] = [await look(line)];
  const isScreen = process.stdout.isTTY === true && !line.json;
  const leaving = new AbortController();
  const leave = () => leaving.abort();
  process.once('SIGINT', leave).once('SIGTERM', leave);
  const screen = isScreen ? new Screen() : undefined;
  screen?.open(leave);
  try {
    for (let shown = 0; ; ) {
      show(line, looks, screen);
      if (++shown >= count || !(await pause(leaving.signal))) {
        return;
      }
      try {
        looks.push(await look(line));
      } catch (error) {
        if (screen === undefined || !DekdError.is(error, 'AGENT_UNAVAILABLE')) {
          throw error;
        }
        screen.draw([`The agent is gone: ${error.message}`, 'It is looked for each second. q leaves.']);
        shown -= 1;
        continue;
      }
      looks.splice(0, looks.length - INTERVALS - 1);
    }
  } finally {
    screen?.close();
    process.off('SIGINT', leave).off('SIGTERM', leave);
  }
}

async function look(line: CommandLine): Promise<LiveFigures> {
  return (await administer(line, { metrics: { live: true } })) as LiveFigures;
}

/** False when it is time to leave. */
async function pause(signal: AbortSignal): Promise<boolean> {
  try {
    await sleep(INTERVAL_MS, undefined, { signal });
    return true;
  } catch {
    return false;
  }
}

function show(line: CommandLine, looks: readonly LiveFigures[], screen: Screen | undefined): void {
  const now = looks.at(-1)!;
  const rates = liveRates(looks[0]!, now);
  if (line.json) {
    process.stdout.write(`${JSON.stringify({ ...now, rates })}\n`);
  } else if (screen === undefined) {
    process.stdout.write(`${viewOf(now, rates, plain, PLAIN_SIZE).join('\n')}\n\n`);
  } else {
    const paint = painter();
    const view = viewOf(now, rates, paint, { width: screen.width, rows: screen.rows - 2 });
    screen.draw([...view, '', paint(`of the last ${Math.round(rates.seconds)} s    q leaves`, 'dim')]);
  }
}
