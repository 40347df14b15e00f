/** Ratios as an SVG chart: one bar a subject, on a logarithmic scale, with the baseline at 1. */
import type { Row } from './run-group.ts';
import { line, px, svg, text } from './svg.ts';

const LABEL_WIDTH = 300;
const PLOT_WIDTH = 560;
const FIGURE_WIDTH = 110;
const ROW_HEIGHT = 17;
const GROUP_GAP = 26;
const TOP = 52;
const WIDTH = LABEL_WIDTH + PLOT_WIDTH + FIGURE_WIDTH;

export function chart(title: string, rows: readonly Row[]): string {
  const exponents = rows.map(({ ratio }) => Math.log10(ratio)).filter(Number.isFinite);
  const low = Math.floor(Math.min(0, ...exponents));
  const high = Math.max(low + 1, Math.ceil(Math.max(0, ...exponents)));
  const x = (exponent: number) => LABEL_WIDTH + ((exponent - low) / (high - low)) * PLOT_WIDTH;

  const parts: string[] = [];
  let y = TOP;
  let group = '';
  for (const row of rows) {
    if (row.group !== group) {
      group = row.group;
      y += GROUP_GAP;
      parts.push(text(8, y - 6, group, 'font-weight="bold"'));
    }
    const from = x(0);
    const to = x(Number.isFinite(Math.log10(row.ratio)) ? Math.log10(row.ratio) : 0);
    const kind = row.isBaseline ? 'baseline' : row.ratio >= 1 ? 'faster' : 'slower';
    parts.push(
      text(20, y + 12, row.name),
      `<rect x="${px(Math.min(from, to))}" y="${y + 2}" width="${px(Math.max(2, Math.abs(to - from)))}" height="${ROW_HEIGHT - 5}" class="${kind}"/>`,
      text(LABEL_WIDTH + PLOT_WIDTH + 8, y + 12, row.isBaseline ? 'baseline' : `${Number(row.ratio.toPrecision(3))} ×`),
    );
    y += ROW_HEIGHT;
  }

  const grid: string[] = [];
  for (let exponent = low; exponent <= high; exponent++) {
    const at = x(exponent);
    grid.push(
      line(at, TOP, at, y, 'grid'),
      text(at, TOP - 6, `${Number((10 ** exponent).toPrecision(1))} ×`, 'text-anchor="middle" class="quiet"'),
    );
  }
  return svg(WIDTH, y + 16, [text(8, 20, title, 'class="title"'), ...grid, ...parts]);
}
