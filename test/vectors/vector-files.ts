import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import sources from './sources.json' with { type: 'json' };

export type VectorSource = keyof typeof sources;

interface Source {
  readonly file: string;
  readonly repository: string;
  readonly path: string;
  readonly commit: string;
  readonly sha256: string;
  readonly also?: readonly string[];
  readonly alsoNamed?: string;
}

/** One published file, or the sentence that says how to get it. */
export type VectorFile =
  | { readonly name: string; readonly text: string; readonly missing?: undefined }
  | { readonly missing: string };

const ROOT = resolve(import.meta.dirname, '../..');
const FOLDER = process.env.DEKD_VECTORS ?? resolve(ROOT, '../shared/vectors');

let files: readonly string[] | undefined;

/** The file of a source by its base name, anywhere under DEKD_VECTORS or ../shared/vectors. */
export function readVectors(name: VectorSource): VectorFile {
  const source: Source = sources[name];
  files ??= existsSync(FOLDER)
    ? readdirSync(FOLDER, { recursive: true, encoding: 'utf8' }).map((path) => join(FOLDER, path))
    : [];
  const exact = files.find((path) => basename(path) === source.file);
  const other = files.find(
    (path) =>
      source.also?.includes(basename(path)) === true ||
      (source.alsoNamed !== undefined && isJsonNamed(basename(path), source.alsoNamed)),
  );
  const found = exact ?? other;
  if (found === undefined) {
    const { repository, path, commit, file } = source;
    return {
      missing: `published vectors are not here: put ${path} of ${repository} at commit ${commit} as ${file} into DEKD_VECTORS or ../shared/vectors`,
    };
  }
  const bytes = readFileSync(found);
  if (found === exact && createHash('sha256').update(bytes).digest('hex') !== source.sha256) {
    console.warn(`${found} has another SHA-256 than test/vectors/sources.json names for ${name}`);
  }
  return { name: basename(found), text: bytes.toString('utf8') };
}

function isJsonNamed(file: string, part: string): boolean {
  const lower = file.toLowerCase();
  return lower.endsWith('.json') && lower.includes(part);
}

/** Bytes of a hexadecimal string. @throws when it is not one. */
export function hex(text: string): Uint8Array {
  const bytes = Buffer.from(text, 'hex');
  if (bytes.length * 2 !== text.length) {
    throw new Error(`not hexadecimal: ${text.slice(0, 40)}`);
  }
  return new Uint8Array(bytes);
}

/** Every object inside a JSON value, at any depth. */
export function* objectsIn(value: unknown): Generator<Record<string, unknown>> {
  if (Array.isArray(value)) {
    for (const item of value) {
      yield* objectsIn(item);
    }
  } else if (typeof value === 'object' && value !== null) {
    yield value as Record<string, unknown>;
    for (const item of Object.values(value)) {
      yield* objectsIn(item);
    }
  }
}

/** The first of these fields that is a string. */
export function textField(object: Record<string, unknown>, ...names: string[]): string | undefined {
  for (const name of names) {
    const value = object[name];
    if (typeof value === 'string') {
      return value;
    }
  }
  return undefined;
}
