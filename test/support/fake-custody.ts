import type { Engine } from '../../src/crypto/engine.ts';
import type { Custody, Root } from '../../src/custody/custody.ts';
import { GuardedRoot } from '../../src/custody/guarded-root.ts';
import { InlineHandleProvider } from '../../src/custody/inline-provider.ts';
import { TrustedIds } from '../../src/custody/trusted-ids.ts';
import type { Keystore } from '../../src/keystores/keystore.ts';
import type { Provider } from '../../src/providers/provider.ts';

export interface FakeCustodyOptions {
  readonly engine: Engine;
  /** The first is the default root. */
  readonly providers: readonly Provider[];
  readonly keystore: Keystore;
  readonly elapsedMs?: () => number;
  readonly timeoutMs?: number;
  readonly formerly?: readonly string[];
  /** Where the ids that roots resolved to are kept. */
  readonly stateFolder?: string;
}

/** Custody over providers that a test holds, guarded as any other. */
export async function fakeCustody(options: FakeCustodyOptions): Promise<Custody & { readonly notices: string[] }> {
  const { engine, providers, keystore, elapsedMs, timeoutMs = 3_000, formerly = [] } = options;
  const notices: string[] = [];
  const trusted = await TrustedIds.open(options.stateFolder);
  const roots = new Map<string, GuardedRoot>();
  for (const provider of providers) {
    roots.set(
      provider.root,
      await GuardedRoot.open({
        provider: new InlineHandleProvider(provider, engine),
        remote: true,
        timeoutMs,
        formerly,
        trusted,
        notice: (message) => notices.push(message),
        ...(elapsedMs === undefined ? {} : { elapsedMs }),
      }),
    );
  }
  let defaultRoot: Root = roots.values().next().value!;
  return {
    roots,
    notices,
    keystore,
    get defaultRoot() {
      return defaultRoot;
    },
    setDefaultRoot(name) {
      defaultRoot = roots.get(name)!;
    },
    prepareRoots: () => Promise.reject(new Error('a fake custody has the roots that it was made with')),
    clear: async () => undefined,
    custodians: () => [],
    async close() {
      for (const root of roots.values()) {
        root.close();
      }
      await Promise.all(providers.map((provider) => provider.close()));
      await keystore.close();
    },
  };
}
