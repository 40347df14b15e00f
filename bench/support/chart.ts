/** The ratios of a run as an SVG chart: one bar a subject, on a logarithmic scale, with the baseline at 1. */
import type { Row } from './run-group.ts';

const LABEL_WIDTH = 300;
const PLOT_WIDTH = 560;
const FIGURE_WIDTH = 110;
const ROW_HEIGHT = 17;
const GROUP_GAP = 26;
const TOP = 52;
const WIDTH = LABEL_WIDTH + PLOT_WIDTH + FIGURE_WIDTH;
const COLOURS = { faster: '#2f7d4f', slower: '#b3532e', baseline: '#5b6470' } as const;

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
    const colour = row.isBaseline ? COLOURS.baseline : row.ratio >= 1 ? COLOURS.faster : COLOURS.slower;
    parts.push(
      text(20, y + 12, row.name),
      `<rect x="${px(Math.min(from, to))}" y="${y + 2}" width="${px(Math.max(2, Math.abs(to - from)))}" height="${ROW_HEIGHT - 5}" fill="${colour}"/>`,
      text(LABEL_WIDTH + PLOT_WIDTH + 8, y + 12, row.isBaseline ? 'baseline' : `${Number(row.ratio.toPrecision(3))} ×`),
    );
    y += ROW_HEIGHT;
  }

  const grid: string[] = [];
  for (let exponent = low; exponent <= high; exponent++) {
    grid.push(
      `<line x1="${px(x(exponent))}" x2="${px(x(exponent))}" y1="${TOP}" y2="${y}" stroke="#d5d9de"/>`,
      text(x(exponent), TOP - 6, `${Number((10 ** exponent).toPrecision(1))} ×`, 'text-anchor="middle" fill="#5b6470"'),
    );
  }
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${y + 16}" font-family="sans-serif" font-size="11">`,
    `<rect width="100%" height="100%" fill="#ffffff"/>`,
    text(8, 20, `Rate by the baseline's. ${title}`),
    ...grid,
    ...parts,
    '</svg>',
    '',
  ].join('\n');
}

function text(x: number, y: number, content: string, attributes = ''): string {
  const escaped = content.replace(/&/g, '&amp;').replace(/</g, '&lt;');
  return `<text x="${px(x)}" y="${px(y)}" ${attributes}>${escaped}</text>`;
}

function px(value: number): string {
  return String(Math.round(value * 10) / 10);
}
