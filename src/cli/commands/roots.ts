import type { RootInfo } from '../../agent/roots.ts';
import { administer } from '../admin.ts';
import { type CommandLine, count, printResult, table, warn } from '../terminal.ts';
import { RewrapRun } from './rewrap-run.ts';

type Options = Record<string, unknown>;

export async function list(line: CommandLine): Promise<void> {
  const roots = await rootsAfter(line, { action: 'list' });
  printResult(line, { roots }, rootTable(roots));
}

export async function setDefault(line: CommandLine, name: string): Promise<void> {
  const roots = await rootsAfter(line, { action: 'default', name });
  printResult(
    line,
    { roots },
    `${rootTable(roots)}\n\nnew keys go under ${name} until this agent restarts: set defaultRoot: ${name} in its configuration`,
  );
}

export async function clear(line: CommandLine, name: string | undefined): Promise<void> {
  const roots = await rootsAfter(line, { action: 'clear', name: name ?? '' });
  printResult(
    line,
    { roots },
    `${name ?? 'every root'}: clients, logins and sessions are made anew, and keys below are unwrapped again when they are next used`,
  );
}

/** Everything that is directly under one root goes under another; then each record is opened there. */
export async function migrate(line: CommandLine, options: Options): Promise<number> {
  const from = options.from as string;
  const to = options.to as string;
  await using run = await RewrapRun.open(line, { from, to }, options);
  const isDefault = (await rootsAfter(line, { action: 'list' })).some((root) => root.name === from && root.isDefault);
  if (isDefault && options.verify !== true) {
    warn(`${from} is the default root: new keys go on coming under it until dekd roots default ${to}`);
  }
  const counted = options.verify === true ? undefined : await run.pass('dry-run');
  if (options.dryRun === true && counted !== undefined) {
    return run.finish(
      { from, to, dryRun: true, counted },
      true,
      `${count(counted.moved)} records would move from ${from} to ${to}, ${count(counted.done)} are there`,
    );
  }
  const moved = counted === undefined ? undefined : await run.pass('move', counted.moved);
  const verified = await run.pass('verify', counted === undefined ? 0 : counted.moved + counted.done);
  const isOver = verified.left === 0 && verified.failed.length === 0;
  const lines = [`${count(verified.done)} records open under ${to}, ${count(verified.left)} are under ${from}`];
  if (moved !== undefined) {
    lines.unshift(`${count(moved.moved)} records moved from ${from} to ${to}, ${count(moved.done)} were there`);
  }
  if (isOver) {
    lines.push(isDefault ? stillDefault(from, to) : removable(from));
  }
  return run.finish({ from, to, moved, verified, removable: isOver && !isDefault }, isOver, lines.join('\n'));
}

function stillDefault(from: string, to: string): string {
  return `${from} is still the default root: dekd roots default ${to}, here and in the configuration, and then migrate again`;
}

function removable(from: string): string {
  return (
    `no record names ${from} any more: once no agent has it as its default root, it can be removed from roots. ` +
    'Tokens of direct keys name their root themselves: re-encrypt those first'
  );
}

async function rootsAfter(line: CommandLine, command: { action: string; name?: string }): Promise<readonly RootInfo[]> {
  return ((await administer(line, { roots: command })) as { roots: readonly RootInfo[] }).roots;
}

function rootTable(roots: readonly RootInfo[]): string {
  return table([
    ['ROOT', 'DEFAULT', 'PROVIDER', 'KEY', 'MATERIAL', 'BREAKER', 'CALLS/H', 'FAILED'],
    ...roots.map((root) => [
      root.name,
      root.isDefault ? 'yes' : '-',
      root.provider,
      root.resolvedId,
      root.materialVersion || '-',
      root.breaker,
      String(root.callsLastHour),
      String(root.failures),
    ]),
  ]);
}
