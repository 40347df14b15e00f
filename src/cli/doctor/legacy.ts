import type { Config, LegacyKeyConfig } from '../../config/config.ts';
import { compileGlob } from '../../glob.ts';
import { type Finding, ok, warning } from './finding.ts';

/** Whose envelopes from before are still opened, and by which rules. */
export function legacyFindings({ legacy, policy }: Pick<Config, 'legacy' | 'policy'>): Finding[] {
  return legacy.keys.map(({ kid }) => legacyFinding(policy.rules, kid));
}

function legacyFinding(rules: Config['policy']['rules'], kid: LegacyKeyConfig['kid']): Finding {
  const check = `legacy kid ${kid}`;
  const granting = rules.filter(
    ({ operations, legacyKids = ['*'] }) =>
      operations.some((each) => each === 'openLegacy' || each === 'migrateLegacy') &&
      legacyKids.some((glob) => compileGlob(glob)(kid)),
  );
  return granting.length === 0
    ? warning(
        check,
        'no rule lets anybody open or migrate its envelopes',
        'grant it in policy.rules, or remove the key',
      )
    : ok(check, `its envelopes are opened or migrated by ${granting.map(({ name }) => name).join(', ')}`);
}
