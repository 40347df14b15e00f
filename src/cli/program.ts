/** The commands and their options. What a command does is loaded when it runs, so that the agent starts with no other. */
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { VERSION } from '../agent/version.ts';
import { printableLines } from '../telemetry/printable.ts';
import { parseByteSpan } from './commands/byte-span.ts';
import { EXIT, exitCodeOf, reportOf } from './exit.ts';
import { selfCommand } from './invocation.ts';
import type { CommandLine } from './terminal.ts';

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

type Options = Record<string, unknown>;

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

  /** A leaf command: common options, its own action, and the exit code it resolves with. */
  const leaf = (
    parent: Command,
    syntax: string,
    summary: string,
    run: (line: CommandLine, options: Options, operands: readonly (string | undefined)[]) => Promise<unknown>,
  ): Command => {
    const command = addCommon(parent.command(syntax).description(summary));
    command.action(async (...given: unknown[]) => {
      const operands = given.slice(0, command.registeredArguments.length).flat() as (string | undefined)[];
      const { json, socket, ...options } = command.optsWithGlobals() as Options & { json?: boolean; socket?: string };
      const line = { json: json ?? false, socket, self };
      const exitCode = await run(line, options, operands);
      finish(typeof exitCode === 'number' ? exitCode : EXIT.ok);
    });
    return command;
  };

  leaf(program, 'run', 'Run the agent as a configuration file says.', async (line, options) =>
    (await import('./commands/run.ts')).run(line, options),
  )
    .option('--config <file>', 'configuration (default: DEKD_CONFIG, then /etc/dekd/config.yaml)')
    .option(
      '--replace',
      'take over the socket from an agent that holds it; that one serves its connections until SIGTERM',
    );

  leaf(program, 'dev', 'Run an agent for development: makes any key on first use.', async (line, options) =>
    (await import('./commands/dev.ts')).dev(line, options),
  )
    .option('--state <dir>', 'where root key and keystore are kept (default: $XDG_STATE_HOME/dekd/dev)')
    .option('--ephemeral', 'keep nothing: tokens die with the agent')
    .option('--root-key-file <file>', 'root key to use instead of the one in the state folder')
    // For who starts an agent as a child: the pipe ends when the parent does, however that dies.
    .addOption(new Option('--until-stdin-ends', 'stop when standard input ends').hideHelp());

  addValueOptions(
    leaf(
      program,
      'encrypt [value-or-files...]',
      'Encrypt a value, files, folders, or fields of JSON Lines.',
      async (line, options, operands) =>
        (await import('./commands/encrypt.ts')).encrypt(line, options, operands as readonly string[]),
    ),
  )
    .option('--key <name>', 'key to encrypt with (required)')
    .option('--text', 'write the token as text, dk1.… (the default)')
    .addOption(new Option('--binary', 'write the token as bytes, a quarter smaller than text').conflicts('text'))
    .addOption(
      new Option('--message', 'make a message (AWS Encryption SDK) instead: a file of any size, as bytes').conflicts([
        'text',
        'binary',
        'show',
      ]),
    )
    .addOption(frameLengthOption())
    .addOption(recursiveOption('make messages of all files in folders, under -o, with .dk behind their names'))
    .addOption(overwriteOption())
    .option('--show', 'decrypt the token again and show on standard error what comes out')
    .addHelpText(
      'after',
      VALUE_HELP +
        examples(
          [
            ["encrypt --key demo --context field=email 'ada@example.org'", ''],
            ['encrypt --key files --input report.pdf -o report.pdf.dk', ''],
            ['encrypt --key files --message backup.tar -o backup.tar.dk', ''],
            ['encrypt --key files -r documents photos -o vault', 'vault/documents/….dk; run again, it does the rest'],
            [
              "encrypt --key customers --partition acme --fields 'email,address.street,cards[].pan' < in.jsonl > out.jsonl",
              '',
            ],
          ],
          self,
        ),
    );

  addValueOptions(
    leaf(
      program,
      'decrypt [token-or-files...]',
      'Decrypt a token, files (tokens or messages), folders of messages, or fields of JSON Lines.',
      async (line, options, operands) =>
        (await import('./commands/decrypt.ts')).decrypt(line, options, operands as readonly string[]),
    ),
  )
    .addOption(recursiveOption('open all messages NAME.dk in folders, as NAME under -o'))
    .addOption(overwriteOption())
    .option('--key <name>', 'key the token must be of (required, unless --any-key)')
    .option('--any-key', "take the token's own key and partition; a right of its own")
    .addOption(rangeOption())
    .addHelpText(
      'after',
      examples(
        [
          ["decrypt --key demo --context field=email 'dk1.…'", ''],
          ['decrypt --key files --input report.pdf.dk -o report.pdf', ''],
          ['decrypt --key files --range 0-1023 backup.tar.dk', 'its first 1,024 bytes, and not a word on the others'],
          ['decrypt --key files -r vault/documents -o restored', ''],
          ['decrypt --key files < backup.tar.dk | tar x', 'what came is right; that it was all, the exit code says'],
          ["decrypt --key customers --partition acme --fields 'email,address.street,cards[].pan' < out.jsonl", ''],
        ],
        self,
      ),
    );

  describeReencrypt(leaf, program, self);

  leaf(
    program,
    'inspect [token-or-file]',
    'What a token or a message says of itself, without any key; nothing of it is verified.',
    async (line, options, [operand]) => (await import('./commands/inspect.ts')).inspect(line, options, operand),
  ).option('--input <file>', 'read from a file instead of standard input');

  leaf(program, 'status', 'What the agent is and what it did (admin socket).', async (line) =>
    (await import('./commands/status.ts')).status(line),
  );
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

  leaf(program, 'keygen', 'Make a root key for the local provider.', async (line, options) =>
    (await import('./commands/keygen.ts')).keygen(line, options),
  ).option('-o, --output <file>', 'new file, 0600; - for standard output (required)');

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

