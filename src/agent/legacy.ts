/** The keys of applications from before, as the configuration names them. */
import type { Config } from '../config/config.ts';
import { type Engine, type KeyHandle, LEGACY_USE } from '../crypto/engine.ts';
import type { LegacyKey, LegacyKeys } from '../operations/environment.ts';
import { readKeyFile } from '../providers/key-file.ts';

export class LegacyKeyring implements LegacyKeys {
  readonly decoy: KeyHandle | undefined;
  readonly #keys = new Map<string, LegacyKey>();

  /** @throws INVALID_ARGUMENT naming the kid whose key cannot be read; keys read so far go with the engine */
  constructor({ legacy: { keys } }: Pick<Config, 'legacy'>, engine: Engine) {
    for (const { kid, source } of keys) {
      const what = `key file of legacy kid ${JSON.stringify(kid)}`;
      const handle =
        typeof source === 'string'
          ? readKeyFile(engine, source, what, LEGACY_USE)
          : engine.importSecret(source.copy(), LEGACY_USE);
      this.#keys.set(kid, { kid, handle, opened: 0, migrated: 0, failed: 0 });
    }
    this.decoy = keys.length === 0 ? undefined : engine.generateKey(LEGACY_USE);
  }

  find(kid: string): LegacyKey | undefined {
    return this.#keys.get(kid);
  }

  /** For `status`: what still needs each key. */
  standing(): readonly Omit<LegacyKey, 'handle'>[] {
    return [...this.#keys.values()].map(({ kid, opened, migrated, failed }) => ({ kid, opened, migrated, failed }));
  }
}
