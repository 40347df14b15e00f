/** No way to bring a nonce: CVE-2023-4680, and why OpenBao took `nonce` out of Transit. */
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

const ROOT = join(import.meta.dirname, '../..');
/** An identifier that names a nonce, an initialisation vector or a salt; comments and texts do not count. */
const NAMES = /^(nonces?|iv|ivs|salts?|[a-zA-Z]*(Nonce|Iv|IV|Salt)s?|(nonce|iv|salt)[A-Z_]\w*)$/;

function identifiersOf(source: string): string[] {
  const code = source
    .replace(/\/\*[\s\S]*?\*\//g, '')
    .replace(/\/\/.*$/gm, '')
    .replace(/'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`/g, '');
  return [...code.matchAll(/[A-Za-z_]\w*/g)].map(([word]) => word);
}

describe('a nonce', () => {
  it('has no field on the wire', () => {
    const fields = identifiersOf(readFileSync(join(ROOT, 'proto/dekd.proto'), 'utf8'));
    expect(fields).toContain('context');
    expect(fields.filter((word) => NAMES.test(word))).toEqual([]);
  });

  it('is no name in what applications import: client, service, helpers, adapters', () => {
    const files = globSync('src/{client,service,helpers,adapters}/**/*.ts', { cwd: ROOT });
    const found = files.flatMap((file) =>
      identifiersOf(readFileSync(join(ROOT, file), 'utf8'))
        .filter((word) => NAMES.test(word))
        .map((word) => `${file}: ${word}`),
    );
    expect(files.length).toBeGreaterThan(40);
    expect(found).toEqual([]);
  });

  it('is a parameter of an engine only where it opens what applications sealed before', () => {
    const source = readFileSync(join(ROOT, 'src/crypto/engine.ts'), 'utf8');
    expect(identifiersOf(source).filter((word) => NAMES.test(word))).toEqual(['nonce']);
    expect(source).toMatch(/openLegacy\([^)]*\bnonce\b/);
  });
});
