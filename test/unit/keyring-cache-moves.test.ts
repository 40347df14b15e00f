import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { KeyUse } from '../../src/crypto/engine.ts';
import { NodeEngine } from '../../src/crypto/node.ts';
import type { Root } from '../../src/custody/custody.ts';
import { DekCache } from '../../src/keyring/dek-cache.ts';
import { KeyDefinitions } from '../../src/keyring/key-definition.ts';
import { KeyIndex } from '../../src/keyring/key-index.ts';
import { Kek, LoadedKey, NO_SLOT } from '../../src/keyring/loaded-key.ts';
import type { KeyRecord } from '../../src/keyring/record.ts';
import type { UsageLedger } from '../../src/keyring/rotation.ts';

const WRAP: KeyUse = { algorithm: 'hkdf-sha-256', purpose: 'wrap' };
const SEAL: KeyUse = { algorithm: 'xaes-256-gcm', purpose: 'seal' };
const ROOT = { name: 'a' } as Root;
const OTHER_ROOT = { name: 'b' } as Root;

describe('a key that comes under another parent', () => {
  let engine: NodeEngine;
  let cache: DekCache;

  beforeEach(() => {
    engine = new NodeEngine({ capacity: 16 });
    cache = new DekCache(engine, 100, () => undefined);
  });

  afterEach(() => engine.close());

  it('is held by the new KEK and no more by the old one, and either may give up its slot in the end', () => {
    const [old, next] = [kek(ROOT), kek(ROOT)];
    const key = dataKey(old);
    expect([old.live, next.live]).toEqual([1, 0]);
    cache.moveKey(key, next);
    expect([old.live, next.live]).toEqual([0, 1]);
    cache.drop(key);
    expect([old.live, next.live]).toEqual([0, 0]);
    fill();
    expect([old.slot, next.slot]).toEqual([NO_SLOT, NO_SLOT]);
  });

  it('holds nothing when it has no slot', () => {
    const [old, next] = [kek(ROOT), kek(ROOT)];
    const key = dataKey(old);
    cache.drop(key);
    cache.moveKey(key, next);
    expect([old.live, next.live, key.parent]).toEqual([0, 0, next]);
  });

  it('leaves a KEK with its children where it is, under another root or another KEK', () => {
    const [top, other] = [kek(ROOT), kek(ROOT)];
    const service = kek(top);
    const key = dataKey(service);
    expect([top.live, other.live, service.live]).toEqual([1, 0, 1]);
    cache.moveKek(service, other);
    expect([top.live, other.live, service.live]).toEqual([0, 1, 1]);
    cache.moveKek(other, OTHER_ROOT);
    expect([other.parent, other.live]).toEqual([OTHER_ROOT, 1]);
    cache.moveKek(service, OTHER_ROOT);
    expect([top.live, other.live, service.live]).toEqual([0, 0, 1]);
    cache.discard(key);
    cache.dropKek(service);
    cache.dropKek(top);
    cache.dropKek(other);
    expect(engine.stats().used).toBe(0);
  });

  it('changes place among those that may give up their slot', () => {
    const top = kek(ROOT);
    const service = kek(top);
    cache.moveKek(service, ROOT);
    expect([top.live, service.isUnderRoot]).toEqual([0, true]);
    fill();
    expect([top.slot, service.slot]).toEqual([NO_SLOT, NO_SLOT]);
  });

  function kek(parent: Root | Kek): Kek {
    const made = new Kek({ kid: engine.random(16) } as unknown as KeyRecord, parent);
    cache.admitKek(made, engine.generateKey(WRAP));
    return made;
  }

  function dataKey(parent: Kek): LoadedKey {
    const record = { kid: engine.random(16), name: 'k', partition: '', version: 1, state: 'active' };
    const family = new KeyIndex(new KeyDefinitions([])).ensureFamily('seal', 'k', '', '');
    const key = new LoadedKey(record as unknown as KeyRecord, family, parent, '', cache, {} as UsageLedger);
    cache.admit(key, engine.generateKey(SEAL));
    return key;
  }

  /** Takes every slot that anything gives up. */
  function fill(): void {
    for (;;) {
      try {
        cache.room(() => engine.generateKey(SEAL));
      } catch {
        return;
      }
    }
  }
});
