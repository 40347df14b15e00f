import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Workplace } from '../support/command-line.ts';

const TIMEOUT_MS = 60_000;

async function output(child: ChildProcess, until: RegExp): Promise<string> {
  let text = '';
  for await (const chunk of child.stdout!) {
    text += chunk;
    if (until.test(text)) {
      return text;
    }
  }
  throw new Error(`ended before ${until}: ${text}`);
}

describe('dekd dev', () => {
  it('prints where its state is and a line that encrypts, shows the token and opens it again', {
    timeout: TIMEOUT_MS,
  }, async () => {
    await using place = new Workplace();
    const child = spawn('dekd', ['dev'], { cwd: place.folder, env: place.env, stdio: ['ignore', 'pipe', 'ignore'] });
    try {
      const text = await output(child, /--show .*\n/);
      expect(text).toContain(join(place.folder, '.local/state/dekd/dev'));
      const line = /^ {2}(.* encrypt .*)$/m.exec(text)![1]!;
      const pasted = await place.shell(line);
      expect(pasted).toMatchObject({ code: 0 });
      expect(pasted.stdout).toMatch(/^dk1\.[\w-]+\n$/);
      expect(pasted.stderr).toContain('opens again: ada@example.org');
    } finally {
      child.kill('SIGTERM');
    }
    expect(await once(child, 'exit')).toEqual([0, null]);
  });

  it('keeps keys and tokens over a restart, in a folder only its user enters', { timeout: TIMEOUT_MS }, async () => {
    await using place = new Workplace();
    await place.startAgent();
    const { stdout: token } = await place.shell('dekd encrypt --key demo kept');
    expect(await place.stopAgent()).toBe(0);
    const state = join(place.folder, 'state');
    expect(statSync(state).mode & 0o777).toBe(0o700);
    expect(statSync(join(state, 'root.key')).mode & 0o777).toBe(0o600);
    await place.startAgent();
    expect((await place.shell(`dekd decrypt --key demo ${token}`)).stdout).toBe('kept');
  });

  it('forgets everything with --ephemeral', { timeout: TIMEOUT_MS }, async () => {
    await using place = new Workplace();
    await place.startAgent('--ephemeral');
    const { stdout: token } = await place.shell('dekd encrypt --key demo gone');
    await place.stopAgent();
    await place.startAgent('--ephemeral');
    expect((await place.shell(`dekd decrypt --key demo ${token}`)).code).toBe(1);
    expect(existsSync(join(place.folder, 'state'))).toBe(false);
  });

  it('stops when its standard input ends, if asked to', { timeout: TIMEOUT_MS }, async () => {
    await using place = new Workplace();
    const child = spawn('dekd', ['dev', '--ephemeral', '--json', '--until-stdin-ends'], {
      env: place.env,
      stdio: ['pipe', 'pipe', 'ignore'],
    });
    await output(child, /"ready":true/);
    child.stdin!.end();
    expect(await once(child, 'exit')).toEqual([0, null]);
  });
});

describe('JSON Lines on the way', () => {
  it('stopped by a signal, leaves the target as it was and no temporary file', { timeout: TIMEOUT_MS }, async () => {
    await using place = new Workplace();
    await place.startAgent();
    const target = join(place.folder, 'out');
    writeFileSync(target, 'old');
    const child = spawn('dekd', ['encrypt', '--key', 'demo', '--fields', 'a', '-o', target], {
      cwd: place.folder,
      env: place.env,
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    child.stdin!.write('{"a":1}\n'.repeat(1_000));
    const temporary = (): string[] => readdirSync(place.folder).filter((name) => name.endsWith('.tmp'));
    while (temporary().every((name) => statSync(join(place.folder, name)).size === 0)) {
      await sleep(10);
    }
    child.kill('SIGTERM');
    expect(await once(child, 'exit')).toEqual([143, null]);
    expect(temporary()).toEqual([]);
    expect(readFileSync(target, 'utf8')).toBe('old');
  });

  it('answers each line before the next one comes, as a co-process', { timeout: TIMEOUT_MS }, async () => {
    await using place = new Workplace();
    await place.startAgent();
    const child = spawn('dekd', ['encrypt', '--key', 'demo', '--fields', 'a'], {
      env: place.env,
      stdio: ['pipe', 'pipe', 'ignore'],
    });
    let next: (text: string) => void = () => {};
    child.stdout!.setEncoding('utf8').on('data', (text: string) => next(text));
    for (let line = 0; line < 3; line += 1) {
      const answer = new Promise<string>((resolve) => {
        next = resolve;
      });
      child.stdin!.write(`{"n":${line},"a":1}\n`);
      expect(await answer).toMatch(new RegExp(`^{"n":${line},"a":"dk1\\.[\\w-]+"}\\n$`));
    }
    child.stdin!.end();
    expect(await once(child, 'exit')).toEqual([0, null]);
  });

  it('keeps memory bounded while the reader of its output waits', { timeout: TIMEOUT_MS }, async () => {
    await using place = new Workplace();
    await place.startAgent();
    const child = spawn(process.execPath, [entry(place), 'encrypt', '--key', 'demo', '--fields', 'a'], {
      env: place.env,
      stdio: ['pipe', 'pipe', 'ignore'],
    });
    // It is killed below with a write under way.
    child.stdin!.on('error', () => {});
    const block = '{"a":"0123456789"}\n'.repeat(5_000);
    let written = 0;
    // Write until nothing is taken any more for half a second.
    for (let idle = 0; idle < 10; ) {
      if (child.stdin!.writableLength < 65_536) {
        child.stdin!.write(block);
        written += block.length;
        idle = 0;
      } else {
        idle += 1;
        await sleep(50);
      }
      expect(written).toBeLessThan(64 * 1024 * 1024);
    }
    child.kill('SIGKILL');
    await once(child, 'exit');
  });
});

function entry(place: Workplace): string {
  return /'([^']*main\.ts)'/.exec(readFileSync(join(place.folder, 'bin/dekd'), 'utf8'))![1]!;
}
