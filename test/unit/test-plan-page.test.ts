/** docs/test-plan.md against the tests that it names. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { problemsWithTests } from '../support/page-tests.ts';
import { ROOT } from '../support/source-copy.ts';

const page = readFileSync(join(ROOT, 'docs/test-plan.md'), 'utf8');

describe('docs/test-plan.md', () => {
  it('names files that are there, with the titles that it quotes', () => {
    const rows = Array.from(page.matchAll(/^\| (?!row \||command \||advisory \||---)(.*?) \| (.*) \|$/gm));
    expect(rows.flatMap(([, row, proof]) => problemsWithTests(row!, proof!))).toEqual([]);
  });

  it('has each row once', () => {
    const ids = Array.from(page.matchAll(/^\| \*{0,2}([A-Z]\d+)\b/gm), ([, id]) => id!);
    expect(ids.filter((id, at) => ids.indexOf(id) !== at)).toEqual([]);
  });
});
