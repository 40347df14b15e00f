/** Credentials that applications encrypted themselves, before: read in both forms, written as tokens, one stage after the other. */

import { jsonText } from '../client/json-text.ts';
import type { CallOptions, EncryptionContext, ManyItem, ManyResult } from '../client/types.ts';
import { decodeTokenText, encodeTokenText } from '../envelope/token-text.ts';
import { DekdError, type ErrorCode } from '../errors.ts';
import { type Shape, shapeOf, stored } from './stored.ts';
import type {
  Credentials,
  CredentialsCall,
  CredentialsOptions,
  DecryptCredentialsCall,
  MigrationClient,
  MigrationCounts,
  MigrationEvent,
  MigrationResult,
  MigrationRow,
  MigrationStage,
  StoredCredentials,
} from './types.ts';

const STAGES: readonly MigrationStage[] = ['read', 'write', 'done'];
/** What the agent says of something that only looks like a token or an envelope. */
const NOT_OURS: readonly ErrorCode[] = ['DECRYPTION_FAILED', 'MALFORMED', 'UNSUPPORTED_VERSION'];

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * The three calls that applications have, over an agent that holds the keys they had.
 * @throws INVALID_ARGUMENT for options that make no sense
 */
export function credentials(dekd: MigrationClient, options: CredentialsOptions): Credentials {
  const migration = new Migration(dekd, options);
  return {
    encryptCredentials: (value, call) => migration.encrypt(value, call),
    decryptCredentials: <T>(value: unknown, call?: DecryptCredentialsCall) =>
      migration.decrypt(value, call) as Promise<T>,
    isEncrypted: (value, call) => migration.isEncrypted(value, call),
    migrateCredentials: (rows, call) => migration.migrate(rows, call),
    counts: () => ({ ...migration.counts }),
  };
}

/** Which key, and what is bound, for one call. */
interface CallBinding extends CallOptions {
  readonly key: string;
  readonly partition: string;
  readonly context: EncryptionContext;
}

class Migration {
  readonly counts: { -readonly [name in keyof MigrationCounts]: number } = {
    tokensRead: 0,
    legacyRead: 0,
    plaintextRead: 0,
    plaintextRefused: 0,
    lookalikeRefused: 0,
    encrypted: 0,
    migrated: 0,
    unchanged: 0,
    legacyWritten: 0,
    resaveFailed: 0,
  };
  readonly #dekd: MigrationClient;
  readonly #options: CredentialsOptions;
  /** Milliseconds since the epoch; from then on plaintext is refused. */
  readonly #plaintextUntil: number;

  constructor(dekd: MigrationClient, options: CredentialsOptions) {
    if (!STAGES.includes(options?.stage)) {
      throw new DekdError('INVALID_ARGUMENT', `stage is one of ${STAGES.join(', ')}`);
    }
    if (typeof options.key !== 'string' || options.key === '') {
      throw new DekdError('INVALID_ARGUMENT', 'key is a name, not empty');
    }
    this.#dekd = dekd;
    this.#options = options;
    this.#plaintextUntil = endOf(options.plaintext);
  }

