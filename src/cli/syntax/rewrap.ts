/** `rewrap`, of records and of messages. */
import type { Command } from 'commander';
import type { Leaf } from './leaf.ts';
import { examples, rateOption, repeatableOption } from './options.ts';

export function describeRewrap(leaf: Leaf, program: Command, self: string): void {
  const rewrap = leaf(
    program,
    'rewrap [key]',
    'Wrap records anew under the newest version of what is above them; no token changes.',
    async (line, options, [key]) => (await import('../commands/rewrap.ts')).rewrap(line, options, key),
  )
    .option('--partition <name>', 'only this partition')
    .option('--dry-run', 'only count')
    .option('--verify', 'only open each record, and count those that are not under the newest version')
    .addOption(rateOption());
  leaf(
    rewrap,
    'message <files...>',
    'Give messages the recipients and the key version that are configured now (admin socket).',
    async (line, options, files) =>
      (await import('../commands/rewrap-message.ts')).rewrapMessages(line, options, files as readonly string[]),
  )
    .requiredOption('--key <name>', 'key the messages are of')
    .option('--partition <name>', 'the tenant the messages belong to')
    .addOption(repeatableOption('--context <name=value>', 'what the messages are bound to; repeatable'))
    .option('-r, --recursive', 'all messages NAME.dk in folders')
    .option('--force', 'also messages that are as they should be')
    .addHelpText('after', examples([['rewrap message --key files -r vault', '']], self));
}
