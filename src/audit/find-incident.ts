/** Looks a failed request up in the files of an audit log by its incident id. */
import { createReadStream, readdirSync } from 'node:fs';
import { basename, dirname, extname, join } from 'node:path';
import { linesOf } from './lines.ts';

/** A record of a request, as the log has it. */
export type FoundRecord = Readonly<Record<string, unknown>>;

/** The files of the log that is written to `path`, the newest first. */
export function auditFiles(path: string): string[] {
  const extension = extname(path);
  const stem = basename(path, extension);
  const folder = dirname(path);
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch {
    return [];
  }
  const before = names.filter((name) => name.startsWith(`${stem}-`) && name.endsWith(extension)).sort();
  const current = names.includes(basename(path)) ? [basename(path)] : [];
  return [...before, ...current].reverse().map((name) => join(folder, name));
}

/** The record with this incident id, in the first file that has it; undefined when none has. What is found is not verified. */
export async function findIncident(files: readonly string[], incident: string): Promise<FoundRecord | undefined> {
  const wanted = incident.trim().toLowerCase();
  if (!/^[0-9a-z]+-[0-9a-z]+$/.test(wanted)) {
    return undefined;
  }
  const needle = `"incident":"${wanted}"`;
  for (const file of files) {
    for await (const { bytes, isWhole } of linesOf(createReadStream(file))) {
      if (isWhole && bytes.includes(needle)) {
        const record = parsed(bytes);
        if (record?.incident === wanted) {
          return record;
        }
      }
    }
  }
  return undefined;
}

function parsed(bytes: Buffer): FoundRecord | undefined {
  try {
    return JSON.parse(bytes.toString('utf8')) as FoundRecord;
  } catch {
    return undefined;
  }
}
