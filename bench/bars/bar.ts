/** A bar: what is measured, and what it must reach. */
export interface Bar {
  readonly name: string;
  /** `atLeast` bars are ratios; `atMost` bars are ratios or carry their unit in the name. */
  readonly atLeast?: number;
  readonly atMost?: number;
  /** @returns the figure, and in words what it was made of */
  measure(): Promise<Measured>;
}

export interface Measured {
  readonly ratio: number;
  readonly detail: string;
}

export interface BarResult {
  readonly name: string;
  /** Null when it could not be measured. */
  readonly ratio: number | null;
  readonly bar: number;
  readonly holds: boolean;
}

export function holds(bar: Bar, ratio: number): boolean {
  return (bar.atLeast === undefined || ratio >= bar.atLeast) && (bar.atMost === undefined || ratio <= bar.atMost);
}

/** Three significant digits. */
export function figure(value: number): string {
  return value >= 1_000 ? Math.round(value).toLocaleString('en') : String(Number(value.toPrecision(3)));
}
