import { createHash } from 'node:crypto';
import { hex } from '../../bytes.ts';
import { DATA_KEY_USE, type KeyHandle } from '../../crypto/engine.ts';
import type { Root } from '../../custody/custody.ts';
import type { EncryptedDataKey } from '../../envelope/message-header.ts';
import { DekdError, decryptionFailed } from '../../errors.ts';
import { Flights } from '../flights.ts';
import type { KeyDefinitions } from '../key-definition.ts';
import type { Share } from '../keyring.ts';
import type { KeyringLog } from '../keyring-event.ts';
import { Turns } from '../turns.ts';
import { type KeptKey, type KeptKeyFacts, KeptKeys } from './kept-keys.ts';
import type { MessageUse } from './message-use.ts';
import { KEYSTORE_RECIPIENT, type Recipient, type Table, type WholeContext } from './recipient.ts';
import { Vouch, type VouchLimits } from './vouch.ts';

/** How far data keys are kept. */
export interface KeptLimits {
  /** A data key and its encrypted copies serve so many messages, and so many milliseconds, at most. */
  readonly maxMessages: number;
  readonly maxAgeMs: number;
  /** Data keys at once, whoever they are kept for. */
  readonly maxKept: number;
}

const KEPT_LIMITS: KeptLimits = { maxMessages: 2 ** 28, maxAgeMs: 3_600_000, maxKept: 4_096 };
/** Calls to providers at once; each has a data key in the table. */
const MAX_CALLS = 16;
const MAX_ATTEMPTS = 4;

/** How messages under a name are sealed, and opened without the keystore. */
export interface MessageRules {
  /** Whether the keystore is among the recipients. */
  readonly keystore: boolean;
  /** Names of the other recipients; where there are none, the keystore is all there is. */
  readonly others: readonly string[];
  /** Names of those whose provider sees the whole context. */
  readonly remote: readonly string[];
  readonly keyContext: Readonly<Record<string, string>>;
  readonly requiredContext: readonly string[];
  /** Whether the definition is of this name alone, so that a message which names no key can only be of it. */
  readonly isOneKey: boolean;
}

export interface SealRequest {
  readonly name: string;
  readonly partition: string;
  readonly share: Share;
  readonly context: WholeContext;
  /** Canonical bytes of what the header stores: the same whole context may be stored otherwise. */
  readonly stored: Uint8Array;
  /** What the keystore has of the key: its kid, and how it wraps a data key. Absent where it is no recipient. */
  readonly own?: { readonly kid: Uint8Array; wrap(dataKey: KeyHandle): EncryptedDataKey };
}

export interface SealedDataKey {
  /** The caller's. */
  readonly dataKey: KeyHandle;
  /** For the header. */
  readonly copies: readonly EncryptedDataKey[];
}

export interface OpenRequest {
  readonly name: string;
  readonly partition: string;
  readonly share: Share;
  readonly copies: readonly EncryptedDataKey[];
  readonly context: WholeContext;
  /** Whether providers may be shown the context. */
  readonly mayAsk: boolean;
}

export interface MessageRecipientsParts {
  readonly table: Table;
  readonly elapsedMs: () => number;
  readonly definitions: KeyDefinitions;
  /** By name. */
  readonly recipients: ReadonlyMap<string, Recipient>;
  readonly use: Pick<MessageUse, 'check' | 'forget'>;
  readonly limits?: KeptLimits;
  readonly sealing: VouchLimits;
  readonly opening: VouchLimits;
  readonly log: KeyringLog;
}

/**
 * Data keys of messages whose recipients are more, or others, than the keystore.
 *
 * A data key that a provider wrapped is kept with its encrypted copies and serves again for the identical whole context; one
 * that a provider unwrapped is kept under its encrypted copy and context. So a stream costs one call to each provider at
 * most, and none when it is warm. Both depend on the provider's word (`Vouch`), each on that for its own operation: whoever
 * may only encrypt opens nothing that was kept from encrypting.
 *
 * Which keys are asked is configuration alone. A message can name one of them, and none that is not there.
 */
