import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { encodeContext } from '../../src/envelope/context.ts';
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

const TAG = 16;
const IV = 12;

/**
 * A root key in memory that behaves as a service does: it has versions of its material, can be disabled, denied and cut
 * off, and counts what it is asked. A fake, with AES-GCM of its own; what it does is not recorded as a sequence of calls.
 */
export class FakeProvider implements Provider {
  readonly root: string;
  /** What every call fails with until it is undefined again. */
  failure: ProviderCode | undefined;
  /** As `failure`, for calls in this context's tenant only. */
  readonly failureOfTenant = new Map<string, ProviderCode>();
  /** Milliseconds that a call takes. */
  delayMs = 0;
  /** Calls that have to do with keys, by operation. */
  readonly calls = { wrap: 0, unwrap: 0, rewrap: 0, encrypt: 0, decrypt: 0, describe: 0, look: 0 };
  readonly #id: string;
  readonly #kind: string;
  readonly #materials: Buffer[] = [randomBytes(32)];
  #closed = false;

  constructor(root: string, id: string = `fake:${root}`, kind = 'fake') {
    this.root = root;
    this.#id = id;
    this.#kind = kind;
  }

  get keyCalls(): number {
    const { wrap, unwrap, rewrap, encrypt, decrypt } = this.calls;
    return wrap + unwrap + rewrap + encrypt + decrypt;
  }

  /** New material; what was wrapped before still opens. */
  rotate(): void {
    this.#materials.push(randomBytes(32));
  }

  async describe(signal: AbortSignal): Promise<ProviderDescription> {
    this.calls.describe++;
    await this.#answer({}, signal);
    return { kind: this.#kind, resolvedId: this.#id, materialVersion: this.#version, warnings: [] };
  }

  async wrap(secret: Uint8Array, context: KeyContext, signal: AbortSignal): Promise<WrappedSecret> {
    this.calls.wrap++;
    await this.#answer(context, signal);
    return this.#seal(secret, context);
  }

  async unwrap(
    wrapped: Uint8Array,
    reference: RootReference,
    context: KeyContext,
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    this.calls.unwrap++;
    await this.#answer(context, signal);
    return this.#open(wrapped, reference, context);
  }

  async rewrap(
    wrapped: Uint8Array,
    reference: RootReference,
    context: KeyContext,
    signal: AbortSignal,
  ): Promise<WrappedSecret> {
    this.calls.rewrap++;
    await this.#answer(context, signal);
    return this.#seal(this.#open(wrapped, reference, context), context);
  }

  async encrypt(plaintext: Uint8Array, context: KeyContext, signal: AbortSignal): Promise<WrappedSecret> {
    this.calls.encrypt++;
    await this.#answer(context, signal);
    return this.#seal(plaintext, context);
  }

  async decrypt(
    ciphertext: Uint8Array,
    reference: RootReference,
    context: KeyContext,
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    this.calls.decrypt++;
    await this.#answer(context, signal);
    return this.#open(ciphertext, reference, context);
  }

  async health(depth: 'cheap' | 'deep', signal: AbortSignal): Promise<ProviderHealth> {
    this.calls.look++;
    try {
      await this.#answer({}, signal);
    } catch (error) {
      const { message, code } = error as ProviderError;
      return { ok: false, detail: message, code };
    }
    if (depth === 'deep') {
      const { wrapped, reference } = this.#seal(randomBytes(32), {});
      this.#open(wrapped, reference, {});
    }
    return { ok: true, detail: this.#id };
  }

  capabilities(): ProviderCapabilities {
    return { nativeContext: true, serverRewrap: true, directLimit: 4096, versioned: true };
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  get #version(): string {
    return String(this.#materials.length);
  }

  async #answer(context: KeyContext, signal: AbortSignal): Promise<void> {
    if (this.delayMs > 0) {
      await sleep(this.delayMs, undefined, { signal }).catch(() => {
        throw new ProviderError('TIMEOUT', `root ${this.root} did not answer in time`);
      });
    }
    if (this.#closed) {
      throw new ProviderError('UNAVAILABLE', `root ${this.root} is closed`);
    }
    const code = this.failure ?? this.failureOfTenant.get(context.tenant ?? '');
    if (code !== undefined) {
      throw new ProviderError(code, `root ${this.root}: ${code}`);
    }
  }

  #seal(plaintext: Uint8Array, context: KeyContext): WrappedSecret {
    const iv = randomBytes(IV);
    const cipher = createCipheriv('aes-256-gcm', this.#materials.at(-1)!, iv).setAAD(encodeContext(context));
    const wrapped = Buffer.concat([
      Buffer.of(this.#materials.length),
      iv,
      cipher.update(plaintext),
      cipher.final(),
      cipher.getAuthTag(),
    ]);
    const reference = { root: this.root, resolvedId: this.#id, materialVersion: this.#version };
    return { wrapped: new Uint8Array(wrapped), reference };
  }

  #open(wrapped: Uint8Array, { resolvedId }: RootReference, context: KeyContext): Uint8Array {
    const material = this.#materials[(wrapped[0] ?? 0) - 1];
    if (resolvedId !== this.#id) {
      throw new ProviderError('WRONG_KEY', `root ${this.root}: the ciphertext is of another key`);
    }
    if (material === undefined || wrapped.length < 1 + IV + TAG) {
      throw new ProviderError('CORRUPT', `root ${this.root}: the ciphertext does not open`);
    }
    try {
      const decipher = createDecipheriv('aes-256-gcm', material, wrapped.subarray(1, 1 + IV), { authTagLength: TAG });
      decipher.setAAD(encodeContext(context)).setAuthTag(wrapped.subarray(-TAG));
      return new Uint8Array(Buffer.concat([decipher.update(wrapped.subarray(1 + IV, -TAG)), decipher.final()]));
    } catch {
      throw new ProviderError('CORRUPT', `root ${this.root}: the ciphertext does not open`);
    }
  }
}
