// Regenerates src/protocol/generated from dekd.proto; with --check, fails when the committed code differs.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const target = join(root, 'src/protocol/generated');
const work = mkdtempSync(join(tmpdir(), 'dekd-proto-'));
const script = join(work, 'dekd.js');
const pbjs = join(root, 'node_modules/protobufjs-cli/bin/pbjs');
const pbts = join(root, 'node_modules/protobufjs-cli/bin/pbts');

try {
  const code = (output, ...more) =>
    execFileSync(process.execPath, [
      pbjs,
      '-t',
      'static-module',
      '-w',
      'esm',
      '--es6',
      '-r',
      'dekd',
      '--force-number',
      '--no-create',
      '--no-verify',
      '--no-convert',
      '--no-delimited',
      '--no-typeurl',
      '--no-service',
      ...more,
      '-o',
      output,
      join(root, 'proto/dekd.proto'),
    ]);
  // The declarations are read from the comments, which the code itself then goes without.
  const commented = join(work, 'commented.js');
  code(commented);
  execFileSync(process.execPath, [pbts, '-o', join(work, 'dekd.d.ts'), commented]);
  code(script, '--no-comments');
  const files = { 'dekd.js': readFileSync(script, 'utf8'), 'dekd.d.ts': readFileSync(join(work, 'dekd.d.ts'), 'utf8') };
  if (process.argv.includes('--check')) {
    for (const [name, text] of Object.entries(files)) {
      if (readFileSync(join(target, name), 'utf8') !== text) {
        console.error(`src/protocol/generated/${name} is not what dekd.proto makes: run npm run proto`);
        process.exitCode = 1;
      }
    }
  } else {
    mkdirSync(target, { recursive: true });
    for (const [name, text] of Object.entries(files)) {
      writeFileSync(join(target, name), text);
    }
  }
} finally {
  rmSync(work, { recursive: true, force: true });
}
