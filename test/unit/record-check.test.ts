import { describe, expect, it } from 'vitest';
import { NodeEngine } from '../../src/crypto/node.ts';
import { RecordRefused, unwrapRecord, wrapRecord } from '../../src/keyring/record-check.ts';
import { recordLike } from '../contract/keystore.contract.ts';

describe('unwrapRecord', () => {
  it('refuses a wrapped key that the kid does not commit to, and keeps no slot', () => {
    const engine = new NodeEngine();
    const parent = engine.generateKey({ algorithm: 'hkdf-sha-256', purpose: 'wrap' });
    const key = engine.generateKey({ algorithm: 'xaes-256-gcm', purpose: 'seal' });
    const good = wrapRecord(engine, parent, key, recordLike({ kid: engine.kid(key) }));
    expect(engine.kid(unwrapRecord(engine, parent, good))).toEqual(good.kid);
    const { used } = engine.stats();
    const bad = wrapRecord(engine, parent, key, recordLike({ kid: new Uint8Array(16) }));
    expect(() => unwrapRecord(engine, parent, bad)).toThrow(RecordRefused);
    expect(engine.stats().used).toBe(used);
    engine.close();
  });
});
