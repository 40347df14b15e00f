import { execFileSync } from 'node:child_process';
import { existsSync, globSync, mkdirSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Pkcs11Settings } from '../../src/config/config.ts';
import type { TokenPlan } from './softhsm-tokens.ts';
import { makeFolder, removeFolder } from './temporary-folder.ts';

const TOOL = fileURLToPath(new URL('./softhsm-tokens.ts', import.meta.url));
const PLACES = ['/usr/lib/softhsm/libsofthsm2.so', '/usr/local/lib/softhsm/libsofthsm2.so'];
const MULTIARCH = ['/usr/lib/*/softhsm/libsofthsm2.so', '/usr/lib64/**/libsofthsm2.so'];

/** The binding; undefined where npm could not compile it. */
export const pkcs11 = (await import('pkcs11js').catch(() => undefined))?.default;

/** Path of the module, undefined where SoftHSM2 or the binding is not installed. */
export const SOFTHSM: string | undefined =
  pkcs11 === undefined ? undefined : [...PLACES, ...globSync(MULTIARCH)].find((path) => existsSync(path));
export const NEEDS_SOFTHSM =
  pkcs11 === undefined ? 'needs pkcs11js, which npm compiles where there is a compiler' : 'needs softhsm2';
/** SoftHSM2 has RFC 5649 under the number of another mechanism, and refuses the one of the standard. */
export const SOFTHSM_KWP = 0x210a;

/**
 * Tokens of SoftHSM2 in a temporary folder. The module reads its configuration from the environment when it is
 * initialised, so a process has one at a time: the last one made.
 */
export class SoftHsm {
  readonly folder = makeFolder();
  readonly module = SOFTHSM!;
  readonly #tokens = join(this.folder, 'tokens');

  constructor(plans: readonly TokenPlan[]) {
    mkdirSync(this.#tokens);
    const configuration = join(this.folder, 'softhsm2.conf');
    writeFileSync(
      configuration,
      `directories.tokendir = ${this.#tokens}\nobjectstore.backend = file\nlog.level = ERROR\n`,
    );
    process.env.SOFTHSM2_CONF = configuration;
    this.add(plans);
  }

  /** In a process of its own: the module initialises once per process, and tests look at how ours does. */
  add(plans: readonly TokenPlan[]): void {
    execFileSync(process.execPath, [TOOL, this.module, JSON.stringify(plans)], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  }

  /** A file with a PIN, as a configuration names it. */
  pinFile(pin: string, name = 'pin', mode = 0o600): string {
    const path = join(this.folder, name);
    writeFileSync(path, pin, { mode });
    return path;
  }

  settings(settings: Partial<Pkcs11Settings>): Pkcs11Settings {
    return {
      module: this.module,
      slot: undefined,
      token: settings.slot === undefined ? 'dekd' : undefined,
      pinFile: this.pinFile('5678\n'),
      key: settings.keyId === undefined ? 'root' : undefined,
      keyId: undefined,
      mechanism: 'aes-gcm',
      mechanismNumber: undefined,
      sessions: 4,
      timeout: 5000,
      ...settings,
    };
  }

  /** Takes every token out of its slot; the result puts them back. */
  pull(): () => void {
    const away = join(this.folder, 'away');
    mkdirSync(away);
    const names = readdirSync(this.#tokens);
    for (const name of names) {
      renameSync(join(this.#tokens, name), join(away, name));
    }
    return () => {
      for (const name of names) {
        renameSync(join(away, name), join(this.#tokens, name));
      }
    };
  }

  remove(): void {
    removeFolder(this.folder);
  }
}
