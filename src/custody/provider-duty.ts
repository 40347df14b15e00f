import type { ServiceRootConfig } from '../config/config.ts';
import { SECRET_LENGTH } from '../crypto/engine.ts';
import { openProvider } from '../providers/open-provider.ts';
import type { KeyContext, Provider, RootReference, WrappedSecret } from '../providers/provider.ts';
import { ProviderError } from '../providers/provider-error.ts';
import type { Duty, DutyAnswer, DutyCall } from './duty.ts';
import { unsupported, wrongLength } from './inline-provider.ts';
import type { SessionOutbox } from './session-outbox.ts';

/** Opens the provider of a root. */
export type OpenProvider = typeof openProvider;

export interface ProviderDutyOptions {
  readonly roots: readonly ServiceRootConfig[];
  readonly outbox: SessionOutbox;
  /** A caller's key material is in this process from now on. */
  readonly onPlaintext: () => void;
  readonly open?: OpenProvider | undefined;
}

/** Providers, each opened when its root is used first. */
export class ProviderDuty implements Duty {
  readonly #options: ProviderDutyOptions;
  readonly #providers = new Map<string, Promise<Provider>>();
  /** Logins of earlier custodians. */
  readonly #restored = new Map<string, Uint8Array>();

  constructor(options: ProviderDutyOptions) {
    this.#options = options;
  }

  async perform(call: DutyCall): Promise<DutyAnswer> {
    const { target, operation, args, body, signal } = call;
    if (operation === 'restore') {
      this.#restored.set(target, new Uint8Array(call.secret!));
      return {};
    }
    const provider = await this.#provider(target);
    const context = args.context as KeyContext;
    const reference = args.reference as RootReference;
    switch (operation) {
      case 'describe': {
        const description = await provider.describe(signal);
        return { value: { description, capabilities: provider.capabilities() } };
      }
      case 'wrap':
        this.#options.onPlaintext();
        return wrapped(await provider.wrap(call.secret!, context, signal));
      case 'unwrap': {
        this.#options.onPlaintext();
        const secret = await provider.unwrap(body, reference, context, signal);
        if (secret.length !== SECRET_LENGTH) {
          secret.fill(0);
          throw wrongLength(target, secret.length);
        }
        return { secret };
      }
      case 'rewrap':
        if (provider.rewrap === undefined) {
          throw unsupported(target, operation);
        }
        return wrapped(await provider.rewrap(body, reference, context, signal));
      case 'encrypt':
        if (provider.encrypt === undefined) {
          throw unsupported(target, operation);
        }
        this.#options.onPlaintext();
        return wrapped(await provider.encrypt(body, context, signal));
      case 'decrypt':
        if (provider.decrypt === undefined) {
          throw unsupported(target, operation);
        }
        this.#options.onPlaintext();
        return { body: await provider.decrypt(body, reference, context, signal) };
      case 'health':
        return { value: await provider.health(args.depth as 'cheap' | 'deep', signal) };
      default:
        throw unsupported(target, operation);
    }
  }

  async end(forget: readonly string[]): Promise<void> {
    const closing = [...this.#providers].map(async ([root, opening]) => {
      const provider = await opening;
      const { closeKeepingSession } = provider;
      if (closeKeepingSession === undefined || forget.includes(root)) {
        await provider.close();
      } else {
        await closeKeepingSession.call(provider);
      }
    });
    // A login that was handed over and not used yet has to be ended all the same.
    const unused = forget
      .filter((root) => this.#restored.has(root) && !this.#providers.has(root))
      .map(async (root) => (await this.#provider(root)).close());
    await Promise.allSettled([...closing, ...unused]);
    await this.#options.outbox.emptied();
  }

  #provider(target: string): Promise<Provider> {
    const known = this.#providers.get(target);
    if (known !== undefined) {
      return known;
    }
    const opening = this.#open(target);
    this.#providers.set(target, opening);
    // What stood in the way may be gone the next time.
    opening.catch(() => this.#providers.delete(target));
    return opening;
  }

  async #open(target: string): Promise<Provider> {
    const root = this.#options.roots.find(({ name }) => name === target);
    if (root === undefined) {
      throw new ProviderError('CONFIG', `there is no root ${target}`);
    }
    const { open = openProvider, outbox } = this.#options;
    return open(root, {
      load: () => this.#restored.get(target)?.slice(),
      save: (session) => outbox.save(target, session),
    });
  }
}

function wrapped({ wrapped: body, reference }: WrappedSecret): DutyAnswer {
  return { value: reference, body };
}
