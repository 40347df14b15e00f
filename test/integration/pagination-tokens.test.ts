import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, DekdError } from '../../src/client/index.ts';
import type { DekdClient } from '../../src/client/types.ts';
import { PaginationTokens } from '../../src/helpers/index.ts';
import { startTestAgent, type TestAgent } from '../support/agent.ts';
import { formsFound } from '../support/canary.ts';

interface Cursor {
  readonly after: number;
  readonly name: string;
}

const CURSOR: Cursor = { after: 4711, name: 'last-name-of-the-page' };
const NOT_VALID = { name: 'DekdError', code: 'DECRYPTION_FAILED', message: 'the pagination token is not valid' };

let agent: TestAgent;
let dekd: DekdClient;
beforeAll(async () => {
  agent = await startTestAgent();
  dekd = connect({ socket: agent.socket });
});
afterAll(async () => {
  await dekd.close();
  await agent.stop();
});

let time = 1_790_000_000_000;
const now = (): number => time;

function invoices(): PaginationTokens<Cursor, 'user'> {
  return new PaginationTokens<Cursor, 'user'>(dekd, { key: 'pages', kind: 'invoices', bindTo: ['user'], now });
}

const PAGE = { partition: 'acme', context: { user: 'u1' } } as const;

async function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'ok',
    (error: unknown) => (error instanceof DekdError ? `${error.code} ${error.message}` : String(error)),
  );
}

