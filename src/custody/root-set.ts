import type { RootConfig } from '../config/config.ts';
import { DekdError } from '../errors.ts';
import type { HandleProvider } from '../providers/provider.ts';
import type { PreparedRoots, Root, RootCall, RootsChange } from './custody.ts';
import { GuardedRoot } from './guarded-root.ts';
import { ReplaceableProvider } from './replaceable-provider.ts';
import { TrustedIds } from './trusted-ids.ts';

/** What every custody is told of its roots. */
export interface RootsOptions {
  /** At least one; the first is the default unless `defaultRoot` names another. */
  readonly roots: readonly RootConfig[];
  readonly defaultRoot?: string;
  /** Where the ids that roots resolved to are kept. */
  readonly stateFolder?: string | undefined;
  /** Told every warning of every provider at start, and what happens to roots later. */
  readonly warn: (warning: string) => void;
  /** Told of every call to a provider when it has ended. */
  readonly called?: ((call: RootCall) => void) | undefined;
}

export interface RootSetOptions extends RootsOptions {
  /** Makes the provider of one root; it is closed by the set. @throws DekdError */
  readonly open: (root: RootConfig) => Promise<HandleProvider>;
}

/** The configured roots, each guarded, and which is the default. */
export class RootSet {
  /** Roots come and go in it; whoever holds it sees them. */
  readonly byName: Map<string, GuardedRoot>;
  readonly #providers: Map<string, ReplaceableProvider>;
  readonly #reach: Reach;
  #defaultRoot: GuardedRoot;

  private constructor(
    byName: Map<string, GuardedRoot>,
    providers: Map<string, ReplaceableProvider>,
    reach: Reach,
    defaultRoot: GuardedRoot,
  ) {
    this.#reach = reach;
    this.byName = byName;
    this.#providers = providers;
    this.#defaultRoot = defaultRoot;
  }

  /** Reaches every root, all at once. On failure those opened so far are closed. */
  static async open(options: RootSetOptions): Promise<RootSet> {
    const reach = { ...options, trusted: await TrustedIds.open(options.stateFolder) };
    const { roots, defaultRoot } = options;
    const { providers, byName } = await reachRoots(roots, reach);
    try {
      return new RootSet(byName, providers, reach, rootNamed(byName, defaultRoot ?? roots[0]?.name ?? ''));
    } catch (error) {
      await closeAll(byName, providers);
      throw error;
    }
  }

  /**
   * Reaches roots that are to be added, all at once. Nothing is different until `commit`; one of `commit` and `abandon` is
   * called, once.
   * @throws as `open`; those opened so far are closed then
   */
  async prepare({ added, removed, defaultRoot }: RootsChange): Promise<PreparedRoots> {
    const { providers, byName } = await reachRoots(added, this.#reach);
    return {
      commit: () => {
        for (const [name, root] of byName) {
          this.byName.set(name, root);
          this.#providers.set(name, providers.get(name)!);
        }
        if (defaultRoot !== undefined) {
          this.setDefault(defaultRoot);
        }
        const leaving = removed.map((name) => [this.byName.get(name), this.#providers.get(name)] as const);
        for (const name of removed) {
          this.byName.delete(name);
          this.#providers.delete(name);
        }
        // Calls that are under way finish first.
        for (const [root, provider] of leaving) {
          root?.close();
          provider?.close().catch(() => undefined);
        }
      },
      abandon: () => closeAll(byName, providers),
    };
  }

  get defaultRoot(): Root {
    return this.#defaultRoot;
  }

  /** @throws INVALID_ARGUMENT naming the roots there are. */
  setDefault(name: string): void {
    this.#defaultRoot = rootNamed(this.byName, name);
  }

  /**
   * Of one root, or of all, those at a service: a local one has nothing that could be out of date.
   * @throws INVALID_ARGUMENT naming the roots there are.
   */
  remote(name: string | undefined): readonly Root[] {
    const roots = name === undefined ? [...this.byName.values()] : [rootNamed(this.byName, name)];
    return roots.filter(({ remote }) => remote);
  }

  /** Makes the provider of one root, or of all, anew: calls in progress finish with the old one. */
  async reopen(name: string | undefined): Promise<void> {
    for (const root of this.remote(name)) {
      await this.#providers.get(root.name)!.replace();
    }
  }

  async close(): Promise<void> {
    for (const root of this.byName.values()) {
      root.close();
    }
    await Promise.all([...this.#providers.values()].map((provider) => provider.close()));
  }
}

/** What it takes to reach a root. */
type Reach = Pick<RootSetOptions, 'open' | 'warn' | 'called'> & { readonly trusted: TrustedIds };

interface Reached {
  readonly providers: Map<string, ReplaceableProvider>;
  readonly byName: Map<string, GuardedRoot>;
}

async function reachRoots(roots: readonly RootConfig[], { open, warn, called, trusted }: Reach): Promise<Reached> {
  const providers = new Map<string, ReplaceableProvider>();
  const byName = new Map<string, GuardedRoot>();
  try {
    for (const root of roots) {
      if (providers.has(root.name)) {
        throw new DekdError('INVALID_ARGUMENT', `root ${root.name} is configured twice`);
      }
      providers.set(root.name, await ReplaceableProvider.open(() => open(root)));
    }
    const opening = roots.map((root) =>
      GuardedRoot.open({
        provider: providers.get(root.name)!,
        remote: root.provider !== 'local',
        timeoutMs: timeoutOf(root),
        formerly: root.formerly,
        trusted,
        notice: warn,
        called,
      }),
    );
    let failure: PromiseRejectedResult | undefined;
    for (const result of await Promise.allSettled(opening)) {
      if (result.status === 'fulfilled') {
        byName.set(result.value.name, result.value);
      } else {
        failure ??= result;
      }
    }
    if (failure !== undefined) {
      throw failure.reason;
    }
    for (const root of byName.values()) {
      for (const warning of root.description.warnings) {
        warn(`root ${root.name}: ${warning}`);
      }
    }
    return { providers, byName };
  } catch (error) {
    await closeAll(byName, providers);
    throw error;
  }
}

async function closeAll(
  roots: ReadonlyMap<string, GuardedRoot>,
  providers: ReadonlyMap<string, ReplaceableProvider>,
): Promise<void> {
  for (const root of roots.values()) {
    root.close();
  }
  await Promise.allSettled([...providers.values()].map((provider) => provider.close()));
}

function rootNamed(roots: ReadonlyMap<string, GuardedRoot>, name: string): GuardedRoot {
  const root = roots.get(name);
  if (root === undefined) {
    const known = [...roots.keys()].join(', ');
    throw new DekdError('INVALID_ARGUMENT', `no root ${JSON.stringify(name)}; the roots are ${known}`);
  }
  return root;
}

/** The slowest retry of a local call is no call at all, so a local root has no deadline. */
function timeoutOf(root: RootConfig): number {
  switch (root.provider) {
    case 'local':
      return 0;
    case 'aws-kms':
      return root.aws.timeout;
    case 'vault-transit':
      return root.vault.timeout;
    case 'pkcs11':
      return root.pkcs11.timeout;
  }
}
