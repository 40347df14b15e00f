import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto';
import { appendFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { AwsKmsSettings, ServiceRootConfig } from '../../../src/config/config.ts';
import { encodeContext } from '../../../src/envelope/context.ts';
import type {
  KeyContext,
  Provider,
  ProviderCapabilities,
  ProviderDescription,
  ProviderHealth,
  RootReference,
  WrappedSecret,
} from '../../../src/providers/provider.ts';
import { type ProviderCode, ProviderError } from '../../../src/providers/provider-error.ts';
import type { SessionKeeper } from '../../../src/providers/session-keeper.ts';

const IV = 12;
const TAG = 16;

/**
 * A provider for the inside of a custodian, with a root key that every process derives alike from its name. The key
 * context of a call says what goes wrong with it: `act`, and `ms` for how long it takes. Replies name the process that
 * gave them as the version of the material. What it writes of logins goes to the file that is its endpoint.
 */
export class ActingProvider implements Provider {
  readonly root: string;
  readonly #settings: AwsKmsSettings;
  readonly #key: Buffer;
  readonly #keeper: SessionKeeper;
  #session: Buffer | undefined;
  /** So that a leak is one: reachable, as whatever a library keeps. */
  readonly #kept: unknown[] = [];
  /** What `health` says is wrong. */
  #illness: string | undefined;

  constructor(root: ServiceRootConfig, keeper: SessionKeeper) {
    this.root = root.name;
    this.#settings = (root as { aws: AwsKmsSettings }).aws;
    this.#key = createHash('sha256').update(this.#settings.key).digest();
    this.#keeper = keeper;
    const kept = keeper.load();
    if (kept !== undefined) {
      this.#session = Buffer.from(kept);
      this.#note('resumed');
    }
  }

  async describe(): Promise<ProviderDescription> {
    this.#login();
    return { kind: 'acting', resolvedId: this.#id, materialVersion: String(process.pid), warnings: ['it acts'] };
  }

  async wrap(secret: Uint8Array, context: KeyContext, signal: AbortSignal): Promise<WrappedSecret> {
    await this.#act(context, signal);
    return this.#seal(secret, context);
  }

  async unwrap(
    wrapped: Uint8Array,
    reference: RootReference,
    context: KeyContext,
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    await this.#act(context, signal);
    const secret = this.#open(wrapped, reference, context);
    // As an SDK does, whose reply is text first.
    this.#kept.push(secret.toString('base64'));
    return context.act === 'short' ? secret.subarray(0, 31) : secret;
  }

  async rewrap(
    wrapped: Uint8Array,
    reference: RootReference,
    context: KeyContext,
    signal: AbortSignal,
  ): Promise<WrappedSecret> {
    await this.#act(context, signal);
    return this.#seal(this.#open(wrapped, reference, context), context);
  }

  async encrypt(plaintext: Uint8Array, context: KeyContext, signal: AbortSignal): Promise<WrappedSecret> {
    await this.#act(context, signal);
    return this.#seal(plaintext, context);
  }

  async decrypt(
    ciphertext: Uint8Array,
    reference: RootReference,
    context: KeyContext,
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    await this.#act(context, signal);
    return this.#open(ciphertext, reference, context);
  }

  async health(depth: 'cheap' | 'deep'): Promise<ProviderHealth> {
    return this.#illness === undefined
      ? { ok: true, detail: depth }
      : { ok: false, detail: 'ill', code: this.#illness as ProviderCode };
  }

  capabilities(): ProviderCapabilities {
    return { nativeContext: true, serverRewrap: true, directLimit: 4_096, versioned: true };
  }

  async close(): Promise<void> {
    this.#note('logout');
    this.#session = undefined;
  }

  async closeKeepingSession(): Promise<void> {
    this.#note('left');
  }

  get #id(): string {
    return `acting:${this.#key.toString('hex', 0, 8)}`;
  }

  #login(): void {
    if (this.#session === undefined) {
      this.#session = Buffer.from(`session-${randomBytes(8).toString('hex')}`);
      this.#keeper.save(this.#session);
      this.#note('login');
    }
  }

  #note(event: string): void {
    if (this.#settings.endpoint !== undefined && this.#session !== undefined) {
      appendFileSync(this.#settings.endpoint, `${event} ${this.#session.toString()}\n`);
    }
  }

  async #act({ act, ms, illness }: KeyContext, signal: AbortSignal): Promise<void> {
    this.#login();
    if (ms !== undefined) {
      await sleep(Number(ms), undefined, { signal }).catch(() => {
        throw new ProviderError(
          (signal.reason as Error).name === 'TimeoutError' ? 'TIMEOUT' : 'CANCELLED',
          `root ${this.root}: over`,
        );
      });
    }
    switch (act) {
      case 'disabled':
        throw new ProviderError('KEY_DISABLED', `root ${this.root}: the key is disabled`, { detail: 'KMSDisabled' });
      case 'throttle':
        throw new ProviderError('RATE_LIMITED', `root ${this.root}: slower`, { retryAfterMs: 1_234.5 });
      case 'sicken':
        this.#illness = illness;
        break;
      case 'defect':
        throw new TypeError('secret text of a library');
      case 'exit':
        process.exit(3);
        break;
      case 'die':
        process.kill(process.pid, 'SIGKILL');
        break;
      case 'reject':
        void Promise.reject(new Error('secret text of a library'));
        await sleep(10_000);
        break;
      case 'deaf':
        await sleep(60_000);
        break;
      case 'spin':
        for (;;) {}
      case 'memory':
        for (;;) {
          this.#kept.push(new Array(100_000).fill(Math.random()));
        }
      case 'relogin':
        this.#session = Buffer.from(`session-${randomBytes(8).toString('hex')}`);
        this.#keeper.save(this.#session);
        this.#note('login');
        break;
      case 'long-session':
        this.#keeper.save(randomBytes(20_000));
    }
  }

  #seal(plaintext: Uint8Array, context: KeyContext): WrappedSecret {
    const iv = randomBytes(IV);
    const cipher = createCipheriv('aes-256-gcm', this.#key, iv).setAAD(encodeContext(context));
    const wrapped = Buffer.concat([iv, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
    return {
      wrapped: new Uint8Array(wrapped),
      reference: { root: this.root, resolvedId: this.#id, materialVersion: String(process.pid) },
    };
  }

  #open(wrapped: Uint8Array, { resolvedId }: RootReference, context: KeyContext): Buffer {
    if (resolvedId !== this.#id) {
      throw new ProviderError('WRONG_KEY', `root ${this.root}: it was wrapped under another key`);
    }
    try {
      const decipher = createDecipheriv('aes-256-gcm', this.#key, wrapped.subarray(0, IV))
        .setAAD(encodeContext(context))
        .setAuthTag(wrapped.subarray(-TAG));
      return Buffer.concat([decipher.update(wrapped.subarray(IV, -TAG)), decipher.final()]);
    } catch {
      throw new ProviderError('CORRUPT', `root ${this.root}: it does not open`);
    }
  }
}
