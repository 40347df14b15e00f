import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { OwnModule } from '../../src/cli/bench/own-module.ts';
import { CommandError, EXIT } from '../../src/cli/exit.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const SIZE = 64;
const DATA = new Uint8Array(SIZE).fill(7);
/** A cipher for tests: every byte turned over, behind one that says so. */
const TURN = 'const turn = (bytes) => Uint8Array.from([1, ...bytes.map((byte) => byte ^ 0xff)]);';
const BACK = 'export const decrypt = (bytes) => Uint8Array.from(bytes.subarray(1), (byte) => byte ^ 0xff);';

function write(text: string, name = 'mine.mjs'): string {
  const file = join(temporaryFolder(), name);
  writeFileSync(file, text);
  return file;
}

async function refusal(work: Promise<unknown>): Promise<CommandError> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(CommandError);
  return error as CommandError;
}

async function ways(text: string): Promise<string[]> {
  const own = await OwnModule.load(write(text));
  return (await own.waysFor(SIZE, DATA)).map(({ name }) => name);
}

describe('OwnModule', () => {
  it('measures a synchronous encrypt one call at a time, in a plain loop', async () => {
    const own = await OwnModule.load(write(`${TURN} export const encrypt = turn; ${BACK}`));
    const [way, ...others] = await own.waysFor(SIZE, DATA);
    expect(others).toEqual([]);
    expect(way).toMatchObject({ name: 'mine.mjs: one call at a time', of: 'own', items: 1, width: 1 });
    expect(way!.call).toBeUndefined();
    expect(way!.work(3)).toBeInstanceOf(Uint8Array);
  });

  it('measures an asynchronous encrypt in flight too, and batches where there is encryptMany', async () => {
    const text = `${TURN} export const name = 'turned'; export async function encrypt(bytes) { return turn(bytes); }
      export const encryptMany = (all) => all.map(turn); ${BACK}`;
    expect(await ways(text)).toEqual([
      'turned: one call at a time',
      'turned: 1,024 calls in flight',
      'turned: batches of 1,000',
    ]);
  });

  it('takes members of a default export with their object, and results as text or ArrayBuffer', async () => {
    const text = `export default {
      async setup() { this.mark = 1; },
      encrypt(bytes) { return this.mark + Buffer.from(bytes).toString('hex'); },
      decrypt(text) { return new Uint8Array(Buffer.from(text.slice(1), 'hex')).buffer; },
    };`;
    const own = await OwnModule.load(write(text));
    await own.setup();
    expect(await own.waysFor(SIZE, DATA)).toHaveLength(1);
    await own.teardown();
  });

  it('reads TypeScript', async () => {
    const file = write(`${TURN} export const encrypt = (bytes: Uint8Array): Uint8Array => turn(bytes);`, 'mine.mts');
    expect(await (await OwnModule.load(file)).waysFor(SIZE, DATA)).toHaveLength(1);
  });

  it('is a usage error when the file is not there', async () => {
    const error = await refusal(OwnModule.load('nowhere.mjs'));
    expect(error).toMatchObject({ exitCode: EXIT.usage, message: 'nowhere.mjs is not there' });
  });

  it.each([
    ['does not load', 'export const = 1;', /mine\.mjs: does not load: /],
    ['throws while it loads', 'throw new Error("no licence");', /does not load: no licence/],
    ['exports nothing', '', /exports no function encrypt; it exports nothing$/],
    ['exports something else', 'export const encrypted = 1, seal = () => {};', /it exports encrypted, seal$/],
    [
      'has a member that is no function',
      'export const encrypt = () => 1, setup = {};',
      /exports setup, which is object/,
    ],
  ])('is refused when it %s', async (_, text, message) => {
    const error = await refusal(OwnModule.load(write(text)));
    expect(error).toMatchObject({ exitCode: EXIT.failed, code: 'INVALID_ARGUMENT' });
    expect(error.message).toMatch(message);
    expect(error.remedy).toMatch(/BenchModule/);
  });

  it.each([
    ['throws', 'export const encrypt = () => { throw new Error("no key"); }', /encrypt failed: no key$/],
    ['rejects', 'export const encrypt = async () => { throw new Error("no key"); }', /encrypt failed: no key$/],
    ['makes no bytes', 'export const encrypt = () => 5', /made a result of type number, not bytes or text$/],
    ['makes null', 'export const encrypt = () => null', /made a result of type null/],
    ['makes nothing', 'export const encrypt = () => ""', /made an empty result of 64 bytes$/],
    ['makes what it was given', 'export const encrypt = (bytes) => bytes', /gave back what it was given$/],
    ['makes always the same', 'export const encrypt = () => "x".repeat(90)', /the same of two different values$/],
    [
      'makes less than it was given',
      'let n = 1; export const encrypt = () => String(n++)',
      /made 1 bytes of 64 random ones/,
    ],
    ['changes its argument', 'export const encrypt = (bytes) => bytes.fill(0)', /changed the bytes that it was given$/],
  ])('is refused when its encrypt %s', async (_, text, message) => {
    expect((await refusal(ways(text))).message).toMatch(message);
  });

  it.each([
    [
      'decrypt gives something else',
      'export const encrypt = turn, decrypt = (bytes) => bytes;',
      /decrypt does not give back/,
    ],
    [
      'decrypt gives text',
      'export const encrypt = turn, decrypt = () => "text";',
      /decrypt made a result of type string/,
    ],
    ['decrypt throws', 'export const encrypt = turn, decrypt = () => { throw "no" };', /decrypt failed: no$/],
    [
      'encryptMany gives too few',
      'export const encrypt = turn, encryptMany = () => [];',
      /made 0 results of 1000 values$/,
    ],
    ['encryptMany gives no array', 'export const encrypt = turn, encryptMany = () => 1;', /a result of type number/],
    [
      'encryptMany mixes them up',
      `export const encrypt = turn, encryptMany = (all) => all.map(() => turn(all[0])); ${BACK}`,
      /decrypt does not give back what encryptMany was given/,
    ],
  ])('is refused when its %s', async (_, text, message) => {
    expect((await refusal(ways(`${TURN} ${text}`))).message).toMatch(message);
  });

  it('names itself in what goes wrong while it is measured', async () => {
    const text = `${TURN} let calls = 0;
      export async function encrypt(bytes) { if (++calls > 5) throw new Error('over the quota'); return turn(bytes); }`;
    const own = await OwnModule.load(write(text));
    const [way] = await own.waysFor(SIZE, DATA);
    expect((await refusal(Promise.resolve(way!.work(9)))).message).toBe('mine.mjs: encrypt failed: over the quota');
  });
});
