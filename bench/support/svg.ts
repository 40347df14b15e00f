/** What all charts share: they are read on light paper and on dark, so colours come from the reader's scheme. */

/** Colours of series, in this order; each is told from its neighbours by a dash too, for those who see no colours. */
const SERIES = [
  ['#1f6feb', '#58a6ff'],
  ['#2f7d4f', '#56d364'],
  ['#b3532e', '#ffa657'],
  ['#8250df', '#d2a8ff'],
  ['#bf3989', '#ff7bca'],
  ['#57606a', '#9aa4af'],
  ['#0f7b8a', '#39c5cf'],
  ['#7d6b00', '#e3b341'],
  ['#a40e26', '#ff8080'],
] as const;
const DASHES = ['', '7 3', '2 3'] as const;

const STYLE = [
  'text{font:11px sans-serif;fill:#1f2328}.quiet{fill:#59636e}.title{font-size:13px;font-weight:bold}',
  '.paper{fill:#ffffff}.grid{stroke:#d5d9de}.axis{stroke:#818b98}',
  '.faster{fill:#2f7d4f}.slower{fill:#b3532e}.baseline{fill:#5b6470}',
  ...SERIES.map(([light], i) => `.s${i}{stroke:${light}}.f${i}{fill:${light}}`),
  '@media(prefers-color-scheme:dark){',
  'text{fill:#e6edf3}.quiet{fill:#9aa4af}.paper{fill:#0d1117}.grid{stroke:#30363d}.axis{stroke:#6e7681}',
  '.faster{fill:#56d364}.slower{fill:#ffa657}.baseline{fill:#9aa4af}',
  ...SERIES.map(([, dark], i) => `.s${i}{stroke:${dark}}.f${i}{fill:${dark}}`),
  '}',
].join('');

export function svg(width: number, height: number, parts: readonly string[]): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${px(width)}" height="${px(height)}" viewBox="0 0 ${px(width)} ${px(height)}">`,
    `<style>${STYLE}</style>`,
    '<rect class="paper" width="100%" height="100%"/>',
    ...parts,
    '</svg>',
    '',
  ].join('\n');
}

export function text(x: number, y: number, content: string, attributes = ''): string {
  const escaped = content.replace(/&/g, '&amp;').replace(/</g, '&lt;');
  return `<text x="${px(x)}" y="${px(y)}"${attributes === '' ? '' : ` ${attributes}`}>${escaped}</text>`;
}

export function line(x1: number, y1: number, x2: number, y2: number, className: string): string {
  return `<line x1="${px(x1)}" y1="${px(y1)}" x2="${px(x2)}" y2="${px(y2)}" class="${className}"/>`;
}

/** Attributes of the stroke of a series, and the class that fills its marks. */
export function strokeOf(series: number): string {
  const dash = DASHES[Math.floor(series / SERIES.length) % DASHES.length]!;
  return `class="s${series % SERIES.length}" fill="none" stroke-width="1.8"${dash === '' ? '' : ` stroke-dasharray="${dash}"`}`;
}

export function fillOf(series: number): string {
  return `class="f${series % SERIES.length}"`;
}

/** A tenth of a pixel is as much as anybody sees. */
export function px(value: number): string {
  return String(Math.round(value * 10) / 10);
}
