import type { KmsCalls } from './kms-calls.ts';
import { openSdkCalls } from './sdk-calls.ts';
import type { ConnectionSettings } from './settings.ts';

/** Connections of one configuration, for one of the roots that use them. */
export interface Lease {
  readonly calls: KmsCalls;
  /** Gives them back; the last root to do so closes them. Once only. */
  release(): void;
}

interface Shared {
  readonly calls: Promise<KmsCalls>;
  leases: number;
}

/** Roots with equal settings in one process have one pool and one login. */
const shared = new Map<string, Shared>();

export async function lease(settings: ConnectionSettings, open = openSdkCalls): Promise<Lease> {
  const { region, endpoint, fips, connections, idleTimeout } = settings;
  const name = JSON.stringify([region, endpoint, fips, connections, idleTimeout]);
  let entry = shared.get(name);
  if (entry === undefined) {
    entry = { calls: open(settings), leases: 0 };
    shared.set(name, entry);
  }
  const taken = entry;
  taken.leases++;
  const giveBack = () => {
    taken.leases--;
    if (taken.leases === 0) {
      shared.delete(name);
    }
    return taken.leases === 0;
  };
  try {
    const calls = await taken.calls;
    let released = false;
    return {
      calls,
      release: () => {
        if (!released) {
          released = true;
          if (giveBack()) {
            calls.close();
          }
        }
      },
    };
  } catch (error) {
    giveBack();
    throw error;
  }
}