export class MessageRecipients {
  readonly #parts: MessageRecipientsParts;
  readonly #limits: KeptLimits;
  readonly #kept: KeptKeys;
  readonly #flights = new Flights<KeptKey>();
  readonly #turns: Turns;
  #closed = false;

  constructor(parts: MessageRecipientsParts) {
    this.#parts = parts;
    this.#limits = parts.limits ?? KEPT_LIMITS;
    this.#kept = new KeptKeys(parts.table, parts.elapsedMs, this.#limits.maxKept);
    const { capacity } = parts.table.engine.stats();
    this.#turns = new Turns(Math.max(1, Math.min(MAX_CALLS, Math.floor(capacity / 16))));
  }

  /** Data keys that are kept. */
  get kept(): number {
    return this.#kept.size;
  }

  rulesFor(name: string): MessageRules {
    const { definitions, recipients } = this.#parts;
    const rules = definitions.rulesFor(name);
    const others = rules.recipients.filter((each) => each !== KEYSTORE_RECIPIENT);
    return {
      keystore: rules.recipients.includes(KEYSTORE_RECIPIENT),
      others,
      remote: others.filter((each) => recipients.get(each)?.root !== undefined),
      keyContext: rules.keyContext,
      requiredContext: rules.requiredContext,
      isOneKey: rules.isOneKey,
    };
  }

  /**
   * A data key for one message, as every recipient of the key can open it.
   * @throws KEY_DISABLED, KMS_UNAVAILABLE, KMS_DENIED, KEYSTORE_UNAVAILABLE, RESOURCE_EXHAUSTED
   */
  async seal(request: SealRequest): Promise<SealedDataKey> {
    const { name, partition, own } = request;
    const recipients = this.#named(this.rulesFor(name).others);
    const names = recipients.map((each) => each.name);
    const id = idOf('seal', [name, partition, ...names], own?.kid ?? NOTHING, request.stored, request.context.bytes);
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      this.#checkOpen();
      // Each time, for it may have been stopped while a provider was asked.
      await this.#check(name, partition, 'seal');
      const kept = this.#kept.get(id);
      if (kept !== undefined && !this.#isSpent(kept)) {
        await this.#ensure(kept, request.context, 'seal');
        if (!kept.isDropped) {
          return { dataKey: this.#kept.take(kept), copies: kept.copies };
        }
      } else {
        await this.#flights.run(hex(id), () => this.#turns.run(() => this.#make(id, request, recipients)));
      }
    }
    throw stopped(name);
  }

