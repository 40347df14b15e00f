/** A page for operators as one goes through it: its commands are run and what they print is compared. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseScenario, patternOf } from '../e2e/scenario.ts';
import { type ChildAgent, childEnvironment, NODE, spawnTestAgent } from './agent.ts';
import { type KmsKey, KmsServer } from './kms-server/kms-server.ts';
import { makeFolder, removeFolder } from './temporary-folder.ts';

const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));

/** A block of code, or what happens between two of them: `<!-- meanwhile: the KMS stops answering -->`. */
interface Block {
  readonly language: string;
  readonly text: string;
  readonly line: number;
}

interface Chapter {
  readonly title: string;
  readonly blocks: readonly Block[];
}

/** Where a page is followed. */
export interface Surroundings {
  /** Stands for `/etc/dekd`, has the agent's state, and is removed in the end. */
  readonly folder: string;
  readonly kms: KmsServer;
  /** What `alias/dekd` is. */
  readonly key: KmsKey;
  /** Ends the agent as an accident does, and waits for that. */
  kill(): Promise<void>;
  /** Starts it with the configuration that it had last. */
  start(): Promise<void>;
}

/** What an operator cannot type, by its words on the page. */
export type Deeds = Readonly<Record<string, (around: Surroundings) => unknown>>;

/** Quick, and on machines without the addon too. */
const INLINE = 'custody: inline\nmemory: { level: heap, allowInsecureMemory: true }';

/** Follows `page` from top to bottom, a test for each chapter: commands are run, a piece of configuration is what the agent restarts with. */
export function followPage(page: string, deeds: Deeds, custody = INLINE): void {
  describe(page, () => {
    const folder = makeFolder();
    const socket = join(folder, 's/agent.sock');
    const desk = join(folder, 'desk');
    const config = join(folder, 'config.yaml');
    let kms: KmsServer;
    let key: KmsKey;
    let agent: ChildAgent | undefined;

    beforeAll(async () => {
      kms = await KmsServer.start();
      key = kms.createKey();
      kms.alias('alias/dekd', key);
      mkdirSync(join(folder, 'bin'));
      mkdirSync(desk);
      // Root may lock without limit, by a capability that no agent of a page has.
      const plain = process.getuid!() === 0 ? 'setpriv --bounding-set=-ipc_lock --inh-caps=-ipc_lock ' : '';
      writeFileSync(join(folder, 'bin/dekd'), `#!/bin/sh\nexec ${plain}'${NODE}' --disable-sigusr1 '${MAIN}' "$@"\n`);
      chmodSync(join(folder, 'bin/dekd'), 0o755);
      await run(`dekd keygen -o ${folder}/main.key`);
    });

    afterAll(async () => {
      await end('SIGTERM');
      await kms.stop();
      removeFolder(folder);
    });

    const text = readFileSync(fileURLToPath(new URL(`../../${page}`, import.meta.url)), 'utf8');
    for (const { title, blocks } of chaptersOf(text)) {
      it(title, { timeout: 120_000 }, async () => {
        for (const block of blocks) {
          await follow(block);
        }
      });
    }

    async function follow({ language, text, line }: Block): Promise<void> {
      if (language === 'yaml') {
        await end('SIGTERM');
        configure(text);
        return start();
      }
      if (language !== 'console') {
        const deed = deeds[text.trim()];
        expect(deed, `${page}:${line} is not known: ${text}`).toBeDefined();
        await deed!({ folder, kms, key, kill: () => end('SIGKILL'), start });
        return;
      }
      for (const step of parseScenario(`# block\n${text}`)[0]!.steps) {
        const where = `${page}:${line + step.line - 2}: ${step.command}`;
        const result = await run(step.command.replaceAll('/etc/dekd/', `${folder}/`));
        expect(result.stderr, where).toMatch(patternOf(step.stderr));
        // Lines that are empty keep paragraphs of the output apart, and are no part of what is compared.
        expect(result.stdout.replaceAll(/\n+/g, '\n'), where).toMatch(patternOf(step.stdout));
        expect(result.code, where).toBe(step.code);
      }
    }

    async function end(signal: NodeJS.Signals): Promise<void> {
      agent?.child.kill(signal);
      await agent?.exited;
      agent = undefined;
    }

    function configure(roots: string): void {
      const here = roots
        .replaceAll('/etc/dekd/', `${folder}/`)
        .replaceAll('key: alias/dekd,', `key: alias/dekd, endpoint: ${kms.endpoint},`);
      writeFileSync(
        config,
        `${here}
engine: auto
${custody}
socket: { path: ${socket}, allowOwnUid: true }
state: ${folder}/state
keystore: { kind: sqlite, path: ${folder}/keys.sqlite }
policy:
  rules:
    - { name: own, callers: { socket: data }, keys: '*', partitions: '*', operations: [encrypt, decrypt, reencrypt], create: { max: 10 } }
`,
      );
    }

    async function start(): Promise<void> {
      const leave = kms.enter();
      try {
        agent = await spawnTestAgent(socket, ['run', '--config', config]);
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
      child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
        stdout += chunk;
      });
      child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
        stderr += chunk;
      });
      const [code] = (await once(child, 'close')) as [number | null];
      return { code, stdout: withNewline(stdout), stderr: withNewline(stderr) };
    }
  });
}

/** Chapters of the page, in their order; what stands before the first belongs to it. */
function chaptersOf(page: string): Chapter[] {
  const chapters: { title: string; blocks: Block[] }[] = [{ title: 'begins with one root', blocks: [] }];
  let open: { language: string; lines: string[]; line: number } | undefined;
  for (const [index, line] of page.split('\n').entries()) {
    const meanwhile = /^<!-- meanwhile: (.*) -->$/.exec(line)?.[1];
    if (open !== undefined && line === '```') {
      chapters.at(-1)!.blocks.push({ language: open.language, text: `${open.lines.join('\n')}\n`, line: open.line });
      open = undefined;
    } else if (open !== undefined) {
      open.lines.push(line);
    } else if (meanwhile !== undefined) {
      chapters.at(-1)!.blocks.push({ language: 'meanwhile', text: meanwhile, line: index + 1 });
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
