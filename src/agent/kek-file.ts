/** A KEK that was made elsewhere, in a file that the agent itself reads: its bytes are in no message and no other process. */
import { isAbsolute } from 'node:path';
import type { Engine } from '../crypto/engine.ts';
import { DekdError } from '../errors.ts';
import { kekNameOf, serviceKekName, tenantKekName } from '../keyring/key-name.ts';
import type { KeyInfo, Keyring } from '../keyring/keyring.ts';
import type { AdminFields } from '../protocol/messages.ts';
import { readKeyFile } from '../providers/key-file.ts';

export type ImportKek = (command: NonNullable<AdminFields['importKek']>) => Promise<KeyInfo>;

/** @param service whose KEK is meant where the command names no tenant's */
export function kekImporter(engine: Engine, keyring: Keyring, service: string): ImportKek {
  return async (command) => {
    const file = command.file ?? '';
    if (!isAbsolute(file)) {
      throw new DekdError('INVALID_ARGUMENT', 'the key file must be an absolute path: the agent reads it');
    }
    const tenant = command.tenant ?? '';
    const name = tenant !== '' && command.service !== true ? tenantKekName(tenant) : serviceKekName(service);
    const kek = kekNameOf(name, tenant);
    const key = readKeyFile(engine, file, 'key file');
    try {
      return await keyring.importKek(kek, key, command.expectKid || undefined);
    } finally {
      engine.destroyKey(key);
    }
  };
}
