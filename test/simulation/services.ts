/** The keystore and the root keys that all agents share, and the links over which each agent reaches them. */
import { hex } from '../../src/bytes.ts';
import { DekdError } from '../../src/errors.ts';
import type { KeyRecord, KeyState, UsageLease } from '../../src/keyring/record.ts';
import type {
  Expectation,
  Keystore,
  KeystoreCapabilities,
  KeystoreHealth,
  ListFilter,
  ListPage,
} from '../../src/keystores/keystore.ts';
import { MemoryKeystore } from '../../src/keystores/memory.ts';
import type {
  KeyContext,
  Provider,
  ProviderCapabilities,
  ProviderDescription,
  ProviderHealth,
  RootReference,
  WrappedSecret,
} from '../../src/providers/provider.ts';
import { type ProviderCode, ProviderError } from '../../src/providers/provider-error.ts';
import type { FakeProvider } from '../support/fake-provider.ts';
import type { Machine } from './machine.ts';

/** A mode and since when, by both clocks. */
export interface Since<M> {
  readonly mode: M;
  readonly at: number;
  readonly bootAt: number;
}

/** How one agent reaches one service, now and before. */
export class Link<M extends string> {
  readonly name: string;
  readonly history: Since<M>[];
  readonly #machine: Machine;

  constructor(name: string, machine: Machine, mode: M) {
    this.name = name;
    this.#machine = machine;
    this.history = [{ mode, at: 0, bootAt: 0 }];
  }

  get mode(): M {
    return this.history.at(-1)!.mode;
  }

