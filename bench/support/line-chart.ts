/** Series of points over a common axis, as an SVG chart. */
import { fillOf, line, px, strokeOf, svg, text } from './svg.ts';

export interface Series {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number])[];
}

export interface Axis {
  readonly label: string;
  /** Every factor is as long as another; linear from 0 otherwise. */
  readonly isLogarithmic: boolean;
  readonly format: (value: number) => string;
  /** Where a mark is wanted; otherwise round values. */
  readonly marks?: readonly number[];
}

export interface LineChart {
  readonly title: string;
  readonly x: Axis;
  readonly y: Axis;
  readonly series: readonly Series[];
  /** Names of stretches of the x axis, each from its value to the next. */
  readonly phases?: readonly { readonly from: number; readonly name: string }[];
}

const WIDTH = 860;
const PLOT = { left: 70, top: 44, width: 560, height: 320 } as const;
const LEGEND_LEFT = PLOT.left + PLOT.width + 18;
const LEGEND_STEP = 17;
const MARK = 2.6;
/** More points than this are a line without marks. */
const MANY = 40;

export function lineChart({ title, x, y, series, phases = [] }: LineChart): string {
  const all = series.flatMap(({ points }) => points);
  const across = scale(
    all.map(([value]) => value),
    x,
    PLOT.left,
    PLOT.left + PLOT.width,
    false,
  );
  const up = scale(
    all.map(([, value]) => value),
    y,
    PLOT.top + PLOT.height,
    PLOT.top,
    true,
  );
  const bottom = PLOT.top + PLOT.height;
  const parts = [text(12, 20, title, 'class="title"')];
  for (const mark of up.marks) {
    parts.push(
      line(PLOT.left, up.at(mark), PLOT.left + PLOT.width, up.at(mark), 'grid'),
      text(PLOT.left - 8, up.at(mark) + 4, y.format(mark), 'text-anchor="end" class="quiet"'),
    );
  }
  for (const mark of across.marks) {
    parts.push(
      line(across.at(mark), bottom, across.at(mark), bottom + 4, 'axis'),
      text(across.at(mark), bottom + 17, x.format(mark), 'text-anchor="middle" class="quiet"'),
    );
  }
  for (const [i, { from, name }] of phases.entries()) {
    parts.push(
      line(across.at(from), PLOT.top, across.at(from), bottom, 'grid'),
      // In two heights, so that the names of short phases do not lie on each other.
      text(across.at(from) + 3, PLOT.top + 11 + 13 * (i % 2), name, 'class="quiet"'),
    );
  }
  parts.push(
    line(PLOT.left, bottom, PLOT.left + PLOT.width, bottom, 'axis'),
    text(PLOT.left + PLOT.width / 2, bottom + 36, x.label, 'text-anchor="middle" class="quiet"'),
    text(PLOT.left - 58, PLOT.top - 8, y.label, 'class="quiet"'),
  );
  // The legend in the order in which the lines end, from above, so that an eye finds each across from its name.
  const order = series.map((each, i) => ({ ...each, i })).sort((a, b) => lastOf(b) - lastOf(a));
  for (const [row, { name, points, i }] of order.entries()) {
    const path = points.map(([px_, py], n) => `${n === 0 ? 'M' : 'L'}${px(across.at(px_))} ${px(up.at(py))}`).join('');
    parts.push(`<path d="${path}" ${strokeOf(i)}/>`);
    if (points.length <= MANY) {
      parts.push(
        ...points.map(
          ([px_, py]) => `<circle cx="${px(across.at(px_))}" cy="${px(up.at(py))}" r="${MARK}" ${fillOf(i)}/>`,
        ),
      );
    }
    const at = PLOT.top + 10 + row * LEGEND_STEP;
    parts.push(
      `<path d="M${LEGEND_LEFT} ${at - 4}h22" ${strokeOf(i)}/>`,
      `<circle cx="${LEGEND_LEFT + 11}" cy="${at - 4}" r="${MARK}" ${fillOf(i)}/>`,
      text(LEGEND_LEFT + 28, at, name),
    );
  }
  return svg(WIDTH, Math.max(bottom + 48, PLOT.top + 20 + series.length * LEGEND_STEP), parts);
}

function lastOf({ points }: Series): number {
  return points.at(-1)?.[1] ?? 0;
}

interface Scale {
  readonly marks: readonly number[];
  at(value: number): number;
}

/** @param isRounded whether the ends of the axis are marks, not the outermost values */
function scale(values: readonly number[], axis: Axis, from: number, to: number, isRounded: boolean): Scale {
  const position = (low: number, high: number, value: number) =>
    from + ((value - low) / (high - low || 1)) * (to - from);
  if (axis.isLogarithmic) {
    const logs = values.filter((value) => value > 0).map(Math.log10);
    const low = isRounded ? Math.floor(Math.min(...logs)) : Math.min(...logs);
    const high = isRounded ? Math.max(low + 1, Math.ceil(Math.max(...logs))) : Math.max(...logs);
    const decades = Array.from({ length: Math.floor(high) - Math.ceil(low) + 1 }, (_, i) => 10 ** (Math.ceil(low) + i));
    return {
      marks: axis.marks ?? decades,
      at: (value) => position(low, high, Math.log10(Math.max(value, 10 ** low))),
    };
  }
  const most = Math.max(...values);
  const step = roundStep(most / 5);
  const high = isRounded ? Math.ceil(most / step) * step : most;
  const steps = Array.from({ length: Math.floor(high / step + 1e-9) + 1 }, (_, i) => i * step);
  return { marks: axis.marks ?? steps, at: (value) => position(0, high, value) };
}

/** The next of 1, 2, 5, 10, 20 … */
function roundStep(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value || 1));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= value)!;
}
