/** Sealing and opening in one process: the engines, what they are compared with, and the limit of the memory. */
import { groups } from '../engine.bench.ts';
import { rates, ratios, throughputChart } from './by-size.ts';
import type { Chapter } from './chapter.ts';
import { measured } from './measured.ts';

const SAYS = `One value a call, with a fresh nonce and a subkey of its own, in one process. \`in-process\` is the measure:
\`node:crypto\` with a KeyObject; \`in-process-raw-key\` is what much code does. \`node\` and \`noble\` are dekd's JavaScript
engines, which write the same tokens.`;

const LIMITS = `Limits: \`plain-c++\` is the loop that one would write for just this, with the functions of the same OpenSSL (it asks
the kernel for random bytes at each value, which the engine draws ahead, and is the slower one below 4 KiB); \`memcpy\` does no
more than move the bytes.`;

const BATCHES = `As many values as make a MiB, 1,000 at most, in one call, under one nonce prefix and one subkey. The measure is
\`node:crypto\` in a loop, the limit the same batch in C++.`;

function ofOperation(operation: 'seal' | 'open'): Chapter {
  return {
    name: operation,
    title: operation === 'seal' ? 'Sealing, by engine and size' : 'Opening, by engine and size',
    async measure(pace) {
      const rows = await measured(
        groups.filter(({ name }) => name.startsWith(`${operation} `)),
        pace,
      );
      return {
        says: operation === 'seal' ? `${SAYS}\n\n${LIMITS}` : SAYS,
        tables: [
          ratios('Values a second, by those of `node:crypto` in process', rows),
          rates('MiB of plaintext a second', rows),
        ],
        charts: [throughputChart('throughput', `${operation === 'seal' ? 'Seal' : 'Open'}: plaintext by size`, rows)],
      };
    },
  };
}

const batches: Chapter = {
  name: 'batches',
  title: 'Batches in one process',
  async measure(pace) {
    // The number of values in a batch goes with its size: `1000×64B` is shown as `64B`.
    const rows = (
      await measured(
        groups.filter(({ name }) => name.startsWith('batch ')),
        pace,
      )
    ).map((row) => ({ ...row, name: row.name.replace(/\/\d+×/, '/') }));
    return {
      says: BATCHES,
      tables: [
        ratios('Values a second, by those of `node:crypto` in process', rows),
        rates('MiB of plaintext a second', rows),
      ],
      charts: [throughputChart('throughput', 'Batches: plaintext by size of a value', rows)],
    };
  },
};

export const chapters: readonly Chapter[] = [ofOperation('seal'), ofOperation('open'), batches];
