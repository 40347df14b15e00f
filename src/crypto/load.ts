import { DekdError } from '../errors.ts';
import type { Engine, EngineShare, LockLevel } from './engine.ts';
import type { JsEngineOptions } from './js-engine.ts';

export interface EngineOptions {
  /** `auto` takes native, else node with the reason; `native` fails hard; `noble` only by name. */
  readonly engine: 'auto' | 'native' | 'node' | 'noble';
  /** Below this level loading fails; `heap` accepts everything. */
  readonly minimumLockLevel: LockLevel;
  /** No random bytes drawn ahead, for images that may be resumed twice. */
  readonly snapshotSafe: boolean;
  /** Key slots of the JavaScript engines, 1,024 unless given; the native table is what may be locked. */
  readonly capacity?: number;
  /** Whether workers will use the keys (`attachEngine`); costs the JavaScript engines a second copy of each. */
  readonly isShared?: boolean;
}

export interface LoadedEngine {
  readonly engine: Engine;
  /** Why `auto` did not take native; absent when it did, or when an engine was named. */
  readonly fallback?: string;
}

const LEVELS: readonly LockLevel[] = ['heap', 'locked', 'secret'];

/**
 * Loads one engine and nothing of the others.
 * @throws UNSUPPORTED with the remedy when the engine named does not load or locks less than `minimumLockLevel`.
 */
export async function loadEngine(options: EngineOptions): Promise<LoadedEngine> {
  const loaded = await choose(options);
  const { lockLevel, lockReason, name } = loaded.engine.info;
  if (LEVELS.indexOf(lockLevel) < LEVELS.indexOf(options.minimumLockLevel)) {
    loaded.engine.close();
    const because = loaded.fallback ?? lockReason;
    const remedy =
      name === 'native' ? 'raise RLIMIT_MEMLOCK to 64 KiB or more' : 'build the addon (npm run build:native)';
    throw new DekdError(
      'UNSUPPORTED',
      `the ${name} engine keeps keys at level ${lockLevel}, below ${options.minimumLockLevel}: ${because}; ` +
        `${remedy}, or allow insecure memory in the configuration`,
    );
  }
  return loaded;
}

async function choose(options: EngineOptions): Promise<LoadedEngine> {
  switch (options.engine) {
    case 'node':
      return { engine: await loadNode(options) };
    case 'noble': {
      const { NobleEngine } = await import('./noble.ts');
      return { engine: new NobleEngine(jsOptions(options)) };
    }
    case 'native':
      try {
        return { engine: await loadNative(options) };
      } catch (error) {
        throw new DekdError(
          'UNSUPPORTED',
          `the native engine does not load: ${reasonOf(error)}; build it with npm run build:native, ` +
            'or choose DEKD_ENGINE=node and allow insecure memory',
          { cause: error },
        );
      }
    case 'auto':
      try {
        return { engine: await loadNative(options) };
      } catch (error) {
        return { engine: await loadNode(options), fallback: reasonOf(error) };
      }
    default:
      throw new DekdError('INVALID_ARGUMENT', `engine ${String(options.engine)} is none of auto, native, node, noble`);
  }
}

async function loadNode(options: EngineOptions): Promise<Engine> {
  const { NodeEngine } = await import('./node.ts');
  return new NodeEngine(jsOptions(options));
}

async function loadNative(options: EngineOptions): Promise<Engine> {
  const { NativeEngine } = await import('./native.ts');
  // The level is checked by the caller, for all engines in one place and with one remedy.
  return new NativeEngine({ snapshotSafe: options.snapshotSafe });
}

function jsOptions({ snapshotSafe, capacity, isShared = false }: EngineOptions): JsEngineOptions {
  return { snapshotSafe, isShared, ...(capacity === undefined ? {} : { capacity }) };
}

/**
 * In a worker: an engine over the keys of the one that `share` came from. It makes no keys, and closing it destroys none
 * but its own. @throws UNSUPPORTED when the addon does not load
 */
export async function attachEngine({ name, snapshotSafe, keys }: EngineShare): Promise<Engine> {
  const options = { snapshotSafe, ...(keys === undefined ? {} : { sharedKeys: keys }) };
  switch (name) {
    case 'native': {
      const { NativeEngine } = await import('./native.ts');
      return new NativeEngine({ snapshotSafe });
    }
    case 'node': {
      const { NodeEngine } = await import('./node.ts');
      return new NodeEngine(options);
    }
    case 'noble': {
      const { NobleEngine } = await import('./noble.ts');
      return new NobleEngine(options);
    }
  }
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
