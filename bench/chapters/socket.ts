/** One connection to an agent: how much goes over it, and how long one call takes. */
import { groups } from '../agent.bench.ts';
import { figure } from '../bars/bar.ts';
import type { Row } from '../support/run-group.ts';
import { type Spread, spreadChart } from '../support/spread-chart.ts';
import { matrix, rates, ratios, sizeOf, throughputChart, variantOf } from './by-size.ts';
import type { Chapter, Chart } from './chapter.ts';
import { measured } from './measured.ts';

const SAYS = `One connection of one client process to an agent in another. \`awaited\`: one call after the other.
\`in-flight\`: up to 1,024 calls, 8 MiB at most, under way. \`batch\`: up to 1,000 values in a call, four under way. \`lane\`: the
bulk lane, up to 32 calls in flight or one after the other, with values that lie in buffers of \`allocate\` or are copied there.
The measure is \`node:crypto\` in the client's process, without any agent. Limits: \`echo\` is a Node process that sends back
what it reads, for as many bytes; \`bare-echo\` are two C++ processes that do no more.`;

/** Of a batch, whose name tells how many values it has at this size. */
function withoutCounts(row: Row): Row {
  return { ...row, name: row.name.replace(/batch-of-\d+/, 'batch') };
}

function isTimed(row: Row): row is Row & Pick<Required<Row>, 'p50' | 'p99' | 'p999'> {
  return row.p50 !== undefined && row.p99 !== undefined && row.p999 !== undefined;
}

function latencyChart(rows: readonly Row[]): Chart {
  const spreads = rows.filter(isTimed).map((row): Spread => {
    const { p50, p99, p999 } = row;
    return { name: variantOf(row), group: sizeOf(row), p50, p99, p999 };
  });
  const title = 'One awaited call, microseconds';
  return {
    name: 'latency',
    alt: `${title}: median, 99 and 99.9 % of ${[...new Set(spreads.map(({ name }) => name))].join(', ')}`,
    svg: spreadChart(title, spreads),
  };
}

export const chapters: readonly Chapter[] = [
  {
    name: 'socket',
    title: 'Over the socket, by size',
    async measure(pace) {
      const rows = (await measured(groups, pace)).map(withoutCounts);
      const micros = (value: number) => figure(value);
      return {
        says: SAYS,
        tables: [
          ratios('Values a second, by those of `node:crypto` in process', rows),
          matrix('One awaited call: median / 99 % / 99.9 %, µs', rows.filter(isTimed), ({ p50, p99, p999 }) =>
            [p50!, p99!, p999!].map(micros).join(' / '),
          ),
          rates('MiB of plaintext a second', rows),
        ],
        charts: [throughputChart('throughput', 'Over the socket: plaintext by size', rows), latencyChart(rows)],
      };
    },
  },
];
