import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { NODE } from '../support/agent.ts';
import { ROOT, readJson, run } from '../support/source-copy.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const COMMITTED = join(ROOT, 'docs/api');

const pagesIn = (folder: string) =>
  Object.fromEntries(
    readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.md'))
      .map((name) => [name, readFileSync(join(folder, name), 'utf8')]),
  );

it('docs/api is what the docstrings make, without a warning, a page for each entry', {
  timeout: 120_000,
}, async (context) => {
  context.skip(!existsSync(join(ROOT, 'tools/api-docs/node_modules/typedoc')), 'typedoc is not installed: npm ci');
  const folder = temporaryFolder();
  const done = await run(NODE, ['tools/api-docs/build.mjs', folder], { cwd: ROOT });
  expect(done).toEqual({ code: 0, stdout: '', stderr: '' });
  const entries = Object.values(readJson(join(ROOT, 'package.json')).exports as Record<string, { types?: string }>);
  expect(Object.keys(pagesIn(folder)).length).toBe(entries.filter(({ types }) => types !== undefined).length + 1);
  expect(pagesIn(COMMITTED), 'run npm run docs:api').toEqual(pagesIn(folder));
});
