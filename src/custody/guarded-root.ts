import { uptime } from 'node:os';
import type { KeyHandle, KeyUse } from '../crypto/engine.ts';
import { DekdError } from '../errors.ts';
import { isSameMultiRegionKey } from '../providers/aws-kms/arn.ts';
import type {
  HandleProvider,
  KeyContext,
  ProviderCapabilities,
  ProviderDescription,
  ProviderHealth,
  RootReference,
  WrappedSecret,
} from '../providers/provider.ts';
import { PROVIDER_CODES, type ProviderCode } from '../providers/provider-error.ts';
import { Breaker } from './breaker.ts';
import { CallMeter } from './call-meter.ts';
import type { Root, RootCall, RootStanding } from './custody.ts';
import { providerCodeOf } from './provider-failure.ts';
import type { TrustedIds } from './trusted-ids.ts';

/** How long a root that did not answer last time is given, so that a cold key fails soon in an outage. */
const DOUBTED_MS = 900;

export interface GuardedRootOptions {
  readonly provider: HandleProvider;
  /** False for a local root: no deadline, no breaker. */
  readonly remote: boolean;
  /** Milliseconds for one call. */
  readonly timeoutMs: number;
  readonly formerly: readonly string[];
  /** Resolved ids that the provider itself gave for the configured key, now and earlier. */
  readonly trusted: TrustedIds;
  /** Told of every opening and closing of the breaker, and of a key that was exchanged behind its alias. */
  readonly notice: (message: string) => void;
  /** Told of every call when it has ended. */
  readonly called?: ((call: RootCall) => void) | undefined;
  /** Milliseconds that never go back and go on while the machine sleeps; CLOCK_BOOTTIME unless given. */
  readonly elapsedMs?: () => number;
}

/** CLOCK_BOOTTIME in milliseconds. */
export function bootMs(): number {
  return uptime() * 1000;
}

/**
 * A root with what every call needs around it: a deadline, the breaker, counts, and the rule that a row never chooses: what a
 * record names is used only when the configuration, or the provider itself, says the same.
 */
export class GuardedRoot implements Root {
  readonly name: string;
  readonly formerly: readonly string[];
  readonly capabilities: ProviderCapabilities;
  readonly remote: boolean;
  readonly #options: GuardedRootOptions;
  readonly #meter: CallMeter;
  readonly #breaker: Breaker;
  readonly #listeners: (() => void)[] = [];
  #description: ProviderDescription;
  /** The provider did not answer the last call. */
  #doubted = false;

