/** `bench`. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { Leaf } from './leaf.ts';
import { examples } from './options.ts';

export function describeBench(leaf: Leaf, program: Command, self: string): void {
  leaf(
    program,
    'bench',
    'Measure encryption by dekd on this machine, beside node:crypto and beside your own.',
    async (line, options) => (await import('../commands/bench.ts')).bench(line, options),
  )
    .option('--against <file>', 'a module of yours that exports encrypt(bytes): measured in the same table')
    .option('--key <name>', 'key to encrypt with', 'dekd-bench')
    .addOption(
      new Option('--sizes <list>', 'bytes of the values')
        .default([64, 1024, 64 * 1024, 1024 * 1024], '64,1KiB,64KiB,1MiB')
        .argParser(sizesOf),
    )
    .addOption(
      new Option('--private', 'start a private agent for it, also where another one is running').conflicts('socket'),
    )
    .option('--quick', 'a tenth of the time, and less to be relied on')
    .addHelpText(
      'after',
      examples(
        [
          ['bench', ''],
          ['bench --against ./mine.mjs --sizes 64,4KiB', 'export async function encrypt(bytes) { return … }'],
        ],
        self,
      ),
    );
}

/** `64,1KiB,1MiB` in bytes. */
function sizesOf(text: string): number[] {
  return text.split(',').map((part) => {
    const [, digits, unit = ''] = /^(\d+)(KiB|MiB)?$/.exec(part.trim()) ?? [];
    const size = Number(digits) * { '': 1, KiB: 1024, MiB: 1024 * 1024 }[unit as '' | 'KiB' | 'MiB'];
    if (!(size >= 1)) {
      throw new InvalidArgumentError(`'${part}' is no size: 64, 4KiB or 1MiB are.`);
    }
    return size;
  });
}
