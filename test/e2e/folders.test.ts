/** Whole folders on the command line: every file a message of its own, and a run that can be stopped and run again. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Workplace } from '../support/command-line.ts';
import { contentBelow, LAST_YEAR, runOnFiles, writeOld } from '../support/file-tree.ts';

const TIMEOUT_MS = 60_000;

let place: Workplace;
const path = (name: string) => join(place.folder, name);
const read = (name: string) => readFileSync(path(name));

const contentOf = (folder: string) => contentBelow(path(folder));
const write = (name: string, content: string | Buffer) => writeOld(path(name), content);
const run = (command: string) => runOnFiles(place, command);

beforeAll(async () => {
  place = new Workplace();
  await place.startAgent();
}, TIMEOUT_MS);

afterAll(async () => {
  await place[Symbol.asyncDispose]();
});

beforeEach(() => {
  for (const folder of ['docs', 'vault', 'plain', 'more']) {
    rmSync(path(folder), { recursive: true, force: true });
  }
  write('docs/a.txt', 'first');
  write('docs/empty', '');
  write('docs/deep/er/b.bin', randomBytes(2_500_000));
  write('docs/deep/two words, a\nline and Grüße.txt', 'second');
});

describe('dekd encrypt -r and decrypt -r', { timeout: TIMEOUT_MS }, () => {
  it('bring every file there and back, with the time of its last change', async () => {
    const made = await run('encrypt -r docs -o vault');
    expect([made.code, made.document]).toEqual([
      0,
      {
        output: 'vault',
        done: 4,
        already: 0,
        skipped: 0,
        failed: 0,
        bytesRead: 2_500_011,
        seconds: expect.any(Number),
        failures: [],
      },
    ]);
    expect([...contentOf('vault').keys()]).toEqual([...contentOf('docs').keys()].map((name) => `docs/${name}.dk`));
    expect(Math.round(statSync(path('vault/docs/a.txt.dk')).mtimeMs)).toBe(LAST_YEAR.getTime());
    expect(await run('decrypt -r vault/docs -o plain')).toMatchObject({ code: 0, document: { done: 4 } });
    expect(contentOf('plain/docs')).toEqual(contentOf('docs'));
    expect(statSync(path('plain/docs/a.txt')).mode & 0o777).toBe(0o600);
    expect(statSync(path('plain/docs/deep')).mode & 0o777).toBe(0o700);
  });

  it('do again only what changed, and never undo a change of a result', async () => {
    await run('encrypt -r docs -o vault');
    await run('decrypt -r vault/docs -o plain');
    expect(await run('encrypt -r docs -o vault')).toMatchObject({ code: 0, document: { done: 0, already: 4 } });
    appendFileSync(path('docs/a.txt'), ' and more');
    rmSync(path('vault/docs/empty.dk'));
    expect(await run('encrypt -r docs -o vault')).toMatchObject({ code: 0, document: { done: 2, already: 2 } });
    writeFileSync(path('plain/docs/empty'), 'written by somebody');
    const again = await run('decrypt -r vault/docs -o plain');
    expect(again).toMatchObject({ code: 1, document: { done: 1, already: 2, failed: 1 } });
    expect(again.document.failures).toMatchObject([
      { path: 'vault/docs/empty.dk', error: { message: expect.stringContaining('changed after its source') } },
    ]);
    expect(read('plain/docs/empty').toString()).toBe('written by somebody');
    expect(read('plain/docs/a.txt').toString()).toBe('first and more');
    expect(await run('decrypt -r vault/docs -o plain --overwrite')).toMatchObject({ code: 0, document: { done: 1 } });
    expect(read('plain/docs/empty').toString()).toBe('');
  });

  it('take several files and folders at once, each under its own name', async () => {
    write('more/c.txt', 'third');
    expect(await run('encrypt -r docs/a.txt more ./docs/deep -o vault')).toMatchObject({ code: 0 });
    expect([...contentOf('vault').keys()]).toEqual([
      'a.txt.dk',
      'deep/er/b.bin.dk',
      'deep/two words, a\nline and Grüße.txt.dk',
      'more/c.txt.dk',
    ]);
    expect(await run('decrypt vault/a.txt.dk vault/more/c.txt.dk -o plain')).toMatchObject({ code: 0 });
    expect([...contentOf('plain')].map(([name, bytes]) => [name, `${bytes}`])).toEqual([
      ['a.txt', 'first'],
      ['c.txt', 'third'],
    ]);
    expect(await run('encrypt --message docs/a.txt more/c.txt -o vault')).toMatchObject({ document: { already: 1 } });
  });

  it('follow no symbolic link, and do not go into their own output', async () => {
    symlinkSync('/etc/passwd', path('docs/link'));
    symlinkSync('..', path('docs/up'));
    const made = await run('encrypt -r docs -o docs/vault');
    expect(made).toMatchObject({ code: 0, document: { done: 4, skipped: 2 } });
    expect(await run('encrypt -r docs -o docs/vault')).toMatchObject({ document: { done: 0, already: 4, skipped: 2 } });
    write('docs/vault/docs/no-message', 'x');
    const opened = await run('decrypt -r docs/vault -o plain');
    expect(opened).toMatchObject({ code: 0, document: { done: 4, skipped: 1 } });
  });

  it('go on after a file that fails, and name it', async () => {
    await run('encrypt -r docs -o vault');
    const damaged = read('vault/docs/deep/er/b.bin.dk');
    damaged[1_500_000]! ^= 1;
    writeFileSync(path('vault/docs/deep/er/b.bin.dk'), damaged);
    write('vault/docs/text\u001b[2J.dk', 'no message at all');
    mkdirSync(path('plain/docs/empty'), { recursive: true });
    const opened = await run('decrypt -r vault/docs -o plain');
    expect(opened).toMatchObject({ code: 1, document: { done: 2, failed: 3 } });
    const failures = opened.document.failures as { path: string; error: { code: string; message: string } }[];
    expect(failures.map((failure) => [failure.path, failure.error.code]).sort()).toEqual([
      ['vault/docs/deep/er/b.bin.dk', 'DECRYPTION_FAILED'],
      ['vault/docs/empty.dk', 'INVALID_ARGUMENT'],
      ['vault/docs/text\u001b[2J.dk', 'MALFORMED'],
    ]);
    expect([...contentOf('plain/docs').keys()]).toEqual(['a.txt', 'deep/two words, a\nline and Grüße.txt']);
    const { code, stderr } = await place.shell('dekd decrypt -r vault/docs -o plain --key files');
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(/failed vault.docs.text\\u001b\[2J\.dk: .*\n(.*\n)*0 files decrypted/),
    ]);
  });

  it('end at once where no file could succeed', async () => {
    expect(await run('decrypt -r docs -o plain --socket nowhere')).toMatchObject({ code: 3 });
    await run('encrypt -r docs -o vault');
    await place.shell('dekd keys disable files');
    const refused = await run('decrypt -r vault/docs -o plain');
    await place.shell('dekd keys enable files');
    expect(refused).toMatchObject({ code: 1, document: {} });
    expect(JSON.parse(refused.stderr)).toMatchObject({
      error: { code: 'KEY_DISABLED', remedy: expect.stringContaining('run the same command again') },
    });
    expect(contentOf('plain').size).toBe(0);
  });

  it.each([
    ['no folder to go to', 'encrypt -r docs', /add -o FOLDER/],
    ['a folder without -r', 'encrypt --message docs docs/a.txt -o vault', /add -r/],
    ['a name that is nowhere', 'encrypt -r docs nowhere -o vault', /neither file nor folder/],
    ['two of one name', 'encrypt -r docs ./docs -o vault', /both be docs/],
    ['messages among the files', 'encrypt -r docs -o .', /lie among the files/],
    ['a file as the folder', 'encrypt -r docs -o docs/a.txt', /is no folder/],
    ['several values', 'encrypt one two', /add --message/],
    ['--binary', 'encrypt -r docs --binary -o vault', /--binary/],
    ['two tokens', 'decrypt dk1.aaaa dk1.bbbb -o vault', /one token at a time/],
  ])('refuse %s as usage', async (_, command, says) => {
    const { code, stderr } = await place.shell(`dekd ${command} --key files`);
    expect([code, stderr]).toEqual([2, expect.stringMatching(says)]);
    expect(existsSync(path('vault'))).toBe(false);
  });
});

describe('a run that is killed', { timeout: TIMEOUT_MS }, () => {
  it('leaves no half result, and the next one finishes and clears up', async () => {
    for (let file = 0; file < 20; file += 1) {
      write(`docs/many/${file}`, randomBytes(1_000_000));
    }
    const child = spawn('sh', ['-c', 'exec dekd encrypt -r --key files docs -o vault'], {
      cwd: place.folder,
      env: place.env,
      stdio: 'ignore',
    });
    const begun = () => (existsSync(path('vault/docs/many')) ? readdirSync(path('vault/docs/many')) : []);
    await expect.poll(() => begun().some((name) => name.endsWith('.tmp')), { interval: 1 }).toBe(true);
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(await run('encrypt -r docs -o vault')).toMatchObject({ code: 0, document: { failed: 0 } });
    expect(begun().sort()).toEqual(Array.from({ length: 20 }, (_, file) => `${file}.dk`).sort());
    await run('decrypt -r vault/docs -o plain');
    expect(contentOf('plain/docs')).toEqual(contentOf('docs'));
  });
});
