import type { Config, RecipientConfig } from '../../config/config.ts';
import { type Finding, ok, warning } from './finding.ts';

/** Who can open messages beside the keystore, and of which keys. */
export function recipientFindings(config: Config): Finding[] {
  return config.recipients.map((recipient) => recipientFinding(config, recipient));
}

function recipientFinding({ keys, message }: Config, { name, root, rawAes }: RecipientConfig): Finding {
  const check = `recipient ${name}`;
  const names = (lists: Config['message']): boolean =>
    lists.recipients.includes(name) || lists.formerRecipients.includes(name);
  const entries = keys.filter((each) => names({ ...message, ...each })).map((each) => each.name);
  const others = names(message) ? ['every other key'] : [];
  const whose = [...entries, ...others].join(', ');
  if (whose === '') {
    return warning(check, 'no key names it', 'add it to recipients of a key, or to message.recipients, or remove it');
  }
  const who = root === undefined ? `whoever has ${rawAes!.keyFile}` : `whoever may use the key of root ${root}`;
  return ok(check, `${who} opens messages of ${whose}, and can make some`);
}
