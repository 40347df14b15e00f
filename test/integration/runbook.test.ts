import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseScenario, patternOf } from '../e2e/scenario.ts';
import { type ChildAgent, childEnvironment, NODE, spawnTestAgent } from '../support/agent.ts';
import { type KmsKey, KmsServer } from '../support/kms-server/kms-server.ts';
import { makeFolder, removeFolder } from '../support/temporary-folder.ts';

const PAGE = fileURLToPath(new URL('../../docs/runbook.md', import.meta.url));
const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));

interface Block {
  readonly language: string;
  readonly text: string;
  readonly line: number;
}

interface Chapter {
  readonly title: string;
  readonly blocks: readonly Block[];
}

/** The page as an operator goes through it: commands are run, and a piece of configuration is what the agent restarts with. */
describe('docs/runbook.md', () => {
  const folder = makeFolder();
  const socket = join(folder, 's/agent.sock');
  const desk = join(folder, 'desk');
  let kms: KmsServer;
  let key: KmsKey;
  let agent: ChildAgent | undefined;

  beforeAll(async () => {
    kms = await KmsServer.start();
    key = kms.createKey();
    kms.alias('alias/dekd', key);
    mkdirSync(join(folder, 'bin'));
    mkdirSync(desk);
    writeFileSync(join(folder, 'bin/dekd'), `#!/bin/sh\nexec '${NODE}' --disable-sigusr1 '${MAIN}' "$@"\n`);
    chmodSync(join(folder, 'bin/dekd'), 0o755);
    await run(`dekd keygen -o ${folder}/main.key`);
  });

  afterAll(async () => {
    agent?.child.kill('SIGTERM');
    await agent?.exited;
    await kms.stop();
    removeFolder(folder);
  });

  for (const { title, blocks } of chaptersOf(readFileSync(PAGE, 'utf8'))) {
    it(title, { timeout: 120_000 }, async () => {
      for (const block of blocks) {
        await follow(block);
      }
    });
  }

  async function follow({ language, text, line }: Block): Promise<void> {
    if (language === 'yaml') {
      return configure(text);
    }
    if (language === 'sh') {
      expect(text, `line ${line}`).toBe('aws kms rotate-key-on-demand --key-id alias/dekd\n');
      kms.rotate(key);
      return;
    }
    for (const step of parseScenario(`# block\n${text}`)[0]!.steps) {
      const where = `docs/runbook.md:${line + step.line - 2}: ${step.command}`;
      const result = await run(step.command);
      expect(result.stderr, where).toMatch(patternOf(step.stderr));
      // Lines that are empty keep paragraphs of the output apart, and are no part of what is compared.
      expect(result.stdout.replaceAll(/\n+/g, '\n'), where).toMatch(patternOf(step.stdout));
      expect(result.code, where).toBe(step.code);
    }
  }

  async function configure(roots: string): Promise<void> {
    agent?.child.kill('SIGTERM');
    await agent?.exited;
    const here = roots
      .replaceAll('/etc/dekd/main.key', `${folder}/main.key`)
      .replaceAll('key: alias/dekd,', `key: alias/dekd, endpoint: ${kms.endpoint},`);
    writeFileSync(
      join(folder, 'config.yaml'),
      `${here}
engine: auto
memory: { level: heap, allowInsecureMemory: true }
custody: inline
socket: { path: ${socket}, allowOwnUid: true }
state: ${folder}/state
keystore: { kind: sqlite, path: ${folder}/keys.sqlite }
policy:
  rules:
    - { name: own, callers: { socket: data }, keys: '*', partitions: '*', operations: [encrypt, decrypt], create: { max: 10 } }
`,
    );
    const leave = kms.enter();
    try {
      agent = await spawnTestAgent(socket, ['run', '--config', join(folder, 'config.yaml')]);
    } finally {
      leave();
    }
  }

  async function run(command: string): Promise<{ code: number | null; stdout: string; stderr: string }> {
    const child = spawn('/bin/sh', ['-c', command], {
      cwd: desk,
      env: { ...childEnvironment(), PATH: `${folder}/bin${delimiter}${process.env.PATH}`, DEKD_SOCKET: socket },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    const [code] = (await once(child, 'close')) as [number | null];
    return { code, stdout: withNewline(stdout), stderr: withNewline(stderr) };
  }
});

/** Chapters of the page, in their order; what stands before the first belongs to it. */
function chaptersOf(page: string): Chapter[] {
  const chapters: { title: string; blocks: Block[] }[] = [{ title: 'begins with one root', blocks: [] }];
  let open: { language: string; lines: string[]; line: number } | undefined;
  for (const [index, line] of page.split('\n').entries()) {
    if (open !== undefined && line === '```') {
      chapters.at(-1)!.blocks.push({ language: open.language, text: `${open.lines.join('\n')}\n`, line: open.line });
      open = undefined;
    } else if (open !== undefined) {
      open.lines.push(line);
    } else if (line.startsWith('```')) {
      open = { language: line.slice(3), lines: [], line: index + 2 };
    } else if (line.startsWith('## ')) {
      chapters.push({ title: line.slice(3), blocks: [] });
    }
  }
  return chapters.filter(({ blocks }) => blocks.length > 0);
}

function withNewline(text: string): string {
  return text === '' || text.endsWith('\n') ? text : `${text}\n`;
}
