/** The scanner of another process's memory (memory_scanner.cc), compiled for the occasion. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { StoredKey } from './stored-keys.ts';

const SOURCE = fileURLToPath(new URL('memory_scanner.cc', import.meta.url));
const MASK = 0xa5;

export interface Scan {
  /** Runs of pages in use. */
  readonly regions: number;
  /** Bytes read. */
  readonly bytes: number;
  /** Bytes that the kernel did not give. */
  readonly refused: number;
  readonly ms: number;
  /** How often each pattern was found, by `FORM:label`; those not found are absent. */
  readonly hits: Readonly<Record<string, number>>;
}

/** The forms in which a key may have leaked, each as the bytes to look for. */
export function formsOf({ label, bytes }: StoredKey): [string, Buffer][] {
  const base64 = bytes.toString('base64').replace(/=+$/, '');
  const hex = bytes.toString('hex');
  const base64url = bytes.toString('base64url');
  return [
    [`raw:${label}`, bytes],
    [`base64:${label}`, Buffer.from(base64)],
    ...(base64url === base64 ? [] : ([[`base64url:${label}`, Buffer.from(base64url)]] as [string, Buffer][])),
    [`hex:${label}`, Buffer.from(hex)],
    [`HEX:${label}`, Buffer.from(hex.toUpperCase())],
    [`base64-utf16:${label}`, Buffer.from(base64, 'utf16le')],
    [`hex-utf16:${label}`, Buffer.from(hex, 'utf16le')],
  ];
}

export class MemoryScanner implements Disposable {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  private constructor(child: ChildProcess, lines: AsyncIterator<string>) {
    this.#child = child;
    this.#lines = lines;
  }

  /** @param folder where the program is compiled to */
  static async open(folder: string, pid: number, keys: readonly StoredKey[]): Promise<MemoryScanner> {
    const program = join(folder, 'memory_scanner');
    execFileSync('g++', ['-O2', '-std=c++20', '-o', program, SOURCE], { stdio: 'inherit' });
    const child = spawn(program, [String(pid)], { stdio: ['pipe', 'pipe', 'inherit'] });
    await once(child, 'spawn');
    const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
    for (const [label, bytes] of keys.flatMap(formsOf)) {
      child.stdin!.write(`${label} ${Buffer.from(bytes.map((byte) => byte ^ MASK)).toString('hex')}\n`);
    }
    child.stdin!.write('\n');
    return new MemoryScanner(child, lines);
  }

  async scan(): Promise<Scan> {
    this.#child.stdin!.write('scan\n');
    const line = await this.#lines.next();
    if (line.done) {
      throw new Error('the memory scanner ended');
    }
    return JSON.parse(line.value) as Scan;
  }

  [Symbol.dispose](): void {
    this.#child.kill();
  }
}
