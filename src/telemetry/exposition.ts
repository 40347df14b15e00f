/**
 * Writes metrics as Prometheus reads them: text format 0.0.4, or OpenMetrics 1.0 for who asks for it.
 * https://prometheus.io/docs/instrumenting/exposition_formats/
 */
import { BUCKETS, type Histogram } from './histogram.ts';
import { METRICS, type MetricFamily, type MetricName, type MetricOf } from './metrics.ts';

export type ExpositionFormat = 'text' | 'openmetrics';

export const CONTENT_TYPE: Readonly<Record<ExpositionFormat, string>> = {
  text: 'text/plain; version=0.0.4; charset=utf-8',
  openmetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
};

/** Values by the name of the label. */
export type Labels = Readonly<Record<string, string>>;

/** Adds families of its own to what is written. */

/** One document. The samples of a family are written together: no family is written twice. */
export class Exposition {
  readonly #format: ExpositionFormat;
  readonly #lines: string[] = [];
  readonly #written = new Set<MetricName>();

  constructor(format: ExpositionFormat) {
    this.#format = format;
  }

  /** A family without labels. */
  value(name: MetricOf<'counter' | 'gauge'>, value: number): void {
    this.values(name, [[{}, value]]);
  }

  values(name: MetricOf<'counter' | 'gauge'>, samples: Iterable<readonly [Labels, number]>): void {
    this.#head(name);
    for (const [labels, value] of samples) {
      this.#sample(name, labels, value);
    }
  }

  histograms(name: MetricOf<'histogram'>, samples: Iterable<readonly [Labels, Histogram]>): void {
    this.#head(name);
    for (const [labels, { counts, sum }] of samples) {
      let below = 0;
      for (const [bucket, bound] of BUCKETS.entries()) {
        below += counts[bucket]!;
        this.#sample(`${name}_bucket`, { ...labels, le: this.#bound(bound) }, below);
      }
      below += counts[BUCKETS.length]!;
      this.#sample(`${name}_bucket`, { ...labels, le: '+Inf' }, below);
      this.#sample(`${name}_sum`, labels, sum);
      this.#sample(`${name}_count`, labels, below);
    }
  }

  /** What was written. */
  text(): string {
    return `${this.#lines.join('\n')}\n${this.#format === 'openmetrics' ? '# EOF\n' : ''}`;
  }

  #head(name: MetricName): void {
    if (this.#written.has(name)) {
      throw new Error(`family ${name} is written twice`);
    }
    this.#written.add(name);
    const { type, help }: MetricFamily = METRICS[name];
    // OpenMetrics names the family of a counter without the suffix of its samples.
    const family = this.#format === 'openmetrics' && type === 'counter' ? name.replace(/_total$/, '') : name;
    this.#lines.push(`# HELP ${family} ${escaped(help)}`, `# TYPE ${family} ${type}`);
  }

  #sample(name: string, labels: Labels, value: number): void {
    const pairs = Object.entries(labels).map(([label, text]) => `${label}="${escaped(text).replaceAll('"', '\\"')}"`);
    this.#lines.push(`${name}${pairs.length === 0 ? '' : `{${pairs.join(',')}}`} ${numberText(value)}`);
  }

  /** OpenMetrics wants bounds that show that they are no integers. */
  #bound(bound: number): string {
    const text = plain(bound);
    return this.#format === 'openmetrics' && Number.isInteger(bound) ? `${text}.0` : text;
  }
}

function escaped(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
}

function numberText(value: number): string {
  return Number.isFinite(value) ? String(value) : Number.isNaN(value) ? 'NaN' : value > 0 ? '+Inf' : '-Inf';
}

/** 0.00001 rather than 1e-5: bounds are compared as text. */
function plain(bound: number): string {
  return bound.toFixed(5).replace(/\.?0+$/, '');
}
