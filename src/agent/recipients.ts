/** The recipients of messages that a configuration names; keys in files are read by the engine itself. */
import type { Config } from '../config/config.ts';
import { type Engine, RAW_AES_USE } from '../crypto/engine.ts';
import type { RecipientSpec } from '../keyring/recipients/recipient.ts';
import { readKeyFile } from '../providers/key-file.ts';

/** @throws INVALID_ARGUMENT with the remedy when a key cannot be read; keys read so far go with the engine */
export function recipientSpecs({ recipients }: Pick<Config, 'recipients'>, engine: Engine): RecipientSpec[] {
  return recipients.map(({ name, root, rawAes }) => {
    if (rawAes === undefined) {
      return { name, kind: 'root', root: root! };
    }
    const key = readKeyFile(engine, rawAes.keyFile, `key file of recipient ${name}`, RAW_AES_USE);
    return { name, kind: 'raw-aes', namespace: rawAes.namespace, keyName: rawAes.name, key };
  });
}
