import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { DekdError } from '../../errors.ts';
import { isVaultName, isVaultPath } from '../../vault/vault-path.ts';
import type { KvMount, KvNames } from './kv-mount.ts';

/** What an entry holds: JSON. Null for nothing: a path that was written once is never free of a version again. */
export type Value = unknown;

/** An entry that no writer is in the middle of. */
export interface Settled {
  readonly path: string;
  readonly value: Value;
  /** What the next write must find. */
  readonly version: number;
}

export interface Change extends Settled {
  /** What is there instead from now on. */
  readonly next: Value;
  /** Whether the versions before this one are destroyed. */
  readonly shred?: boolean;
}

interface Pending {
  readonly intent: string;
  readonly next: Value;
}

interface Intent {
  readonly id: string;
  readonly state: 'open' | 'committed' | 'aborted';
  readonly paths: readonly string[];
  readonly shred: readonly string[];
  readonly version: number;
}

const INTENTS = 'intents';
const INTENT_PAGE = 100;
/**
 * How long an undecided change of another writer is waited for before it is taken for dead: more than the few requests
 * between its first mark and its decision. Only progress depends on it; a writer that is slower loses, and learns it.
 */
const DEFAULT_GRACE_MS = 2000;
const FIRST_PAUSE_MS = 2;
const LONGEST_PAUSE_MS = 50;
/** Attempts of one change against other writers; each loses only to one that won. */
const MAX_ATTEMPTS = 8;

/**
 * Entries of a key-value engine that change together, all or none. The engine itself decides one path at a time, by
 * check-and-set, and everything is built on that:
 *
 * 1. An intent is written: a path of its own that says `open` and names the entries.
 * 2. Each entry, in order of path, is marked with the intent and what it is to hold; it still holds what it held.
 * 3. The intent is set from `open` to `committed`. This one write is the change: from here on every marked entry *is*
 *    what its mark says, for everybody who reads it.
 * 4. The marks are resolved, what is shredded is destroyed, and the intent is removed, in this order.
 *
 * Whoever meets a mark looks at its intent. Committed: the new value, and steps 4 are done for the writer that may have
 * died. Open: the old value; a reader goes on with it, a writer waits a little, then sets the intent to `aborted`, which
 * is the same check-and-set as step 3, so that exactly one of the two happens. No intent: it was aborted and removed while
 * a late request of its writer was on the way; a committed one stays until no mark is left. So a crash between any two
 * requests leaves something that every later reader understands in one way, and `reconcile` cleans up.
 *
 * A change of one entry that shreds nothing is one write and needs none of this. Marks are set in order of path, so that
 * of several writers the first to mark the first entry goes on: they never stop each other in a circle.
 *
 * Nothing is ever removed but intents: removal knows no check-and-set. An entry without a value stays as a path.
 */
export class Entries {
  readonly #mount: KvMount;
  readonly #graceMs: number;

  constructor(mount: KvMount, graceMs = DEFAULT_GRACE_MS) {
    this.#mount = mount;
    this.#graceMs = graceMs;
  }

