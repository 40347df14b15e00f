/** `audit …`. */
import type { Command } from 'commander';
import type { Leaf } from './leaf.ts';
import { examples, repeatableOption } from './options.ts';

export function describeAudit(audit: Command, leaf: Leaf, self: string): void {
  leaf(
    audit,
    'verify <files...>',
    'Look for any edit, gap or reorder in the files of an audit log.',
    async (line, options, files) =>
      (await import('../commands/audit.ts')).verify(line, options, files as readonly string[]),
  )
    .option('--key-file <file>', 'the audit key, as keygen made it (default: DEKD_AUDIT_KEY_FILE)')
    .option('--anchors <file>', "anchors, or the agent's log, which has them too: finds a log that was cut off")
    .option('--mixed', 'pass over lines of others, in what was collected from standard output')
    .addHelpText(
      'after',
      `
Files are read in the order given: the oldest first, which is how a shell sorts them; - is standard input.
`,
    )
    .addHelpText(
      'after',
      examples(
        [
          ['audit verify --key-file audit.key --anchors anchors.jsonl audit*.jsonl', ''],
          ['audit verify --key-file audit.key --mixed pod.log', 'standard output of an agent, log and audit log'],
        ],
        self,
      ),
    );
  leaf(
    audit,
    'find <incident> <files...>',
    'The record of a failed request by its incident id, in files of an audit log; nothing is verified.',
    async (line, _options, [incident, ...files]) =>
      (await import('../commands/audit.ts')).find(line, incident!, files as readonly string[]),
  );
  leaf(audit, 'digest', 'What records say of a context, to look for the requests that had it.', async (line, options) =>
    (await import('../commands/audit.ts')).digest(line, options),
  )
    .option('--key-file <file>', 'the audit key, as keygen made it (default: DEKD_AUDIT_KEY_FILE)')
    .addOption(repeatableOption('--context <name=value>', 'the whole context of the request; repeatable'));
}
