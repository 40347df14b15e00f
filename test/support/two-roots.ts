/** An agent with two local roots, `a` by default, and `b` for those who may choose it. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startTestAgent, type TestAgent } from './agent.ts';
import { makeFolder } from './temporary-folder.ts';

/** Rules by which everybody may do everything, and choose any root for keys that begin with `free`. */
export const FREE_RULES = `
    - { name: free, keys: [free, free-*], operations: [encrypt, decrypt, reencrypt, keyInfo], create: { max: 10000 }, roots: ['*'] }
    - { name: rest, keys: [k, k-*], operations: [encrypt, decrypt, reencrypt, keyInfo], create: { max: 10000 } }
    - { name: move, keys: moved, operations: [reencrypt], roots: [b] }
    - { name: seal, keys: moved, operations: [encrypt, decrypt], create: { max: 1 } }`;

export interface TwoRootsOptions {
  /** Where an agent before this one left its state. */
  readonly folder?: string;
  readonly roots?: readonly string[];
  readonly rules?: string;
  /** More roots, as YAML. */
  readonly more?: string;
  readonly extra?: string;
}

/** The folder stays the caller's to remove. */
export function startTwoRoots(options: TwoRootsOptions = {}): Promise<TestAgent> {
  const folder = options.folder ?? makeFolder();
  const roots = options.roots ?? ['a', 'b'];
  for (const [index, name] of ['a', 'b'].entries()) {
    writeFileSync(join(folder, `${name}.key`), `${Buffer.alloc(32, index + 1).toString('base64')}\n`, { mode: 0o600 });
  }
  const each = roots.map((name) => `  ${name}: { provider: local, keyFile: FOLDER/${name}.key, allowLocalRoot: true }`);
  return startTestAgent({
    folder,
    yaml: `
engine: auto
memory: { level: heap, allowInsecureMemory: true }
socket: { path: FOLDER/s/agent.sock, allowOwnUid: true }
state: FOLDER/state
defaultRoot: ${roots[0]}
roots:
${each.join('\n')}${options.more ?? ''}
policy:
  rules:${options.rules ?? FREE_RULES}
${options.extra ?? ''}`,
  });
}
