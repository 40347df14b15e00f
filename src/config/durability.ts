/** Whether a file in a pod outlives it. */
import { readFileSync, realpathSync } from 'node:fs';
import { dirname } from 'node:path';

/**
 * Why a file at `path` dies with the pod, or undefined when it seems not to. Reads the kernel's list of mounts, on which
 * an emptyDir shows by the kubelet's folder, one in memory by tmpfs, and the image by overlay.
 *
 * @param mounts content of /proc/self/mountinfo
 */
export function lossWithPod(path: string, mounts: string = readMounts()): string | undefined {
  const folder = existingFolder(path);
  let longest = '';
  let found: { root: string; type: string } | undefined;
  for (const line of mounts.split('\n')) {
    // proc_pid_mountinfo(5): id, parent, device, root, mount point, options, optional fields, "-", type, source, options.
    const [left = '', right = ''] = line.split(' - ');
    const [, , , root, point] = left.split(' ').map(unescapeMount);
    const prefix = point === '/' ? '/' : `${point}/`;
    if (
      root !== undefined &&
      point !== undefined &&
      `${folder}/`.startsWith(prefix) &&
      prefix.length >= longest.length
    ) {
      longest = prefix;
      found = { root, type: right.split(' ')[0] ?? '' };
    }
  }
  if (found?.root.includes('/kubernetes.io~empty-dir/')) {
    return 'it is on an emptyDir';
  }
  if (found?.type === 'tmpfs') {
    return 'it is on a file system in memory';
  }
  return found?.type === 'overlay' ? 'it is in the container image, on no volume' : undefined;
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

function existingFolder(path: string): string {
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    try {
      return realpathSync(folder);
    } catch {
      if (folder === '/') {
        return folder;
      }
    }
  }
}
