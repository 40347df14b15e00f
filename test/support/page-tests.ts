/** Pages that name tests, held to them: each file that a text names is there, and has the titles that it quotes. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './source-copy.ts';

/** `a/{b,c}.ts` is two files. */
function expanded(name: string): string[] {
  const [, before, list, after] = /^(.*)\{(.*)\}(.*)$/.exec(name) ?? [];
  return list === undefined ? [name] : list.split(',').map((each) => before + each + after);
}

/** The text of a file below test/, or below the root; undefined where there is none. */
function textOf(name: string): string | undefined {
  const path = [join(ROOT, 'test', name), join(ROOT, name)].find((each) => existsSync(each));
  return path === undefined ? undefined : readFileSync(path, 'utf8');
}

/** A title as sources have it: quoted in one of three ways, and `…` at its end for the rest of it. */
function hasTitle(source: string, title: string): boolean {
  const begin = title.replace(/…$/, '');
  return [begin, begin.replaceAll("'", "\\'")].some((text) => source.includes(text));
}

/** What is wrong with the tests that `text` names: files in backticks, each before the titles in quotes that are of it. */
export function problemsWithTests(row: string, text: string): string[] {
  const problems: string[] = [];
  let sources: string[] = [];
  for (const [, file, title] of text.matchAll(/`([\w./{},-]+\.(?:ts|txt|cc))`|"([^"]+)"/g)) {
    if (file !== undefined) {
      sources = expanded(file).map((name) => {
        const found = textOf(name);
        if (found === undefined) {
          problems.push(`${row}: there is no ${name}`);
        }
        return found ?? '';
      });
    } else if (sources.length === 0 || !sources.every((source) => hasTitle(source, title!))) {
      problems.push(`${row}: no test is named "${title}"`);
    }
  }
  return problems;
}
