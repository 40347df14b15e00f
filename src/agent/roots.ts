/** The admin commands that are about roots, and about moving records between them. */
import type { Custody, Root } from '../custody/custody.ts';
import { DekdError } from '../errors.ts';
import type { Keyring } from '../keyring/keyring.ts';
import type { RewrapPage, RewrapRequest } from '../keyring/rewrap.ts';
import type { AdminFields } from '../protocol/messages.ts';
import type { Log } from '../telemetry/log.ts';

const DEFAULT_PAGE = 100;

export interface RootsOptions {
  readonly custody: Custody;
  readonly keyring: Keyring;
  readonly log: Log;
}

/** What `roots list` prints of one root. */
export interface RootInfo {
  readonly name: string;
  readonly provider: string;
  readonly isDefault: boolean;
  readonly resolvedId: string;
  readonly materialVersion: string;
  readonly formerly: readonly string[];
  readonly breaker: string;
  readonly calls: number;
  readonly failures: number;
  readonly callsLastHour: number;
}

export class Roots {
  readonly #options: RootsOptions;

  constructor(options: RootsOptions) {
    this.#options = options;
  }

  async run(command: NonNullable<AdminFields['roots']>): Promise<{ roots: readonly RootInfo[] }> {
    const { custody, keyring, log } = this.#options;
    const name = command.name || undefined;
    switch (command.action) {
      case 'list':
        break;
      case 'default':
        custody.setDefaultRoot(name ?? '');
        log.info('default root changed', { root: name });
        break;
      case 'clear':
        await custody.clear(name);
        keyring.wipe(name);
        log.info('root cleared', { root: name });
        break;
      default:
        throw new DekdError('INVALID_ARGUMENT', 'what to do with the roots is none of list, default, clear');
    }
    return { roots: [...custody.roots.values()].map((root) => this.#info(root)) };
  }

  async rewrap(command: NonNullable<AdminFields['rewrap']>): Promise<RewrapPage> {
    const { keyring, log } = this.#options;
    const { from, to, name, partition } = command;
    if ((from ? 1 : 0) !== (to ? 1 : 0)) {
      throw new DekdError('INVALID_ARGUMENT', 'a migration names the root that records leave, and the one they go to');
    }
    const request: RewrapRequest = {
      from: from || undefined,
      to: to || undefined,
      name: name || undefined,
      partition: partition || undefined,
      cursor: command.cursor || undefined,
      limit: command.limit || DEFAULT_PAGE,
      mode: command.verify ? 'verify' : command.dryRun ? 'dry-run' : 'move',
    };
    const page = await keyring.rewrap(request);
    if (request.mode === 'move' && page.moved > 0) {
      log.info('records wrapped anew', { root: request.to, count: page.moved });
    }
    for (const { kid, name: key, partition: tenant, version, state, reason } of page.failed) {
      log.warn('record not wrapped anew', { key, partition: tenant || undefined, version, kid, state, reason });
    }
    return page;
  }

  #info(root: Root): RootInfo {
    const { kind, resolvedId, materialVersion } = root.description;
    const { breaker, calls, failures, callsLastHour } = root.standing();
    return {
      name: root.name,
      provider: kind,
      isDefault: root === this.#options.custody.defaultRoot,
      resolvedId,
      materialVersion,
      formerly: root.formerly,
      breaker,
      calls,
      failures,
      callsLastHour,
    };
  }
}
