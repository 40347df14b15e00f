import { hex } from '../bytes.ts';
import type { Engine, KeyHandle } from '../crypto/engine.ts';
import type { Custody } from '../custody/custody.ts';
import { DekdError } from '../errors.ts';
import type { KekName } from './key-name.ts';
import type { KeyVersions } from './key-versions.ts';
import type { KeyRecord } from './record.ts';

export interface KekImportParts {
  readonly engine: Engine;
  readonly custody: Custody;
  readonly versions: KeyVersions;
}

/**
 * Takes a key that was made elsewhere as the next version of a KEK. Only KEKs are taken: what seals data is always drawn by an
 * agent, so that one key never seals in two places.
 */
export class KekImport {
  readonly #parts: KekImportParts;

  constructor(parts: KekImportParts) {
    this.#parts = parts;
  }

  /**
   * Importing the same key again changes nothing.
   * @param key a key for wrap; stays the caller's
   * @param expectKid lower hex: anything else is not imported
   * @returns the version that is active. @throws INVALID_ARGUMENT, CONFLICT, KEY_DISABLED and what a rotation throws.
   */
  async run(kek: KekName, key: KeyHandle, expectKid: string | undefined): Promise<KeyRecord> {
    const { engine, custody, versions } = this.#parts;
    const kid = engine.kid(key);
    const shown = hex(kid);
    if (expectKid !== undefined && expectKid.toLowerCase() !== shown) {
      throw new DekdError(
        'INVALID_ARGUMENT',
        `the key is ${shown}, not ${expectKid.toLowerCase()}: nothing was imported`,
      );
    }
    for (const { name, description } of custody.roots.values()) {
      if (description.resolvedId === `local:${shown}`) {
        throw new DekdError('INVALID_ARGUMENT', `the key is that of root ${name}: a root key cannot wrap itself`);
      }
    }
    const stored = await custody.keystore.retrieve(kid);
    if (stored !== undefined && stored.state !== 'pre-active') {
      return unchanged(stored, kek);
    }
    const request = { name: kek.name, partition: kek.tenant, purpose: 'wrap' } as const;
    const rows = await custody.keystore.versions(kek.name, kek.tenant, 'wrap');
    const made = rows.length === 0 ? await versions.first(request, key) : await versions.rotate(request, { key });
    if (made === undefined || hex(made.kid) !== shown) {
      throw new DekdError('CONFLICT', `${kek.name} was changed by another agent at the same time: import again`);
    }
    return made;
  }
}

/** @throws when the key that is there already is not the active version of `kek` */
function unchanged(stored: KeyRecord, { name, tenant }: KekName): KeyRecord {
  const { state, version } = stored;
  if (stored.name !== name || stored.partition !== tenant) {
    throw new DekdError('CONFLICT', `the key is version ${version} of ${stored.name} already: one key has one name`);
  }
  if (state !== 'active') {
    throw new DekdError(
      'CONFLICT',
      `the key is version ${version} of ${name} already, and ${state}: import another one`,
    );
  }
  return stored;
}
