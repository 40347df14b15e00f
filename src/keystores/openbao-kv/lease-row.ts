import type { UsageLease } from '../../keyring/record.ts';

/** Leases of one key: holder, messages and bytes, the numbers in decimal because they have 64 bits. Oldest first. */
export type LeaseRow = readonly (readonly [holder: string, messages: string, bytes: string])[];

/**
 * Holders that a row keeps apart: every start of an agent is one, and an entry has a limit in bytes. The oldest are summed
 * up beyond that. One that is alive all the same is counted twice from its next lease on, so its key rotates early, and
 * never late.
 */
const MAX_HOLDERS = 500;

/** The row in an entry; what is no lease is passed over. */
export function leaseRowOf(value: unknown): LeaseRow {
  return Array.isArray(value) ? value.filter(isLease) : [];
}

/** `row` with `lease` in it, which raises and never lowers; `row` itself when that changes nothing. */
export function foldLeases(row: LeaseRow, { holder, messages, bytes }: UsageLease): LeaseRow {
  const stored = row.find(([name]) => name === holder);
  const next = [holder, larger(messages, stored?.[1]), larger(bytes, stored?.[2])] as const;
  if (stored !== undefined && stored[1] === next[1] && stored[2] === next[2]) {
    return row;
  }
  const rest = row.filter(([name]) => name !== holder);
  const excess = rest.length + 1 - MAX_HOLDERS;
  if (excess <= 0) {
    return [...rest, next];
  }
  const folded = rest.slice(0, excess + 1);
  const total = (at: 1 | 2) => folded.reduce((sum, each) => sum + BigInt(each[at]), 0n).toString();
  return [['', total(1), total(2)], ...rest.slice(excess + 1), next];
}

export function leasesIn(kid: string, row: LeaseRow): UsageLease[] {
  return row.map(([holder, messages, bytes]) => ({
    kid: new Uint8Array(Buffer.from(kid, 'hex')),
    holder,
    messages: BigInt(messages),
    bytes: BigInt(bytes),
  }));
}

function isLease(value: unknown): value is LeaseRow[number] {
  return (
    Array.isArray(value) &&
    value.length === 3 &&
    typeof value[0] === 'string' &&
    [value[1], value[2]].every((number) => typeof number === 'string' && /^[0-9]{1,20}$/.test(number))
  );
}

function larger(value: bigint, stored: string | undefined): string {
  return stored !== undefined && BigInt(stored) > value ? stored : value.toString();
}
