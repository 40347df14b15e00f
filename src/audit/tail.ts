/** What the agent before left at the end of its file. */

import { hash } from 'node:crypto';
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import type { RecordFields } from './format.ts';
import { MAX_LINE, macOf } from './format.ts';

/** More than a block and the line that ends it. */
const TAIL_BYTES = 4 * MAX_LINE;

/**
 * For the first record of the next run: `previous`, the last line with a MAC, and `torn`, what stands behind it, which a kill
 * left without one. Nothing where there is no such file.
 */
export function tailOf(path: string): RecordFields {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch {
    return {};
  }
  try {
    const { size } = fstatSync(fd);
    const tail = readAt(fd, Math.max(0, size - TAIL_BYTES), Math.min(size, TAIL_BYTES));
    let end = tail.length;
    for (let next = end; next > 0; ) {
      const lineEnd = tail.lastIndexOf(0x0a, next - 1);
      if (lineEnd < 0) {
        break;
      }
      const start = tail.lastIndexOf(0x0a, lineEnd - 1) + 1;
      const line = tail.subarray(start, lineEnd);
      const sealed = lineEnd === 0 ? undefined : macOf(line);
      if (sealed !== undefined) {
        const seq = Number(/^\{"audit":(\d+),/.exec(line.toString('latin1', 0, 64))?.[1]);
        end = lineEnd + 1;
        return {
          previous: { run: runOf(fd), seq, mac: sealed.mac },
          ...(end < tail.length ? { torn: tornOf(tail.subarray(end)) } : {}),
        };
      }
      next = lineEnd;
    }
    return size === 0 ? {} : { torn: tornOf(tail) };
  } finally {
    closeSync(fd);
  }
}

/** What is torn, for a record: how much, and which. */
export function tornOf(bytes: Uint8Array): RecordFields {
  return { bytes: bytes.length, sha256: hash('sha256', bytes, 'hex') };
}

/** Which run wrote the file, as its first line says. */
function runOf(fd: number): string {
  const first = readAt(fd, 0, MAX_LINE);
  const end = first.indexOf(0x0a);
  try {
    return String((JSON.parse(first.toString('utf8', 0, end)) as { run?: unknown }).run ?? '');
  } catch {
    return '';
  }
}

function readAt(fd: number, position: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  let filled = 0;
  while (filled < length) {
    const count = readSync(fd, bytes, filled, length - filled, position + filled);
    if (count === 0) {
      break;
    }
    filled += count;
  }
  return bytes.subarray(0, filled);
}
