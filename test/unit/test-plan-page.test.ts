/** Pages that name the tests behind what they say, against those tests. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { problemsWithTests } from '../support/page-tests.ts';
import { ROOT } from '../support/source-copy.ts';

function pageOf(name: string): string {
  return readFileSync(join(ROOT, 'docs', name), 'utf8');
}

describe.for(['test-plan.md', 'threat-model.md'])('docs/%s', (name) => {
  it('names files that are there, with the titles that it quotes', () => {
    const rows = pageOf(name).match(/^\| (?!---).* \|$/gm) ?? [];
    expect(rows.length).toBeGreaterThan(0);
    expect(rows.flatMap((row) => problemsWithTests(row.slice(0, 60), row))).toEqual([]);
  });
});

describe('docs/test-plan.md', () => {
  it('has each row once', () => {
    const ids = Array.from(pageOf('test-plan.md').matchAll(/^\| \*{0,2}([A-Z]\d+)\b/gm), ([, id]) => id!);
    expect(ids.filter((id, at) => ids.indexOf(id) !== at)).toEqual([]);
  });
});
