import { type KeyHandle, type KeyUse, SECRET_USE } from '../crypto/engine.ts';
import { DekdError } from '../errors.ts';
import type {
  HandleProvider,
  KeyContext,
  ProviderCapabilities,
  ProviderDescription,
  ProviderHealth,
  RootReference,
  WrappedSecret,
} from '../providers/provider.ts';
import { PROVIDER_CODES, type ProviderCode, ProviderError } from '../providers/provider-error.ts';
import type { Failure } from './custodian-messages.ts';
import { MAX_MESSAGE } from './custodian-messages.ts';
import { type CustodianAnswer, type CustodianCall, CustodianLost } from './custodian-process.ts';
import { ofProvider } from './provider-failure.ts';
import type { Succession } from './succession.ts';
import { booleanOf, bytesOf, Garbage, listOf, nothingOf, objectOf, textOf, wholeOf } from './untrusted.ts';

const MAX_RESOLVED_ID = 2_048;
const MAX_VERSION = 256;
const MAX_WARNINGS = 32;
const MAX_WARNING = 1_000;
/** A wrapped W: AWS says 6,144 at most for its own, which are the longest. */
const MAX_WRAPPED = 16 * 1024;

/** A provider whose library runs in a custodian. */
export class CustodianProvider implements HandleProvider {
  readonly root: string;
  readonly #custodians: Succession;
  #capabilities: ProviderCapabilities | undefined;
  #closed = false;

  /** @param custodians of the provider role; not this object's to close */
  constructor(root: string, custodians: Succession) {
    this.root = root;
    this.#custodians = custodians;
  }

  async describe(signal: AbortSignal): Promise<ProviderDescription> {
    const { description, capabilities } = await this.#call('describe', {}, signal, {
      read: ({ value }) => {
        const fields = objectOf(value, 'the reply to describe');
        return { description: descriptionOf(fields.description), capabilities: capabilitiesOf(fields.capabilities) };
      },
    });
    this.#capabilities = capabilities;
    return description;
  }

  wrap(secret: KeyHandle, context: KeyContext, signal: AbortSignal): Promise<WrappedSecret> {
    return this.#call('wrap', { context }, signal, {
      ahead: (pipe, id) => pipe.send(id, secret),
      revealing: true,
      read: (answer) => this.#wrapped(answer, MAX_WRAPPED),
    });
  }

  unwrap(
    wrapped: Uint8Array,
    reference: RootReference,
    context: KeyContext,
    signal: AbortSignal,
    use: KeyUse = SECRET_USE,
  ): Promise<KeyHandle> {
    return this.#call('unwrap', { reference, context }, signal, {
      body: wrapped,
      bringsKey: use,
      revealing: true,
      read: ({ value, body, key }) => {
        nothingOf(value, body, 'the reply to unwrap');
        return key!;
      },
    });
  }

  rewrap(
    wrapped: Uint8Array,
    reference: RootReference,
    context: KeyContext,
    signal: AbortSignal,
  ): Promise<WrappedSecret> {
    return this.#call('rewrap', { reference, context }, signal, {
      body: wrapped,
      read: (answer) => this.#wrapped(answer, MAX_WRAPPED),
    });
  }

  encrypt(plaintext: Uint8Array, context: KeyContext, signal: AbortSignal): Promise<WrappedSecret> {
    return this.#call('encrypt', { context }, signal, {
      body: plaintext,
      revealing: true,
      read: (answer) => this.#wrapped(answer, MAX_MESSAGE),
    });
  }

  decrypt(
    ciphertext: Uint8Array,
    reference: RootReference,
    context: KeyContext,
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    return this.#call('decrypt', { reference, context }, signal, {
      body: ciphertext,
      revealing: true,
      read: ({ value, body }) => {
        nothingOf(value, NOTHING, 'the reply to decrypt');
        return body;
      },
    });
  }

  async health(depth: 'cheap' | 'deep', signal: AbortSignal): Promise<ProviderHealth> {
    if (this.#closed) {
      return { ok: false, detail: 'closed' };
    }
    return this.#call('health', { depth }, signal, {
      read: ({ value }) => {
        const fields = objectOf(value, 'the reply to health');
        return {
          ok: booleanOf(fields.ok, 'ok'),
          detail: textOf(fields.detail, 'detail', MAX_WARNING),
          ...(fields.code === undefined ? {} : { code: knownCode(fields.code) }),
        };
      },
    });
  }

  /** Known once `describe` was answered. */
  capabilities(): ProviderCapabilities {
    if (this.#capabilities === undefined) {
      throw new DekdError('INTERNAL', `root ${this.root} was not described yet`);
    }
    return this.#capabilities;
  }

  /** The custodian goes on: it may have other roots. */
  async close(): Promise<void> {
    this.#closed = true;
  }

  async #call<T>(
    operation: CustodianCall<T>['operation'],
    args: CustodianCall<T>['args'],
    signal: AbortSignal,
    call: Pick<CustodianCall<T>, 'ahead' | 'body' | 'bringsKey' | 'revealing' | 'read'>,
  ): Promise<T> {
    try {
      if (this.#closed) {
        throw new ProviderError('UNAVAILABLE', `root ${this.root} is closed`);
      }
      return await this.#custodians.call(
        { target: this.root, operation, args, failed: (failure) => failureOf(failure, this.root, operation), ...call },
        signal,
      );
    } catch (error) {
      throw this.#errorOf(error, operation, signal);
    }
  }

  #errorOf(error: unknown, operation: string, signal: AbortSignal): DekdError {
    if (error instanceof CustodianLost) {
      const { message: detail, retryAfterMs } = error;
      const options = retryAfterMs === undefined ? { detail } : { detail, retryAfterMs };
      return ofProvider(
        new ProviderError('UNAVAILABLE', `root ${this.root}: ${operation} lost its custodian`, options),
      );
    }
    if (signal.aborted && error === signal.reason) {
      const code = (error as Error | undefined)?.name === 'TimeoutError' ? 'TIMEOUT' : 'CANCELLED';
      const what = code === 'TIMEOUT' ? 'was not answered within its deadline' : 'was cancelled';
      return ofProvider(new ProviderError(code, `root ${this.root}: ${operation} ${what}`));
    }
    return ofProvider(error);
  }

  #wrapped({ value, body }: CustodianAnswer, most: number): WrappedSecret {
    const fields = objectOf(value, 'the reference');
    if (fields.root !== this.root) {
      throw new Garbage('the reference names another root');
    }
    return {
      wrapped: bytesOf(body, 'the wrapped secret', most),
      reference: {
        root: this.root,
        resolvedId: textOf(fields.resolvedId, 'resolvedId', MAX_RESOLVED_ID),
        materialVersion: textOf(fields.materialVersion, 'materialVersion', MAX_VERSION),
      },
    };
  }
}

