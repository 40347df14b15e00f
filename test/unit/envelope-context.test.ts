import { describe, expect, it } from 'vitest';
import {
  checkContext,
  contextNames,
  decodeContext,
  encodeContext,
  hasContextName,
  MAX_CONTEXT_BYTES,
} from '../../src/envelope/context.ts';
import { invalidArgument } from '../support/refusal.ts';

function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

/** Canonical bytes written by hand: pairs in the order given, nothing checked. */
function bytesOf(pairs: [string | Uint8Array, string | Uint8Array][], count = pairs.length): Uint8Array {
  const parts: Uint8Array[] = [Uint8Array.of(count >> 8, count)];
  for (const part of pairs.flat()) {
    const bytes = typeof part === 'string' ? Buffer.from(part) : part;
    parts.push(Uint8Array.of(bytes.length >> 8, bytes.length), bytes);
  }
  return new Uint8Array(Buffer.concat(parts));
}

describe('encodeContext', () => {
  it('gives no bytes for an empty context', () => {
    expect(encodeContext({}).length).toBe(0);
    expect(encodeContext(Object.create(null)).length).toBe(0);
  });

  it('writes count, then length and bytes of each name and value', () => {
    expect(hexOf(encodeContext({ a: 'bc' }))).toBe('0001000161000262' + '63');
    expect(hexOf(encodeContext({ b: '', a: 'é' }))).toBe('0002' + '000161' + '0002c3a9' + '000162' + '0000');
    expect(hexOf(encodeContext({ '': '' }))).toBe('000100000000');
  });

  it('gives one encoding whatever the order of the names', () => {
    const names = ['b', 'a', 'aa', 'B', '', '10', '9', 'é', 'z'];
    const forward = encodeContext(Object.fromEntries(names.map((name) => [name, `v${name}`])));
    const backward = encodeContext(Object.fromEntries(names.toReversed().map((name) => [name, `v${name}`])));
    expect(hexOf(backward)).toBe(hexOf(forward));
    checkContext(forward, 0, forward.length);
  });

  it('sorts by UTF-8 bytes, not by UTF-16 units and not by locale', () => {
    expect(contextNames(encodeContext({ '\u{1f600}': '1', '\uffee': '2' }))).toEqual(['\uffee', '\u{1f600}']);
    expect(contextNames(encodeContext({ a: '1', B: '2' }))).toEqual(['B', 'a']);
    expect(contextNames(encodeContext({ é: '1', z: '2' }))).toEqual(['z', 'é']);
  });

  it('tells {a: "bc"} from {ab: "c"}', () => {
    expect(hexOf(encodeContext({ a: 'bc' }))).not.toBe(hexOf(encodeContext({ ab: 'c' })));
  });

  it('takes __proto__ and constructor for names like any other', () => {
    const context = JSON.parse('{"__proto__":"p","constructor":"c"}') as Record<string, string>;
    const bytes = encodeContext(context);
    expect(contextNames(bytes)).toEqual(['__proto__', 'constructor']);
    const decoded = decodeContext(bytes);
    expect(Object.getPrototypeOf(decoded)).toBeNull();
    expect(Object.entries(decoded)).toEqual([
      ['__proto__', 'p'],
      ['constructor', 'c'],
    ]);
    expect(encodeContext({}).length).toBe(0);
  });

  it.each([
    ['a number', 1],
    ['undefined', undefined],
    ['null', null],
    ['a boolean', true],
    ['a String object', new String('x')],
    ['an array', ['x']],
    ['bytes', Uint8Array.of(1)],
  ])('refuses %s as a value and names the field', (_, value) => {
    expect(invalidArgument(() => encodeContext({ field: value as unknown as string }))).toContain('"field"');
  });

  it.each([
    ['null', null],
    ['undefined', undefined],
    ['a string', 'field=x'],
    ['an array', ['x']],
    ['a Map', new Map([['a', 'b']])],
    ['a Set', new Set(['a'])],
    ['bytes', Uint8Array.of(0, 1)],
    ['a function', () => 'x'],
  ])('refuses %s as a context, which would bind nothing', (_, context) => {
    expect(invalidArgument(() => encodeContext(context as unknown as Record<string, string>))).toContain(
      'not an object',
    );
  });

  it.each(['\ud800', 'a\udc00', '\udc00\ud800'])('refuses lone surrogates', (text) => {
    expect(invalidArgument(() => encodeContext({ [text]: 'x' }))).toContain('lone surrogate');
    expect(invalidArgument(() => encodeContext({ field: text }))).toContain('lone surrogate');
  });

  it('refuses names reserved for the message format and takes their like', () => {
    expect(invalidArgument(() => encodeContext({ 'aws-crypto-public-key': 'x' }))).toContain('reserved');
    expect(invalidArgument(() => encodeContext({ 'aws-crypto-': 'x' }))).toContain('reserved');
    expect(contextNames(encodeContext({ 'aws-crypto': 'x', 'AWS-CRYPTO-A': 'y' }))).toHaveLength(2);
  });

  it('takes 65,535 bytes in all and refuses one more', () => {
    const overhead = 2 + 2 + 1 + 2;
    const bytes = encodeContext({ a: 'x'.repeat(MAX_CONTEXT_BYTES - overhead) });
    expect(bytes.length).toBe(MAX_CONTEXT_BYTES);
    checkContext(bytes, 0, bytes.length);
    expect(invalidArgument(() => encodeContext({ a: 'x'.repeat(MAX_CONTEXT_BYTES - overhead + 1) }))).toContain(
      '65535',
    );
    // Two bytes a character: the limit counts bytes, not characters.
    expect(invalidArgument(() => encodeContext({ a: 'é'.repeat(32_765) }))).toContain('65535');
  });

  it('never shows a value in an error', () => {
    expect(invalidArgument(() => encodeContext({ a: `secret\ud800` }))).not.toContain('secret');
  });
});

