/** The report as Markdown. */
import type { Findings, Table } from '../chapters/chapter.ts';

/** A chapter as it was measured, maybe in an earlier run than its neighbours. */
export interface Measured {
  readonly name: string;
  readonly title: string;
  /** Machine, versions, date, commit, load: of this chapter. */
  readonly machine: string;
  readonly isQuick: boolean;
  /** Whether others used the machine at the time. */
  readonly isBusy: boolean;
  readonly findings: Findings;
}

const METHOD = `All sides of a table are in one run and take turns (A B C A B C …), in five rounds; each round gives a ratio, and
what is shown is the median of the five. **Ratios are the result**: absolute figures are to be read beside each other,
within one table. Every result is checked once, outside of what is timed: what was sealed opens to what it was. Names are
\`operation/variant\`; the baseline of a table is its row of ones. [README.md](README.md) says more of the method, and which
bars these figures are held to.`;

const BUSY = `**The machine was busy** when this was measured, so that agent and client waited for a core, and not only for each
other: what takes two processes looks slower than it is, and no figure is to be quoted.`;

/** @param folder of the charts, as seen from the report */
export function reportDocument(chapters: readonly Measured[], folder: string): string {
  const machines = [...new Set(chapters.map(({ machine }) => machine))];
  const parts = [
    '# Report',
    'What dekd does in a second, beside what one would use instead and beside what the machine can do at all. Made by `npm run bench:report`.',
    machines.length === 1 ? `Measured ${machines[0]}.` : 'Chapters were measured at different times, as they say.',
    ...(machines.length === 1 && chapters.some(({ isBusy }) => isBusy) ? [BUSY] : []),
    METHOD,
    chapters.map(({ name, title }) => `- [${title}](#${anchor(title)}) \`${name}\``).join('\n'),
  ];
  for (const { name, title, machine, isQuick, isBusy, findings } of chapters) {
    parts.push(`## ${title}`);
    if (machines.length > 1) {
      parts.push(`Measured ${machine}.`);
    }
    if (isQuick) {
      parts.push('*Measured with `--quick`: shorter, and less to be relied on.*');
    }
    if (isBusy && machines.length > 1) {
      parts.push(BUSY);
    }
    parts.push(
      findings.says,
      ...findings.charts.map((chart) => `![${chart.alt}](${folder}/${name}-${chart.name}.svg)`),
    );
    parts.push(...findings.tables.map(tableText));
  }
  return `${parts.join('\n\n')}\n`;
}

function tableText({ title, heads, rows }: Table): string {
  const lines = [
    `| ${heads.map((head, i) => (i === 0 ? title : head)).join(' | ')} |`,
    `|---|${heads
      .slice(1)
      .map(() => '--:|')
      .join('')}`,
    ...rows.map((row) => `| ${row.join(' | ')} |`),
  ];
  return lines.join('\n');
}

/** Of a heading, as GitHub makes it. */
function anchor(title: string): string {
  return title
    .toLowerCase()
    .replaceAll(/[^\w -]/g, '')
    .replaceAll(' ', '-');
}
