/** Rows of groups that differ in the size of their values, as tables and lines over that size. */
import { figure } from '../bars/bar.ts';
import { SIZES } from '../support/group.ts';
import { lineChart, type Series } from '../support/line-chart.ts';
import type { Row } from '../support/run-group.ts';
import type { Chart, Table } from './chapter.ts';

const MIB = 1024 * 1024;

/** `encrypt/in-flight/64B` is the variant `encrypt/in-flight` at the size `64B`. */
export function variantOf({ name }: Row): string {
  return name.slice(0, name.lastIndexOf('/'));
}

export function sizeOf({ name }: Row): string {
  return name.slice(name.lastIndexOf('/') + 1);
}

/**
 * Variants in the order in which they first come, sizes likewise.
 * @param cell what is written for one row
 */
export function matrix(title: string, rows: readonly Row[], cell: (row: Row) => string): Table {
  const sizes = [...new Set(rows.map(sizeOf))];
  const variants = [...new Set(rows.map(variantOf))];
  const cells = new Map(rows.map((row) => [row.name, cell(row)]));
  return {
    title,
    heads: ['', ...sizes],
    rows: variants.map((variant) => [variant, ...sizes.map((size) => cells.get(`${variant}/${size}`) ?? '')]),
  };
}

export function ratios(title: string, rows: readonly Row[]): Table {
  return matrix(title, rows, (row) => (row.isBaseline ? '1' : `${figure(row.ratio)} ×`));
}

export function rates(title: string, rows: readonly Row[]): Table {
  return matrix(title, rows, (row) => figure(row.bytesPerSecond / MIB));
}

/** Bytes a second over the size of a value, both logarithmic. */
export function throughputChart(name: string, title: string, rows: readonly Row[]): Chart {
  const bytesOf = (size: string) => SIZES.find((each) => each.name === size)?.bytes ?? 0;
  const series: Series[] = [...new Set(rows.map(variantOf))].map((variant) => ({
    name: variant,
    points: rows
      .filter((row) => variantOf(row) === variant)
      .map((row) => [bytesOf(sizeOf(row)), row.bytesPerSecond / MIB] as const),
  }));
  const shown = SIZES.filter(({ bytes }) => series.some(({ points }) => points.some(([x]) => x === bytes)));
  const svg = lineChart({
    title,
    series,
    x: {
      label: 'bytes of a value',
      isLogarithmic: true,
      marks: shown.map(({ bytes }) => bytes),
      format: (value) => SIZES.find(({ bytes }) => bytes === value)?.name ?? '',
    },
    y: { label: 'MiB/s', isLogarithmic: true, format: (value) => value.toLocaleString('en') },
  });
  return { name, alt: `${title}: ${series.map((each) => each.name).join(', ')}`, svg };
}
