import { describe, expect, it } from 'vitest';
import { swapAreas } from '../../src/agent/swap.ts';
import { swapFinding } from '../../src/cli/doctor/host.ts';

const HEADER = 'Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n';
const DISK = `${HEADER}/dev/sda2                               partition\t8388604\t\t0\t\t-2\n`;

describe('memory of an agent that can be swapped', () => {
  it.each([
    ['without a swap area, nothing', HEADER, undefined, []],
    ['where /proc says nothing, nothing', '', undefined, []],
    [
      'with a partition and a file, both',
      `${DISK}/swap.img file\t1024\t\t0\t\t-3\n`,
      'max\n',
      ['/dev/sda2', '/swap.img'],
    ],
    ['where the control group may swap nothing, nothing', DISK, '0\n', []],
    ['where the control group may swap some of it, the area', DISK, '1048576\n', ['/dev/sda2']],
    [
      'in compressed memory, nothing: it is memory still',
      `${HEADER}/dev/zram0 partition\t1\t\t0\t\t100\n`,
      undefined,
      [],
    ],
  ])('%s', (_, swaps, swapMax, areas) => {
    expect(swapAreas({ swaps, swapMax })).toEqual(areas);
  });

  it('is a warning of dekd doctor that names the area and what to do', () => {
    expect(swapFinding([])).toMatchObject({ level: 'ok' });
    expect(swapFinding(['/dev/sda2'])).toMatchObject({
      level: 'warn',
      found: expect.stringContaining('/dev/sda2'),
      remedy: expect.stringContaining('MemorySwapMax=0'),
    });
  });
});
