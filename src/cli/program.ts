/** The commands and their options. What a command does is loaded when it runs, so that the agent starts with no other. */
import { Command, CommanderError, Option } from 'commander';
import { VERSION } from '../agent/version.ts';
import { printableLines } from '../telemetry/printable.ts';
import { EXIT, exitCodeOf, reportOf } from './exit.ts';
import { selfCommand } from './invocation.ts';
import { describeAudit } from './syntax/audit.ts';
import { describeBench } from './syntax/bench.ts';
import { describeKeys } from './syntax/keys.ts';
import { leafOf } from './syntax/leaf.ts';
import { addCommon, examples, wholeNumberOption } from './syntax/options.ts';
import { describePolicy } from './syntax/policy.ts';
import { describeReencrypt } from './syntax/reencrypt.ts';
import { describeRewrap } from './syntax/rewrap.ts';
import { describeRoots } from './syntax/roots.ts';
import { describeValues } from './syntax/values.ts';

/** Runs one command line. @returns the exit code; everything has been printed. */
export async function runCommandLine(args: readonly string[]): Promise<number> {
  const self = selfCommand({
    script: process.argv[1] ?? 'dekd',
    cwd: process.cwd(),
    searchPath: process.env.PATH ?? '',
  });
  // Known before parsing, so that an error of parsing is printed in the form asked for.
  const json = args.includes('--json');
  stopAtClosedOutput();
  let exitCode: number = EXIT.ok;
  const program = describeProgram(self, (code) => {
    exitCode = code;
  });
  try {
    await program.parseAsync(args, { from: 'user' });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) {
      return endOfParsing(error, json, self);
    }
    const report = reportOf(error, self);
    printError(report, json);
    return exitCodeOf(error);
  }
}

function printError(report: ReturnType<typeof reportOf>, json: boolean): void {
  if (json) {
    process.stderr.write(`${JSON.stringify({ error: report })}\n`);
    return;
  }
  process.stderr.write(`dekd: ${printableLines(report.message, '')}\n`);
  if (report.incident !== undefined) {
    process.stderr.write(`  incident: ${report.incident}\n`);
  }
  if (report.remedy !== undefined) {
    process.stderr.write(`  to do: ${printableLines(report.remedy, '')}\n`);
  }
}

function endOfParsing(error: CommanderError, json: boolean, self: string): number {
  if (error.exitCode === 0) {
    return EXIT.ok;
  }
  const message = error.code === 'commander.help' ? 'no command is named' : error.message.replace(/^error: /, '');
  if (json || error.code !== 'commander.help') {
    printError({ code: 'USAGE', message, remedy: `${self} --help, or ${self} <command> --help` }, json);
  }
  return EXIT.usage;
}

/** A reader that has seen enough (`| head`) is no failure of ours to report. */
function stopAtClosedOutput(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') {
      process.stderr.write(`dekd: standard output: ${error.message}\n`);
    }
    process.exit(EXIT.failed);
  });
}

