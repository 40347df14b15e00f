/** JSON Lines of every shape that a parser and printer would change: what comes back must be the same bytes. */
import { closeSync, openSync, writeSync } from 'node:fs';

const NUMBERS = ['1.0', '-0', '1e400', '12345678901234567890', '0.1e-7', '18446744073709551616', '5E+3', '-0.0'];
const TEXTS = ['"Ada"', '"Zoë"', '"東京"', '"\\u00e9\\/\\t"', '"😀 \\ud83d\\ude00"', '""', '"\\u0000"', '"a\\"b\\\\"'];
const VALUES = ['null', 'true', '{"deep":{"er":[1.0,{}]}}', '[ ]', '12345678901234567890', '"x"', '{ "a" : 1.00 }'];
const CARDS = ['[]', '[{"pan":"4111"}]', '[{"pan":null},{"pan":1.0},{"nopan":1}]', 'null', '[{"pan":{"x":[]}}]'];
const STREETS = ['"1 Main St"', '"Straße 7"', '["a","b"]', 'null'];

/** Varied records, one of every eight with odd white space, some lines blank. */
export function variedRecord(index: number): string {
  const pick = (list: readonly string[], step: number): string => list[Math.trunc(index / step) % list.length]!;
  const spaced = index % 8 === 3;
  const gap = spaced ? ' \t' : '';
  const fields = [
    `"id":${gap}${10000000000000000000n + BigInt(index)}`,
    `"price":${gap}${pick(NUMBERS, 1)}`,
    `"email"${gap}:"person${index}@example.org"`,
    `"name":${pick(TEXTS, 3)}`,
    `"extra":${pick(VALUES, 5)}`,
    `"address":{"street":${pick(STREETS, 7)},"zip":"0${index % 10000}"}`,
    `"cards":${gap}${pick(CARDS, 11)}`,
    // A name twice, and one that a careless object would swallow.
    ...(index % 16 === 9 ? ['"name":"again"', '"__proto__":{"x":1}'] : []),
  ];
  if (index % 5 === 2) {
    fields.reverse();
  }
  return `{${gap}${fields.join(spaced ? ' , ' : ',')}${gap}}${index % 64 === 63 ? '\n\n' : index % 32 === 31 ? '\r\n' : '\n'}`;
}

/** One small field among plain ones, as most tables have it. */
export function plainRecord(index: number): string {
  const email = `person${index}@example.org`;
  return `{"id":${index},"email":"${email}","name":"Person ${index}","city":"Vienna","amount":${index % 1000}.50,"active":true}\n`;
}

export function writeRecords(path: string, count: number, record: (index: number) => string): void {
  const file = openSync(path, 'w');
  try {
    let lines = '';
    for (let index = 0; index < count; index++) {
      lines += record(index);
      if (lines.length > 1 << 20) {
        writeSync(file, lines);
        lines = '';
      }
    }
    writeSync(file, lines);
  } finally {
    closeSync(file);
  }
}
