/** What clients do to an agent, over and over. */
import { randomBytes } from 'node:crypto';
import { inFlight } from '../../src/cli/bench/in-flight.ts';
import type { DekdClient } from '../../src/client/index.ts';
import { CONTEXT } from './in-process.ts';
import type { Work } from './interleave.ts';

export const BINDING = { key: 'customers', context: CONTEXT } as const;
export const MIB = 1024 * 1024;

export interface Scenario {
  /** Calls under way at once on the connection. */
  readonly width: number;
  /** Values in one call. */
  readonly items: number;
  /** Bytes of one value. */
  readonly size: number;
}

export const SCENARIOS = {
  awaited: { width: 1, items: 1, size: 64 },
  'in-flight': { width: 1_024, items: 1, size: 64 },
  batch: { width: 4, items: 1_000, size: 64 },
  million: { width: 1, items: 1_000_000, size: 64 },
  mebibyte: { width: 1, items: 1, size: MIB },
  'mebibyte-in-flight': { width: 4, items: 1, size: MIB },
} as const satisfies Record<string, Scenario>;

export type ScenarioName = keyof typeof SCENARIOS;

/** Checks once that what comes back opens, and @returns calls for a timed loop. */
export async function calls(client: DekdClient, { width, items, size }: Scenario): Promise<Work> {
  const values = Array.from({ length: items }, () => randomBytes(size));
  const first = values[0]!;
  const token = await client.encrypt(first, BINDING);
  if (Buffer.compare(await client.decrypt(token, BINDING), first) !== 0) {
    throw new Error('the agent does not open what it sealed');
  }
  if (items === 1) {
    return (count) => inFlight(width, count, () => client.encrypt(first, BINDING));
  }
  const last = (await client.encryptMany(values, BINDING)).at(-1);
  if (!last?.ok || Buffer.compare(await client.decrypt(last.value, BINDING), values.at(-1)!) !== 0) {
    throw new Error('the agent does not open what it sealed in a batch');
  }
  return (count) => inFlight(width, count, () => client.encryptMany(values, BINDING));
}
