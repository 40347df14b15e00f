/** Notices that the configuration file is another one. */
import { stat } from 'node:fs/promises';

/** Mounted volumes are swapped by renaming a symbolic link, which `stat` follows and inotify on the file does not notice. */
const INTERVAL_MS = 2_000;

/**
 * Calls `changed` whenever the file at `path`, or the one that its links lead to, was replaced or written, and once at the
 * first look: what was read at start may be older than that. Not while there is none. Keeps no process alive.
 */
export function watchConfig(path: string, changed: () => void): void {
  let last = '';
  const look = async (): Promise<void> => {
    try {
      const { ino, mtimeMs, size } = await stat(path);
      const now = `${ino} ${mtimeMs} ${size}`;
      if (now !== last) {
        last = now;
        changed();
      }
    } catch {
      // Between two volumes there may be no file for a moment.
    }
  };
  setInterval(() => void look(), INTERVAL_MS).unref();
}