  set(mode: M): void {
    if (mode !== this.mode) {
      this.history.push({ mode, at: this.#machine.now, bootAt: this.#machine.bootMs });
      this.#machine.note(`link ${this.name}: ${mode}`);
    }
  }

  /** Whether it was nothing but `modes` since `at`. */
  wasOnly(modes: readonly M[], at: number): boolean {
    return this.history.every(({ mode }, index) => {
      const until = this.history[index + 1]?.at ?? Number.POSITIVE_INFINITY;
      return until <= at || modes.includes(mode);
    });
  }
}

/** `lossy` does what is asked for and loses some answers, as a connection does that breaks. */
export type StoreMode = 'ok' | 'slow' | 'down' | 'lossy' | 'silent';
export type RootMode =
  | 'ok'
  | 'slow'
  | 'silent'
  | 'down'
  | 'throttled'
  | 'sealed'
  | 'lossy'
  | 'expired'
  | 'refuse'
  | 'deny'
  | 'lying';

/** One change of a row, as it was at some moment. */
export interface RowState {
  readonly at: number;
  readonly state: KeyState;
  /** The root or the kid that it hangs under. */
  readonly parent: string;
}

/** The rows, and everything that they ever were. Each write is shown to `onWrite` when it is done. */
export class SharedStore {
  readonly rows = new MemoryKeystore();
  readonly history = new Map<string, RowState[]>();
  readonly records = new Map<string, KeyRecord>();
  onWrite: (record: KeyRecord) => void = () => undefined;
  readonly #machine: Machine;

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  async wrote(kids: readonly Uint8Array[]): Promise<void> {
    for (const kid of kids) {
      const record = (await this.rows.retrieve(kid))!;
      const id = hex(kid);
      const { state, parent } = record;
      const above = parent.kind === 'root' ? parent.reference.root : hex(parent.kid);
      const states = this.history.get(id) ?? [];
      states.push({ at: this.#machine.now, state, parent: above });
      this.history.set(id, states);
      this.records.set(id, record);
      this.#machine.note(
        `row ${id.slice(0, 8)} ${record.name}/${record.partition} v${record.version} ${state} seq ${record.seq} under ${above.slice(0, 8)}`,
      );
    }
    for (const kid of kids) {
      this.onWrite(this.records.get(hex(kid))!);
    }
  }
}

/** How long adapters wait for a keystore. */
const STORE_PATIENCE_MS = 5_000;

/** The keystore as one agent reaches it. */
export class LinkedKeystore implements Keystore {
  readonly kind = 'simulated';
  readonly link: Link<StoreMode>;
  readonly #store: SharedStore;
  readonly #machine: Machine;

  constructor(store: SharedStore, link: Link<StoreMode>, machine: Machine) {
    this.link = link;
    this.#store = store;
    this.#machine = machine;
  }

  store(record: KeyRecord, expect: Expectation): Promise<void> {
    return this.#ask('store', () => this.#write([record.kid], () => this.#store.rows.store(record, expect)));
  }

  retrieve(kid: Uint8Array): Promise<KeyRecord | undefined> {
    return this.#ask('retrieve', () => this.#store.rows.retrieve(kid));
  }

  versions(name: string, partition: string, purpose: string): Promise<readonly KeyRecord[]> {
    return this.#ask('versions', () => this.#store.rows.versions(name, partition, purpose));
  }

  updateMetadata(changes: readonly { readonly record: KeyRecord; readonly expect: Expectation }[]): Promise<void> {
    const kids = changes.map(({ record }) => record.kid);
    return this.#ask('update', () => this.#write(kids, () => this.#store.rows.updateMetadata(changes)));
  }

  delete(tombstone: KeyRecord, expect: Expectation): Promise<void> {
    return this.#ask('delete', () => this.#write([tombstone.kid], () => this.#store.rows.delete(tombstone, expect)));
  }

  list(filter: ListFilter, cursor: string | undefined, limit: number): Promise<ListPage> {
    return this.#ask('list', () => this.#store.rows.list(filter, cursor, limit));
  }

  leases(): Promise<readonly UsageLease[]> {
    return this.#ask('leases', () => this.#store.rows.leases());
  }

  storeLease(lease: UsageLease): Promise<void> {
    return this.#ask('lease', () => this.#store.rows.storeLease(lease));
  }

  async health(): Promise<KeystoreHealth> {
    return { ok: this.link.mode === 'ok', detail: this.link.mode };
  }

  capabilities(): KeystoreCapabilities {
    return { durable: true, writable: true, watch: false };
  }

  async close(): Promise<void> {}

  async #write(kids: readonly Uint8Array[], write: () => Promise<void>): Promise<void> {
    await write();
    await this.#store.wrote(kids);
  }

  #ask<T>(what: string, effect: () => Promise<T>): Promise<T> {
    const { chances } = this.#machine;
    const { mode } = this.link;
    const fail = (): never => {
      throw new DekdError('KEYSTORE_UNAVAILABLE', `the keystore is ${mode}`);
    };
    this.#machine.note(`${this.link.name} ${what}`);
    switch (mode) {
      case 'ok':
        return this.#machine.elsewhere(chances.fraction() * 20, chances.fraction() * 20, effect);
      case 'slow':
        return this.#machine.elsewhere(chances.between(100, 2_000), chances.between(1, 500), effect);
      case 'down':
        return this.#machine.elsewhere(chances.fraction() * 20, 0, fail);
      case 'silent':
        return this.#machine.elsewhere(STORE_PATIENCE_MS, 0, fail);
      case 'lossy': {
        const fate = chances.between(0, 3);
        return this.#machine.elsewhere(chances.between(1, 200), chances.between(1, 200), async () => {
          if (fate === 0) {
            return fail();
          }
          const result = await effect();
          return fate === 1 ? fail() : result;
        });
      }
    }
  }
}

const REFUSALS: Readonly<Partial<Record<RootMode, ProviderCode>>> = {
  down: 'UNAVAILABLE',
  throttled: 'RATE_LIMITED',
  sealed: 'SEALED',
  expired: 'UNAUTHENTICATED',
  refuse: 'KEY_DISABLED',
  deny: 'FORBIDDEN',
};

