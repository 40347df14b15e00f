/** A clone on a machine without a compiler: it installs, works on the `node` engine, and says so. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  COMPILERS,
  copySources,
  machineNode,
  type Outcome,
  offline,
  onPath,
  pathWithoutCompilers,
  plainEnv,
  run,
} from '../support/source-copy.ts';
import { startDev } from '../support/started-agent.ts';

const work = mkdtempSync(join(tmpdir(), 'dekd-bare-'));
const clone = join(work, 'clone');
const socket = join(work, 'agent.sock');
const env = plainEnv(join(work, 'bin'), work);

/** Why there is nothing to test; empty when there is. */
let missing = '';
let installed: Outcome;

beforeAll(async () => {
  if (process.platform !== 'linux' || onPath('npm').length === 0 || onPath('git').length === 0) {
    missing = 'needs linux, npm and git';
    return;
  }
  pathWithoutCompilers(join(work, 'bin'), machineNode() ?? process.execPath);
  await copySources(clone);
  installed = await run('npm', ['ci'], { cwd: clone, env });
  missing = offline(installed) ?? '';
});

afterAll(() => {
  rmSync(work, { recursive: true, force: true });
});

/** A command as the README gives it. */
function dekd(...args: string[]): Promise<Outcome> {
  return run('npm', ['run', '-s', 'dekd', '--', ...args, '--socket', socket], { cwd: clone, env });
}

describe('a clone without a compiler', () => {
  it('hides every compiler from this test', async () => {
    const found = await run('/bin/sh', ['-c', `command -v ${COMPILERS.join(' ')}`], { cwd: work, env });
    expect(found.stdout).toBe('');
  });

  it('installs, and says in one line what is missing', (context) => {
    context.skip(missing !== '', missing);
    expect(installed.code, installed.stderr).toBe(0);
    const said = installed.stdout.split('\n').filter((line) => line.startsWith('dekd:'));
    expect(said).toEqual([
      'dekd: using the JavaScript engine (slower); needs a C++ compiler and CMake or Python 3 (build-native.log)',
    ]);
    expect(readFileSync(join(clone, 'build-native.log'), 'utf8')).toContain('failed: exit code');
  });

  it('starts with npm start, on the node engine, and says so in log, health and status', async (context) => {
    context.skip(missing !== '', missing);
    const start = ['npm', 'start', '--', '--json', '--ephemeral', '--socket', socket] as const;
    await using agent = await startDev([...start], { cwd: clone, env });
    expect(agent.ready).toMatchObject({ engine: 'node', lockLevel: 'heap' });
    expect(agent.said().match(/the native engine is not in use \(/g)).toHaveLength(1);

    const health = JSON.parse((await dekd('health', '--json')).stdout) as Record<string, unknown>;
    expect(health).toMatchObject({ ready: true, engine: 'node', lockLevel: 'heap', keysInJs: true });

    const binding = ['--key', 'demo', '--context', 'field=email'];
    const sealed = await dekd('encrypt', ...binding, 'ada@example.org');
    expect(sealed).toMatchObject({ code: 0, stdout: expect.stringMatching(/^dk1\./) });
    const opened = await dekd('decrypt', ...binding, sealed.stdout.trim());
    expect(opened).toMatchObject({ code: 0, stdout: expect.stringMatching(/^ada@example\.org\n?$/) });

    const status = JSON.parse((await dekd('status', '--json')).stdout) as Record<string, unknown>;
    expect(status).toMatchObject({
      engine: { name: 'node', keysInJs: true, fallback: expect.stringContaining('no addon') },
      counters: { engineFallbacks: 1, operations: { encrypt: { ok: 1 }, decrypt: { ok: 1 } } },
    });
  });

  it('refuses to start where the native engine is asked for, with the remedy', async (context) => {
    context.skip(missing !== '', missing);
    const refused = await run('npm', ['run', '-s', 'dekd', '--', 'dev', '--ephemeral', '--socket', socket], {
      cwd: clone,
      env: { ...env, DEKD_ENGINE: 'native' },
    });
    expect(refused.code).toBe(5);
    expect(refused.stderr).toMatch(/the native engine does not load: .*npm run build:native/);
  });

  it.for(['--omit=dev', '--ignore-scripts'])('installs with npm ci %s', async (option, context) => {
    context.skip(missing !== '', missing);
    const done = await run('npm', ['ci', option], { cwd: clone, env });
    expect(done.code, done.stdout + done.stderr).toBe(0);
  });
});
