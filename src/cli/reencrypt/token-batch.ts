/** Rows of a column through the agent: which tokens take the place of which, and which rows cannot be done. */
import type { DekdClient, EncryptionContext } from '../../client/types.ts';
import { SUITE_DIRECT } from '../../envelope/token.ts';
import { decodeTokenText, encodeTokenText } from '../../envelope/token-text.ts';
import { DekdError, type ErrorCode } from '../../errors.ts';
import type { NewestVersions } from './newest-version.ts';
import type { Replacement, RowId, Table, TableRow } from './table.ts';
import { isSameVersion } from './tokens.ts';

/** A batch of the largest tokens takes its time. */
const TIMEOUT_MS = 60_000;
/** What an error says about one row, not about policy, agent or root: the version of its key may be disabled. */
const ABOUT_THE_ROW: ReadonlySet<ErrorCode> = new Set([
  'MALFORMED',
  'UNSUPPORTED',
  'UNSUPPORTED_VERSION',
  'DECRYPTION_FAILED',
  'INVALID_ARGUMENT',
  'KEY_DISABLED',
]);

export interface RowFailure {
  readonly id: RowId;
  readonly code: ErrorCode;
  readonly message: string;
}

export interface BatchOutcome {
  readonly replacements: readonly Replacement[];
  /** Rows whose token is under the newest version. */
  readonly current: number;
  readonly nulls: number;
  readonly failures: readonly RowFailure[];
}

export interface BatchOptions {
  readonly client: DekdClient;
  readonly newest: NewestVersions;
  readonly table: Table;
  readonly key: string;
  /** Of every row, unless the table has a column for it. */
  readonly partition: string;
  /** Of every row, beside what its columns say. */
  readonly context: EncryptionContext;
}

interface Item {
  readonly row: TableRow;
  readonly data: Uint8Array;
  readonly partition: string;
  readonly context: EncryptionContext;
}

/**
 * Re-encrypts the tokens of some rows inside the agent; nothing is written.
 * @throws what stands in the way of every row; a retryable DekdError when the same rows may be tried again
 */
export async function reencryptRows(options: BatchOptions, rows: readonly TableRow[]): Promise<BatchOutcome> {
  const { client, newest, key, table } = options;
  const failed = new Map<TableRow, RowFailure>();
  const items: Item[] = [];
  let nulls = 0;
  for (const row of rows) {
    nulls += row.isNull ? 1 : 0;
    if (row.value !== undefined) {
      try {
        items.push(itemOf(options, row, row.value));
      } catch (error) {
        failed.set(row, failureOf(row, error));
      }
    }
  }
  const results = await client.reencryptMany(items, { key, timeoutMs: TIMEOUT_MS });
  const replacements: Replacement[] = [];
  let current = rows.length - nulls - items.length - failed.size;
  for (const [index, result] of results.entries()) {
    const { row, data, partition } = items[index]!;
    if (!result.ok) {
      failed.set(row, failureOf(row, result.error));
      continue;
    }
    await newest.check(result.value, partition);
    if (isSameVersion(data, result.value)) {
      current += 1;
    } else {
      const token = table.form === 'text' ? encodeTokenText(result.value) : result.value;
      replacements.push({ id: row.id, old: row.value!, new: token });
    }
  }
  const failures = rows.map((row) => failed.get(row)).filter((failure) => failure !== undefined);
  return { replacements, current, nulls, failures };
}

function itemOf({ table, partition, context }: BatchOptions, row: TableRow, value: string | Uint8Array): Item {
  const data = typeof value === 'string' ? decodeTokenText(value) : value;
  if (data[1] === SUITE_DIRECT) {
    // Its version is the provider's: nobody could tell when a column is done.
    throw new DekdError('UNSUPPORTED', 'the token is direct, and its key version the business of its provider');
  }
  const fields: Record<string, string> = { ...context };
  for (const [index, field] of table.contextFields.entries()) {
    const cell = row.context[index];
    if (typeof cell !== 'string') {
      throw new DekdError('INVALID_ARGUMENT', `the column of context field '${field}' is NULL`);
    }
    fields[field] = cell;
  }
  return { row, data, partition: row.partition ?? partition, context: fields };
}

/** @throws the error itself when it is not about the row */
function failureOf({ id }: TableRow, error: unknown): RowFailure {
  const failure = DekdError.from(error);
  if (!ABOUT_THE_ROW.has(failure.code)) {
    throw failure;
  }
  return { id, code: failure.code, message: failure.message };
}
