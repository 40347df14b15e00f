/** Bars of the bulk lane: values in memory that client and agent share, beside work in the application's own process. */
import { randomBytes } from 'node:crypto';
import { InProcess } from '../support/in-process.ts';
import type { Work } from '../support/interleave.ts';
import type { ScenarioName } from '../support/scenarios.ts';
import type { Bar } from './bar.ts';
import { againstInProcess, inProcess } from './socket-bars.ts';

function inProcessOpening(size: number): Work {
  const application = new InProcess();
  application.check(randomBytes(size));
  const { sealed } = application;
  let opened: Buffer | undefined;
  return (count) => {
    for (let i = 0; i < count; i++) {
      opened = application.open(sealed);
    }
    return opened?.length;
  };
}

function bar(name: string, atLeast: number, scenario: ScenarioName, baseline = inProcess): Bar {
  return {
    name: `lane, ${name}, against in process`,
    atLeast,
    measure: () => againstInProcess(scenario, baseline),
  };
}

export const laneBars: readonly Bar[] = [
  bar('allocated buffers of 64 KiB in flight, encrypt', 1.2, 'lane-64k'),
  bar('allocated buffer of 1 MiB, encrypt one at a time', 1.6, 'lane-1m'),
  bar('allocated buffer of 8 MiB, encrypt one at a time', 2.5, 'lane-8m'),
  bar('plain buffer of 1 MiB, encrypt', 0.9, 'lane-plain-1m'),
  bar('plain buffer of 8 MiB, encrypt', 0.9, 'lane-plain-8m'),
  bar('allocated buffer of 1 MiB, decrypt', 0.9, 'lane-open-1m', inProcessOpening),
  bar('allocated buffer of 8 MiB, decrypt', 0.9, 'lane-open-8m', inProcessOpening),
];
