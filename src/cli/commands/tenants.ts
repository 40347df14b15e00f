import type { KeyInfo } from '../../keyring/keyring.ts';
import type { TenantDestruction } from '../../keyring/tenants.ts';
import { AdminClient, administer } from '../admin.ts';
import { CommandError, EXIT } from '../exit.ts';
import { type CommandLine, confirm, plural, printResult } from '../terminal.ts';

type Options = Record<string, unknown>;

export async function prepare(line: CommandLine, tenant: string): Promise<void> {
  const { keys } = (await administer(line, { tenant: { action: 'prepare', tenant } })) as {
    keys: readonly KeyInfo[];
  };
  printResult(line, { keys }, `tenant '${tenant}' is ready: ${keys.map(({ name }) => name).join(', ')}`);
}

/** Again until nothing is left: each call destroys as many keys as fit into the time of one command. */
export async function destroy(line: CommandLine, options: Options, tenant: string): Promise<void> {
  const action = `destroy every key of tenant '${tenant}' for good, so that nothing encrypted for it ever opens again`;
  if (!(await confirm(action, options.yes === true))) {
    throw new CommandError(EXIT.failed, 'CANCELLED', 'nothing was destroyed');
  }
  using admin = await AdminClient.open(line);
  let destroyed = 0;
  let left: number;
  do {
    const done = (await admin.send({ tenant: { action: 'destroy', tenant } })) as TenantDestruction;
    destroyed += done.destroyed;
    left = done.left;
  } while (left > 0);
  printResult(line, { tenant, destroyed }, `${plural(destroyed, 'version')} of tenant '${tenant}' destroyed`);
}
