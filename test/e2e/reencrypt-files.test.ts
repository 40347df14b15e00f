/** Messages and JSON Lines that are re-encrypted where they lie. */
import { randomBytes } from 'node:crypto';
import { chmodSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { readMessageHeader } from '../../src/envelope/message-header.ts';
import { Workplace } from '../support/command-line.ts';
import { contentBelow, LAST_YEAR, runOnFiles, writeOld } from '../support/file-tree.ts';

const TIMEOUT_MS = 60_000;

let place: Workplace;
const path = (name: string) => join(place.folder, name);
const read = (name: string) => readFileSync(path(name));

const contentOf = (folder: string) => contentBelow(path(folder));
const write = (name: string, content: string | Buffer) => writeOld(path(name), content);
const run = (command: string) => runOnFiles(place, command);

const kidOf = (name: string) =>
  Buffer.from(readMessageHeader(read(name))!.dataKeys[0]!.providerInfo.subarray(0, 32)).toString('latin1');

beforeAll(async () => {
  place = new Workplace();
  await place.startAgent();
}, TIMEOUT_MS);

afterAll(() => place[Symbol.asyncDispose]());

beforeEach(async () => {
  for (const folder of ['docs', 'vault', 'plain']) {
    rmSync(path(folder), { recursive: true, force: true });
  }
  write('docs/a.txt', 'first');
  write('docs/empty', '');
  write('docs/deep/er/b.bin', randomBytes(2_500_000));
  expect(await run('encrypt -r docs -o vault')).toMatchObject({ code: 0 });
  expect(await place.shell('dekd keys rotate files --purpose message')).toMatchObject({ code: 0 });
}, TIMEOUT_MS);

describe.each([
  ['reencrypt', 'reencrypt -r vault'],
  ['rewrap message', 'rewrap message -r vault'],
])('dekd %s -r', { timeout: TIMEOUT_MS }, (verb, command) => {
  it('puts every message under the newest version where it is, with its time and mode, and once', async () => {
    const before = contentOf('vault');
    chmodSync(path('vault/docs/a.txt.dk'), 0o640);
    const made = await run(command);
    expect([made.code, made.document]).toEqual([
      0,
      {
        done: 3,
        unchanged: 0,
        skipped: 0,
        failed: 0,
        bytesRead: expect.any(Number),
        seconds: expect.any(Number),
        failures: [],
      },
    ]);
    const after = contentOf('vault');
    expect([...after.keys()]).toEqual([...before.keys()]);
    for (const [name, content] of after) {
      expect(content.equals(before.get(name)!)).toBe(false);
      expect(kidOf(`vault/${name}`)).toBe(kidOf('vault/docs/a.txt.dk'));
    }
    const { mode, mtimeMs } = statSync(path('vault/docs/a.txt.dk'));
    expect([mode & 0o777, Math.round(mtimeMs)]).toEqual([0o640, LAST_YEAR.getTime()]);
    expect(await run(command)).toMatchObject({ code: 0, document: { done: 0, unchanged: 3 } });
    expect(contentOf('vault')).toEqual(after);
    // What other runs know of it still holds.
    expect(await run('encrypt -r docs -o vault')).toMatchObject({ code: 0, document: { done: 0, already: 3 } });
    expect(await run('decrypt -r vault/docs -o plain')).toMatchObject({ code: 0, document: { done: 3 } });
    expect(contentOf('plain/docs')).toEqual(contentOf('docs'));
    expect(await run(`${verb} vault/docs/a.txt.dk --force`)).toMatchObject({ code: 0, document: { done: 1 } });
    expect(read('vault/docs/a.txt.dk').equals(after.get('docs/a.txt.dk')!)).toBe(false);
  });

  it('leaves a message that does not open as it is, names it and does the others', async () => {
    const damaged = read('vault/docs/deep/er/b.bin.dk');
    damaged[1_500_000]! ^= 1;
    writeFileSync(path('vault/docs/deep/er/b.bin.dk'), damaged);
    write('vault/docs/text.dk', 'no message at all');
    write('vault/docs/notes', 'no name of a message');
    symlinkSync('a.txt.dk', path('vault/docs/link.dk'));
    const made = await run(command);
    expect(made).toMatchObject({ code: 1, document: { done: 2, skipped: 2, failed: 2 } });
    const failures = made.document.failures as { path: string; error: { code: string } }[];
    expect(failures.map((failure) => [failure.path, failure.error.code]).sort()).toEqual([
      ['vault/docs/deep/er/b.bin.dk', 'DECRYPTION_FAILED'],
      ['vault/docs/text.dk', 'MALFORMED'],
    ]);
    expect(read('vault/docs/deep/er/b.bin.dk').equals(damaged)).toBe(true);
    expect(read('vault/docs/text.dk').toString()).toBe('no message at all');
    expect([...contentOf('vault').keys()].filter((name) => name.endsWith('.tmp'))).toEqual([]);
  });

  it('refuses what is wrong with the command line, and ends where no file could succeed', async () => {
    expect(await run(`${verb} vault`)).toMatchObject({ code: 2, stderr: expect.stringContaining('add -r') });
    expect(await run(`${verb} nowhere`)).toMatchObject({ code: 2, stderr: expect.stringContaining('neither file') });
    expect(await run(`${command} --socket nowhere/agent.sock`)).toMatchObject({ code: 3 });
    const before = contentOf('vault');
    expect(await run(`${command} --context row=1`)).toMatchObject({ code: 1, document: { done: 0, failed: 3 } });
    expect(contentOf('vault')).toEqual(before);
  });
});

describe('dekd reencrypt', { timeout: TIMEOUT_MS }, () => {
  it('takes one message from place to place, and a token', async () => {
    await place.shell('dekd reencrypt --key files < vault/docs/a.txt.dk > moved.dk');
    await place.shell('dekd reencrypt --key files vault/docs/deep/er/b.bin.dk -o other.dk');
    expect(kidOf('moved.dk')).toBe(kidOf('other.dk'));
    expect(kidOf('moved.dk')).not.toBe(kidOf('vault/docs/a.txt.dk'));
    expect((await place.shell('dekd decrypt --key files < moved.dk')).stdout).toBe('first');
    const { stdout: token } = await place.shell('dekd encrypt --key files --context a=b x');
    const moved = await place.shell(`dekd reencrypt --key files --context a=b ${token}`);
    expect(moved.stdout).toMatch(/^dk1\./);
    expect((await place.shell(`dekd decrypt --key files --context a=b ${moved.stdout}`)).stdout).toBe('x');
  });

  it('moves fields of JSON Lines in place, and leaves a file that needs nothing as it is', async () => {
    const lines = Array.from(
      { length: 500 },
      (_, row) => `{"id":${row}, "mail":"p${row}@example.org","c":[{"pan":null}]}\n`,
    );
    writeFileSync(path('in.jsonl'), lines.join(''));
    const fields = "--fields 'mail,c[].pan'";
    await place.shell(`dekd encrypt --key files ${fields} in.jsonl -o out.jsonl`);
    const before = read('out.jsonl');
    expect(await run(`reencrypt ${fields} out.jsonl`)).toMatchObject({
      code: 0,
      document: { values: 1_000, moved: 0 },
    });
    expect(read('out.jsonl').equals(before)).toBe(true);
    await place.shell('dekd keys rotate files');
    chmodSync(path('out.jsonl'), 0o600);
    expect(await run(`reencrypt ${fields} out.jsonl`)).toMatchObject({
      code: 0,
      document: { values: 1_000, moved: 1_000 },
    });
    expect(statSync(path('out.jsonl')).mode & 0o777).toBe(0o600);
    expect(read('out.jsonl').equals(before)).toBe(false);
    const piped = await place.shell(`dekd reencrypt --key files ${fields} < out.jsonl > again.jsonl`);
    expect(JSON.parse(piped.stderr)).toMatchObject({ moved: 0 });
    expect(read('again.jsonl').equals(read('out.jsonl'))).toBe(true);
    await place.shell(`dekd decrypt --key files ${fields} out.jsonl -o back.jsonl`);
    expect(read('back.jsonl').equals(read('in.jsonl'))).toBe(true);
  });

  it('leaves JSON Lines as they are when a line of them cannot be done', async () => {
    writeFileSync(path('mixed.jsonl'), '{"mail":"clear"}\n');
    const { code, stderr } = await run('reencrypt --fields mail mixed.jsonl');
    expect([code, stderr]).toEqual([1, expect.stringContaining('line 1')]);
    expect(read('mixed.jsonl').toString()).toBe('{"mail":"clear"}\n');
  });
});
