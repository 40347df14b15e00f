import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Engine, EngineName, KeyHandle, KeyUse } from '../../src/crypto/engine.ts';
import { primitives as reference } from '../../src/crypto/node.ts';
import type { Primitives } from '../../src/crypto/primitives.ts';

/** One of the three engines as a test gets it, or why it cannot run here. */
export type EngineUnderTest =
  | {
      readonly name: EngineName;
      readonly missing?: undefined;
      readonly primitives: Primitives;
      create(capacity?: number): Engine;
    }
  | { readonly name: EngineName; readonly missing: string };

export const ENGINE_NAMES: readonly EngineName[] = ['native', 'node', 'noble'];

export async function engineUnderTest(name: EngineName): Promise<EngineUnderTest> {
  try {
    switch (name) {
      case 'native': {
        const { NativeEngine, primitives } = await import('../../src/crypto/native.ts');
        new NativeEngine().stats();
        return { name, primitives, create: () => new NativeEngine() };
      }
      case 'node': {
        const { NodeEngine, primitives } = await import('../../src/crypto/node.ts');
        return { name, primitives, create: (capacity) => new NodeEngine(capacity === undefined ? {} : { capacity }) };
      }
      case 'noble': {
        const { NobleEngine, primitives } = await import('../../src/crypto/noble.ts');
        return { name, primitives, create: (capacity) => new NobleEngine(capacity === undefined ? {} : { capacity }) };
      }
    }
  } catch (error) {
    return { name, missing: `the ${name} engine does not load here: ${String(error)}` };
  }
}

/** A root key with these 32 bytes. */
export function importRoot(engine: Engine, bytes: Uint8Array): KeyHandle {
  return importRootLine(engine, `${Buffer.from(bytes).toString('base64')}\n`);
}

/** What `readRootKey` makes of a file with this content. */
export function importRootLine(engine: Engine, content: string | Uint8Array, use?: KeyUse): KeyHandle {
  const folder = mkdtempSync(join(tmpdir(), 'dekd-root-'));
  try {
    const path = join(folder, 'root.key');
    writeFileSync(path, content, { mode: 0o600 });
    const fd = openSync(path, 'r');
    try {
      return engine.readRootKey(fd, use);
    } finally {
      closeSync(fd);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const KNOWN_ROOT = new Uint8Array(32).fill(0x5a);
const KNOWN_LABEL = 'dekd/test/import';

/** A key with these 32 bytes, wrapped by the test itself under a root it knows. */
export function importKey(engine: Engine, bytes: Uint8Array, use: KeyUse): KeyHandle {
  const root = importRoot(engine, KNOWN_ROOT);
  try {
    const nothing = new Uint8Array(0);
    const nonce = new Uint8Array(24).fill(1);
    const wrapping = reference.hkdfSha256(KNOWN_ROOT, nothing, new TextEncoder().encode(KNOWN_LABEL), 32);
    const sealed = reference.xaesSeal(wrapping, nonce, nothing, bytes);
    return engine.unwrapKey(root, KNOWN_LABEL, Buffer.concat([Uint8Array.of(1), nonce, sealed]), nothing, use);
  } finally {
    engine.destroyKey(root);
  }
}

/** Every two engines once. */
export const ENGINE_PAIRS: readonly (readonly [EngineName, EngineName])[] = [
  ['native', 'node'],
  ['native', 'noble'],
  ['node', 'noble'],
];
