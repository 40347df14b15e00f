import { describe, expect, it } from 'vitest';
import { formsFound } from '../support/canary.ts';

const CANARY = 'canary "zoë" 4711';

describe('a scan for a canary', () => {
  it('finds it in every form, whatever stands around it', () => {
    const bytes = Buffer.from(CANARY);
    for (let before = 0; before < 6; before++) {
      const among = Buffer.concat([Buffer.alloc(before, 'x'), bytes, Buffer.from('behind it')]);
      for (const held of [
        among,
        Buffer.from(among.toString('base64')),
        Buffer.from(among.toString('base64url')),
        Buffer.from(among.toString('hex')),
        Buffer.from(among.toString('hex').toUpperCase()),
        Buffer.from(JSON.stringify({ a: among.toString() })),
        Buffer.from(JSON.stringify(JSON.stringify({ a: among.toString() }))),
        Buffer.from(among.toString(), 'utf16le'),
      ]) {
        expect(formsFound(held, CANARY)).not.toEqual([]);
      }
    }
  });

  it('finds nothing where there is nothing', () => {
    expect(formsFound(Buffer.from('canary "zoe" 4711 '.repeat(100)), CANARY)).toEqual([]);
  });
});
