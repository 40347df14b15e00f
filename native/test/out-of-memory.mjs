// Builds out_of_memory.cc with the core and failing_memory.c, and runs it.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const native = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const folder = join(native, '..', 'build', 'core-test', 'memory');
mkdirSync(folder, { recursive: true });

function run(command, args, env = process.env) {
  const { status, signal } = spawnSync(command, args, { stdio: 'inherit', env });
  if (status !== 0) {
    console.error(`${command}: ${signal ?? `exit code ${status}`}`);
    process.exit(1);
  }
}

const core = readFileSync(join(native, 'sources.txt'), 'utf8')
  .split('\n')
  .filter((line) => line.startsWith('core/'))
  .map((line) => join(native, line));
const library = join(folder, 'failing_memory.so');
const program = join(folder, 'out_of_memory');
// Volatile and global: what the compiler knows of malloc it must forget here.
run('gcc', ['-shared', '-fPIC', '-O1', '-fno-builtin', '-o', library, join(native, 'test/failing_memory.c'), '-ldl']);
const flags = ['-std=c++20', '-O1', '-g', '-fno-exceptions', '-Wall', '-Wextra'];
run(process.env.CXX ?? 'g++', [
  ...flags,
  ...core,
  join(native, 'test/out_of_memory.cc'),
  '-lcrypto',
  '-lpthread',
  '-o',
  program,
]);
run(program, [], { ...process.env, LD_PRELOAD: library });