  /**
   * The data key of a message by the first of its encrypted data keys that is of a recipient of the key and opens: keys that
   * are here before those at providers, and each recipient once, however often a message names it.
   * @returns a handle that is the caller's
   * @throws DECRYPTION_FAILED, KEY_DISABLED, KMS_UNAVAILABLE, KMS_DENIED, KEYSTORE_UNAVAILABLE, RESOURCE_EXHAUSTED
   */
  async open(request: OpenRequest): Promise<KeyHandle> {
    const { name, partition, copies, context, mayAsk } = request;
    const rules = this.#parts.definitions.rulesFor(name);
    const known = this.#named(
      [...rules.recipients, ...rules.formerRecipients].filter((each) => each !== KEYSTORE_RECIPIENT),
    );
    const ordered = [
      ...known.filter(({ root }) => root === undefined),
      ...known.filter(({ root }) => root !== undefined),
    ];
    let failure: unknown = decryptionFailed(`the message has no data key of a recipient of key '${name}'`);
    for (const recipient of ordered) {
      const copy = copies.find((each) => recipient.matches(each));
      if (copy === undefined) {
        continue;
      }
      // Before any provider is asked.
      await this.#check(name, partition, 'open');
      try {
        if (recipient.root === undefined) {
          return await recipient.unwrap(copy, context);
        }
        if (!mayAsk) {
          throw decryptionFailed(
            `recipient ${recipient.name} would be shown the record context, which message.exposeRecordContext allows`,
          );
        }
        return await this.#openRemote(request, recipient, copy);
      } catch (error) {
        failure = weightier(failure, error);
      }
    }
    throw failure;
  }

  /** Wipes what is kept of keys that match. */
  drop(matches: (name: string, partition: string) => boolean): void {
    this.#kept.drop(({ name, partition }) => matches(name, partition));
  }

  /** The rows of a key were changed: whether it may be used is looked at again, and what is kept of it is wiped. */
  changed(name: string, partition: string): void {
    this.#parts.use.forget(name, partition);
    this.drop((each, of) => each === name && of === partition);
  }

  /** Wipes what depends on a root, or everything. */
  wipe(root?: string): void {
    this.#kept.drop(
      ({ vouches }) => root === undefined || vouches.some(({ recipient }) => recipient.root?.name === root),
    );
  }

  /** Wipes what may be used no more, and what nobody has used for as long as it may seal without an answer. */
  sweep(): void {
    const now = this.#parts.elapsedMs();
    const idleMs = Math.min(this.#limits.maxAgeMs, this.#parts.sealing.coastMs);
    this.#kept.drop(({ usedAt, vouches }) => now - usedAt >= idleMs || vouches.some(({ vouch }) => vouch.isOver));
  }

  /** Waits for what is in progress, and wipes everything. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#flights.settle();
    this.#kept.close();
  }

  /** Of a key that may not be used nothing stays, whatever was under way when it was stopped. @throws as `MessageUse` */
  async #check(name: string, partition: string, operation: 'seal' | 'open'): Promise<void> {
    try {
      await this.#parts.use.check(name, partition, operation);
    } catch (error) {
      if (DekdError.is(error, 'KEY_DISABLED')) {
        this.drop((each, of) => each === name && of === partition);
      }
      throw error;
    }
  }

  async #make(id: Uint8Array, request: SealRequest, recipients: readonly Recipient[]): Promise<KeptKey> {
    const { engine, room } = this.#parts.table;
    const { name, partition, share, context, own } = request;
    const dataKey = room(() => engine.generateKey(DATA_KEY_USE));
    try {
      const copies = own === undefined ? [] : [own.wrap(dataKey)];
      // All of them to their end: until then the data key is in use.
      const wraps = await Promise.allSettled(recipients.map((recipient) => recipient.wrap(dataKey, context)));
      for (const wrap of wraps) {
        if (wrap.status === 'rejected') {
          throw wrap.reason;
        }
        copies.push(wrap.value);
      }
      return this.#keep(dataKey, { id, share, name, partition, copies, vouches: this.#vouches(recipients, 'seal') });
    } finally {
      engine.destroyKey(dataKey);
    }
  }

  async #openRemote(request: OpenRequest, recipient: Recipient, copy: EncryptedDataKey): Promise<KeyHandle> {
    const { name, partition, context } = request;
    const { providerInfo, ciphertext } = copy;
    const id = idOf('open', [name, partition, recipient.name], providerInfo, ciphertext, context.bytes);
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      this.#checkOpen();
      const kept = this.#kept.get(id);
      if (kept === undefined) {
        await this.#flights.run(hex(id), () => this.#turns.run(() => this.#unwrap(id, request, recipient, copy)));
        await this.#check(name, partition, 'open');
        continue;
      }
      await this.#ensure(kept, context, 'open');
      if (!kept.isDropped) {
        return this.#kept.take(kept);
      }
    }
    throw stopped(name);
  }

  async #unwrap(id: Uint8Array, request: OpenRequest, recipient: Recipient, copy: EncryptedDataKey): Promise<KeptKey> {
    const { name, partition, share, context } = request;
    const dataKey = await recipient.unwrap(copy, context);
    try {
      const vouches = this.#vouches([recipient], 'open');
      return this.#keep(dataKey, { id, share, name, partition, copies: [copy], vouches });
    } finally {
      this.#parts.table.engine.destroyKey(dataKey);
    }
  }

  #keep(dataKey: KeyHandle, facts: KeptKeyFacts): KeptKey {
    this.#checkOpen();
    return this.#kept.keep(dataKey, facts);
  }

  #vouches(recipients: readonly Recipient[], operation: 'seal' | 'open'): KeptKeyFacts['vouches'] {
    const { elapsedMs, sealing, opening } = this.#parts;
    return recipients
      .filter(({ root }) => root !== undefined)
      .map((recipient) => ({ recipient, vouch: new Vouch(elapsedMs, operation === 'seal' ? sealing : opening) }));
  }

  /** @throws KMS_DENIED, KMS_UNAVAILABLE */
  async #ensure(kept: KeptKey, context: WholeContext, operation: 'seal' | 'open'): Promise<void> {
    for (const { recipient, vouch } of kept.vouches) {
      const asked = vouch.ensure(
        () => this.#prove(kept, recipient, context, operation),
        (error) => this.#refused(recipient.root!, error),
      );
      if (asked !== undefined) {
        await asked;
      }
    }
  }

  /** Asks the provider for the same again, under the same context: to encrypt the data key, or to open its copy. */
  async #prove(kept: KeptKey, recipient: Recipient, context: WholeContext, operation: 'seal' | 'open'): Promise<void> {
    const { engine } = this.#parts.table;
    const dataKey = operation === 'seal' ? this.#kept.peek(kept) : await recipient.unwrap(kept.copies[0]!, context);
    try {
      if (operation === 'seal') {
        await recipient.wrap(dataKey, context);
      }
    } finally {
      engine.destroyKey(dataKey);
    }
  }

  /** Everything that depends on the root goes: what it still allows it is asked for again. */
  #refused(root: Root, error: unknown): void {
    const { reason, message } = DekdError.from(error);
    this.wipe(root.name);
    this.#parts.log({
      event: 'root-refused',
      level: 'warn',
      reason: `root ${root.name}: ${reason ?? message}; data keys of messages that it wrapped are wiped`,
    });
  }

  #isSpent({ madeAt, messages }: KeptKey): boolean {
    const { maxMessages, maxAgeMs } = this.#limits;
    return messages >= maxMessages || this.#parts.elapsedMs() - madeAt >= maxAgeMs;
  }

  #named(names: readonly string[]): Recipient[] {
    return [...new Set(names)].map((name) => {
      const recipient = this.#parts.recipients.get(name);
      if (recipient === undefined) {
        throw new DekdError('INTERNAL', `recipient ${name} is not there`);
      }
      return recipient;
    });
  }

  #checkOpen(): void {
    if (this.#closed) {
      throw new DekdError('SHUTTING_DOWN', 'the keyring is closed');
    }
  }
}

const NOTHING = new Uint8Array(0);

/** 32 bytes that stand for all of the parts, each with its length. */
function idOf(operation: string, names: readonly string[], ...parts: readonly Uint8Array[]): Uint8Array {
  const hash = createHash('sha256');
  for (const part of [Buffer.from(JSON.stringify([operation, ...names])), ...parts]) {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(part.length);
    hash.update(length).update(part);
  }
  return new Uint8Array(hash.digest());
}

/** What a caller should hear of two failures: that a provider was silent, which a retry may mend, before a refusal. */
function weightier(one: unknown, other: unknown): unknown {
  const weight = (error: unknown): number =>
    DekdError.is(error, 'DECRYPTION_FAILED') ? 0 : DekdError.is(error, 'KMS_UNAVAILABLE') ? 2 : 1;
  return weight(other) >= weight(one) ? other : one;
}

function stopped(name: string): DekdError {
  return new DekdError('CONFLICT', `data keys of key ${name} are wiped as fast as they are made`);
}
