import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { loadBinding } from '../../../src/addon/binding.ts';
import type { ServiceRootConfig } from '../../../src/config/config.ts';
import type { Engine } from '../../../src/crypto/engine.ts';
import { NativeEngine } from '../../../src/crypto/native.ts';
import { CustodianProvider } from '../../../src/custody/custodian-provider.ts';
import { Custodians } from '../../../src/custody/custodians.ts';
import { ProcessCustody } from '../../../src/custody/process.ts';
import { type CustodianTimes, Succession } from '../../../src/custody/succession.ts';
import { MemoryKeystore } from '../../../src/keystores/memory.ts';

export const ACTING = fileURLToPath(new URL('acting-custodian.ts', import.meta.url));
export const ROGUE = fileURLToPath(new URL('rogue-custodian.ts', import.meta.url));

/** Why no custodian runs here; undefined when one does. */
export const UNABLE = loadBinding().binding === undefined ? 'the addon is not built' : undefined;

export interface ActingCustody extends AsyncDisposable {
  readonly engine: Engine;
  readonly custody: ProcessCustody;
  readonly notices: string[];
}

export interface ActingCustodyOptions {
  readonly entry: string;
  /** By name; each has a root key of its own name, unless `keys` says another. */
  readonly roots?: readonly string[];
  readonly keys?: readonly string[];
  readonly times?: Partial<CustodianTimes>;
  /** Where logins are noted. */
  readonly notes?: string;
  readonly timeoutMs?: number;
}

export function actingRoot(
  name: string,
  key: string,
  { notes, timeoutMs = 10_000 }: Partial<ActingCustodyOptions> = {},
): ServiceRootConfig {
  return {
    name,
    formerly: [],
    provider: 'aws-kms',
    aws: {
      key,
      region: undefined,
      endpoint: notes,
      fips: false,
      timeout: timeoutMs,
      retries: 0,
      connections: 1,
      idleTimeout: 1_000,
    },
  };
}

export async function openActing(options: ActingCustodyOptions): Promise<ActingCustody> {
  const { entry, roots = ['acting'], keys = roots, times } = options;
  const engine = new NativeEngine();
  const notices: string[] = [];
  const acting = roots.map((name, index) => actingRoot(name, keys[index]!, options));
  const notice = (text: string) => notices.push(text);
  const custodians = Custodians.start({ engine, entry, times, roots: acting, keystores: new Map(), notice });
  try {
    const keystore = new MemoryKeystore();
    const custody = await ProcessCustody.open({ engine, roots: acting, keystore, warn: notice, custodians });
    return {
      engine,
      custody,
      notices,
      async [Symbol.asyncDispose]() {
        await custody.close();
        engine.close();
      },
    };
  } catch (error) {
    await custodians.close();
    engine.close();
    throw error;
  }
}

/** Custodians without what guards a root: no breaker, and deadlines as a test wants them. */
export interface ActingLine extends AsyncDisposable {
  readonly engine: Engine;
  readonly custodians: Succession;
  readonly provider: CustodianProvider;
  readonly notices: string[];
}

/** @param options of the first root */
export function openLine(options: ActingCustodyOptions): ActingLine {
  const { entry, times, roots = ['acting'], keys = roots } = options;
  const engine = new NativeEngine();
  const notices: string[] = [];
  const custodians = new Succession({
    engine,
    entry,
    times,
    targets: { role: 'provider', roots: roots.map((name, index) => actingRoot(name, keys[index]!, options)) },
    notice: (notice) => notices.push(notice),
  });
  return {
    engine,
    custodians,
    provider: new CustodianProvider(roots[0]!, custodians),
    notices,
    async [Symbol.asyncDispose]() {
      await custodians.close();
      engine.close();
    },
  };
}

export function pidOf({ custody }: Pick<ActingCustody, 'custody'>): number {
  return custody.custodians()[0]!.pid;
}

/** @returns the milliseconds it took */
export async function until(holds: () => boolean, withinMs: number): Promise<number> {
  const begun = performance.now();
  while (!holds()) {
    if (performance.now() - begun > withinMs) {
      throw new Error(`not so after ${withinMs} ms`);
    }
    await sleep(5);
  }
  return performance.now() - begun;
}
