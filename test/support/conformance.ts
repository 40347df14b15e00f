import { join } from 'node:path';
import { NODE } from './agent.ts';
import { ROOT, run } from './source-copy.ts';

/** What became of a case of the conformance kit. */
export interface KitResult {
  readonly name: string;
  readonly state: 'passed' | 'failed' | 'skipped';
  readonly why?: string;
}

/**
 * Puts a client through the conformance kit.
 * @param command starts it
 * @param client the module whose `connect` `conformance-client.ts` is to take
 */
export async function runKit(
  command: readonly string[],
  { socket, only, client, env = {} }: { socket?: string; only?: string; client?: string; env?: NodeJS.ProcessEnv } = {},
): Promise<KitResult[]> {
  const options = [
    ...(socket === undefined ? [] : ['--socket', socket]),
    ...(only === undefined ? [] : ['--only', only]),
  ];
  const args = [join(ROOT, 'proto/conformance/run.mjs'), '--json', ...options, '--', ...command];
  const done = await run(NODE, args, {
    cwd: ROOT,
    env: { ...process.env, NODE_OPTIONS: '', ...(client === undefined ? {} : { DEKD_KIT_CLIENT: client }), ...env },
  });
  try {
    return JSON.parse(done.stdout) as KitResult[];
  } catch {
    throw new Error(`the kit said no results: ${done.stdout.slice(-2_000)}${done.stderr.slice(-2_000)}`);
  }
}
