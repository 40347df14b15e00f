/** The fields of the client and `--fields` of the command line: each opens what the other made. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, type DekdClient, type EncryptedRow } from '../../src/client/index.ts';
import { Workplace } from '../support/command-line.ts';

const TIMEOUT_MS = 60_000;

interface User {
  id: string;
  email: string;
  note: string | null;
  balance: number;
  address?: { street: string };
  cards: { pan: string; tags: string[] }[];
  grid: number[][];
}

const rows: User[] = [
  {
    id: 'u1',
    email: 'ada@example.org',
    note: 'é \u{1f600} "quoted" \\ \u2028',
    balance: -1.5e300,
    address: { street: '1 High Street' },
    cards: [
      { pan: '4111', tags: ['a', 'b'] },
      { pan: '', tags: [] },
    ],
    grid: [[1], [], [2, -3]],
  },
  { id: 'u1', email: '', note: null, balance: 0, cards: [], grid: [] },
];

let place: Workplace;
let dekd: DekdClient;
beforeAll(async () => {
  place = new Workplace();
  await place.startAgent();
  dekd = connect({ socket: place.socket });
}, TIMEOUT_MS);
afterAll(async () => {
  await dekd.close();
  await place[Symbol.asyncDispose]();
});

function users() {
  return dekd.fields<User>()({
    key: 'customers',
    partition: 'acme',
    fields: ['email', 'note', 'balance', 'address.street', 'cards[].pan', 'cards[].tags[]', 'grid[][]'],
    context: ({ id }) => ({ user: id }),
  });
}

const FLAGS = "--key customers --partition acme --context user=u1 --fields '";

function linesOf(values: readonly unknown[]): string {
  return values.map((value) => `${JSON.stringify(value)}\n`).join('');
}

function valuesOf(file: string): unknown[] {
  return readFileSync(file, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
}

describe('fields of the client and of the command line', () => {
  const paths = () => `${FLAGS}${users().paths.join(',')}'`;

  it('open what the other has made', { timeout: TIMEOUT_MS }, async () => {
    const sealed = join(place.folder, 'client.jsonl');
    writeFileSync(sealed, linesOf(await users().encryptMany(rows)));
    const opened = await place.shell(`dekd decrypt ${paths()} client.jsonl`);
    expect([opened.code, opened.stdout]).toEqual([0, linesOf(rows)]);

    writeFileSync(join(place.folder, 'plain.jsonl'), linesOf(rows));
    const made = await place.shell(`dekd encrypt ${paths()} plain.jsonl -o line.jsonl`);
    expect(made.code).toBe(0);
    const lines = valuesOf(join(place.folder, 'line.jsonl')) as EncryptedRow<ReturnType<typeof users>>[];
    expect(await users().decryptMany(lines)).toStrictEqual(rows);
    expect(await users().encryptMany(lines)).toEqual(lines);
  });

  it('open what the other has moved to another version', { timeout: TIMEOUT_MS }, async () => {
    const old = await users().encryptMany(rows);
    writeFileSync(join(place.folder, 'old.jsonl'), linesOf(old));
    const rotated = await place.shell('dekd keys rotate customers --partition acme');
    expect(rotated.code, rotated.stderr).toBe(0);
    const moved = await place.shell(`dekd reencrypt ${paths()} old.jsonl`);
    expect(moved.code, moved.stderr).toBe(0);
    const lines = valuesOf(join(place.folder, 'old.jsonl')) as EncryptedRow<ReturnType<typeof users>>[];
    expect(lines[0]!.email).not.toBe(old[0]!.email);
    expect(await users().decryptMany(lines)).toStrictEqual(rows);
  });
});