const NOTHING = new Uint8Array(0);

function failureOf({ code, message, detail, retryAfterMs }: Failure, root: string, operation: string): Error {
  if (code === 'INTERNAL') {
    return new DekdError('INTERNAL', 'internal error', {
      reason: `root ${root}: ${operation} failed in its custodian (${message})`,
    });
  }
  return new ProviderError(knownCode(code), message, {
    ...(detail === undefined ? {} : { detail }),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
}

function knownCode(code: unknown): ProviderCode {
  if (typeof code !== 'string' || !Object.hasOwn(PROVIDER_CODES, code)) {
    throw new Garbage('a failure of no known code');
  }
  return code as ProviderCode;
}

function descriptionOf(value: unknown): ProviderDescription {
  const fields = objectOf(value, 'description');
  return {
    kind: textOf(fields.kind, 'kind', 64),
    resolvedId: textOf(fields.resolvedId, 'resolvedId', MAX_RESOLVED_ID),
    materialVersion: textOf(fields.materialVersion, 'materialVersion', MAX_VERSION),
    warnings: listOf(fields.warnings, 'warnings', MAX_WARNINGS).map((each) => textOf(each, 'warning', MAX_WARNING)),
  };
}

function capabilitiesOf(value: unknown): ProviderCapabilities {
  const fields = objectOf(value, 'capabilities');
  return {
    nativeContext: booleanOf(fields.nativeContext, 'nativeContext'),
    serverRewrap: booleanOf(fields.serverRewrap, 'serverRewrap'),
    directLimit: wholeOf(fields.directLimit, 'directLimit', MAX_MESSAGE),
    versioned: booleanOf(fields.versioned, 'versioned'),
  };
}
