/** The envelopes in test/vectors/legacy, and agents that have their keys. */
import { createCipheriv, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { LegacyShape } from '../../src/envelope/legacy.ts';
import { runYaml } from './agent.ts';

export interface LegacyVectors {
  /** Kid → 32 bytes in base64. */
  readonly keys: Readonly<Record<string, string>>;
  /** Envelopes with the plaintext that they hold, in base64. */
  readonly opens: readonly { readonly name: string; readonly plaintext: string; readonly envelope: LegacyShape }[];
  /** JSON texts of the right shape that open under no key. */
  readonly fails: Readonly<Record<string, string>>;
  /** Texts that are no envelopes. */
  readonly malformed: Readonly<Record<string, string>>;
}

export const legacyVectors: LegacyVectors = JSON.parse(
  readFileSync(new URL('../vectors/legacy/envelopes.json', import.meta.url), 'utf8'),
) as LegacyVectors;

/** What an application stored for `value`. */
export function legacySealed(
  value: unknown,
  kid = 'v1',
  key: Uint8Array = Buffer.from(legacyVectors.keys[kid]!, 'base64'),
): LegacyShape {
  const iv = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', key, iv);
  const sealed = Buffer.concat([cipher.update(JSON.stringify(value)), cipher.final(), cipher.getAuthTag()]);
  return { __enc: 1, kid, iv: iv.toString('base64'), ct: sealed.toString('base64') };
}

/** Writes the key files of a configuration into `folder`. @returns the section `legacy`, as YAML */
export function legacySection(folder: string, kids: readonly string[] = Object.keys(legacyVectors.keys)): string {
  const keys = kids.map((kid, index) => {
    const file = join(folder, `legacy-${index}.key`);
    // Every other as the 32 bytes themselves.
    const text = legacyVectors.keys[kid]!;
    writeFileSync(file, index % 2 === 0 ? `${text}\n` : Buffer.from(text, 'base64'), { mode: 0o600 });
    return `    - { kid: ${JSON.stringify(kid)}, keyFile: ${file} }`;
  });
  return `legacy:\n  keys:\n${keys.join('\n')}\n`;
}

/** A file for an agent with a local root and these legacy keys in `folder`, and these rules. */
export function legacyYaml(folder: string, rules: string, kids?: readonly string[]): string {
  writeFileSync(join(folder, 'root.key'), `${Buffer.alloc(32, 7).toString('base64')}\n`, { mode: 0o600 });
  return `${runYaml().replace(/policy:[\s\S]*$/, '')}policy:\n  rules:\n${rules}\n${legacySection(folder, kids)}`;
}
