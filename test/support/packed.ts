/** Both packages as people get them: packed from a copy of this tree. */
import { copyFileSync, existsSync, mkdirSync, symlinkSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { copySources, ROOT, readJson, run } from './source-copy.ts';

/** Packs `dekd-VERSION.tgz` and `dekd-client-VERSION.tgz`, and puts them into `target`. @throws with what npm said */
export async function packBoth(work: string, target: string): Promise<void> {
  const clone = join(work, 'clone');
  await copySources(clone);
  symlinkSync(join(ROOT, 'node_modules'), join(clone, 'node_modules'));
  // The addon of this tree, where it is of these very sources; else packing builds it.
  const release = join(ROOT, 'build/Release');
  if (existsSync(join(release, 'addon.sources'))) {
    mkdirSync(join(clone, 'build/Release'), { recursive: true });
    for (const name of ['addon.node', 'addon.sources']) {
      copyFileSync(join(release, name), join(clone, 'build/Release', name));
    }
  }
  const path = [dirname(process.execPath), process.env.PATH].join(delimiter);
  const env = { ...process.env, PATH: path, NODE_OPTIONS: '' };
  // The first builds what the second packs.
  for (const folder of [[], ['./dist/client-package']]) {
    const packed = await run('npm', ['pack', ...folder, '--pack-destination', target], { cwd: clone, env });
    if (packed.code !== 0) {
      throw new Error(packed.stdout + packed.stderr);
    }
  }
  const { version } = readJson(join(ROOT, 'package.json'));
  for (const name of ['dekd', 'dekd-client']) {
    if (!existsSync(join(target, `${name}-${version}.tgz`))) {
      throw new Error(`npm pack made no ${name}-${version}.tgz`);
    }
  }
}
