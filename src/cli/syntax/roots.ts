/** `roots …`. */
import type { Command } from 'commander';
import type { Leaf } from './leaf.ts';
import { examples, rateOption } from './options.ts';

export function describeRoots(roots: Command, leaf: Leaf, self: string): void {
  const load = () => import('../commands/roots.ts');
  leaf(roots, 'list', 'Every root, and how its provider answers.', async (line) => (await load()).list(line));
  leaf(
    roots,
    'default <name>',
    'Make another root the default: new keys go under it.',
    async (line, _options, [name]) => (await load()).setDefault(line, name!),
  );
  leaf(
    roots,
    'clear [name]',
    'Forget clients, logins and sessions of a root, or of all, and wipe the keys below.',
    async (line, _options, [name]) => (await load()).clear(line, name),
  );
  leaf(roots, 'migrate', 'Move every record from one root to another while agents serve.', async (line, options) =>
    (await load()).migrate(line, options),
  )
    .requiredOption('--from <root>', 'root that records leave; must still be configured')
    .requiredOption('--to <root>', 'root that they go to')
    .option('--dry-run', 'only count')
    .option('--verify', 'only open each record under where it is, and count those that are not moved')
    .addOption(rateOption())
    .addHelpText(
      'after',
      examples(
        [
          ['roots migrate --from main --to aws --dry-run', ''],
          ['roots default aws', 'new keys go there first, so that the migration comes to an end'],
          ['roots migrate --from main --to aws --rate 200', 'again after an interruption: it goes on where it stopped'],
        ],
        self,
      ),
    );
}
