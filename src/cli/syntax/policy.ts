/** `policy …`. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { Leaf } from './leaf.ts';
import { examples } from './options.ts';

const MAX_ID = 0xffff_fffe;

export function describePolicy(policy: Command, leaf: Leaf, self: string): void {
  const load = () => import('../commands/policy.ts');
  addConfig(
    leaf(
      policy,
      'explain',
      'Whether the rules of a configuration allow a call, and which of them; no agent is asked.',
      async (line, options) => (await load()).explain(line, options),
    )
      .addOption(idOption('--uid <n>', 'uid of the caller').makeOptionMandatory())
      .addOption(idOption('--gid <n>', 'its gid (default: the number of its uid)'))
      .addOption(
        new Option('--groups <list>', 'its supplementary groups, with commas between')
          .argParser((text) => (text === '' ? [] : text.split(',').map(parseId)))
          .default([], 'none'),
      )
      .option('--on <socket>', 'name of the socket that it came through', 'data')
      .option('--token <name>', 'name of the token that it showed')
      .requiredOption('--operation <name>', 'as in a rule: encrypt, decrypt, reencrypt, keyInfo, hmac, …')
      .requiredOption('--key <name>', 'key of the call')
      .option('--partition <name>', 'partition of the call', '')
      .option('--root <name>', 'root that the call chooses'),
  ).addHelpText(
    'after',
    examples(
      [
        [
          'policy explain --uid 1000 --operation decrypt --key customers --partition acme',
          'exit code 0 when it is allowed, 4 when it is denied, with the rule that would allow it',
        ],
      ],
      self,
    ),
  );
  addConfig(
    leaf(
      policy,
      'test <file>',
      'Hold the rules of a configuration to a table of calls that they have to allow or deny; no agent is asked.',
      async (line, options, [file]) => (await load()).test(line, options, file!),
    ),
  ).addHelpText(
    'after',
    `
The table, in YAML:
  cases:
    - name: the shop reads its customers
      caller: { uid: 1000, gid: 1000, groups: [2000], socket: data, token: web }
      operations: [encrypt, decrypt]
      key: customers
      partition: acme
      context: [field]
      expect: allow
      rule: shop
Optional are name, gid (the number of the uid), groups, socket (data), token, partition, root, rule (one of those that allow
it) and context: its names; without it, a call has all that rules want.
`,
  );
  leaf(
    policy,
    'suggest',
    'Rules that would allow what the agent has denied since its start, to read and to paste (admin socket).',
    async (line) => (await load()).suggest(line),
  );
}

function addConfig(command: Command): Command {
  return command
    .option('--config <file>', 'configuration (default: DEKD_CONFIG, then /etc/dekd/config.yaml)')
    .addOption(
      idOption(
        '--agent-uid <n>',
        'uid of the agent, which rules without a uid do not admit (default: no caller has it)',
      ),
    );
}

function idOption(flags: string, description: string): Option {
  return new Option(flags, description).argParser(parseId);
}

function parseId(text: string): number {
  const id = Number(text);
  if (!/^\d+$/.test(text) || id > MAX_ID) {
    throw new InvalidArgumentError(`it is a whole number from 0 to ${MAX_ID}.`);
  }
  return id;
}