  /** The value at this moment. */
  async read(path: string): Promise<Value> {
    for (;;) {
      const { value, pending, version } = await this.#stored(path);
      if (pending === undefined) {
        return value;
      }
      const intent = await this.#intent(pending.intent);
      if (intent?.state === 'open') {
        return value;
      }
      if (intent !== undefined) {
        // Its writer may be doing the same, or be dead. What fails here is met again.
        await this.#resolve(intent).catch(() => undefined);
        return intent.state === 'committed' ? pending.next : value;
      }
      if ((await this.#mount.read(path)).version === version) {
        await this.#dropMark(path, value, version).catch(() => undefined);
        return value;
      }
    }
  }

  /** The value for a writer, who writes only over an entry that nobody else is changing. */
  async settled(path: string): Promise<Settled> {
    const deadline = performance.now() + this.#graceMs;
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
      const { value, pending, version } = await this.#stored(path);
      if (pending === undefined) {
        return { path, value, version };
      }
      const intent = await this.#intent(pending.intent);
      if (intent === undefined) {
        // A committed intent is gone only after its marks: what has not changed since was never committed.
        if ((await this.#mount.read(path)).version === version) {
          await this.#dropMark(path, value, version);
        }
      } else if (intent.state !== 'open') {
        await this.#resolve(intent);
      } else if (performance.now() < deadline) {
        await sleep(pause);
      } else {
        await this.#decide(intent, 'aborted');
      }
    }
  }

  /**
   * Makes the changes that `plan` says, all or none. `plan` reads what it needs through `settled`, and is asked again when
   * one of those entries changed meanwhile; what it throws ends the attempt.
   * @throws CONFLICT after too many attempts; KEYSTORE_UNAVAILABLE, after which it may have happened or not
   */
  async change(plan: () => Promise<readonly Change[]>): Promise<void> {
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const changes = await plan();
      const [only] = changes;
      if (only === undefined) {
        return;
      }
      const isDone =
        changes.length === 1 && only.shred !== true
          ? (await this.#mount.write(only.path, { value: only.next }, only.version)) !== undefined
          : await this.#changeTogether(changes);
      if (isDone) {
        return;
      }
    }
    throw new DekdError('CONFLICT', 'the record is being changed by others');
  }

  /** Names in `folder` after `after`, of entries with a value and without. */
  list(folder: string, after: string, limit: number): Promise<KvNames> {
    return this.#mount.list(folder, after, limit);
  }

  /** Ends what writers left in the middle; waits for those that may be alive. */
  async reconcile(): Promise<void> {
    for (let after: string | undefined = ''; after !== undefined; ) {
      const { names, next }: KvNames = await this.#mount.list(INTENTS, after, INTENT_PAGE);
      await Promise.all(names.map((id) => this.#end(id)));
      after = next;
    }
  }

  async #end(id: string): Promise<void> {
    const deadline = performance.now() + this.#graceMs;
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
      const intent = await this.#intent(id);
      if (intent === undefined) {
        return;
      }
      if (intent.state !== 'open') {
        await this.#resolve(intent);
        return;
      }
      if (performance.now() < deadline) {
        await sleep(pause);
      } else {
        await this.#decide(intent, 'aborted');
      }
    }
  }

  /** @returns false when another writer was faster: nothing changed */
  async #changeTogether(changes: readonly Change[]): Promise<boolean> {
    const ordered = [...changes].sort((a, b) => (a.path < b.path ? -1 : 1));
    const content = {
      id: randomUUID(),
      paths: ordered.map(({ path }) => path),
      shred: ordered.filter(({ shred }) => shred === true).map(({ path }) => path),
    };
    const version = await this.#mount.write(intentPath(content.id), { ...content, state: 'open' }, 0);
    if (version === undefined) {
      return false;
    }
    const intent: Intent = { ...content, state: 'open', version };
    try {
      for (const { path, value, next, version: expected } of ordered) {
        const pending: Pending = { intent: intent.id, next };
        if ((await this.#mount.write(path, { value, pending }, expected)) === undefined) {
          await this.#abort(intent);
          return false;
        }
      }
    } catch (error) {
      await this.#abort(intent);
      throw error;
    }
    try {
      if (!(await this.#decide(intent, 'committed'))) {
        await this.#abort(intent);
        return false;
      }
    } catch (error) {
      if (!(await this.#isCommitted(intent).catch(() => false))) {
        throw error;
      }
    }
    // It has happened: what is left to clean up is no reason to say otherwise.
    await this.#resolve({ ...intent, state: 'committed' }).catch(() => undefined);
    return true;
  }

  /** Ends an own change that was surely not committed. What fails is met by the next writer. */
  async #abort(own: Intent): Promise<void> {
    try {
      await this.#decide(own, 'aborted');
      await this.#resolve({ ...own, state: 'aborted' });
    } catch {
      // As said above.
    }
  }

  /** Whether an own change, whose decision got no answer, was committed; if it is still open, it is aborted. */
  async #isCommitted(own: Intent): Promise<boolean> {
    const isAborted = await this.#decide(own, 'aborted');
    const intent = isAborted ? { ...own, state: 'aborted' as const } : await this.#intent(own.id);
    if (intent === undefined) {
      return false;
    }
    await this.#resolve(intent).catch(() => undefined);
    return intent.state === 'committed';
  }

  /** @returns whether it was this write that decided */
  async #decide({ id, paths, shred, version }: Intent, state: 'committed' | 'aborted'): Promise<boolean> {
    return (await this.#mount.write(intentPath(id), { id, paths, shred, state }, version)) !== undefined;
  }

  /** Puts what is decided into every entry, then removes the intent. */
  async #resolve(intent: Intent): Promise<void> {
    await Promise.all(intent.paths.map((path) => this.#resolveEntry(path, intent)));
    await this.#mount.remove(intentPath(intent.id));
  }

  async #resolveEntry(path: string, { id, state, shred }: Intent): Promise<void> {
    let stored = await this.#stored(path);
    while (stored.pending?.intent === id) {
      const value = state === 'committed' ? stored.pending.next : stored.value;
      const version = await this.#mount.write(path, { value }, stored.version);
      stored = version === undefined ? await this.#stored(path) : { value, pending: undefined, version };
    }
    // An aborted creation leaves no value, and must leave no wrapped bytes either.
    const isShredded = state === 'committed' ? shred.includes(path) : stored.value === null;
    if (isShredded && stored.version > 1) {
      await this.#mount.destroy(path, stored.version - 1);
    }
  }

  /** Takes away a mark whose intent is gone. */
  async #dropMark(path: string, value: Value, version: number): Promise<void> {
    if ((await this.#mount.write(path, { value }, version)) !== undefined && value === null) {
      await this.#mount.destroy(path, version);
    }
  }

  async #stored(path: string): Promise<{ value: Value; pending: Pending | undefined; version: number }> {
    const { data, version } = await this.#mount.read(path);
    const pending = data?.pending as Partial<Pending> | null | undefined;
    return {
      value: data?.value ?? null,
      // A mark that cannot be one of ours is none: it must not keep the entry from being read.
      pending: isText(pending?.intent, isVaultName)
        ? { intent: pending.intent, next: pending.next ?? null }
        : undefined,
      version,
    };
  }

  async #intent(id: string): Promise<Intent | undefined> {
    const { data, version } = await this.#mount.read(intentPath(id));
    if (data === undefined) {
      return undefined;
    }
    const { state } = data;
    return {
      id,
      // Whatever was not committed did not happen.
      state: state === 'committed' || state === 'open' ? state : 'aborted',
      paths: pathsOf(data.paths),
      shred: pathsOf(data.shred),
      version,
    };
  }
}

function intentPath(id: string): string {
  return `${INTENTS}/${id}`;
}

function pathsOf(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((path) => isText(path, isVaultPath)) : [];
}

function isText(value: unknown, check: (text: string) => boolean): value is string {
  return typeof value === 'string' && check(value);
}
