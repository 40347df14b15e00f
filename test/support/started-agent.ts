import { spawn } from 'node:child_process';
import { once } from 'node:events';

/** An agent that was started by its command, and everything it has said so far. */
export interface StartedAgent extends AsyncDisposable {
  /** Standard output and standard error. */
  said(): string;
  /** What it printed when it was ready. */
  readonly ready: Readonly<Record<string, unknown>>;
}

/** Starts `command … dev --json`, and waits until it is ready. @throws with what it said when it ends before that */
export async function startDev(
  command: readonly [string, ...string[]],
  options: { readonly cwd: string; readonly env: NodeJS.ProcessEnv },
): Promise<StartedAgent> {
  const [program, ...args] = command;
  const child = spawn(program, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  const ready = await new Promise<Record<string, unknown>>((resolve, reject) => {
    const listen = (text: string): void => {
      said += text;
      const line = said.split('\n').find((each) => each.includes('"ready":true') && each.endsWith('}'));
      if (line !== undefined) {
        resolve(JSON.parse(line) as Record<string, unknown>);
      }
    };
    child.stdout.setEncoding('utf8').on('data', listen);
    child.stderr.setEncoding('utf8').on('data', listen);
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`the agent ended with ${code}: ${said}`)));
  });
  return {
    ready,
    said: () => said,
    async [Symbol.asyncDispose]() {
      if (child.exitCode === null && child.signalCode === null) {
        // The agent itself: npm and a shell may stand between it and this process.
        process.kill(ready.pid as number, 'SIGTERM');
        await once(child, 'exit');
      }
    },
  };
}
