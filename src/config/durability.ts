/** Whether a file in a pod outlives it. */
import { readFileSync, realpathSync } from 'node:fs';
import { dirname } from 'node:path';

const MEMORY = new Set(['tmpfs', 'ramfs', 'hugetlbfs']);
/** Where containerd puts what a `VOLUME` of the image names and the pod mounts nothing on. */
const IMAGE_VOLUME = /\/io\.containerd\.[^/]+\/containers\/[^/]+\/volumes\//;

/**
 * Why a file at `path` dies with the pod, or undefined when it seems not to. Reads the kernel's list of mounts, on which
 * an emptyDir shows by the kubelet's folder, one in memory by its type, and the image as what is mounted on /, whatever its
 * type: overlay with most runtimes, but also btrfs, zfs, or a sandbox's own.
 *
 * @param mounts content of /proc/self/mountinfo
 */
export function lossWithPod(path: string, mounts: string = readMounts()): string | undefined {
  const existing = existingPart(path);
  let longest = '';
  let found: { root: string; point: string; type: string } | undefined;
  for (const line of mounts.split('\n')) {
    // proc_pid_mountinfo(5): id, parent, device, root, mount point, options, optional fields, "-", type, source, options.
    const [left = '', right = ''] = line.split(' - ');
    const [, , , root, point] = left.split(' ').map(unescapeMount);
    const prefix = point === '/' ? '/' : `${point}/`;
    if (
      root !== undefined &&
      point !== undefined &&
      `${existing}/`.startsWith(prefix) &&
      prefix.length >= longest.length
    ) {
      longest = prefix;
      found = { root, point, type: right.split(' ')[0] ?? '' };
    }
  }
  if (found === undefined) {
    return undefined;
  }
  const { root, point, type } = found;
  if (root.includes('/kubernetes.io~empty-dir/')) {
    return 'it is on an emptyDir';
  }
  if (MEMORY.has(type)) {
    return 'it is on a file system in memory';
  }
  return point === '/' || type === 'overlay' || IMAGE_VOLUME.test(root)
    ? 'it is in the container image, on no volume'
    : undefined;
}

function readMounts(): string {
  try {
    return readFileSync('/proc/self/mountinfo', 'utf8');
  } catch {
    return '';
  }
}

/** mountinfo writes space, tab, newline and backslash in octal. */
function unescapeMount(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/** The file itself, or the innermost folder of its path that is there. */
function existingPart(path: string): string {
  for (let part = path; ; part = dirname(part)) {
    try {
      return realpathSync(part);
    } catch {
      if (part === '/') {
        return part;
      }
    }
  }
}