function describeProgram(self: string, finish: (exitCode: number) => void): Command {
  const program = new Command('dekd')
    .description('Encrypts and decrypts through an agent that keeps the keys to itself.')
    .usage('<command> [options]')
    .version(VERSION, '-V, --version')
    .enablePositionalOptions()
    .exitOverride()
    .configureOutput({ outputError: () => {} })
    .addHelpText(
      'after',
      examples(
        [
          ['dev', 'an agent for development, on this machine, for you'],
          ["encrypt --key demo --context field=email 'ada@example.org'", 'a token, dk1.…'],
          ["encrypt --key customers --fields 'email,cards[].pan' -o out.jsonl in.jsonl", ''],
          ['doctor', 'what is not as it should be, and what to do'],
        ],
        self,
      ) + EXIT_CODES,
    );
  addCommon(program);

  const leaf = leafOf(self, finish);

  leaf(program, 'run', 'Run the agent as a configuration file says.', async (line, options) =>
    (await import('./commands/run.ts')).run(line, options),
  )
    .option('--config <file>', 'configuration (default: DEKD_CONFIG, then /etc/dekd/config.yaml)')
    .option(
      '--replace',
      'take over the socket from an agent that holds it; that one serves its connections until SIGTERM',
    );

  leaf(
    program,
    'reload',
    'Have the agent read its configuration again: all of it is taken over, or nothing (admin socket).',
    async (line, options) => (await import('./commands/reload.ts')).reload(line, options),
  ).option('--dry-run', 'only say what would change');

  leaf(program, 'dev', 'Run an agent for development: makes any key on first use.', async (line, options) =>
    (await import('./commands/dev.ts')).dev(line, options),
  )
    .option('--state <dir>', 'where root key and keystore are kept (default: $XDG_STATE_HOME/dekd/dev)')
    .option('--ephemeral', 'keep nothing: tokens die with the agent')
    .option('--root-key-file <file>', 'root key to use instead of the one in the state folder')
    // For who starts an agent as a child: the pipe ends when the parent does, however that dies.
    .addOption(
      new Option('--until-stdin-ends [folder]', 'stop when standard input ends, and remove that folder').hideHelp(),
    )
    .addOption(new Option('--config <file>', 'sections of a configuration in place of its own').hideHelp());

  describeValues(leaf, program, self);
  describeReencrypt(leaf, program, self);

  leaf(
    program,
    'inspect [token-or-file]',
    'What a token or a message says of itself, without any key; nothing of it is verified.',
    async (line, options, [operand]) => (await import('./commands/inspect.ts')).inspect(line, options, operand),
  )
    .option('-i, --input <file>', 'read from a file instead of standard input')
    .addHelpText(
      'after',
      examples(
        [
          ["inspect 'dk1.…'", ''],
          ['inspect backup.tar.dk', 'who can open it, under which stored context, and how long it says that it is'],
        ],
        self,
      ),
    );

  leaf(program, 'status', 'What the agent is and what it did (admin socket).', async (line, options) =>
    (await import('./commands/status.ts')).status(line, options),
  )
    .option(
      '-w, --watch',
      'rates, latencies, keys and roots, again each second; q leaves; with --json one object a line',
    )
    .addOption(wholeNumberOption('--count <n>', 'with --watch: look so often, then end', 1_000_000));
  leaf(
    program,
    'metrics',
    'What the agent has counted, as Prometheus reads it (admin socket).',
    async (line, options) => (await import('./commands/metrics.ts')).metrics(line, options),
  ).option('--openmetrics', 'in the format OpenMetrics 1.0');
  leaf(program, 'health', 'Whether the agent answers, and how it keeps its keys; for probes.', async (line) =>
    (await import('./commands/health.ts')).health(line),
  );
  leaf(program, 'doctor', 'Look for what is not as it should be, and say what to do.', async (line, options) =>
    (await import('./commands/doctor.ts')).doctor(line, options),
  ).option('--config <file>', 'configuration to check (default: DEKD_CONFIG, then /etc/dekd/config.yaml)');
  leaf(
    program,
    'prove',
    'Show the protections at work, and each check going red without its protection (20 s).',
    async (line, options) => (await import('./commands/prove.ts')).prove(line, options),
  ).option('--key <name>', 'key to prove with', 'dekd-prove');
  describeBench(leaf, program, self);
  leaf(
    program,
    'why <incident>',
    'The reason behind an incident id (admin socket).',
    async (line, _options, [incident]) => (await import('./commands/why.ts')).why(line, incident!),
  );

  leaf(
    program,
    'keygen',
    'Make a key file: for a root of the local provider, a raw AES recipient, the audit log, or keys import-kek.',
    async (line, options) => (await import('./commands/keygen.ts')).keygen(line, options),
  ).option('-o, --output <file>', 'new file, 0600; - for standard output (required)');

  describeAudit(addCommon(program.command('audit').description('The audit log, in its files.')), leaf, self);

  const config = addCommon(program.command('config').description('The configuration file.'));
  leaf(
    config,
    'check [file]',
    'Read a configuration and say everything that is wrong with it.',
    async (line, _options, [file]) => (await import('./commands/config.ts')).check(line, file),
  );
  leaf(
    config,
    'explain <key> [partition]',
    'Show what a configuration means for one key: its settings, what it hangs under, and where it lies.',
    async (line, options, [key, partition]) =>
      (await import('./commands/config.ts')).explain(line, options, key!, partition ?? ''),
  ).option('--config <file>', 'configuration (default: DEKD_CONFIG, then /etc/dekd/config.yaml)');
  leaf(config, 'sample', 'Print the commented sample: every key, default, unit, meaning, danger.', async (line) =>
    (await import('./commands/config.ts')).sample(line),
  );

  leaf(config, 'schema', 'Print the JSON Schema of the file, for editors.', async (line) =>
    (await import('./commands/config.ts')).schema(line),
  );

  describePolicy(addCommon(program.command('policy').description('Rules: who may do what.')), leaf, self);

  const keystores = addCommon(program.command('keystores').description('Where records lie (admin socket).'));
  leaf(
    keystores,
    'move',
    'Move every record to the keystore that its route names, so that former keystores can be given up.',
    async (line) => (await import('./commands/keystores.ts')).move(line),
  );

  const tenants = addCommon(program.command('tenants').description('Tenants as a whole (admin socket).'));
  leaf(
    tenants,
    'prepare <tenant>',
    'Make and load the key-encryption keys of a tenant before its first call.',
    async (line, _options, [tenant]) => (await import('./commands/tenants.ts')).prepare(line, tenant!),
  );
  leaf(
    tenants,
    'destroy <tenant>',
    'Destroy every key of a tenant for good: nothing encrypted for it ever opens again.',
    async (line, options, [tenant]) => (await import('./commands/tenants.ts')).destroy(line, options, tenant!),
  ).option('--yes', 'do not ask');

  describeRoots(addCommon(program.command('roots').description('Root keys (admin socket).')), leaf, self);
  describeRewrap(leaf, program, self);
  describeKeys(
    addCommon(program.command('keys').description('Named keys and their versions (admin socket).')),
    leaf,
    self,
  );
  return program;
}

const EXIT_CODES = `
Exit codes: 0 ok, 1 failed, 2 usage, 3 agent unreachable, 4 denied, 5 refused to start.
`;
