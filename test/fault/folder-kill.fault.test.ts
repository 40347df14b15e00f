/** SIGKILL of the command line at any moment of a run over folders. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Workplace } from '../support/command-line.ts';
import { report } from './support/agent-process.ts';
import { randomNumbers } from './support/random-numbers.ts';

const KILLS = Number(process.env.DEKD_KILLS ?? 200);
const SEED = Number(process.env.DEKD_SEED ?? Date.now() % 1_000_000);
const FILES = 16;
const LONGEST_FILE = 1_500_000;
const TIMEOUT_MS = 60_000 + KILLS * 5_000;

describe(`${KILLS} SIGKILLs`, { timeout: TIMEOUT_MS }, () => {
  let place: Workplace;
  const random = randomNumbers(SEED);
  const path = (name: string) => join(place.folder, name);

  /** What is under its own name below a folder: place to content. */
  function contentOf(folder: string): Map<string, Buffer> {
    const names = existsSync(path(folder)) ? (readdirSync(path(folder), { recursive: true }) as string[]) : [];
    const files = names.filter((name) => !name.endsWith('.tmp') && statSync(join(path(folder), name)).isFile()).sort();
    return new Map(files.map((name) => [name, readFileSync(join(path(folder), name))]));
  }

  async function run(command: string): Promise<void> {
    expect(await place.shell(`dekd ${command} --json --key files`)).toMatchObject({ code: 0 });
  }

  /** @returns whether it was killed, and had not ended by itself */
  async function kill(command: string, delayMs: number): Promise<boolean> {
    const child = spawn('sh', ['-c', `exec dekd ${command} --key files`], {
      cwd: place.folder,
      env: place.env,
      stdio: 'ignore',
    });
    const ended = once(child, 'exit').then(([, signal]) => signal === 'SIGKILL');
    await Promise.race([ended, sleep(delayMs)]);
    child.kill('SIGKILL');
    return ended;
  }

  beforeEach(async () => {
    place = new Workplace();
    await place.startAgent();
    for (let file = 0; file < FILES; file += 1) {
      const name = path(`docs/${file % 3}/${file % 5}/${file}`);
      mkdirSync(dirname(name), { recursive: true });
      writeFileSync(name, randomBytes(Math.floor(random() * LONGEST_FILE)));
    }
  });
  afterEach(() => place[Symbol.asyncDispose]());

  it.each([
    ['encrypt -r docs -o vault', 'docs', 'vault'],
    ['decrypt -r vault/docs -o plain', 'vault', 'plain'],
  ])(
    `of %s lose no source, leave no half result, and the next run finishes (DEKD_SEED=${SEED})`,
    async (command, sources, results) => {
      const plaintexts = contentOf('docs');
      const begun = performance.now();
      await run('encrypt -r docs -o vault');
      const whole = performance.now() - begun;
      const before = contentOf(sources);
      let killed = 0;
      let runs = 0;
      let left = 0;
      let isWhole = true;
      while (killed < KILLS) {
        if (isWhole || random() < 0.3) {
          rmSync(path(results), { recursive: true, force: true });
        }
        isWhole = !(await kill(command, (0.3 + 0.7 * random()) * whole));
        killed += isWhole ? 0 : 1;
        runs += 1;
        expect(contentOf(sources)).toEqual(before);
        left += await expectWholeResults(results, plaintexts);
      }
      await run(command);
      expect(contentOf(sources)).toEqual(before);
      expect(await expectWholeResults(results, plaintexts)).toBe(FILES);
      expect(readdirSync(path(results), { recursive: true }).filter((name) => `${name}`.endsWith('.tmp'))).toEqual([]);
      report(command, { runs, killed, resultsAllWhole: left, seed: SEED });
    },
  );

  /** @returns how many results there are */
  async function expectWholeResults(results: string, plaintexts: Map<string, Buffer>): Promise<number> {
    if (results === 'vault') {
      rmSync(path('plain'), { recursive: true, force: true });
    }
    if (results === 'vault' && existsSync(path('vault/docs'))) {
      await run('decrypt -r vault/docs -o plain');
      expect(contentOf('plain').size).toBe(contentOf('vault').size);
    }
    const opened = contentOf('plain/docs');
    for (const [name, content] of opened) {
      expect([name, plaintexts.get(name)?.equals(content)]).toEqual([name, true]);
    }
    return opened.size;
  }
});
