import { readFileSync } from 'node:fs';

/** Where the kernel says what can be swapped, and to where. */
export interface SwapSources {
  /** Text of /proc/swaps. */
  readonly swaps: string;
  /** What the process's control group may swap: text of memory.swap.max; undefined where there is none. */
  readonly swapMax: string | undefined;
}

/**
 * Names of the swap areas on a disk that memory of this process can go to. Keys cannot: their pages are locked at every
 * level above `heap`. Plaintext and requests lie on the ordinary heap, and can.
 */
export function swapAreas({ swaps, swapMax }: SwapSources): string[] {
  if (swapMax?.trim() === '0') {
    return [];
  }
  return (
    swaps
      .split('\n')
      .slice(1)
      .map((line) => line.split(/\s+/)[0]!)
      // Compressed memory is memory still.
      .filter((name) => name !== '' && !name.startsWith('/dev/zram'))
  );
}

export function readSwapSources(): SwapSources {
  return { swaps: read('/proc/swaps') ?? '', swapMax: read(swapMaxFile(read('/proc/self/cgroup') ?? '')) };
}

/** File of the limit, of a line `0::/path` of /proc/self/cgroup (version 2). In a container the path is `/`. */
function swapMaxFile(cgroup: string): string {
  const path = /^0::(\/.*)$/m.exec(cgroup)?.[1] ?? '/';
  return `/sys/fs/cgroup${path === '/' ? '' : path}/memory.swap.max`;
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

/** What to say of it, and what to do. */
export const SWAP_REMEDY =
  'memory.swap.max 0 for the agent (MemorySwapMax=0 under systemd, NoSwap of the kubelet), swapoff, or encrypted swap';
