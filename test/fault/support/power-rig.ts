/** A small ext4 in a file, whose power can be cut. Needs root, loop devices and mount. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const SOURCE = fileURLToPath(new URL('power_cut.cc', import.meta.url));
const IMAGE_BYTES = 64 * 1024 * 1024;

export class PowerRig implements Disposable {
  readonly mountPoint: string;
  readonly #image: string;
  readonly #program: string;

  private constructor(folder: string) {
    this.mountPoint = join(folder, 'disk');
    this.#image = join(folder, 'disk.img');
    this.#program = join(folder, 'power_cut');
  }

  /** @returns the rig, mounted, or why there is none on this machine */
  static open(folder: string): PowerRig | string {
    if (process.getuid!() !== 0) {
      return 'only root may mount a file system';
    }
    const rig = new PowerRig(folder);
    mkdirSync(rig.mountPoint);
    writeFileSync(rig.#image, '');
    truncateSync(rig.#image, IMAGE_BYTES);
    for (const [command, ...args] of [
      ['g++', '-O1', '-o', rig.#program, SOURCE],
      ['mkfs.ext4', '-q', rig.#image],
      ['mount', '-o', 'loop', rig.#image, rig.mountPoint],
    ] as [string, ...string[]][]) {
      const run = spawnSync(command, args, { encoding: 'utf8' });
      if (run.status !== 0) {
        return `no power cuts here: ${command}: ${run.error?.message ?? run.stderr.trim()}`;
      }
    }
    return rig;
  }

  /** From now on nothing gets to the device. */
  cut(): void {
    execFileSync(this.#program, [this.mountPoint]);
  }

  /** Mounts again what is on the device; its journal is replayed. Nothing may have a file open. */
  restore(): void {
    execFileSync('umount', [this.mountPoint]);
    execFileSync('mount', ['-o', 'loop', this.#image, this.mountPoint]);
  }

  [Symbol.dispose](): void {
    spawnSync('umount', [this.mountPoint]);
    rmSync(this.#image, { force: true });
  }
}
