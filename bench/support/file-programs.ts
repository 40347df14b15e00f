/** `age` to a recipient of its own, and `openssl enc`: what people put files through today. */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runTool } from './tools.ts';

/** A way of encrypting a file by a program, checked once before it is timed. */
export interface FileProgram {
  encrypt(source: string, target: string): Promise<void>;
}

const CHECKED_BYTES = 100_000;

/** @param folder keeps its identity, and what the check writes */
export async function ageProgram(folder: string): Promise<FileProgram> {
  const identity = join(folder, 'age.txt');
  await runTool('age-keygen', ['-o', identity]);
  const recipient = /public key: (\S+)/.exec(readFileSync(identity, 'utf8'))![1]!;
  return checked('age', folder, {
    encrypt: (source, target) => runTool('age', ['-r', recipient, '-o', target, source]),
    decrypt: (source, target) => runTool('age', ['-d', '-i', identity, '-o', target, source]),
  });
}

/** AES-256-CTR: `openssl enc` has no authenticated mode, so this one does less than all others. */
export function opensslProgram(folder: string): Promise<FileProgram> {
  const key = ['-K', randomBytes(32).toString('hex'), '-iv', randomBytes(16).toString('hex')];
  const run = (way: string[], source: string, target: string) =>
    runTool('openssl', ['enc', ...way, '-aes-256-ctr', ...key, '-in', source, '-out', target]);
  return checked('openssl', folder, {
    encrypt: (source, target) => run([], source, target),
    decrypt: (source, target) => run(['-d'], source, target),
  });
}

async function checked(
  name: string,
  folder: string,
  program: FileProgram & { decrypt(source: string, target: string): Promise<void> },
): Promise<FileProgram> {
  const [plain, sealed, opened] = ['plain', 'sealed', 'opened'].map((part) => join(folder, `${name}-${part}`));
  const bytes = randomBytes(CHECKED_BYTES);
  writeFileSync(plain!, bytes);
  await program.encrypt(plain!, sealed!);
  await program.decrypt(sealed!, opened!);
  if (!readFileSync(opened!).equals(bytes) || readFileSync(sealed!).includes(bytes.subarray(0, 64))) {
    throw new Error(`${name} does not open what it made, or does not encrypt`);
  }
  return program;
}

/** Waits until a file is on the disk. */
export function syncFile(path: string): void {
  if (spawnSync('sync', [path]).status !== 0) {
    throw new Error(`${path} was not synced`);
  }
}
