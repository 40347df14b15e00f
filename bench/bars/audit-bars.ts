/** Bars of the audit log: an agent with one beside an agent without. In full it is measured too, and held to nothing but its figure. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AgentOptions } from '../support/agent-process.ts';
import type { Comparison } from '../support/interleave.ts';
import { compareRoundTrips, compareThroughput } from '../support/two-agents.ts';
import { type Bar, figure, type Measured } from './bar.ts';

/** What full audit may cost before somebody has to look at it. */
const FULL_ROUND_TRIP = 3;
const FULL_IN_FLIGHT = 0.1;
const FULL_BATCH = 0.9;

async function audited(
  settings: Readonly<Record<string, string>>,
  unit: string,
  work: (on: AgentOptions, off: AgentOptions) => Promise<Comparison>,
): Promise<Measured> {
  const folder = mkdtempSync(join(tmpdir(), 'dekd-audit-bench-'));
  const keyFile = join(folder, 'audit.key');
  writeFileSync(keyFile, `${Buffer.alloc(32, 1).toString('base64')}\n`, { mode: 0o600 });
  const env = {
    DEKD_AUDIT_TO: 'file',
    DEKD_AUDIT_FILE: join(folder, 'audit.jsonl'),
    DEKD_AUDIT_KEY_FILE: keyFile,
    DEKD_AUDIT_REQUESTS: 'all',
    ...settings,
  };
  try {
    const { ratio, subject, baseline } = await work({ env }, {});
    return { ratio, detail: `${figure(subject)} ${unit} against ${figure(baseline)} ${unit}` };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const SAMPLED = { DEKD_AUDIT_SAMPLE: '0.01' };
const inFlight = (on: AgentOptions, off: AgentOptions) => compareThroughput(on, off, 'in-flight');
const batch = (on: AgentOptions, off: AgentOptions) => compareThroughput(on, off, 'batch');

export const auditBars: readonly Bar[] = [
  {
    name: 'audit sampled at 1 % against off, one awaited 64 B encrypt, p50',
    atMost: 1.1,
    measure: () => audited(SAMPLED, 'µs', compareRoundTrips),
  },
  {
    name: 'audit sampled at 1 % against off, 64 B encrypt, many in flight',
    atLeast: 0.95,
    measure: () => audited(SAMPLED, 'calls/s', inFlight),
  },
  {
    name: 'audit sampled at 1 % against off, batch of 1,000 × 64 B',
    atLeast: 0.95,
    measure: () => audited(SAMPLED, 'calls/s', batch),
  },
  {
    name: 'audit in full against off, one awaited 64 B encrypt, p50',
    atMost: FULL_ROUND_TRIP,
    measure: () => audited({}, 'µs', compareRoundTrips),
  },
  {
    name: 'audit in full against off, 64 B encrypt, many in flight',
    atLeast: FULL_IN_FLIGHT,
    measure: () => audited({}, 'calls/s', inFlight),
  },
  {
    name: 'audit in full against off, batch of 1,000 × 64 B',
    atLeast: FULL_BATCH,
    measure: () => audited({}, 'calls/s', batch),
  },
  {
    name: 'audit in full and strict against off, one awaited 64 B encrypt, p50',
    atMost: FULL_ROUND_TRIP,
    measure: () => audited({ DEKD_AUDIT_STRICT: 'true' }, 'µs', compareRoundTrips),
  },
];
