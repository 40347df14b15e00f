/** Trees of files in the folder of a Workplace, for tests of commands that run over many of them. */
import { lstatSync, mkdirSync, readdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Workplace } from './command-line.ts';

/** When files were changed last that `writeOld` writes. */
export const LAST_YEAR = new Date(Date.now() - 365 * 86_400_000);

/** Everything below a folder: place to content. */
export function contentBelow(folder: string): Map<string, Buffer> {
  const names = readdirSync(folder, { recursive: true }) as string[];
  const files = names.filter((name) => lstatSync(join(folder, name)).isFile()).sort();
  return new Map(files.map((name) => [name, readFileSync(join(folder, name))]));
}

/** A file that nobody has changed for a year, and the folders above it. */
export function writeOld(path: string, content: string | Buffer): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
  utimesSync(path, LAST_YEAR, LAST_YEAR);
}

/** Runs `dekd COMMAND` under the key of the files, and reads what it says. */
export async function runOnFiles(
  place: Workplace,
  command: string,
): Promise<{ code: number | null; document: Record<string, unknown>; stderr: string }> {
  const { code, stdout, stderr } = await place.shell(`dekd ${command} --json --key files`);
  return { code, document: stdout === '' ? {} : JSON.parse(stdout), stderr };
}
