/**
 * A process in the image as a runtime of containers starts it: process and mount namespaces of its own, the image as a read-only
 * root, volumes on it, a uid, no capability and no way to new privileges. Networks are the machine's, as those of one pod are one.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { childrenOf } from '../../support/processes.ts';

export interface Mount {
  /** A folder of the machine, which keeps its owner and mode. */
  readonly folder: string;
  readonly at: string;
  readonly readOnly: boolean;
}

export interface ContainerOptions {
  readonly root: string;
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
  readonly mounts: readonly Mount[];
  readonly env: Readonly<Record<string, string>>;
  readonly argv: readonly string[];
  /** Bytes that may be locked in memory. */
  readonly memlock?: number;
}

const DEVICES = ['null', 'zero', 'full', 'random', 'urandom'];
/** What `chroot` and the change of user need; both are gone with the uid. */
const BOUNDING = '-all,+sys_chroot,+setuid,+setgid';

export class Container implements AsyncDisposable {
  readonly #child: ChildProcess;
  /** Standard output and standard error. */
  said = '';
  /** Resolves with the exit code. */
  readonly ended: Promise<number | null>;

  private constructor(options: ContainerOptions) {
    // Where a runtime makes the points to mount on, too, before the root becomes read-only.
    for (const { at } of options.mounts) {
      mkdirSync(join(options.root, at), { recursive: true });
    }
    const { memlock = 8 << 20 } = options;
    const argv = ['sh', '-ec', scriptOf(options), 'sh', ...options.argv];
    this.#child = spawn(
      'prlimit',
      [`--memlock=${memlock}`, '--core=0', 'unshare', '--mount', '--pid', '--ipc', '--fork', ...argv],
      { env: { PATH: process.env.PATH, ...options.env }, stdio: ['ignore', 'pipe', 'pipe'] },
    );
    for (const stream of [this.#child.stdout!, this.#child.stderr!]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.said += text;
      });
    }
    this.ended = once(this.#child, 'close').then(([code]) => code as number | null);
  }

  static start(options: ContainerOptions): Container {
    return new Container(options);
  }

  /** @returns what it wrote and its exit code */
  static async run(options: ContainerOptions): Promise<{ readonly code: number | null; readonly said: string }> {
    const container = new Container(options);
    const code = await container.ended;
    return { code, said: container.said };
  }

  /** Process 1 of the container, as this machine numbers it. */
  get pid(): number {
    return childrenOf(this.#child.pid!)[0]!;
  }

  /** Waits until it has written `text`. @throws Error with what it wrote when it ends before that */
  async says(text: string): Promise<void> {
    while (!this.said.includes(text)) {
      const wrote = new Promise((resolve) => {
        this.#child.stdout!.once('data', resolve);
        this.#child.stderr!.once('data', resolve);
      });
      const code = await Promise.race([wrote.then(() => undefined), this.ended.then((ended) => `${ended}`)]);
      if (code !== undefined && !this.said.includes(text)) {
        throw new Error(`it ended with ${code}: ${this.said}`);
      }
    }
  }

  kill(signal: NodeJS.Signals): void {
    process.kill(this.pid, signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      // Not what started it: with the change of user the kernel forgets that they were to die together.
      this.kill('SIGKILL');
      await this.ended;
    }
  }
}

function scriptOf({ root, mounts, uid, gid, groups }: ContainerOptions): string {
  const at = (path: string): string => quoted(join(root, path));
  return [
    `mount --bind ${quoted(root)} ${quoted(root)}`,
    `mount -o remount,bind,ro ${quoted(root)}`,
    `mount -t proc proc ${at('proc')}`,
    `mount -t tmpfs -o size=64k,mode=755 tmpfs ${at('dev')}`,
    ...DEVICES.flatMap((name) => [`: > ${at(`dev/${name}`)}`, `mount --bind /dev/${name} ${at(`dev/${name}`)}`]),
    ...mounts.flatMap(({ folder, at: point, readOnly }) => [
      `mount --bind ${quoted(folder)} ${at(point)}`,
      ...(readOnly ? [`mount -o remount,bind,ro ${at(point)}`] : []),
    ]),
    // The root of the process is the root of its mounts, as pivot_root makes it: /proc/self/mountinfo says so.
    `exec setpriv --no-new-privs --inh-caps=-all --bounding-set=${BOUNDING} ` +
      `chroot --userspec=${uid}:${gid} --groups=${groups.join(',') || `${gid}`} ${quoted(root)} "$@"`,
  ].join('\n');
}

function quoted(path: string): string {
  return `'${path.replaceAll("'", "'\\''")}'`;
}
