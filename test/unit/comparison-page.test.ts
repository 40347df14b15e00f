/** docs/comparison.md against what it names: each claim of dekd's own has a test, a file or a page, and those are there. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { problemsWithTests } from '../support/page-tests.ts';
import { ROOT } from '../support/source-copy.ts';

const page = readFileSync(join(ROOT, 'docs/comparison.md'), 'utf8');

/** Rows of both tables: what, and the last cell. */
const rows = Array.from(
  page.matchAll(/^\| (?!feature|---| \|)(.+?) \|(?:.*\|)? ((?:Y|P|N|–): .*?) \|$/gm),
  ([, what, cell]) => ({
    what: what!,
    cell: cell!,
  }),
);
const NAMED = /`([\w./{},-]+\.(?:ts|cc|md|yml))`|\]\(([\w./-]+\.md)\)/g;

describe('docs/comparison.md', () => {
  it('has every feature and every gap that is compared', () => {
    const lines = page.split('\n').filter((line) => /^\| /.test(line) && !/^\| (feature|---)/.test(line));
    expect(rows.length).toBe(lines.filter((line) => !line.startsWith('| | ')).length);
    expect(rows.length).toBe(38 + 15);
  });

  it('names files that are there, with the titles that it quotes', () => {
    expect(rows.flatMap(({ what, cell }) => problemsWithTests(what, cell))).toEqual([]);
  });

  it('says no Y without a test, a file or a page, and no P or N without the reason', () => {
    for (const { what, cell } of rows) {
      const named = Array.from(cell.matchAll(NAMED));
      if (cell.startsWith('Y')) {
        expect(named.length, what).toBeGreaterThan(0);
      } else {
        expect(cell.length, what).toBeGreaterThan(40);
      }
      for (const [, file, link] of named) {
        const places = link === undefined ? ['test', ''] : ['docs'];
        if (!/[{}]/.test(file ?? '')) {
          expect(
            places.some((place) => existsSync(join(ROOT, place, (link ?? file)!))),
            `${what}: ${link ?? file}`,
          ).toBe(true);
        }
      }
    }
  });
});
