/** What more of something gives together: more connections to one agent. */
import { figure } from '../bars/bar.ts';
import { groups as clients } from '../clients.bench.ts';
import type { Group } from '../support/group.ts';
import { lineChart } from '../support/line-chart.ts';
import type { Row } from '../support/run-group.ts';
import { matrix, sizeOf, variantOf } from './by-size.ts';
import type { Chapter } from './chapter.ts';
import { measured } from './measured.ts';

interface Scaling {
  readonly name: string;
  readonly title: string;
  readonly says: string;
  /** What is counted along the axis. */
  readonly of: string;
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
    groups: clients,
  },
];

function chapterOf({ name, title, says, of, groups }: Scaling): Chapter {
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
      const heading = `Values a second together, by those with one`;
      return {
        says,
        tables: [
          matrix(`${heading}, by ${of}`, rows, speedUp),
          matrix(`Thousand values a second together, by ${of}`, rows, ({ rate }) => figure(rate / 1_000)),
        ],
        charts: [
          {
            name: 'scaling',
            alt: `${heading}: ${series.map((each) => each.name).join(', ')}`,
            svg: lineChart({
              title: heading,
              series,
              x: { label: of, isLogarithmic: true, marks: counts, format: String },
              y: { label: '× one', isLogarithmic: false, format: (value) => String(Number(value.toPrecision(3))) },
            }),
          },
        ],
      };
    },
  };
}

export const chapters: readonly Chapter[] = SCALINGS.map(chapterOf);
