import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Workplace } from '../support/command-line.ts';
import { parseScenario, patternOf } from './scenario.ts';

const FOLDER = fileURLToPath(new URL('scenarios/', import.meta.url));
const TIMEOUT_MS = 60_000;

describe.each(readdirSync(FOLDER).filter((name) => name.endsWith('.txt')))('%s', (name) => {
  let place: Workplace;

  beforeAll(async () => {
    place = new Workplace();
    await place.startAgent();
  }, TIMEOUT_MS);

  afterAll(() => place[Symbol.asyncDispose]());

  for (const [index, part] of parseScenario(readFileSync(FOLDER + name, 'utf8')).entries()) {
    it(part.name, { timeout: TIMEOUT_MS }, async () => {
      const folder = join(place.folder, `part-${index}`);
      mkdirSync(folder);
      for (const step of part.steps) {
        const result = await place.shell(step.command, folder);
        const where = `${name}:${step.line}: ${step.command}`;
        expect(withNewline(result.stderr), where).toMatch(patternOf(step.stderr));
        expect(withNewline(result.stdout), where).toMatch(patternOf(step.stdout));
        expect(result.code, where).toBe(step.code);
      }
    });
  }
});

/** Plaintexts come without a newline at their end; patterns are made of lines. */
function withNewline(text: string): string {
  return text === '' || text.endsWith('\n') ? text : `${text}\n`;
}