  async encrypt(value: unknown, call: CredentialsCall = {}): Promise<StoredCredentials> {
    const binding = this.#binding(call);
    const shape = shapeOf(value);
    // Before the first wait: what was looked at is what is encrypted, whatever the caller does to it meanwhile.
    const text = jsonText(value);
    if (shape.kind === 'token' && (await this.#plaintextOf(shape, binding)) !== undefined) {
      this.counts.unchanged += 1;
      return stored(shape.token);
    }
    const { stage, migrateOnEncrypt = true } = this.#options;
    if (shape.kind === 'legacy' && stage !== 'done' && migrateOnEncrypt) {
      const known = await this.#ofLegacy(shape, binding);
      if (known !== undefined) {
        return known;
      }
    }
    if (stage === 'read') {
      return this.#writeLegacy(JSON.parse(text), binding);
    }
    const token = await this.#dekd.encryptText(text, binding);
    this.counts.encrypted += 1;
    return stored(token);
  }

  async decrypt(value: unknown, call: DecryptCredentialsCall = {}): Promise<unknown> {
    const binding = this.#binding(call);
    const shape = this.#readable(shapeOf(value), binding);
    switch (shape.kind) {
      case 'token': {
        const text = await this.#dekd.decryptText(shape.token, binding);
        this.counts.tokensRead += 1;
        return parsed(text);
      }
      case 'legacy': {
        const bytes = onlyValue(await this.#dekd.openLegacy([bytesOf(shape)], binding));
        const opened = parsed(textOf(bytes));
        bytes.fill(0);
        this.counts.legacyRead += 1;
        this.#tell('legacyRead', binding, { kid: shape.envelope.kid });
        await this.#resave(value, call, binding);
        return opened;
      }
      default:
        this.counts.plaintextRead += 1;
        this.#tell('plaintextRead', binding);
        await this.#resave(value, call, binding);
        return value;
    }
  }

  async isEncrypted(value: unknown, call: CredentialsCall = {}): Promise<boolean> {
    const shape = shapeOf(value);
    if (shape.kind === 'token' || (shape.kind === 'legacy' && this.#options.stage !== 'done')) {
      return (await this.#plaintextOf(shape, this.#binding(call))) !== undefined;
    }
    return false;
  }

  async migrate(rows: readonly MigrationRow[], call: CallOptions = {}): Promise<MigrationResult[]> {
    const { stage } = this.#options;
    if (stage !== 'write') {
      throw new DekdError('SERVICE_DISABLED', `nothing is migrated in the stage ${stage}: it is for the stage write`);
    }
    const results = new Array<MigrationResult>(rows.length);
    const batches = { token: new Batch(), legacy: new Batch(), other: new Batch() };
    // Rows may change while the agent is asked: what is given back is what was looked at.
    const bindings: CallBinding[] = [];
    const tokens = new Map<number, string>();
    for (const [index, row] of rows.entries()) {
      const binding = this.#binding({ ...call, ...row });
      bindings.push(binding);
      try {
        const shape = this.#readable(shapeOf(row.value), binding);
        if (shape.kind === 'token') {
          tokens.set(index, shape.token);
        }
        batches[shape.kind].add(index, itemOf(shape, row.value, binding));
      } catch (error) {
        results[index] = { ok: false, error: DekdError.from(error) };
      }
    }
    const options = { signal: call.signal, timeoutMs: call.timeoutMs };
    const [opened, migrated, sealed] = await Promise.all([
      batches.token.pass((items) => this.#dekd.decryptMany(items, options)),
      batches.legacy.pass((items) => this.#dekd.migrateLegacy(items, options)),
      batches.other.pass((items) => this.#dekd.encryptMany(items, options)),
    ]);
    for (const [index, result] of opened) {
      if (result.ok) {
        result.value.fill(0);
        this.counts.unchanged += 1;
        results[index] = { ok: true, stored: stored(tokens.get(index)!), from: 'token', changed: false };
      } else {
        results[index] = result;
      }
    }
    for (const [from, made] of [['legacy', migrated] as const, ['plaintext', sealed] as const]) {
      for (const [index, result] of made) {
        if (result.ok) {
          this.#migrated(bindings[index]!);
          results[index] = { ok: true, stored: stored(encodeTokenText(result.value)), from, changed: true };
        } else {
          results[index] = result;
        }
      }
    }
    return results;
  }

  /** What becomes of an envelope from before that is to be encrypted; undefined when it opens under no key, and is data. */
  async #ofLegacy(shape: Shape & { kind: 'legacy' }, binding: CallBinding): Promise<StoredCredentials | undefined> {
    if (this.#options.stage === 'read') {
      const opened = await this.#plaintextOf(shape, binding);
      this.counts.unchanged += opened === undefined ? 0 : 1;
      return opened === undefined ? undefined : shape.envelope;
    }
    const [result] = await this.#dekd.migrateLegacy([bytesOf(shape)], binding);
    if (result?.ok === true) {
      this.#migrated(binding, shape.envelope.kid);
      return stored(encodeTokenText(result.value));
    }
    return ignoring(result?.error);
  }

  /** What a token or an envelope holds, if it is one; undefined when it only looks like it. */
  async #plaintextOf(shape: Shape & { kind: 'token' | 'legacy' }, binding: CallBinding): Promise<string | undefined> {
    if (shape.kind === 'token') {
      return this.#dekd.decryptText(shape.token, binding).catch(ignoring);
    }
    const [result] = await this.#dekd.openLegacy([bytesOf(shape)], binding);
    return result?.ok === true ? textOf(result.value) : ignoring(result?.error);
  }

  async #writeLegacy(value: unknown, binding: CallBinding): Promise<StoredCredentials> {
    const { writeLegacy } = this.#options;
    if (writeLegacy === undefined) {
      throw new DekdError(
        'SERVICE_DISABLED',
        'nothing is written in the stage read: give writeLegacy, which writes as before, or go on to the stage write',
      );
    }
    const shape = shapeOf(await writeLegacy(value));
    if (shape.kind !== 'legacy' || (await this.#plaintextOf(shape, binding)) === undefined) {
      throw new DekdError(
        'INVALID_ARGUMENT',
        'what writeLegacy gave is no envelope that the agent opens: it is not to be stored; has the agent the key of its kid?',
      );
    }
    this.counts.legacyWritten += 1;
    this.#tell('legacyWritten', binding, { kid: shape.envelope.kid });
    return shape.envelope;
  }

  async #resave(value: unknown, { resave }: DecryptCredentialsCall, binding: CallBinding): Promise<void> {
    if (resave === undefined || this.#options.stage !== 'write') {
      return;
    }
    try {
      const [row] = await this.migrate([{ value, partition: binding.partition, context: binding.context }], binding);
      if (row?.ok !== true) {
        throw row?.error;
      }
      await resave(row.stored);
    } catch (error) {
      this.counts.resaveFailed += 1;
      this.#tell('resaveFailed', binding, { error });
    }
  }

  /** The shape, where the stage reads such. @throws MALFORMED */
  #readable(shape: Shape, binding: CallBinding): Exclude<Shape, { kind: 'lookalike' }> {
    const { stage } = this.#options;
    if (shape.kind === 'lookalike' || (shape.kind === 'legacy' && stage === 'done')) {
      this.counts.lookalikeRefused += 1;
      this.#tell('lookalikeRefused', binding);
      throw new DekdError(
        'MALFORMED',
        shape.kind === 'legacy'
          ? 'the value is an envelope from before, and the stage is done: those are not read any more'
          : 'the value looks encrypted, and is no form of it that is read here',
      );
    }
    if (shape.kind === 'other' && (stage === 'done' || Date.now() >= this.#plaintextUntil)) {
      this.counts.plaintextRefused += 1;
      this.#tell('plaintextRefused', binding);
      throw new DekdError(
        'MALFORMED',
        'the value is not encrypted, and is not let through: see plaintext.until, where such values are left from before',
      );
    }
    return shape;
  }

  #migrated(binding: CallBinding, kid?: string): void {
    this.counts.migrated += 1;
    this.#tell('migrated', binding, kid === undefined ? {} : { kid });
  }

  #binding(call: CredentialsCall): CallBinding {
    const { key, partition, context } = this.#options;
    return {
      key,
      partition: call.partition ?? partition ?? '',
      context: call.context ?? context ?? {},
      signal: call.signal,
      timeoutMs: call.timeoutMs,
    };
  }

  #tell(
    event: MigrationEvent['event'],
    { key, partition }: CallBinding,
    more: Pick<MigrationEvent, 'kid' | 'error'> = {},
  ): void {
    try {
      this.#options.onEvent?.({ event, key, partition, ...more });
    } catch {
      // A log that fails must not keep anybody from his credentials.
    }
  }
}

/** Items of several rows that go together, and the rows they are of. */
class Batch {
  readonly #items: ManyItem[] = [];
  readonly #rows: number[] = [];

