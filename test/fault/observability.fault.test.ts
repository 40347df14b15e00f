/** Metrics and alerts in the hands of Prometheus itself, and the page in a browser. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect } from '../../src/client/index.ts';
import { runYaml, startTestAgent, type TestAgent, writeRunConfig } from '../support/agent.ts';
import { freePort } from '../support/free-port.ts';
import { httpGet } from '../support/http-get.ts';
import { onPath, ROOT, run } from '../support/source-copy.ts';
import { makeFolder, removeFolder } from '../support/temporary-folder.ts';

const OBSERVABILITY = join(ROOT, 'deploy/observability');
const NEEDS_PROMTOOL = onPath('promtool').length === 0 ? 'needs promtool (Debian: prometheus)' : undefined;
const [BROWSER] = ['chromium', 'chromium-browser', 'google-chrome'].flatMap((name) => onPath(name));

let folder: string;
let port: number;
let agent: TestAgent;
beforeAll(async () => {
  folder = makeFolder();
  port = await freePort();
  writeRunConfig(folder);
  const yaml = runYaml(`admin: { port: ${port} }\n`);
  agent = await startTestAgent({ folder, yaml });
  await using client = connect({ socket: agent.socket });
  for (let i = 0; i < 100; i++) {
    await client.decrypt(await client.encrypt(Buffer.from('x'), { key: 'k' }), { key: 'k' });
  }
});
afterAll(async () => {
  await agent.stop();
  removeFolder(folder);
});

describe('Prometheus', () => {
  it('finds nothing to say about the metrics', async (context) => {
    context.skip(NEEDS_PROMTOOL !== undefined, NEEDS_PROMTOOL);
    const { body } = await httpGet(port, '/metrics');
    const checked = spawnSync('promtool', ['check', 'metrics'], { input: body, encoding: 'utf8' });
    expect([checked.status, checked.stdout, checked.stderr]).toEqual([0, '', '']);
  });

  it('takes the alerts, and they ring and are silent as their tests say', (context) => {
    context.skip(NEEDS_PROMTOOL !== undefined, NEEDS_PROMTOOL);
    for (const args of [
      ['check', 'rules', 'alerts.yaml'],
      ['test', 'rules', 'alerts.test.yaml'],
    ]) {
      const done = spawnSync('promtool', args, { cwd: OBSERVABILITY, encoding: 'utf8' });
      expect(done.status, done.stdout + done.stderr).toBe(0);
    }
  });
});

describe('a browser', () => {
  it('shows the figures of the page, and its policy stops nothing of it', async (context) => {
    context.skip(BROWSER === undefined, 'needs Chromium (Debian: chromium)');
    const flags = [
      '--headless=new',
      '--no-sandbox',
      '--disable-gpu',
      '--virtual-time-budget=6000',
      '--enable-logging=stderr',
    ];
    const shown = await run(BROWSER!, [...flags, '--dump-dom', `http://127.0.0.1:${port}/`], {
      cwd: folder,
      env: process.env,
    });
    expect(shown.code, shown.stderr).toBe(0);
    expect(shown.stderr).not.toMatch(/CONSOLE.*(Refused|Content Security|Error)/);
    const text = shown.stdout.replace(/<(style|script)>[\s\S]*?<\/\1>/g, '').replace(/<[^>]+>/g, ' ');
    expect(text).toMatch(/dekd\/\d/);
    expect(text).toMatch(/ready/);
    expect(text).toMatch(/encrypt\s+[\d.,]+/);
    expect(text).toMatch(/1 of 1,024 slots|\d+ of [\d,]+ slots/);
    expect(text).not.toMatch(/no answer|NaN|undefined/);
  });
});
