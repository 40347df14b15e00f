import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ContextMemo } from '../../src/client/context-memo.ts';
import { encodeContext } from '../../src/envelope/context.ts';

describe('remembered context bytes', () => {
  it('are those of the context, whatever was asked for before and however it was changed', () => {
    const name = fc.constantFrom('a', 'b', 'c', '__proto__', 'constructor');
    const value = fc.constantFrom('', '1', '2');
    fc.assert(
      fc.property(fc.array(fc.array(fc.tuple(name, value), { maxLength: 3 }), { maxLength: 20 }), (contexts) => {
        const memo = new ContextMemo();
        for (const pairs of contexts) {
          const context = Object.fromEntries(pairs) as Record<string, string>;
          expect(Buffer.from(memo.bytesOf(context))).toEqual(Buffer.from(encodeContext(context)));
        }
      }),
      { numRuns: 300 },
    );
    const memo = new ContextMemo();
    const context: Record<string, string> = { a: '1' };
    memo.bytesOf(context);
    context.a = '2';
    expect(Buffer.from(memo.bytesOf(context))).toEqual(Buffer.from(encodeContext({ a: '2' })));
  });

  it('are not given for what the encoder refuses', () => {
    const memo = new ContextMemo();
    memo.bytesOf({ a: '1' });
    for (const bad of [
      { a: 1 },
      new Map([['a', '1']]),
      Object.assign(Object.create({ b: '2' }), { a: '1' }),
      'a',
      null,
      ['1'],
    ]) {
      let expected: unknown;
      try {
        expected = Buffer.from(encodeContext(bad as never)).toString('hex');
      } catch (error) {
        expected = (error as Error).message;
      }
      let found: unknown;
      try {
        found = Buffer.from(memo.bytesOf(bad as never)).toString('hex');
      } catch (error) {
        found = (error as Error).message;
      }
      expect(found).toBe(expected);
    }
  });

  it('are not given for a context with a symbol among its names', () => {
    const memo = new ContextMemo();
    memo.bytesOf({ a: '1' });
    const context = { a: '1', [Symbol('b')]: '2' } as never;
    const attempt = (encode: (context: never) => Uint8Array): string => {
      try {
        return Buffer.from(encode(context)).toString('hex');
      } catch (error) {
        return (error as Error).message;
      }
    };
    expect(attempt((one) => memo.bytesOf(one))).toBe(attempt((one) => encodeContext(one)));
  });
});