/** What is of a database and not of files. */
function tableOptions(command: Command): Command {
  const name = (text: string, earlier: readonly string[]) => [...earlier, text];
  return command
    .option('--table <name>', 'a table of PostgreSQL, [SCHEMA.]TABLE, written as it is named')
    .option('--column <name>', 'with --table: the column with the tokens, bytea (binary) or text (dk1.…)')
    .option('--id-column <names>', 'columns that tell rows apart, with commas between (default: the primary key)')
    .option('--context-column <field=column>', 'context field taken from a column of the row; repeatable', name, [])
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

function describeReencrypt(leaf: Leaf, program: Command, self: string): void {
  const command = leaf(
    program,
    'reencrypt [token-or-files...]',
    'Move ciphertexts to the newest version of their key: files, folders, JSON Lines, a column of PostgreSQL.',
    async (line, options, operands) =>
      (await import('./commands/reencrypt.ts')).reencrypt(line, options, operands as readonly string[]),
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

function describeRewrap(leaf: Leaf, program: Command, self: string): void {
  const rewrap = leaf(
    program,
    'rewrap [key]',
    'Wrap records anew under the newest version of what is above them; no token changes.',
    async (line, options, [key]) => (await import('./commands/rewrap.ts')).rewrap(line, options, key),
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
      (await import('./commands/rewrap-message.ts')).rewrapMessages(line, options, files as readonly string[]),
  )
    .requiredOption('--key <name>', 'key the messages are of')
    .option('--partition <name>', 'the tenant the messages belong to')
    .option('--context <name=value>', 'what the messages are bound to; repeatable', collect, [])
    .option('-r, --recursive', 'all messages NAME.dk in folders')
    .option('--force', 'also messages that are as they should be')
    .addHelpText('after', examples([['rewrap message --key files -r vault', '']], self));
}

type Leaf = (
  parent: Command,
  syntax: string,
  summary: string,
  run: (line: CommandLine, options: Options, operands: readonly (string | undefined)[]) => Promise<unknown>,
) => Command;

function describeRoots(roots: Command, leaf: Leaf, self: string): void {
  const load = () => import('./commands/roots.ts');
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

function frameLengthOption(): Option {
  return new Option(
    '--frame-length <bytes>',
    'plaintext in each frame of a message, 1 to 1048576 (default: 1048576 of a file, 65536 of a pipe)',
  ).argParser((text) => {
    const length = Number(text);
    if (!Number.isInteger(length) || length < 1 || length > 1_048_576) {
      throw new InvalidArgumentError('a frame length is 1 to 1048576 bytes.');
    }
    return length;
  });
}

function recursiveOption(description: string): Option {
  return new Option('-r, --recursive', description).conflicts(['input', 'fields']);
}

function overwriteOption(): Option {
  return new Option('--overwrite', 'with -r or several files: also replace what was changed after its source');
}

function rateOption(): Option {
  return numberOption('--rate <n>', 'records a second at most');
}

function numberOption(flags: string, description: string): Option {
  return new Option(flags, description).argParser((text) => {
    const rate = Number(text);
    if (!(rate > 0)) {
      throw new InvalidArgumentError('a rate is a number above 0.');
    }
    return rate;
  });
}

function describeBench(leaf: Leaf, program: Command, self: string): void {
  leaf(
    program,
    'bench',
    'Measure encryption by dekd on this machine, beside node:crypto and beside your own.',
    async (line, options) => (await import('./commands/bench.ts')).bench(line, options),
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

function wholeNumberOption(flags: string, description: string, most: number): Option {
  return new Option(flags, description).argParser((text) => {
    const number = Number(text);
    if (!Number.isInteger(number) || number < 1 || number > most) {
      throw new InvalidArgumentError(`it is a whole number from 1 to ${most}.`);
    }
    return number;
  });
}

const PURPOSES = ['seal', 'wrap', 'message', 'mac', 'index'];

function describeKeys(keys: Command, leaf: Leaf, self: string): void {
  const load = () => import('./commands/keys.ts');
  leaf(keys, 'list', 'Keys and versions, without any material.', async (line, options) =>
    (await load()).list(line, options),
  )
    .option('--name <name>', 'only this key')
    .option('--partition <name>', 'only this partition');
  leaf(keys, 'show <name>', 'Every version of one key.', async (line, options, [name]) =>
    (await load()).show(line, options, name!),
  ).option('--partition <name>', 'partition of the key');
  const change = (verb: 'create' | 'rotate' | 'disable' | 'enable', summary: string): Command =>
    leaf(keys, `${verb} <name>`, summary, async (line, options, [name]) =>
      (await load()).change(line, verb, options, name!),
    ).option('--partition <name>', 'partition of the key');
  const purpose = (): Option =>
    new Option('--purpose <purpose>', 'what the key is for').choices(PURPOSES).default('seal');
  change('create', 'Make a key.').addOption(purpose());
  change('rotate', 'Make a new version; it encrypts from now on, the older ones still decrypt.')
    .addOption(purpose())
    .option('--emergency', 'mark the version that encrypted until now as compromised, in the same write')
    .addHelpText(
      'after',
      `
KEKs have names too: .l3/SERVICE, and .l2/TENANT with --partition TENANT. rewrap moves the keys below to the new version.
`,
    );
  leaf(
    keys,
    'import-kek',
    'Make a key that you bring the next version of a KEK: new keys are wrapped with it.',
    async (line, options) => (await load()).importKek(line, options),
  )
    .requiredOption('--file <file>', 'file of the form that keygen writes, 0600, which the agent reads')
    .option('--tenant <name>', 'the KEK of this tenant (default: of the service)')
    .option('--service', "with --tenant: the tenant's service KEK")
    .option('--expect-kid <hex>', 'refuse any other key than the one with this kid');
  const onlyPurpose = (): Option =>
    new Option('--purpose <purpose>', 'only versions for this purpose (default: every purpose)').choices(PURPOSES);
  change('disable', 'Stop every use of a key, or of one version, until it is enabled.')
    .addOption(versionOption())
    .addOption(onlyPurpose());
  change('enable', 'Make a disabled key or version usable again.').addOption(versionOption()).addOption(onlyPurpose());
  leaf(
    keys,
    'destroy <name>',
    'Destroy a key, or one version, for good: its tokens never open again.',
    async (line, options, [name]) => (await load()).destroy(line, options, name!),
  )
    .option('--partition <name>', 'partition of the key')
    .addOption(versionOption())
    .addOption(onlyPurpose())
    .option('--yes', 'do not ask');
  const freeze = (verb: 'freeze' | 'thaw', summary: string): Command =>
    leaf(keys, `${verb} [name]`, summary, async (line, options, [name]) =>
      (await load()).freeze(line, verb, options, name),
    )
      .option('--partition <name>', 'only keys of this partition; without a name all of them')
      .addOption(new Option('--all', 'every key of this agent').conflicts('partition'));
  freeze(
    'freeze',
    'Stop every use of keys in this agent at once, whatever the keystore says, until they are thawed.',
  ).option('--list', 'only show what is frozen');
  freeze('thaw', 'End a freeze; it is named as it was when it began.');
  leaf(keys, 'export', 'Write every record, wrapped, no plaintext.', async (line, options) =>
    (await load()).exportKeys(line, options),
  )
    .option('-o, --output <file>', 'file to write, whole or not at all (default: standard output)')
    .addHelpText(
      'after',
      examples(
        [
          ['keys export -o backup.json', ''],
          ['keys import backup.json', ''],
        ],
        self,
      ),
    );
  leaf(
    keys,
    'import [file]',
    'Add the records of an export; each is checked, those already there are left.',
    async (line, options, [file]) => (await load()).importKeys(line, options, file),
  ).option('--accept-rollback', 'take records older than what this agent has seen');
}

function versionOption(): Option {
  return new Option('--version <n>', 'one version (default: all)').argParser((text) => {
    const version = Number(text);
    if (!Number.isInteger(version) || version < 1 || version > 0xffffffff) {
      throw new InvalidArgumentError('a version is a whole number from 1.');
    }
    return version;
  });
}

function rangeOption(): Option {
  return new Option(
    '--range <start-end>',
    'only these bytes of what a message holds, both included; without an end, to the last',
  ).argParser((text) => {
    const span = parseByteSpan(text);
    if (span === undefined) {
      throw new InvalidArgumentError('a range is START-END or START-, in bytes from 0, as in HTTP.');
    }
    return span;
  });
}

function addCommon(command: Command): Command {
  return command
    .option('--json', 'one JSON object on standard output; errors as {"error":{…}} on standard error')
    .option('--socket <path>', "the agent's data socket (default: DEKD_SOCKET, then the usual places)");
}

function addValueOptions(command: Command): Command {
  return command
    .option('--partition <name>', 'the tenant the value belongs to')
    .option('--context <name=value>', 'what the token is bound to; needed again to decrypt; repeatable', collect, [])
    .option(
      '--fields <paths>',
      'treat the input as JSON Lines and only touch these: email,address.street,cards[].pan',
      collect,
      [],
    )
    .option('-i, --input <file>', 'read a file instead of the argument or standard input')
    .option('-o, --output <file>', 'write a file, whole or not at all, instead of standard output');
}

function collect(value: string, earlier: readonly string[]): string[] {
  return [...earlier, value];
}

function examples(lines: readonly (readonly [string, string])[], self: string): string {
  const shown = lines.map(([command, what]) => `  ${self} ${command}${what === '' ? '' : `\n      ${what}`}`);
  return `\nExamples:\n${shown.join('\n')}\n`;
}

const VALUE_HELP = `
Without a value and --input, standard input is read to its end. An argument can be seen by every user of the machine
while the command runs: for anything secret, use standard input or --input.
`;

const EXIT_CODES = `
Exit codes: 0 ok, 1 failed, 2 usage, 3 agent unreachable, 4 denied, 5 refused to start.
`;