/** A root key at its service as one agent reaches it. */
export class LinkedProvider implements Provider {
  readonly root: string;
  readonly link: Link<RootMode>;
  readonly #service: FakeProvider;
  readonly #machine: Machine;
  /** When calls that have to do with keys were made, by CLOCK_MONOTONIC. */
  readonly calledAt: number[];

  constructor(service: FakeProvider, link: Link<RootMode>, machine: Machine, calledAt: number[]) {
    this.root = service.root;
    this.link = link;
    this.calledAt = calledAt;
    this.#service = service;
    this.#machine = machine;
  }

  describe(signal: AbortSignal): Promise<ProviderDescription> {
    return this.#ask('describe', signal, () => this.#service.describe(signal));
  }

  wrap(secret: Uint8Array, context: KeyContext, signal: AbortSignal): Promise<WrappedSecret> {
    // The caller wipes it when the call ends, whatever is still under way.
    const bytes = secret.slice();
    return this.#key('wrap', signal, () => this.#service.wrap(bytes, context, signal));
  }

  unwrap(wrapped: Uint8Array, reference: RootReference, context: KeyContext, signal: AbortSignal): Promise<Uint8Array> {
    return this.#key('unwrap', signal, async () => {
      const secret = await this.#service.unwrap(wrapped, reference, context, signal);
      if (this.link.mode === 'lying') {
        const length = this.#machine.chances.pick([31, 32, 32, 33]);
        const other = new Uint8Array(length);
        this.#machine.chances.fill(other);
        return other;
      }
      return secret;
    });
  }

  rewrap(
    wrapped: Uint8Array,
    reference: RootReference,
    context: KeyContext,
    signal: AbortSignal,
  ): Promise<WrappedSecret> {
    return this.#key('rewrap', signal, () => this.#service.rewrap(wrapped, reference, context, signal));
  }

  async health(depth: 'cheap' | 'deep', signal: AbortSignal): Promise<ProviderHealth> {
    try {
      return await this.#ask('look', signal, () => this.#service.health(depth, signal));
    } catch (error) {
      const { message, code } = error as ProviderError;
      return { ok: false, detail: message, code };
    }
  }

  capabilities(): ProviderCapabilities {
    return this.#service.capabilities();
  }

  async close(): Promise<void> {}

  #key<T>(what: string, signal: AbortSignal, effect: () => Promise<T>): Promise<T> {
    this.calledAt.push(this.#machine.now);
    return this.#ask(what, signal, effect);
  }

  #ask<T>(what: string, signal: AbortSignal, effect: () => Promise<T>): Promise<T> {
    const machine = this.#machine;
    const { chances } = machine;
    const { mode } = this.link;
    machine.note(`${this.link.name} ${what}`);
    const late = new Promise<never>((_resolve, reject) => {
      const timeOut = (): void => reject(new ProviderError('TIMEOUT', `root ${this.root} did not answer in time`));
      if (signal.aborted) {
        timeOut();
      }
      signal.addEventListener('abort', timeOut, { once: true });
    });
    late.catch(() => undefined);
    const code = REFUSALS[mode];
    if (code !== undefined) {
      return machine.elsewhere(chances.between(2, 40), 0, () => {
        throw new ProviderError(code, `root ${this.root}: ${code}`);
      });
    }
    switch (mode) {
      case 'silent':
        return late;
      case 'slow':
        return Promise.race([late, machine.elsewhere(chances.between(200, 4_000), chances.between(1, 1_000), effect)]);
      case 'lossy':
        // Done, and the answer is lost.
        return chances.chance(0.4)
          ? Promise.race([late, machine.elsewhere(chances.between(2, 40), 1e9, effect)])
          : Promise.race([late, machine.elsewhere(chances.between(2, 40), chances.between(2, 40), effect)]);
      default:
        return Promise.race([late, machine.elsewhere(chances.between(2, 40), chances.between(2, 40), effect)]);
    }
  }
}
