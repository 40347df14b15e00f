/** `encrypt` and `decrypt`. */
import { type Command, Option } from 'commander';
import type { Leaf } from './leaf.ts';
import {
  addValueOptions,
  examples,
  frameLengthOption,
  overwriteOption,
  rangeOption,
  recursiveOption,
} from './options.ts';

const VALUE_HELP = `
Without a value and --input, standard input is read to its end. An argument can be seen by every user of the machine
while the command runs: for anything secret, use standard input or --input.
`;

export function describeValues(leaf: Leaf, program: Command, self: string): void {
  addValueOptions(
    leaf(
      program,
      'encrypt [value-or-files...]',
      'Encrypt a value, files, folders, or fields of JSON Lines.',
      async (line, options, operands) =>
        (await import('../commands/encrypt.ts')).encrypt(line, options, operands as readonly string[]),
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
        (await import('../commands/decrypt.ts')).decrypt(line, options, operands as readonly string[]),
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
}