describe('a pagination token', () => {
  it('gives its cursor back, any number of times', async () => {
    const tokens = invoices();
    const token = await tokens.issue(CURSOR, PAGE);
    expect(await tokens.read(token, PAGE)).toEqual(CURSOR);
    expect(await tokens.read(token, PAGE)).toEqual(CURSOR);
  });

  it('is safe in a URL, and shows nothing of its cursor', async () => {
    const token = await invoices().issue(CURSOR, PAGE);
    expect(encodeURIComponent(token)).toBe(token);
    expect(formsFound(Buffer.from(token), CURSOR.name)).toEqual([]);
    const bytes = Buffer.from(token.slice(4), 'base64url');
    expect(formsFound(bytes, CURSOR.name)).toEqual([]);
  });

  it('is 91 characters, and four for each three of the JSON of its cursor', async () => {
    for (const cursor of [1, 'a'.repeat(98)]) {
      const tokens = new PaginationTokens<unknown>(dekd, { key: 'pages', kind: 'k', now });
      const token = await tokens.issue(cursor);
      expect(token.length).toBe(4 + Math.ceil(((58 + 7 + JSON.stringify(cursor).length) * 4) / 3));
    }
  });

  it('fails with one text when any single bit of it is another', async () => {
    const tokens = invoices();
    const token = await tokens.issue({ after: 1, name: '' }, PAGE);
    const bits = Array.from({ length: token.length * 8 }, (_, bit) => bit);
    const answers = await Promise.all(
      bits.map((bit) => {
        const bytes = Buffer.from(token, 'latin1');
        bytes[bit >> 3]! ^= 1 << (bit & 7);
        return codeOf(tokens.read(bytes.toString('latin1'), PAGE));
      }),
    );
    expect(new Set(answers)).toEqual(new Set(['DECRYPTION_FAILED the pagination token is not valid']));
  });

  it('fails when any single bit of what it encodes is another', async () => {
    const tokens = invoices();
    const token = await tokens.issue({ after: 1, name: '' }, PAGE);
    const sealed = Buffer.from(token.slice(4), 'base64url');
    const answers = await Promise.all(
      Array.from({ length: sealed.length * 8 }, (_, bit) => {
        const bytes = Buffer.from(sealed);
        bytes[bit >> 3]! ^= 1 << (bit & 7);
        return codeOf(tokens.read(`dk1.${bytes.toString('base64url')}`, PAGE));
      }),
    );
    expect(new Set(answers)).toEqual(new Set(['DECRYPTION_FAILED the pagination token is not valid']));
  });

  it.each([
    ['another user', { ...PAGE, context: { user: 'u2' } }],
    ['another tenant', { ...PAGE, partition: 'other' }],
    ['no tenant', { context: PAGE.context }],
  ])('fails for %s', async (_what, page) => {
    const tokens = invoices();
    await tokens.issue(CURSOR, page);
    await expect(tokens.read(await tokens.issue(CURSOR, PAGE), page)).rejects.toMatchObject(NOT_VALID);
  });

  it('fails for another kind of page, and for another key', async () => {
    const token = await invoices().issue(CURSOR, PAGE);
    const options = { key: 'pages', kind: 'users', bindTo: ['user'], now } as const;
    await expect(new PaginationTokens<Cursor, 'user'>(dekd, options).read(token, PAGE)).rejects.toMatchObject(
      NOT_VALID,
    );
    const elsewhere = new PaginationTokens<Cursor, 'user'>(dekd, { ...options, key: 'other', kind: 'invoices' });
    await elsewhere.issue(CURSOR, PAGE);
    await expect(elsewhere.read(token, PAGE)).rejects.toMatchObject(NOT_VALID);
  });

  it('is good to the last millisecond of its time, then EXPIRED for its holder, and no more than not valid for others', async () => {
    const tokens = new PaginationTokens<Cursor, 'user'>(dekd, {
      key: 'pages',
      kind: 'invoices',
      bindTo: ['user'],
      ttlMs: 60_000,
      now,
    });
    const begun = time;
    const token = await tokens.issue(CURSOR, PAGE);
    time = begun + 59_999;
    expect(await tokens.read(token, PAGE)).toEqual(CURSOR);
    time = begun + 60_000;
    const expired = { code: 'EXPIRED', message: 'the pagination token has expired', retryable: false };
    await expect(tokens.read(token, PAGE)).rejects.toMatchObject(expired);
    await expect(tokens.read(token, { ...PAGE, context: { user: 'u2' } })).rejects.toMatchObject(NOT_VALID);
    time = begun;
  });

  it('is not valid when a stranger made it up, whatever that is', async () => {
    const tokens = invoices();
    const token = await tokens.issue(CURSOR, PAGE);
    const body = Buffer.from(token.slice(4), 'base64url');
    const hostile = fc.oneof(
      fc.string(),
      fc.string({ unit: 'binary' }),
      fc.uint8Array({ maxLength: 300 }).map((bytes) => `dk1.${Buffer.from(bytes).toString('base64url')}`),
      // A head that the agent knows, of any suite.
      fc.tuple(fc.nat(255), fc.uint8Array({ maxLength: 200 })).map(([suite, rest]) => {
        const bytes = Buffer.concat([Uint8Array.of(0xc1, suite), body.subarray(2, 18), rest]);
        return `dk1.${bytes.toString('base64url')}`;
      }),
      fc
        .tuple(fc.nat(body.length), fc.nat(body.length))
        // All of it would be the token itself.
        .filter(([from, to]) => from > 0 || to < body.length)
        .map(([from, to]) => `dk1.${body.toString('base64url', from, to)}`),
      fc.constantFrom(`${token} `, ` ${token}`, `${token}=`, `${token}A`, token.toUpperCase(), 'dk1.', ''),
      fc.anything().filter((each) => typeof each !== 'string') as fc.Arbitrary<string>,
    );
    await fc.assert(
      fc.asyncProperty(hostile, async (given) => {
        await expect(tokens.read(given, PAGE)).rejects.toMatchObject(NOT_VALID);
      }),
      { numRuns: 2000 },
    );
  });

  it('is refused before anything is asked when it is longer than maxLength, and is never made so long', async () => {
    const asked: string[] = [];
    const spy = {
      encryptText: dekd.encryptText.bind(dekd),
      decryptText: async (token: string) => {
        asked.push(token);
        return '';
      },
    };
    const tokens = new PaginationTokens<string>(spy, { key: 'pages', kind: 'k', maxLength: 200 });
    await expect(tokens.read(`dk1.${'A'.repeat(197)}`)).rejects.toMatchObject(NOT_VALID);
    expect(asked).toEqual([]);
    const tooLong = { code: 'INVALID_ARGUMENT', message: 'the pagination token becomes longer than maxLength of 200' };
    await expect(tokens.issue('secret'.repeat(20))).rejects.toMatchObject(tooLong);
    await expect(tokens.issue('secret'.repeat(2000))).rejects.toMatchObject(tooLong);
  });

  it('cannot have a cursor that JSON would lose', async () => {
    const tokens = new PaginationTokens<unknown>(dekd, { key: 'pages', kind: 'k' });
    for (const cursor of [undefined, Number.NaN, 1n, { a: Number.POSITIVE_INFINITY }]) {
      await expect(tokens.issue(cursor)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    }
  });

  it('says what is wrong with the agent and not with the token, when it is the agent', async () => {
    const nobody = connect({ socket: '/nowhere/agent.sock', timeoutMs: 50 });
    const tokens = new PaginationTokens<Cursor>(nobody, { key: 'pages', kind: 'k' });
    const token = await invoices().issue(CURSOR, PAGE);
    await expect(tokens.read(token)).rejects.toMatchObject({ code: 'AGENT_UNAVAILABLE', retryable: true });
    await nobody.close();
  });

  it('shows the operator why: the incident is the agent’s', async () => {
    const token = await invoices().issue(CURSOR, PAGE);
    const error = await invoices()
      .read(token, { ...PAGE, context: { user: 'u2' } })
      .catch((reason: DekdError) => reason);
    expect((error as DekdError).incident).toMatch(/^\S+$/);
  });
});
