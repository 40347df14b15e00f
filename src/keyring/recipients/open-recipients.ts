import type { Custody } from '../../custody/custody.ts';
import { DekdError } from '../../errors.ts';
import { AWS_KMS_PROVIDER, AwsKmsRecipient } from './aws-kms.ts';
import { RawAesRecipient } from './raw-aes.ts';
import type { Recipient, RecipientSpec, Table } from './recipient.ts';
import { VAULT_TRANSIT_PROVIDER, VaultTransitRecipient } from './vault-transit.ts';

/** The recipients that there are, by name. @throws INVALID_ARGUMENT for a root that cannot be one */
export function openRecipients(
  specs: readonly RecipientSpec[],
  { roots }: Pick<Custody, 'roots'>,
  table: Table,
): ReadonlyMap<string, Recipient> {
  const recipients = specs.map((spec) =>
    spec.kind === 'raw-aes' ? new RawAesRecipient(spec, table) : ofRoot(spec.name, spec.root, roots, table),
  );
  return new Map(recipients.map((recipient) => [recipient.name, recipient]));
}

function ofRoot(name: string, rootName: string, roots: Custody['roots'], table: Table): Recipient {
  const root = roots.get(rootName);
  switch (root?.description.kind) {
    case AWS_KMS_PROVIDER:
      return new AwsKmsRecipient(name, root, table);
    case VAULT_TRANSIT_PROVIDER:
      return new VaultTransitRecipient(name, root, table);
    default:
      throw new DekdError(
        'INVALID_ARGUMENT',
        `recipient ${name} is of root ${rootName}, which is ${root?.description.kind ?? 'not there'}: ` +
          `it must be of ${AWS_KMS_PROVIDER} or ${VAULT_TRANSIT_PROVIDER}`,
      );
  }
}