  add(row: number, item: ManyItem): void {
    this.#rows.push(row);
    this.#items.push(item);
  }

  /** @returns the results by row */
  async pass(call: (items: ManyItem[]) => Promise<ManyResult[]>): Promise<[number, ManyResult][]> {
    if (this.#items.length === 0) {
      return [];
    }
    const results = await call(this.#items);
    return results.map((result, i) => [this.#rows[i]!, result]);
  }
}

function itemOf(
  shape: Exclude<Shape, { kind: 'lookalike' }>,
  value: unknown,
  { key, partition, context }: CallBinding,
): ManyItem {
  const binding = { key, partition, context };
  switch (shape.kind) {
    case 'token':
      return { ...binding, data: decodeTokenText(shape.token) };
    case 'legacy':
      return { ...binding, data: bytesOf(shape) };
    default:
      return { ...binding, data: encoder.encode(jsonText(value)) };
  }
}

function bytesOf({ envelope }: Shape & { kind: 'legacy' }): Uint8Array {
  return encoder.encode(JSON.stringify(envelope));
}

/** The value of the only item. @throws its error */
function onlyValue([result]: readonly ManyResult[]): Uint8Array {
  if (result?.ok !== true) {
    throw result?.error;
  }
  return result.value;
}

/** Undefined for what says that something only looked like ours. @throws `error` when it says anything else */
function ignoring(error: unknown): undefined {
  if (DekdError.is(error) && NOT_OURS.includes(error.code)) {
    return undefined;
  }
  throw error;
}

function textOf(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch {
    throw new DekdError('MALFORMED', 'what the envelope holds is not UTF-8');
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Without the cause: its message shows a piece of the text.
    throw new DekdError('MALFORMED', 'what is encrypted is not JSON');
  }
}

/** Milliseconds since the epoch; the beginning of time when nothing is let through. @throws INVALID_ARGUMENT */
function endOf(plaintext: CredentialsOptions['plaintext']): number {
  if (plaintext === undefined) {
    return Number.NEGATIVE_INFINITY;
  }
  const { until } = plaintext;
  const end = typeof until === 'string' || until instanceof Date ? new Date(until).getTime() : Number.NaN;
  if (Number.isNaN(end)) {
    throw new DekdError('INVALID_ARGUMENT', 'plaintext.until is a Date, or a text such as 2027-03-31');
  }
  return end;
}
