/**
 * The package as it is published, built from the sources into a folder of its own: what is measured is dist/, a build
 * that runs meanwhile changes nothing under a long proof, and another user can read it.
 */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

export class PrivatePackage implements Disposable {
  readonly folder: string;
  readonly #isOurs: boolean;

  /** Builds it; `DEKD_FAULT_PACKAGE` names a folder that holds one already, unless this one is to be its owner's `alone`. */
  constructor({ alone = false }: { readonly alone?: boolean } = {}) {
    const given = alone ? undefined : process.env.DEKD_FAULT_PACKAGE;
    this.#isOurs = given === undefined;
    if (given !== undefined) {
      this.folder = given;
      return;
    }
    this.folder = mkdtempSync(join(tmpdir(), 'dekd-package-'));
    chmodSync(this.folder, 0o755);
    buildInto(this.folder);
  }

  get entry(): string {
    return join(this.folder, 'dist/cli/main.js');
  }

  get addon(): string {
    return join(this.folder, 'build/Release/addon.node');
  }

  get hasAddon(): boolean {
    return existsSync(this.addon);
  }

  /** URL of a module of dist/, such as `crypto/load`. */
  module(name: string): string {
    return pathToFileURL(join(this.folder, 'dist', `${name}.js`)).href;
  }

  /** Plants a defect in a module of a package that is nobody else's. @throws when there is no place for it */
  patch(name: string, is: string, becomes: string): void {
    const path = join(this.folder, 'dist', `${name}.js`);
    const source = readFileSync(path, 'utf8');
    if (!this.#isOurs || !source.includes(is)) {
      throw new Error(`${name} has no place for the defect`);
    }
    writeFileSync(path, source.replaceAll(is, becomes));
  }

  [Symbol.dispose](): void {
    if (this.#isOurs) {
      rmSync(this.folder, { recursive: true, force: true });
    }
  }
}

function buildInto(folder: string): void {
  const dist = join(folder, 'dist');
  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
  const args = [tsc, '-p', join(ROOT, 'tsconfig.build.json'), '--outDir', dist];
  const build = spawnSync(process.execPath, args, { encoding: 'utf8' });
  if (!existsSync(join(dist, 'cli/main.js'))) {
    throw new Error(`the package was not built: ${build.stdout}${build.stderr}`);
  }
  const sources = join(ROOT, 'src');
  for (const file of globSync('**/*.{js,json}', { cwd: sources })) {
    mkdirSync(dirname(join(dist, file)), { recursive: true });
    copyFileSync(join(sources, file), join(dist, file));
  }
  copyFileSync(join(ROOT, 'package.json'), join(folder, 'package.json'));
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
  const addon = join(ROOT, 'build/Release/addon.node');
  if (existsSync(addon)) {
    mkdirSync(join(folder, 'build/Release'), { recursive: true });
    copyFileSync(addon, join(folder, 'build/Release/addon.node'));
  }
}
