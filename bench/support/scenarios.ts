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
  /** Whether values go through the lane, and lie there already; over the socket unless given. */
  readonly lane?: 'allocated' | 'plain';
  readonly direction?: 'encrypt' | 'decrypt';
}

export const SCENARIOS = {
  awaited: { width: 1, items: 1, size: 64 },
  'in-flight': { width: 1_024, items: 1, size: 64 },
  batch: { width: 4, items: 1_000, size: 64 },
  million: { width: 1, items: 1_000_000, size: 64 },
  mebibyte: { width: 1, items: 1, size: MIB },
  'mebibyte-in-flight': { width: 4, items: 1, size: MIB },
  'lane-64k': { width: 32, items: 1, size: 64 * 1024, lane: 'allocated' },
  'lane-1m': { width: 1, items: 1, size: MIB, lane: 'allocated' },
  'lane-8m': { width: 1, items: 1, size: 8 * MIB, lane: 'allocated' },
  'lane-plain-1m': { width: 1, items: 1, size: MIB, lane: 'plain' },
  'lane-plain-8m': { width: 1, items: 1, size: 8 * MIB, lane: 'plain' },
  'lane-open-1m': { width: 1, items: 1, size: MIB, lane: 'allocated', direction: 'decrypt' },
  'lane-open-8m': { width: 1, items: 1, size: 8 * MIB, lane: 'allocated', direction: 'decrypt' },
} as const satisfies Record<string, Scenario>;

export type ScenarioName = keyof typeof SCENARIOS;

/** Checks once that what comes back opens, and @returns calls for a timed loop. */
export async function calls(client: DekdClient, scenario: Scenario): Promise<Work> {
  const { width, items, size } = scenario;
  const values = Array.from({ length: items }, () => randomBytes(size));
  const first = values[0]!;
  const token = await client.encrypt(first, BINDING);
  if (Buffer.compare(await client.decrypt(token, BINDING), first) !== 0) {
    throw new Error('the agent does not open what it sealed');
  }
  if (scenario.lane !== undefined) {
    return laneCalls(client, scenario, first, token);
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

/** Each call under way has a buffer of its own. @throws when the agent has no lane */
async function laneCalls(
  client: DekdClient,
  { width, lane, direction = 'encrypt' }: Scenario,
  plaintext: Uint8Array,
  token: Uint8Array,
): Promise<Work> {
  const given = direction === 'encrypt' ? plaintext : token;
  const buffers: Uint8Array[] = [];
  for (let i = 0; i < width; i++) {
    const buffer = lane === 'allocated' ? await client.allocate(given.length) : new Uint8Array(given.length);
    buffer.set(given);
    buffers.push(buffer);
  }
  if (!client.capabilities.lane) {
    throw new Error(`there is no lane: ${client.capabilities.reason}`);
  }
  return (count) =>
    inFlight(width, count, async () => {
      const buffer = buffers.pop()!;
      await client[direction](buffer, BINDING);
      buffers.push(buffer);
    });
}
