import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { MemoryKeystore } from '../../src/keystores/memory.ts';
import { recordLike } from '../contract/keystore.contract.ts';
import { formsOf, KeystoreSpy } from '../support/spy-keystore.ts';

describe('KeystoreSpy', () => {
  it('passes calls on and sees bytes and texts wherever they are in an argument', async () => {
    const spy = new KeystoreSpy();
    const keystore = spy.watch(new MemoryKeystore());
    const canary = new Uint8Array(randomBytes(32));
    const record = recordLike({});
    await keystore.store(record, { absent: true });
    expect((await keystore.retrieve(record.kid))?.name).toBe('customers');
    expect(spy.saw(record.wrapped)).toBe(true);
    expect(spy.saw(canary)).toBe(false);
    expect(spy.size).toBeGreaterThan(200);
    await keystore.list({ name: Buffer.from(canary).toString('base64') }, undefined, 10);
    expect(spy.saw(canary)).toBe(true);
  });

  it('recognises bytes in every form, whatever lies beside them', async () => {
    const canary = new Uint8Array(randomBytes(32));
    for (const shift of [0, 1, 2]) {
      const around = Buffer.concat([randomBytes(shift), canary, randomBytes(5)]);
      for (const text of [around.toString('hex'), around.toString('base64'), around.toString('base64url')]) {
        for (const encoding of ['utf8', 'utf16le'] as const) {
          const held = Buffer.from(text, encoding);
          expect(formsOf(canary).some((form) => held.includes(form))).toBe(true);
        }
      }
    }
    expect(formsOf(canary).some((form) => randomBytes(4096).includes(form))).toBe(false);
  });
});
