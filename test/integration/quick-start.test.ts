/** docs/quick-start.md as it stands: its files and its commands, in an empty folder with the two packages and nothing else. */
import { spawn } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { compileErrors } from '../support/example.ts';
import { freePort } from '../support/free-port.ts';
import { packBoth } from '../support/packed.ts';
import { offline, onPath, plainEnv, ROOT } from '../support/source-copy.ts';
import { makeFolder, removeFolder } from '../support/temporary-folder.ts';

interface Block {
  readonly language: string;
  readonly text: string;
  /** The file that the paragraph before it names first. */
  readonly file: string | undefined;
}

function blocksOf(page: string): Block[] {
  const text = readFileSync(join(ROOT, page), 'utf8');
  return Array.from(text.matchAll(/^```(\w+)\n(.*?)^```$/gms), ({ 1: language, 2: body, index }) => {
    const before = text.slice(0, index).trimEnd().split('\n\n').at(-1)!;
    return { language: language!, text: body!, file: /^`([\w.]+\.ts)`/.exec(before)?.[1] };
  });
}

const blocks = blocksOf('docs/quick-start.md');
const commands = blocks.filter(({ language }) => language === 'sh');

/** Processes of a group that are there; not those that ended and that nobody has asked after. */
function processesOf(group: number): number[] {
  return readdirSync('/proc').flatMap((name) => {
    try {
      const [state, , itsGroup] = readFileSync(`/proc/${Number(name)}/stat`, 'utf8')
        .split(') ')[1]!
        .split(' ');
      return state !== 'Z' && Number(itsGroup) === group ? [Number(name)] : [];
    } catch {
      return [];
    }
  });
}

/** What separates the outputs of blocks from each other. */
const MARK = '== block';

describe('docs/quick-start.md', () => {
  const work = makeFolder();
  const app = join(work, 'app');
  let missing = '';
  let outputs: string[] = [];
  let said = '';
  let left: number[] = [];

  beforeAll(async () => {
    const needed = ['npm', 'git', 'curl', 'sh', 'grep'].filter((name) => onPath(name).length === 0);
    if (needed.length > 0) {
      missing = `needs ${needed.join(', ')}`;
      return;
    }
    mkdirSync(app);
    await packBoth(work, app);
    for (const { language, file, text } of blocks) {
      if (language === 'ts') {
        expect(file).toBeDefined();
        writeFileSync(join(app, file!), text);
      }
    }
    await runAll();
  }, 240_000);

  afterAll(() => removeFolder(work));

  /** One shell for all, as one person's; it ends at the first command that fails. */
  async function runAll(): Promise<void> {
    const path = [dirname(process.execPath), process.env.PATH].join(':');
    const env = { ...plainEnv(path, work), PORT: String(await freePort()) };
    const script = commands.map(({ text }) => `echo '${MARK}'\n${text}`).join('');
    const shell = spawn('sh', ['-e', '-c', script], {
      cwd: app,
      env,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let printed = '';
    shell.stdout.setEncoding('utf8').on('data', (text: string) => {
      printed += text;
    });
    shell.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    const timer = setTimeout(() => process.kill(-shell.pid!, 'SIGKILL'), 180_000);
    const code = await new Promise<number | null>((resolve) => shell.once('close', resolve));
    clearTimeout(timer);
    outputs = printed.split(`${MARK}\n`).slice(1);
    // Whatever of its group still runs, the page has left running.
    left = processesOf(shell.pid!);
    for (const pid of left) {
      process.kill(pid, 'SIGKILL');
    }
    const logs = ['agent.log', 'server.log', 'health.log'].map((name) => {
      try {
        return `${name}: ${readFileSync(join(app, name), 'utf8')}`;
      } catch {
        return '';
      }
    });
    missing = offline({ code, stdout: printed, stderr: said }) ?? '';
    if (missing === '') {
      expect(code, [printed, said, ...logs].join('\n')).toBe(0);
    }
  }

  it('prints what the page says', (context) => {
    context.skip(missing !== '', missing);
    expect(outputs.length).toBe(commands.length);
    let checked = 0;
    for (const [at, block] of blocks.entries()) {
      const before = blocks[at - 1];
      if (block.language === 'text' && before?.language === 'sh') {
        // At a terminal the last line is ended for the reader.
        const printed = `${outputs[commands.indexOf(before)]?.trimEnd()}\n`;
        expect([before.text, printed]).toEqual([before.text, block.text]);
        checked += 1;
      }
    }
    expect(checked).toBe(blocks.filter(({ language }) => language === 'text').length);
    expect(checked).toBeGreaterThan(3);
  });

  it('leaves nothing running', (context) => {
    context.skip(missing !== '', missing);
    expect(left).toEqual([]);
  });

  it('has code that compiles, strictly', async (context) => {
    context.skip(missing !== '', missing);
    mkdirSync(join(app, 'node_modules/@types'), { recursive: true });
    symlinkSync(join(ROOT, 'node_modules/@types/node'), join(app, 'node_modules/@types/node'));
    const files = blocks.flatMap(({ file }) => (file === undefined ? [] : [file]));
    expect(await compileErrors(app, files)).toBe('');
  });
});
