/** `reencrypt`. */
import { type Command, Option } from 'commander';
import type { Leaf } from './leaf.ts';
import { addValueOptions, examples, numberOption, repeatableOption, wholeNumberOption } from './options.ts';

export function describeReencrypt(leaf: Leaf, program: Command, self: string): void {
  const command = leaf(
    program,
    'reencrypt [token-or-files...]',
    'Move ciphertexts to the newest version of their key: files, folders, JSON Lines, a column of PostgreSQL.',
    async (line, options, operands) =>
      (await import('../commands/reencrypt.ts')).reencrypt(line, options, operands as readonly string[]),
  )
    .option('--key <name>', 'key the ciphertexts are of (required)')
    .option('-r, --recursive', 'all messages NAME.dk in folders')
    .option('--force', 'also messages that are under the newest version already');
  tableOptions(addValueOptions(command)).addHelpText(
    'after',
    `
Files are re-encrypted where they are, each whole or not at all, unless -o names another place. No plaintext leaves the
agent. After an interruption the same command goes on; several processes, also on different machines, share the job of
one column.
` +
      examples(
        [
          ['reencrypt --key files -r vault', ''],
          ["reencrypt --key customers --fields 'email,cards[].pan' customers.jsonl", ''],
          [
            'reencrypt --key customers --table customers --column email --context field=email --context-column id=id',
            '',
          ],
        ],
        self,
      ),
  );
}

/** What is of a database and not of files. */
function tableOptions(command: Command): Command {
  return command
    .optionsGroup('A column of PostgreSQL:')
    .option('--table <name>', 'a table of PostgreSQL, [SCHEMA.]TABLE, written as it is named')
    .option('--column <name>', 'with --table: the column with the tokens, bytea (binary) or text (dk1.…)')
    .option('--id-column <names>', 'columns that tell rows apart, with commas between (default: the primary key)')
    .addOption(
      repeatableOption('--context-column <field=column>', 'context field taken from a column of the row; repeatable'),
    )
    .option('--partition-column <name>', 'column with the partition of the row')
    .option('--pg <url>', 'where the database is, without its password (default: DATABASE_URL, then PGHOST and so on)')
    .option('--pg-url-file <file>', 'file with the URL of the database')
    .option(
      '--pg-ca <file>',
      'certificates that the database is trusted by (default: PGSSLROOTCERT, then those of Node)',
    )
    .option('--job-schema <name>', 'schema of the tables that keep how far the job is (default: that of the table)')
    .addOption(wholeNumberOption('--batch <n>', 'rows of one transaction at most (default: 1000)', 100_000))
    .addOption(
      wholeNumberOption('--lease <seconds>', 'silence after which others take a process over (default: 60)', 86_400),
    )
    .addOption(numberOption('--rate-limit <n>', 'rows a second of this process at most'))
    .option('--dry-run', 'change nothing; open what would be re-encrypted, and count')
    .addOption(
      new Option('--verify', 'change nothing; prove that every token opens and is under the newest version').conflicts(
        'dryRun',
      ),
    )
    .option('--again', 'begin a job anew that was finished');
}
