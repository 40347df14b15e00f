import { describe, expect, it } from 'vitest';
import { parseContext } from '../../src/cli/commands/value-options.ts';
import { byteSize, outline, plural, table } from '../../src/cli/terminal.ts';
import { printable } from '../../src/telemetry/printable.ts';

describe('text for people', () => {
  it('keeps what commands a terminal or turns text around from it, and every other character as it is', () => {
    expect(printable('a\u001b[2J\n\u009b\u007f\u202ex\u2028Grüße 😀')).toBe(
      'a\\u001b[2J\\u000a\\u009b\\u007f\\u202ex\\u2028Grüße 😀',
    );
  });

  it('lets nothing in a name or a value pass for a line of an outline', () => {
    const document = { context: { 'a\nsigned': 'x\nsigned  true\u001b[2J' }, signed: false, list: ['\u202e'] };
    expect(outline(document)).toBe(
      'context\n  a\\u000asigned  x\n                 signed  true\\u001b[2J\nsigned   false\nlist     \\u202e',
    );
  });

  it('lines up columns', () => {
    expect(
      table([
        ['A', 'LONG', 'C'],
        ['1', 'x', ''],
        ['two', 'y', 'z'],
      ]),
    ).toBe('A    LONG  C\n1    x\ntwo  y     z');
  });

  it('outlines objects in objects and lists of objects', () => {
    const document = {
      a: 1,
      none: null,
      list: ['x', 'y'],
      in: { b: true, gone: undefined },
      many: [{ c: 1 }, { c: 2 }],
    };
    expect(outline(document)).toBe('a     1\nnone  -\nlist  x, y\nin\n  b     true\nmany\n  c  1\n  c  2');
  });

  it('counts and measures', () => {
    expect([plural(1, 'record'), plural(1234, 'record'), plural(2, 'copy', 'copies')]).toEqual([
      '1 record',
      '1,234 records',
      '2 copies',
    ]);
    expect([byteSize(512), byteSize(1536), byteSize(20 * 1024 * 1024)]).toEqual(['512 bytes', '1.5 KiB', '20 MiB']);
  });
});

describe('--context', () => {
  it('splits at the first equals sign and takes any name', () => {
    const context = parseContext(['a=b=c', 'empty=', '__proto__=x']);
    expect(Object.entries(context)).toEqual([
      ['a', 'b=c'],
      ['empty', ''],
      ['__proto__', 'x'],
    ]);
  });

  it.each([['novalue'], ['=x']])('refuses %s', (pair) => {
    expect(() => parseContext([pair])).toThrow(/is not name=value/);
  });

  it('refuses a name given twice', () => {
    expect(() => parseContext(['a=1', 'a=2'])).toThrow(/given twice/);
  });
});
