/** What the report is made of. */
import type { Pace } from '../support/run-group.ts';

export interface Chapter {
  /** What a filter looks for, and what its charts are called by. */
  readonly name: string;
  readonly title: string;
  measure(pace: Pace): Promise<Findings>;
}

/** In the order in which they are read: ratios first, absolute figures second. */
export interface Findings {
  /** Markdown: what was measured, and how to read it. */
  readonly says: string;
  readonly tables: readonly Table[];
  readonly charts: readonly Chart[];
}

export interface Table {
  readonly title: string;
  /** The first column is a name, the others are figures. */
  readonly heads: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

export interface Chart {
  /** Of the file, behind the name of the chapter. */
  readonly name: string;
  /** What is seen, for those who do not see it. */
  readonly alt: string;
  readonly svg: string;
}
