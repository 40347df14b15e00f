/** Programs of the machine that are measured beside dekd, where they are there. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';

const REMEDIES = {
  age: 'apt-get install age',
  openssl: 'apt-get install openssl',
  dd: 'apt-get install coreutils',
} as const;

export type Tool = keyof typeof REMEDIES;

const known = new Map<Tool, boolean>();

export function hasTool(tool: Tool): boolean {
  const found = known.get(tool) ?? spawnSync('sh', ['-c', `command -v ${tool}`]).status === 0;
  known.set(tool, found);
  return found;
}

/** For those that are not there, what to do about it; empty when all are. */
export function missingTools(): string[] {
  return (Object.keys(REMEDIES) as Tool[])
    .filter((tool) => !hasTool(tool))
    .map((tool) => `${tool} is not on this machine and its rows are left out; to have them: ${REMEDIES[tool]}`);
}

/** Runs a program to its end. @throws with what it wrote when it fails */
export async function runTool(command: string, args: readonly string[]): Promise<void> {
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) {
    throw new Error(`${command} ended with ${code}: ${said.trim()}`);
  }
}
