/** `keys …`. */
import { type Command, Option } from 'commander';
import type { Leaf } from './leaf.ts';
import { examples, versionOption } from './options.ts';

const PURPOSES = ['seal', 'wrap', 'message', 'mac', 'index'];

export function describeKeys(keys: Command, leaf: Leaf, self: string): void {
  const load = () => import('../commands/keys.ts');
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
