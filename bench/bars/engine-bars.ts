/** Bars of the native engine, all in one process. */
import { randomBytes } from 'node:crypto';
import type { Engine } from '../../src/crypto/engine.ts';
import { InProcess } from '../support/in-process.ts';
import { compare, IN_PROCESS, type Work } from '../support/interleave.ts';
import { PlainBatch } from '../support/plain-batch.ts';
import { openEngine, Sealer } from '../support/sealer.ts';
import { type Bar, figure, type Measured } from './bar.ts';

const KIB = 1024;

let native: Promise<Engine> | undefined;

/** One native engine for all bars. */
function nativeEngine(): Promise<Engine> {
  native ??= openEngine('native');
  return native;
}

function loop(operation: () => void): Work {
  return (count) => {
    for (let i = 0; i < count; i++) {
      operation();
    }
  };
}

async function measured(subject: Work, baseline: Work): Promise<Measured> {
  const { ratio, ...rates } = await compare(subject, baseline, IN_PROCESS);
  const microseconds = (rate: number) => `${figure(1e6 / rate)} µs`;
  return { ratio, detail: `${microseconds(rates.subject)} against ${microseconds(rates.baseline)}` };
}

function againstInProcess(size: number, name: string, atLeast: number): Bar {
  return {
    name: `native seal ${name} against node:crypto in process`,
    atLeast,
    async measure() {
      const data = randomBytes(size);
      const sealer = new Sealer(await nativeEngine(), data);
      const inProcess = new InProcess();
      inProcess.check(data);
      return measured(
        loop(() => sealer.seal()),
        loop(() => inProcess.seal(data)),
      );
    },
  };
}

function againstNoble(size: number, name: string, atLeast: number): Bar {
  return {
    name: `native seal ${name} against pure JavaScript (noble)`,
    atLeast,
    async measure() {
      const data = randomBytes(size);
      const subject = new Sealer(await nativeEngine(), data);
      const noble = await openEngine('noble');
      const baseline = new Sealer(noble, data);
      try {
        return await measured(
          loop(() => subject.seal()),
          loop(() => baseline.seal()),
        );
      } finally {
        noble.close();
      }
    },
  };
}

function againstPlain(size: number, name: string, items: number, atLeast: number): Bar {
  return {
    name: `native batch seal ${items} × ${name} against the same work in plain C++`,
    atLeast,
    async measure() {
      const data = randomBytes(size);
      const sealer = new Sealer(await nativeEngine(), data, items);
      const plain = new PlainBatch(data, items);
      return measured(
        loop(() => sealer.sealMany()),
        (count) => plain.seal(count),
      );
    },
  };
}

export const engineBars: readonly Bar[] = [
  againstInProcess(64, '64 B', 8),
  againstInProcess(64 * KIB, '64 KiB', 3.5),
  againstNoble(64, '64 B', 20),
  againstNoble(64 * KIB, '64 KiB', 250),
  againstPlain(64, '64 B', 1_000, 0.8),
  againstPlain(16 * KIB, '16 KiB', 60, 0.95),
];
