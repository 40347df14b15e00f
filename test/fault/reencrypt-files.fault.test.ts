/** SIGKILL of `dekd reencrypt` at any moment, over folders of messages and over JSON Lines. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Workplace } from '../support/command-line.ts';
import { report } from './support/agent-process.ts';
import { randomNumbers } from './support/random-numbers.ts';

const KILLS = Number(process.env.DEKD_KILLS ?? 100);
const SEED = Number(process.env.DEKD_SEED ?? Date.now() % 1_000_000);
const FILES = 16;
const LONGEST_FILE = 1_500_000;
const FIELDS = "--fields 'mail,cards[].pan'";
const TIMEOUT_MS = 120_000 + KILLS * 20_000;

describe(`${KILLS} SIGKILLs (DEKD_SEED=${SEED})`, { timeout: TIMEOUT_MS }, () => {
  let place: Workplace;
  const random = randomNumbers(SEED);
  const path = (name: string) => join(place.folder, name);

  function contentOf(folder: string): Map<string, Buffer> {
    const names = readdirSync(path(folder), { recursive: true }) as string[];
    const files = names.filter((name) => !name.endsWith('.tmp') && statSync(join(path(folder), name)).isFile()).sort();
    return new Map(files.map((name) => [name, readFileSync(join(path(folder), name))]));
  }

  async function run(command: string): Promise<Record<string, unknown>> {
    const { code, stdout, stderr } = await place.shell(`dekd ${command} --json`);
    expect([code, stderr]).toEqual([0, expect.any(String)]);
    return stdout === '' ? {} : JSON.parse(stdout);
  }

  /** @returns whether it was killed, and had not ended by itself */
  async function kill(command: string, delayMs: number): Promise<boolean> {
    const child = spawn('sh', ['-c', `exec dekd ${command}`], { cwd: place.folder, env: place.env, stdio: 'ignore' });
    const ended = once(child, 'exit').then(([, signal]) => signal === 'SIGKILL');
    await Promise.race([ended, sleep(delayMs)]);
    child.kill('SIGKILL');
    return ended;
  }

  /** Kills `command` again and again; `check` after each. @returns figures */
  async function killing(command: string, rotate: string, check: () => Promise<void>) {
    await run(rotate);
    const begun = performance.now();
    await run(command);
    const whole = performance.now() - begun;
    const figures = { runs: 0, killed: 0, seed: SEED };
    for (let isWhole = true; figures.killed < KILLS; figures.runs += 1) {
      if (isWhole) {
        await run(rotate);
      }
      isWhole = !(await kill(command, (0.3 + 0.7 * random()) * whole));
      figures.killed += isWhole ? 0 : 1;
      await check();
    }
    report(command, figures);
  }

  beforeEach(async () => {
    place = new Workplace();
    await place.startAgent();
  });
  afterEach(() => place[Symbol.asyncDispose]());

  it('of a run over folders lose no message, leave no half one, and the next run finishes', async () => {
    for (let file = 0; file < FILES; file += 1) {
      const name = path(`docs/${file % 3}/${file % 5}/${file}`);
      mkdirSync(dirname(name), { recursive: true });
      writeFileSync(name, randomBytes(Math.floor(random() * LONGEST_FILE)));
    }
    const plaintexts = contentOf('docs');
    await run('encrypt --key files -r docs -o vault');
    const check = async (): Promise<void> => {
      rmSync(path('plain'), { recursive: true, force: true });
      await run('decrypt --key files -r vault/docs -o plain');
      expect(contentOf('plain/docs')).toEqual(plaintexts);
    };
    await killing('reencrypt --key files -r vault', 'keys rotate files --purpose message', check);
    await run('reencrypt --key files -r vault');
    await check();
    expect(await run('reencrypt --key files -r vault')).toMatchObject({ done: 0, unchanged: FILES });
    expect(readdirSync(path('vault'), { recursive: true }).filter((name) => `${name}`.endsWith('.tmp'))).toEqual([]);
  });

  it('over JSON Lines leave the file as it was or as it is to be', async () => {
    const lines = Array.from(
      { length: 8_000 },
      (_, row) => `{"mail":"p${row}@example.org","cards":[{"pan":${row}}]}\n`,
    );
    writeFileSync(path('in.jsonl'), lines.join(''));
    await run(`encrypt --key files ${FIELDS} in.jsonl -o out.jsonl`);
    const check = async (): Promise<void> => {
      await run(`decrypt --key files ${FIELDS} out.jsonl -o back.jsonl`);
      expect(readFileSync(path('back.jsonl')).equals(readFileSync(path('in.jsonl')))).toBe(true);
    };
    await killing(`reencrypt --key files ${FIELDS} out.jsonl`, 'keys rotate files', check);
    await run(`reencrypt --key files ${FIELDS} out.jsonl`);
    await check();
    expect(await run(`reencrypt --key files ${FIELDS} out.jsonl`)).toMatchObject({ moved: 0 });
  });
});
