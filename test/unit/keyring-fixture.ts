import { closeSync, openSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import type { LocalRootConfig } from '../../src/config/config.ts';
import { TOKEN_OVERHEAD } from '../../src/crypto/engine.ts';
import { NodeEngine } from '../../src/crypto/node.ts';
import type { Custody } from '../../src/custody/custody.ts';
import { InlineCustody } from '../../src/custody/inline.ts';
import type { DataKey, Keyring } from '../../src/keyring/keyring.ts';
import type { KeyringEvent } from '../../src/keyring/keyring-event.ts';
import { createKeyring, type KeyringOptions } from '../../src/keyring/open-keyring.ts';
import type { Placement } from '../../src/keyring/placement.ts';
import type { Keystore } from '../../src/keystores/keystore.ts';
import { MemoryKeystore } from '../../src/keystores/memory.ts';
import type { Provider } from '../../src/providers/provider.ts';
import { fakeCustody } from '../support/fake-custody.ts';

export interface WorldOptions extends Partial<Omit<KeyringOptions, 'engine' | 'custody' | 'log'>> {
  readonly keystore?: Keystore;
  readonly capacity?: number;
  readonly keyFile?: string;
  readonly formerly?: readonly string[];
  readonly extraRoots?: readonly string[];
  /** Instead of local roots; the first is the default. */
  readonly providers?: readonly Provider[];
}

/** One agent's keys: engine, root, keystore and keyring, as they are put together at start. */
export interface World {
  readonly engine: NodeEngine;
  readonly custody: Custody;
  readonly keyring: Keyring;
  readonly keystore: Keystore;
  readonly events: KeyringEvent[];
  seal(key: DataKey, text: string): Uint8Array;
  /** The plaintext, or undefined when the token is of no known key. */
  open(token: Uint8Array): Promise<string | undefined>;
  sealed(name: string, text: string, partition?: string): Promise<Uint8Array>;
  close(): Promise<void>;
}

export class Sandbox {
  readonly folder: string;
  readonly #worlds: World[] = [];

  private constructor(folder: string) {
    this.folder = folder;
  }

  static async make(): Promise<Sandbox> {
    const sandbox = new Sandbox(await mkdtemp(join(tmpdir(), 'dekd-keyring-')));
    sandbox.writeRoot('root.key');
    return sandbox;
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  writeRoot(name: string): string {
    const engine = new NodeEngine({ capacity: 1 });
    const fd = openSync(this.path(name), 'wx', 0o600);
    engine.writeRootKey(fd);
    closeSync(fd);
    engine.close();
    return this.path(name);
  }

  async world(options: WorldOptions = {}): Promise<World> {
    const {
      keystore = new MemoryKeystore(),
      capacity,
      keyFile,
      formerly,
      extraRoots = [],
      providers,
      ...rest
    } = options;
    const engine = new NodeEngine(capacity === undefined ? {} : { capacity });
    const events: KeyringEvent[] = [];
    const custody =
      providers === undefined
        ? await InlineCustody.open({
            engine,
            roots: [
              localRoot('local', keyFile ?? this.path('root.key'), formerly),
              ...extraRoots.map((name) => localRoot(name, this.path(name))),
            ],
            keystore,
            warn: () => undefined,
          })
        : await fakeCustody({
            engine,
            providers,
            keystore,
            ...(rest.clock === undefined ? {} : { elapsedMs: () => rest.clock!.elapsedMs() }),
          });
    let keyring: Keyring;
    try {
      keyring = await createKeyring({
        engine,
        custody,
        service: 'default',
        node: 'test',
        definitions: [],
        ...rest,
        log: (event) => events.push(event),
      });
    } catch (error) {
      await custody.close();
      engine.close();
      throw error;
    }
    const world: World = {
      engine,
      custody,
      keyring,
      keystore,
      events,
      seal(key, text) {
        const input = new TextEncoder().encode(text);
        const token = new Uint8Array(input.length + TOKEN_OVERHEAD);
        engine.seal(key.handle(), input, 0, 0, 0, input.length, token, 0);
        key.used(1, input.length);
        return token;
      },
      async open(token) {
        const kid = token.slice(2, 18);
        const key = keyring.opening(token, 2) ?? (await keyring.prepareOpening(kid, 'caller'));
        if (key === undefined) {
          return undefined;
        }
        const output = new Uint8Array(token.length - TOKEN_OVERHEAD);
        return engine.open(key.handle(), token, 0, 0, 0, token.length, output, 0)
          ? new TextDecoder().decode(output)
          : undefined;
      },
      async sealed(name, text, partition = '') {
        const key =
          keyring.sealing(name, partition) ??
          (await keyring.prepareSealing(name, partition, 'caller', () => undefined));
        return world.seal(key, text);
      },
      async close() {
        await keyring.close();
        await custody.close();
        engine.close();
      },
    };
    this.#worlds.push(world);
    return world;
  }

  async cleanUp(): Promise<void> {
    await Promise.allSettled(this.#worlds.map((world) => world.close()));
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** A clock that stands still until it is told. */
export class FakeClock {
  wall = 1_800_000_000_000;
  elapsed = 0;

  wallMs(): number {
    return this.wall;
  }

  elapsedMs(): number {
    return this.elapsed;
  }
}

/** The configuration of a root in a file. */
export function localRoot(name: string, keyFile: string, formerly: readonly string[] = []): LocalRootConfig {
  return {
    name,
    provider: 'local',
    formerly,
    keyFile,
    keyDescriptor: undefined,
    allowLocalRoot: true,
    createKeyFile: false,
    ephemeral: false,
  };
}

/** Each tenant in a tree of its own, under the default root. */
export const TENANTS: Placement = { levels: ['tenant', 'service'], rootOf: () => undefined };

/** The same keystore, said to outlive the agent, so that what was seen of it is remembered. */
export function durable<T extends Keystore>(keystore: T): T {
  return new Proxy(keystore, {
    get(target, name) {
      if (name === 'capabilities') {
        return () => ({ ...target.capabilities(), durable: true });
      }
      const value = Reflect.get(target, name, target) as unknown;
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

/** Asks again for two seconds. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  for (let i = 0; i < 400; i++) {
    if (await condition()) {
      return;
    }
    await sleep(5);
  }
  expect.unreachable('it did not happen');
}