describe('checkContext', () => {
  it('takes what encodeContext writes, at an offset among other bytes', () => {
    const bytes = encodeContext({ tenant: 'acme', field: 'naïve', '\u{1f600}': 'x' });
    const around = new Uint8Array(bytes.length + 20).fill(0xff);
    around.set(bytes, 7);
    checkContext(around, 7, bytes.length);
    checkContext(around, 7, 0);
    expect(decodeContext(around, 7, bytes.length)).toEqual({ tenant: 'acme', field: 'naïve', '\u{1f600}': 'x' });
    expect(contextNames(around, 7, bytes.length)).toEqual(['field', 'tenant', '\u{1f600}']);
  });

  it('refuses every proper prefix and every longer run of canonical bytes', () => {
    const bytes = encodeContext({ a: '1', b: '22', c: 'é' });
    for (let length = 1; length < bytes.length; length++) {
      invalidArgument(() => checkContext(bytes, 0, length));
    }
    expect(invalidArgument(() => checkContext(new Uint8Array([...bytes, 0]), 0, bytes.length + 1))).toContain('follow');
    invalidArgument(() => checkContext(bytes, 0, bytes.length + 1));
    invalidArgument(() => checkContext(bytes, 1, bytes.length));
  });

  it('refuses a count of zero, wrong order and a name twice', () => {
    invalidArgument(() => checkContext(Uint8Array.of(0, 0), 0, 2));
    invalidArgument(() =>
      checkContext(
        bytesOf([
          ['b', '1'],
          ['a', '2'],
        ]),
        0,
        14,
      ),
    );
    for (const pairs of [
      [
        ['b', '1'],
        ['a', '2'],
      ],
      [
        ['a', '1'],
        ['a', '1'],
      ],
      [
        ['a', '1'],
        ['a', '2'],
      ],
      [
        ['aa', '1'],
        ['a', '2'],
      ],
      [
        ['\u{1f600}', '1'],
        ['\uffee', '2'],
      ],
    ] as [string, string][][]) {
      const bytes = bytesOf(pairs);
      expect(invalidArgument(() => checkContext(bytes, 0, bytes.length))).toContain('ascending');
    }
  });

  it('refuses a count that is not the number of pairs', () => {
    for (const count of [1, 3, 0x0200]) {
      const bytes = bytesOf(
        [
          ['a', '1'],
          ['b', '2'],
        ],
        count,
      );
      invalidArgument(() => checkContext(bytes, 0, bytes.length));
    }
  });

  it('refuses reserved names', () => {
    const bytes = bytesOf([['aws-crypto-public-key', 'x']]);
    expect(invalidArgument(() => checkContext(bytes, 0, bytes.length))).toContain('reserved');
  });

  it('refuses what is not UTF-8, as the platform decoder does', () => {
    const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
    const tails = [[], [0x41], [0x80], [0x9f], [0xa0], [0x8f], [0x90], [0xc0]];
    const seen = { valid: 0, invalid: 0 };
    for (let lead = 0; lead < 256; lead++) {
      for (const second of tails) {
        for (const third of tails) {
          for (const fourth of third.length === 0 ? [[]] : [[], [0x80]]) {
            const value = Uint8Array.from([lead, ...second, ...third, ...fourth]);
            let valid = true;
            try {
              decoder.decode(value);
            } catch {
              valid = false;
            }
            seen[valid ? 'valid' : 'invalid']++;
            for (const pair of [
              ['n', value],
              [value, 'v'],
            ] as [string, Uint8Array][]) {
              const bytes = bytesOf([pair]);
              if (valid) {
                checkContext(bytes, 0, bytes.length);
              } else if (!invalidArgument(() => checkContext(bytes, 0, bytes.length)).includes('UTF-8')) {
                throw new Error(`refused for another reason: ${Buffer.from(value).toString('hex')}`);
              }
            }
          }
        }
      }
    }
    expect(seen.valid).toBeGreaterThan(500);
    expect(seen.invalid).toBeGreaterThan(5000);
  });

  it('keeps a byte order mark as data', () => {
    expect(decodeContext(encodeContext({ '\ufeffa': '\ufeffb' }))).toEqual({ '\ufeffa': '\ufeffb' });
  });
});

describe('hasContextName', () => {
  it('finds whole names only', () => {
    const bytes = encodeContext({ tenant: 'field', row: '1', größe: 'x', '': 'y' });
    const has = (name: string): boolean => hasContextName(bytes, 0, bytes.length, name);
    expect(['tenant', 'row', 'größe', ''].map(has)).toEqual([true, true, true, true]);
    expect(['field', 'tenan', 'tenant2', 'Row', '1', 'gr'].map(has)).toEqual(new Array(6).fill(false));
    expect(hasContextName(new Uint8Array(0), 0, 0, 'tenant')).toBe(false);
  });
});
