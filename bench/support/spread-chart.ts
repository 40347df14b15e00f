/** Median and tails of each subject on one logarithmic axis, as an SVG chart. */
import { fillOf, line, px, strokeOf, svg, text } from './svg.ts';

export interface Spread {
  readonly name: string;
  /** Rows with the same one are drawn in its colour, under its heading. */
  readonly group: string;
  /** Microseconds. */
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
}

const LABEL_WIDTH = 210;
const PLOT_WIDTH = 520;
const FIGURE_WIDTH = 190;
const ROW_HEIGHT = 18;
const GROUP_GAP = 24;
const TOP = 58;

export function spreadChart(title: string, rows: readonly Spread[]): string {
  const low = Math.floor(Math.log10(Math.min(...rows.map(({ p50 }) => p50))));
  const high = Math.ceil(Math.log10(Math.max(...rows.map(({ p999 }) => p999))));
  const at = (value: number) => LABEL_WIDTH + ((Math.log10(value) - low) / (high - low || 1)) * PLOT_WIDTH;
  const names = [...new Set(rows.map(({ name }) => name))];
  const parts: string[] = [];
  let y = TOP;
  let group = '';
  for (const row of rows) {
    if (row.group !== group) {
      group = row.group;
      y += GROUP_GAP;
      parts.push(text(8, y - 8, group, 'font-weight="bold"'));
    }
    const series = names.indexOf(row.name);
    const middle = y + ROW_HEIGHT / 2 - 4;
    parts.push(
      text(20, middle + 4, row.name),
      `<path d="M${px(at(row.p50))} ${px(middle)}H${px(at(row.p999))}" ${strokeOf(series)}/>`,
      `<circle cx="${px(at(row.p50))}" cy="${px(middle)}" r="4.5" ${fillOf(series)}/>`,
      ...[row.p99, row.p999].map(
        (value) => `<rect x="${px(at(value) - 1.2)}" y="${px(middle - 5)}" width="2.4" height="10" ${fillOf(series)}/>`,
      ),
      text(
        LABEL_WIDTH + PLOT_WIDTH + 12,
        middle + 4,
        [row.p50, row.p99, row.p999].map((value) => String(Number(value.toPrecision(2)))).join(' / '),
        'class="quiet"',
      ),
    );
    y += ROW_HEIGHT;
  }
  const grid: string[] = [];
  for (let exponent = low; exponent <= high; exponent++) {
    const x = at(10 ** exponent);
    grid.push(
      line(x, TOP, x, y, 'grid'),
      text(x, TOP - 6, `${(10 ** exponent).toLocaleString('en')} µs`, 'text-anchor="middle" class="quiet"'),
    );
  }
  return svg(LABEL_WIDTH + PLOT_WIDTH + FIGURE_WIDTH, y + 14, [
    text(12, 20, title, 'class="title"'),
    text(12, 36, 'dot: the median; bars: 99 % and 99.9 % of calls are quicker; figures: all three', 'class="quiet"'),
    ...grid,
    ...parts,
  ]);
}