  private constructor(options: GuardedRootOptions, description: ProviderDescription) {
    const { provider, formerly, remote } = options;
    const elapsedMs = options.elapsedMs ?? bootMs;
    this.name = provider.root;
    this.formerly = formerly;
    this.capabilities = provider.capabilities();
    this.remote = remote;
    this.#options = options;
    this.#description = description;
    this.#meter = new CallMeter(elapsedMs);
    this.#meter.answered();
    this.#breaker = new Breaker({
      elapsedMs,
      look: async () => {
        const { ok, code } = await this.#look();
        // A refusal is an answer: what it means is for the next call to say.
        return ok || (code !== undefined && isAnswer(code));
      },
      onChange: (state) => {
        options.notice(`root ${this.name}: the breaker is ${state}`);
        if (state === 'half-open') {
          this.#tell();
        }
      },
    });
  }

  /**
   * Reaches the root key and resolves it.
   * @throws as `HandleProvider.describe` does, with the provider's own words as the message: starting is the operator's.
   */
  static async open(options: GuardedRootOptions): Promise<GuardedRoot> {
    const { provider, remote, timeoutMs, trusted } = options;
    let description: ProviderDescription;
    try {
      description = await provider.describe(remote ? AbortSignal.timeout(timeoutMs) : NEVER);
    } catch (error) {
      const { code, message, reason } = DekdError.from(error);
      throw new DekdError(code, reason === undefined ? message : reason, { cause: error });
    }
    await trusted.add(provider.root, description.resolvedId);
    return new GuardedRoot(options, description);
  }

  get description(): ProviderDescription {
    return this.#description;
  }

  async wrap(secret: KeyHandle, context: KeyContext): Promise<WrappedSecret> {
    return this.#adopted(await this.#call('wrap', (signal) => this.#options.provider.wrap(secret, context, signal)));
  }

  async unwrap(wrapped: Uint8Array, reference: RootReference, context: KeyContext, use?: KeyUse): Promise<KeyHandle> {
    this.#check(reference);
    return this.#call('unwrap', (signal) => this.#options.provider.unwrap(wrapped, reference, context, signal, use));
  }

  async rewrap(wrapped: Uint8Array, reference: RootReference, context: KeyContext): Promise<WrappedSecret> {
    this.#check(reference);
    return this.#adopted(
      await this.#call('rewrap', (signal) => this.#options.provider.rewrap(wrapped, reference, context, signal)),
    );
  }

  async encrypt(plaintext: Uint8Array, context: KeyContext): Promise<WrappedSecret> {
    const { directLimit } = this.capabilities;
    if (directLimit > 0 && plaintext.length > directLimit) {
      throw new DekdError('INVALID_ARGUMENT', `root ${this.name} encrypts at most ${directLimit} bytes itself`);
    }
    return this.#adopted(
      await this.#call('encrypt', (signal) => this.#options.provider.encrypt(plaintext, context, signal)),
    );
  }

  async decrypt(ciphertext: Uint8Array, reference: RootReference, context: KeyContext): Promise<Uint8Array> {
    this.#check(reference);
    return this.#call('decrypt', (signal) => this.#options.provider.decrypt(ciphertext, reference, context, signal));
  }

  async health(depth: 'cheap' | 'deep'): Promise<ProviderHealth> {
    return depth === 'cheap'
      ? this.#look()
      : this.#call('health', (signal) => this.#options.provider.health(depth, signal));
  }

  earlierIds(): readonly string[] {
    const current = this.#description.resolvedId;
    return [...new Set([...this.#options.trusted.of(this.name), ...this.formerly])].filter((id) => id !== current);
  }

  standing(): RootStanding {
    const { calls, failures, lastHour, sinceAnswerMs } = this.#meter;
    return { breaker: this.#breaker.state, sinceAnswerMs, calls, failures, callsLastHour: lastHour };
  }

  onReturn(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** Stops looking; the provider stays the custody's to close. */
  close(): void {
    this.#breaker.close();
  }

  async #call<T>(operation: RootCall['operation'], work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    if (!this.remote) {
      return this.#timed(operation, () => work(NEVER));
    }
    const wait = this.#breaker.enter();
    if (wait > 0) {
      throw new DekdError('KMS_UNAVAILABLE', 'the provider of the root key does not answer', {
        retryAfterMs: Math.ceil(wait),
        reason: `the breaker of root ${this.name} is ${this.#breaker.state}`,
      });
    }
    this.#meter.called();
    const { timeoutMs } = this.#options;
    try {
      const limit = this.#doubted ? Math.min(DOUBTED_MS, timeoutMs) : timeoutMs;
      const result = await this.#timed(operation, () => work(AbortSignal.timeout(limit)));
      this.#answered();
      return result;
    } catch (error) {
      this.#failed(error);
      throw error;
    }
  }

  async #timed<T>(operation: RootCall['operation'], work: () => Promise<T>): Promise<T> {
    const { called } = this.#options;
    if (called === undefined) {
      return work();
    }
    const begun = performance.now();
    let outcome = 'ok';
    try {
      return await work();
    } catch (error) {
      outcome = providerCodeOf(error) ?? DekdError.from(error).code;
      throw error;
    } finally {
      called({ root: this.name, operation, outcome, milliseconds: performance.now() - begun });
    }
  }

  #answered(): void {
    this.#meter.answered();
    this.#breaker.succeeded();
    if (this.#doubted) {
      this.#doubted = false;
      this.#tell();
    }
  }

  #failed(error: unknown): void {
    this.#meter.failed();
    const code = providerCodeOf(error);
    if (code === undefined ? DekdError.is(error, 'KMS_UNAVAILABLE') : PROVIDER_CODES[code].trip) {
      this.#doubted = true;
      this.#breaker.failed();
    } else if (code !== undefined && isAnswer(code)) {
      this.#answered();
    } else {
      this.#breaker.abandoned();
    }
  }

  /** Never a call that is paid for, and never one that counts. */
  async #look(): Promise<ProviderHealth> {
    const { provider, timeoutMs } = this.#options;
    try {
      return await provider.health('cheap', this.remote ? AbortSignal.timeout(timeoutMs) : NEVER);
    } catch (error) {
      const { message, reason } = DekdError.from(error);
      const code = providerCodeOf(error);
      return { ok: false, detail: reason ?? message, ...(code === undefined ? {} : { code }) };
    }
  }

  #tell(): void {
    for (const listener of this.#listeners) {
      listener();
    }
  }

  /** A reply that names another key than before: the alias was moved, and the provider says so itself. */
  async #adopted(made: WrappedSecret): Promise<WrappedSecret> {
    const { resolvedId, materialVersion } = made.reference;
    if (resolvedId !== this.#description.resolvedId) {
      this.#options.notice(`root ${this.name}: the configured key is now ${resolvedId}; older records still open`);
      await this.#options.trusted.add(this.name, resolvedId);
    }
    if (resolvedId !== this.#description.resolvedId || materialVersion !== this.#description.materialVersion) {
      this.#description = { ...this.#description, resolvedId, materialVersion };
    }
    return made;
  }

  #check({ root, resolvedId }: RootReference): void {
    if (root !== this.name) {
      throw new DekdError('KMS_DENIED', 'the provider of the root key refuses', {
        reason: `the record names root ${root}, not ${this.name}`,
      });
    }
    const current = this.#description.resolvedId;
    if (
      resolvedId !== current &&
      !this.formerly.includes(resolvedId) &&
      !this.#options.trusted.has(root, resolvedId) &&
      !isSameMultiRegionKey(resolvedId, current)
    ) {
      throw new DekdError('KMS_DENIED', 'the provider of the root key refuses', {
        reason:
          `the record was made under root key ${resolvedId}; root ${this.name} is ${current}: ` +
          `if that is right, list ${resolvedId} under roots.${this.name}.formerly`,
      });
    }
  }
}

/** Whether a failure shows that the service is there: it answered, and what it said is of the key or of the call. */
function isAnswer(code: ProviderCode): boolean {
  return !PROVIDER_CODES[code].trip && code !== 'CANCELLED' && code !== 'UNAUTHENTICATED';
}

/** A signal that is never aborted. */
const NEVER = new AbortController().signal;
