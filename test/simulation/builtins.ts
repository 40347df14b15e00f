/**
 * Clock, timers, random numbers, files and sockets of Node, taken over for as long as a machine runs. The program under
 * test is imported as it is: what it imports from Node is bound live, so that the whole agent and the whole client are
 * simulated without a seam of their own.
 */
import cryptoModule from 'node:crypto';
import fs, { constants } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import net from 'node:net';
import os from 'node:os';
import timersPromises from 'node:timers/promises';
import type { SimDisk } from './disk.ts';
import { type Machine, SimTimer } from './machine.ts';
import type { SimNetwork } from './network.ts';

/** Every path below it is simulated. */
export const SIM_ROOT = '/sim/';

export interface Surroundings {
  readonly machine: Machine;
  readonly network: SimNetwork;
  /** The disk that a path is on. */
  diskOf(path: string): SimDisk;
}

/** What is opened and only locked, which a world without the addon cannot do. */
const NO_DESCRIPTOR = -1_000;

type Untyped = Record<string, (...args: never[]) => unknown>;

let current: Surroundings | undefined;

/** Runs `work` in a world of its own. @throws what it throws */
export async function inWorld<T>(surroundings: Surroundings, work: () => Promise<T>): Promise<T> {
  if (current !== undefined) {
    throw new Error('one world at a time');
  }
  current = surroundings;
  try {
    return await surroundings.machine.run(work());
  } finally {
    current = undefined;
  }
}

function isSimulated(path: unknown): path is string {
  return current !== undefined && typeof path === 'string' && path.startsWith(SIM_ROOT);
}

/** Puts `make(original)` in the place of a function of `module`; without a world the original is called. */
function replace(module: object, name: string, make: (world: Surroundings, args: never[]) => unknown): void {
  const owner = module as Untyped;
  const original = owner[name]!;
  Object.defineProperty(owner, name, {
    configurable: true,
    writable: true,
    value: function (this: unknown, ...args: never[]) {
      return current === undefined ? original.apply(this, args) : make(current, args);
    },
  });
}

/** The same for a function that takes a path first: paths that are not simulated are the original's. */
function replaceFile(module: object, name: string, make: (world: Surroundings, args: never[]) => unknown): void {
  const original = (module as Untyped)[name]!;
  replace(module, name, (world, args) => (isSimulated(args[0]) ? make(world, args) : original.apply(module, args)));
}

/** Takes over what there is to take over, once for the process. Before the first world. */
export function takeOverBuiltins(): void {
  takeOverClock();
  takeOverRandom();
  takeOverFiles();
  replace(net, 'connect', ({ network }, [to]: unknown[]) =>
    network.connect(typeof to === 'string' ? { path: to } : (to as { path: string })),
  );
  replace(net, 'createServer', ({ network }, [, accept]: unknown[]) => network.server(accept as never));
  syncBuiltinESMExports();
}

function takeOverClock(): void {
  const start = (world: Surroundings, repeats: boolean, [run, ms, ...args]: unknown[]): SimTimer =>
    world.machine.timer(ms as number, () => (run as (...given: unknown[]) => void)(...args), repeats);
  replace(globalThis, 'setTimeout', (world, args) => start(world, false, args));
  replace(globalThis, 'setInterval', (world, args) => start(world, true, args));
  replace(globalThis, 'setImmediate', ({ machine }, [run, ...args]: unknown[]) => {
    const timer = new SimTimer();
    timer.event = machine.after(0, () => (run as (...given: unknown[]) => void)(...args));
    return timer;
  });
  for (const name of ['clearTimeout', 'clearInterval', 'clearImmediate']) {
    const original = (globalThis as unknown as Untyped)[name]!;
    replace(globalThis, name, (_world, [timer]: unknown[]) =>
      timer instanceof SimTimer ? timer.close() : original(timer as never),
    );
  }
  replace(timersPromises, 'setTimeout', ({ machine }, [ms, value]: unknown[]) =>
    machine.sleep(ms as number).then(() => value),
  );
  replace(performance, 'now', ({ machine }) => machine.now);
  replace(Date, 'now', ({ machine }) => Math.floor(machine.wallMs));
  replace(os, 'uptime', ({ machine }) => machine.bootMs / 1000);
  replace(AbortSignal, 'timeout', ({ machine }, [ms]: unknown[]) => {
    const controller = new AbortController();
    machine.timer(ms as number, () => controller.abort(new DOMException('time is up', 'TimeoutError')), false);
    return controller.signal;
  });
}

function takeOverRandom(): void {
  const fill = ({ machine }: Surroundings, target: Uint8Array): Uint8Array => {
    machine.bytes.fill(target);
    return target;
  };
  replace(Math, 'random', ({ machine }) => machine.bytes.fraction());
  replace(cryptoModule, 'randomBytes', (world, [length]: unknown[]) => fill(world, Buffer.alloc(length as number)));
  replace(cryptoModule, 'randomFillSync', (world, [target]: unknown[]) => fill(world, target as Uint8Array));
  replace(globalThis.crypto, 'getRandomValues', (world, [target]: unknown[]) => fill(world, target as Uint8Array));
}

function takeOverFiles(): void {
  const files = fs.promises;
  replaceFile(files, 'mkdir', (world, [path]: unknown[]) => world.diskOf(path as string).mkdir());
  replaceFile(files, 'readFile', (world, [path]: unknown[]) => world.diskOf(path as string).readFile(path as string));
  replaceFile(files, 'writeFile', (world, [path, text, options]: unknown[]) =>
    world.diskOf(path as string).writeFile(path as string, String(text), (options ?? {}) as { flush?: boolean }),
  );
  replaceFile(files, 'rename', (world, [from, to]: unknown[]) =>
    world.diskOf(from as string).rename(from as string, to as string),
  );
  replaceFile(files, 'rm', (world, [path]: unknown[]) => world.diskOf(path as string).rm(path as string));
  replaceFile(files, 'open', (world, [path, flags]: unknown[]) =>
    world.diskOf(path as string).open(path as string, ((flags as number) & constants.O_EXCL) !== 0),
  );
  // What a listener does in the folder of its socket.
  const nothing = (): void => undefined;
  replaceFile(fs, 'statSync', ({ network }, [path]: unknown[]) => network.statOf(path as string));
  replaceFile(fs, 'existsSync', ({ network }, [path]: unknown[]) => network.statOf(path as string) !== undefined);
  replaceFile(fs, 'lstatSync', ({ network }, [path]: unknown[]) => network.statOf(path as string));
  replaceFile(fs, 'renameSync', ({ network }, [from, to]: unknown[]) => network.rename(from as string, to as string));
  replaceFile(fs, 'rmSync', ({ network }, [path]: unknown[]) => network.remove(path as string));
  replaceFile(fs, 'openSync', () => NO_DESCRIPTOR);
  replaceFile(fs, 'mkdirSync', nothing);
  replaceFile(fs, 'chmodSync', nothing);
  const { closeSync } = fs;
  replace(fs, 'closeSync', (_world, [fd]: unknown[]) => fd === NO_DESCRIPTOR || closeSync(fd as number));
}
