import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, join, relative, resolve, sep } from 'node:path';
import { unzip } from '../support/zip.ts';
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

/** Published files by their paths in the archive they came in, or the sentence that says how to get it. */
export type VectorArchive =
  | { readonly files: ReadonlyMap<string, Buffer>; readonly missing?: undefined }
  | { readonly missing: string };

const ROOT = resolve(import.meta.dirname, '../..');
const FOLDER = process.env.DEKD_VECTORS ?? resolve(ROOT, '../shared/vectors');

let files: readonly string[] | undefined;

/** The file of a source by its base name, anywhere under DEKD_VECTORS or ../shared/vectors. */
export function readVectors(name: VectorSource): VectorFile {
  const source: Source = sources[name];
  const found =
    fileNamed(source.file) ??
    filesThere().find(
      (path) =>
        source.also?.includes(basename(path)) === true ||
        (source.alsoNamed !== undefined && isJsonNamed(basename(path), source.alsoNamed)),
    );
  return found === undefined
    ? missing(source, `as ${source.file}`)
    : { name: basename(found), text: checkedBytes(name, found).toString('utf8') };
}

/** What is in the ZIP archive of a source: that file, or its contents in a folder of its name without .zip. */
export function readVectorArchive(name: VectorSource): VectorArchive {
  const source: Source = sources[name];
  const archive = fileNamed(source.file);
  if (archive !== undefined) {
    return { files: unzip(checkedBytes(name, archive)) };
  }
  const folder = fileNamed(basename(source.file, '.zip'));
  if (folder === undefined) {
    return missing(source, `as ${source.file}, or what is in it as a folder ${basename(source.file, '.zip')},`);
  }
  const inside = filesThere().filter((path) => path.startsWith(folder + sep) && statSync(path).isFile());
  return { files: new Map(inside.map((path) => [relative(folder, path).replaceAll(sep, '/'), readFileSync(path)])) };
}

function filesThere(): readonly string[] {
  files ??= existsSync(FOLDER)
    ? readdirSync(FOLDER, { recursive: true, encoding: 'utf8' }).map((path) => join(FOLDER, path))
    : [];
  return files;
}

function fileNamed(name: string): string | undefined {
  return filesThere().find((path) => basename(path) === name);
}

function missing({ repository, path, commit }: Source, as: string): { readonly missing: string } {
  const where = `${path} of ${repository} at commit ${commit}`;
  return { missing: `published vectors are not here: put ${where} ${as} into DEKD_VECTORS or ../shared/vectors` };
}

function checkedBytes(name: VectorSource, path: string): Buffer {
  const { file, sha256 }: Source = sources[name];
  const bytes = readFileSync(path);
  if (basename(path) === file && createHash('sha256').update(bytes).digest('hex') !== sha256) {
    console.warn(`${path} has another SHA-256 than test/vectors/sources.json names for ${name}`);
  }
  return bytes;
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
