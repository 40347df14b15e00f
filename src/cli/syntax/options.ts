/** Options that several commands have, and how examples are set. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { parseByteSpan } from '../commands/byte-span.ts';

/** Lines below the options of a command: each what is typed, and what comes of it where that does not go without saying. */
export function examples(lines: readonly (readonly [string, string])[], self: string): string {
  const shown = lines.map(([command, what]) => `  ${self} ${command}${what === '' ? '' : `\n      ${what}`}`);
  return `\nExamples:\n${shown.join('\n')}\n`;
}

export function addCommon(command: Command): Command {
  return command
    .option('--json', 'one JSON object on standard output; errors as {"error":{…}} on standard error')
    .option('--socket <path>', "the agent's data socket (default: DEKD_SOCKET, then the usual places)");
}

/** What a value is bound to, where it comes from, and where the result goes. */
export function addValueOptions(command: Command): Command {
  return command
    .option('--partition <name>', 'the tenant the value belongs to')
    .addOption(
      repeatableOption('--context <name=value>', 'what the token is bound to; needed again to decrypt; repeatable'),
    )
    .addOption(
      repeatableOption(
        '--fields <paths>',
        'treat the input as JSON Lines and only touch these: email,address.street,cards[].pan',
      ),
    )
    .option('-i, --input <file>', 'read a file instead of the argument or standard input')
    .option('-o, --output <file>', 'write a file, whole or not at all, instead of standard output');
}

/** An option that may be given several times. */
export function repeatableOption(flags: string, description: string): Option {
  return new Option(flags, description)
    .argParser((value: string, earlier: readonly string[]) => [...earlier, value])
    .default([], 'none');
}

export function frameLengthOption(): Option {
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

export function rangeOption(): Option {
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

export function recursiveOption(description: string): Option {
  return new Option('-r, --recursive', description).conflicts(['input', 'fields']);
}

export function overwriteOption(): Option {
  return new Option('--overwrite', 'with -r or several files: also replace what was changed after its source');
}

export function versionOption(): Option {
  return new Option('--version <n>', 'one version (default: all)').argParser((text) => {
    const version = Number(text);
    if (!Number.isInteger(version) || version < 1 || version > 0xffffffff) {
      throw new InvalidArgumentError('a version is a whole number from 1.');
    }
    return version;
  });
}

export function rateOption(): Option {
  return numberOption('--rate <n>', 'records a second at most');
}

export function numberOption(flags: string, description: string): Option {
  return new Option(flags, description).argParser((text) => {
    const rate = Number(text);
    if (!(rate > 0)) {
      throw new InvalidArgumentError('a rate is a number above 0.');
    }
    return rate;
  });
}

export function wholeNumberOption(flags: string, description: string, most: number): Option {
  return new Option(flags, description).argParser((text) => {
    const number = Number(text);
    if (!Number.isInteger(number) || number < 1 || number > most) {
      throw new InvalidArgumentError(`it is a whole number from 1 to ${most}.`);
    }
    return number;
  });
}
