import { expect, it } from 'vitest';
import { progressLine } from '../../src/cli/byte-progress.ts';

it.each([
  [0, undefined, 0, '0 bytes  0 bytes/s'],
  [1_048_576, undefined, 1_000, '1.0 MiB  1.0 MiB/s'],
  [1_048_576, 4_194_304, 1_000, '1.0 MiB of 4.0 MiB  25 %  1.0 MiB/s  3 s left'],
  [0, 4_194_304, 100, '0 bytes of 4.0 MiB  0 %  0 bytes/s'],
  [5_000_000, 4_194_304, 1_000, '4.8 MiB of 4.0 MiB  100 %  4.8 MiB/s  0 s left'],
  [10, 0, 10, '10 bytes  1000 bytes/s'],
])('%i of %s bytes after %i ms', (bytes, size, elapsedMs, line) => {
  expect(progressLine(bytes, size, elapsedMs)).toBe(line);
});
