import { describe, expect, it } from 'vitest';
import { NewestVersions } from '../../src/cli/reencrypt/newest-version.ts';
import type { Table, TableRow } from '../../src/cli/reencrypt/table.ts';
import { rowsOfBatch } from '../../src/cli/reencrypt/table-run.ts';
import { reencryptRows } from '../../src/cli/reencrypt/token-batch.ts';
import type { DekdClient, ManyItem, ManyResult } from '../../src/client/types.ts';
import { encodeTokenText } from '../../src/envelope/token-text.ts';
import { DekdError, type ErrorCode } from '../../src/errors.ts';

const [OLD, NEW, NEWEST] = [1, 2, 3] as const;

/** A token whose kid says its version. */
function token(version: number, content = 0, suite = 1): Uint8Array {
  const bytes = new Uint8Array(60).fill(content);
  bytes.set([0xc1, suite]);
  bytes.fill(version, 2, 18);
  return bytes;
}

const kidOf = (version: number) => Buffer.alloc(16, version).toString('hex');

/** An agent that seals under `seals`, over a keystore whose newest version is `newest`. */
class FakeAgent {
  newest: number = NEW;
  seals: number = NEW;
  asked = 0;
  items: Exclude<ManyItem, Uint8Array>[] = [];
  refuses = new Map<number, ErrorCode>();

  get client(): DekdClient {
    return {
      keyInfo: async () => {
        this.asked += 1;
        const versions = [OLD, NEW, NEWEST].filter((version) => version <= this.newest);
        return {
          versions: versions.map((version) => ({
            kid: kidOf(version),
            purpose: 'seal',
            version,
            state: version === this.newest ? 'active' : 'deactivated',
          })),
        };
      },
      reencryptMany: async (items: Exclude<ManyItem, Uint8Array>[]): Promise<ManyResult[]> => {
        this.items = items;
        return items.map(({ data }, index) => {
          const code = this.refuses.get(index);
          return code === undefined
            ? { ok: true, value: token(this.seals, data[20]! + 100) }
            : { ok: false, error: new DekdError(code, 'no') };
        });
      },
    } as unknown as DekdClient;
  }
}

function row(id: string, value: string | Uint8Array | undefined, more: Partial<TableRow> = {}): TableRow {
  return { id: [id], value, isNull: false, context: [], partition: null, ...more };
}

function rows(agent: FakeAgent, given: readonly TableRow[], form: 'binary' | 'text' = 'binary', fields: string[] = []) {
  const table = { form, contextFields: fields } as unknown as Table;
  const newest = new NewestVersions(agent.client, 'k');
  return reencryptRows({ client: agent.client, newest, table, key: 'k', partition: '', context: { app: 'x' } }, given);
}

describe('reencryptRows', () => {
  it('replaces tokens of older versions, in the form of the column, and leaves the others', async () => {
    const given = [
      row('a', token(OLD, 7)),
      row('b', token(NEW)),
      row('c', undefined, { isNull: true }),
      row('d', undefined),
    ];
    expect(await rows(new FakeAgent(), given)).toEqual({
      replacements: [{ id: ['a'], old: token(OLD, 7), new: token(NEW, 107) }],
      current: 2,
      nulls: 1,
      failures: [],
    });
    const [made] = (await rows(new FakeAgent(), [row('a', encodeTokenText(token(OLD)))], 'text')).replacements;
    expect(made).toEqual({ id: ['a'], old: encodeTokenText(token(OLD)), new: encodeTokenText(token(NEW, 100)) });
  });

  it('gives each row its own context and partition', async () => {
    const agent = new FakeAgent();
    const given = [
      row('a', token(OLD), { context: ['1', ''], partition: 'acme' }),
      row('b', token(OLD), { context: ['2', null] }),
      row('c', token(OLD), { context: ['3', 'x'] }),
    ];
    const { failures } = await rows(agent, given, 'binary', ['id', 'field']);
    expect(agent.items.map(({ context, partition }) => [context, partition])).toEqual([
      [{ app: 'x', id: '1', field: '' }, 'acme'],
      [{ app: 'x', id: '3', field: 'x' }, ''],
    ]);
    expect(failures).toMatchObject([{ id: ['b'], code: 'INVALID_ARGUMENT' }]);
  });

  it('names rows that cannot be done, in their order, and replaces none of them', async () => {
    const agent = new FakeAgent();
    agent.refuses = new Map([
      [1, 'DECRYPTION_FAILED'],
      [2, 'KEY_DISABLED'],
    ]);
    const given = [row('a', 'clear'), row('b', encodeTokenText(token(OLD))), row('c', encodeTokenText(token(OLD)))];
    const more = [row('d', encodeTokenText(token(OLD))), row('e', encodeTokenText(token(OLD, 0, 0x10)))];
    const { replacements, failures, current } = await rows(agent, [...given, ...more], 'text');
    expect(failures.map(({ id, code }) => [id[0], code])).toEqual([
      ['a', 'MALFORMED'],
      ['c', 'DECRYPTION_FAILED'],
      ['d', 'KEY_DISABLED'],
      ['e', 'UNSUPPORTED'],
    ]);
    expect([replacements.map(({ id }) => id[0]), current]).toEqual([['b'], 0]);
  });

  it.each(['PERMISSION_DENIED', 'KMS_UNAVAILABLE', 'INTERNAL'] as const)(
    'does nothing at all after %s',
    async (code) => {
      const agent = new FakeAgent();
      agent.refuses.set(1, code);
      await expect(rows(agent, [row('a', token(OLD)), row('b', token(OLD))])).rejects.toMatchObject({ code });
    },
  );

  it('never puts an older version in the place of a newer one: an agent that has not heard of it is asked again', async () => {
    const agent = new FakeAgent();
    agent.newest = NEWEST;
    await expect(rows(agent, [row('a', token(NEWEST))])).rejects.toMatchObject({ code: 'CONFLICT', retryable: true });
    await expect(rows(agent, [row('a', token(OLD))])).rejects.toMatchObject({ code: 'CONFLICT' });
    agent.seals = NEWEST;
    expect(await rows(agent, [row('a', token(OLD))])).toMatchObject({ replacements: [{ id: ['a'] }] });
  });

  it('hears of a rotation by what an agent makes', async () => {
    const agent = new FakeAgent();
    const table = { form: 'binary', contextFields: [] } as unknown as Table;
    const newest = new NewestVersions(agent.client, 'k');
    const options = { client: agent.client, newest, table, key: 'k', partition: '', context: {} };
    await reencryptRows(options, [row('a', token(OLD))]);
    await reencryptRows(options, [row('a', token(OLD))]);
    expect(agent.asked).toBe(1);
    agent.newest = NEWEST;
    agent.seals = NEWEST;
    expect(await reencryptRows(options, [row('a', token(NEW))])).toMatchObject({ replacements: [{ id: ['a'] }] });
    expect(agent.asked).toBe(2);
  });
});

describe('a batch', () => {
  it('is over in half a lease at the rate that is allowed, and never without rows', () => {
    expect(rowsOfBatch(1_000, Number.POSITIVE_INFINITY, 60)).toBe(1_000);
    expect(rowsOfBatch(1_000, 10_000, 60)).toBe(1_000);
    expect(rowsOfBatch(1_000, 10, 60)).toBe(300);
    expect(rowsOfBatch(1_000, 1, 1)).toBe(1);
  });
});
