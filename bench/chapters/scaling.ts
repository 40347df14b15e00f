/** What more of something gives together: more connections to one agent, more workers of one. */
import { figure } from '../bars/bar.ts';
import { groups as clients } from '../clients.bench.ts';
import type { Group } from '../support/group.ts';
import { lineChart } from '../support/line-chart.ts';
import type { Row } from '../support/run-group.ts';
import { groups as workers } from '../workers.bench.ts';
import { matrix, sizeOf, variantOf } from './by-size.ts';
import type { Chapter } from './chapter.ts';
import { measured } from './measured.ts';

const MIB = 1024 * 1024;

interface Scaling {
  readonly name: string;
  readonly title: string;
  readonly says: string;
  /** What is counted along the axis. */
  readonly of: string;
  /** What a row of the table is measured by, in words. */
  readonly measure: string;
  /** Their subjects are called `WHAT/SCENARIO/COUNT`; the baseline has the smallest count. */
  readonly groups: readonly Group[];
}

const SCALINGS: readonly Scaling[] = [
  {
    name: 'connections',
    title: 'More connections',
    says: `All connections of a row are in one client process, and one agent answers them; the measure is what one connection
gets. \`awaited\`: each has one call of 64 B under way; \`in-flight\`: each has 1,024; \`batch\`: each has four of 1,000 values.`,
    of: 'connections',
    measure: 'one',
    groups: clients,
  },
  {
    name: 'workers',
    title: 'More workers',
    says: `The pool of one agent without any other work: batches of 7,200 values of 64 B, cut into slices, and blocks of 256 KiB that
are compressed. With none the agent's own thread does it all, slice by slice. Work is moved only where it was measured that a
hop pays; a batch of the native engine stays where it is.`,
    of: 'workers',
    measure: 'none',
    groups: workers,
  },
];

function chapterOf({ name, title, says, of, measure, groups }: Scaling): Chapter {
  return {
    name,
    title,
    async measure(pace) {
      const rows = await measured(groups, pace);
      const speedUp = (row: Row) => (row.isBaseline ? '1' : `${figure(row.ratio)} ×`);
      const series = [...new Set(rows.map(variantOf))].map((variant) => ({
        name: variant,
        points: rows
          .filter((row) => variantOf(row) === variant)
          .map((row) => [Number(sizeOf(row)), row.ratio] as const),
      }));
      const counts = [...new Set(rows.map((row) => Number(sizeOf(row))))];
      const heading = `Work in a second, by that with ${measure}`;
      return {
        says,
        tables: [
          matrix(`${heading}, by ${of}`, rows, speedUp),
          matrix(`MiB a second together, by ${of}`, rows, ({ bytesPerSecond }) => figure(bytesPerSecond / MIB)),
        ],
        charts: [
          {
            name: 'scaling',
            alt: `${heading}: ${series.map((each) => each.name).join(', ')}`,
            svg: lineChart({
              title: heading,
              series,
              x: { label: of, isLogarithmic: !counts.includes(0), marks: counts, format: String },
              y: {
                label: `× ${measure}`,
                isLogarithmic: false,
                format: (value) => String(Number(value.toPrecision(3))),
              },
            }),
          },
        ],
      };
    },
  };
}

export const chapters: readonly Chapter[] = SCALINGS.map(chapterOf);
