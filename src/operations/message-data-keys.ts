/** Data keys of messages: how one that is made can be opened by its recipients, and which of them opens one that is there. */
import { DATA_KEY_INFO_LENGTH, DATA_KEY_USE, type KeyHandle } from '../crypto/engine.ts';
import { encodeContext, mergedContext } from '../envelope/context.ts';
import {
  type EncryptedDataKey,
  KEYSTORE_PROVIDER,
  type MessageHeader,
  messageContext,
} from '../envelope/message-header.ts';
import { KID_LENGTH } from '../envelope/token.ts';
import { DekdError, decryptionFailed } from '../errors.ts';
import type { DataKey } from '../keyring/keyring.ts';
import type { MessageRules } from '../keyring/recipients/message-recipients.ts';
import type { OperationsEnvironment } from './environment.ts';
import { requireContext } from './limits.ts';
import { loadSealing } from './loading.ts';
import {
  contextToSeal,
  isOfDirectValue,
  type MessageContext,
  namedKey,
  namingPairs,
  requiredToOpen,
} from './message-context.ts';
import { type ExpectedKey, openingHandle } from './opening.ts';
import type { Caller } from './request.ts';

/** Hex digits of a kid, with which the provider info begins. */
const KID_DIGITS = 2 * KID_LENGTH;

type Pairs = Readonly<Record<string, string>>;
type OpeningRight = 'decrypt' | 'reencrypt';

export interface SealingDataKey {
  /** The caller's; for one message. */
  readonly dataKey: KeyHandle;
  /** As each recipient can open it. */
  readonly dataKeys: readonly EncryptedDataKey[];
  readonly context: MessageContext;
  /** Counts use of the key by messages and by bytes of plaintext. */
  used(messages: number, bytes: number): void;
}

/**
 * A data key for a message under the key of this name, which is made if the caller may.
 * @param record the context of the call
 * @param said what the agent stores of the plaintext
 * @throws what the keyring throws; INVALID_ARGUMENT for a context that the recipients do not allow
 */
export async function sealingDataKey(
  env: OperationsEnvironment,
  caller: Caller,
  { name, partition, root }: { readonly name: string; readonly partition: string; readonly root: string },
  record: Pairs,
  said: Pairs,
): Promise<SealingDataKey> {
  const { engine, keyring } = env;
  const rules = keyring.recipients.rulesFor(name);
  if (root !== '' && !rules.keystore) {
    throw new DekdError(
      'INVALID_ARGUMENT',
      `key '${name}' has no recipient keystore, which alone has a root to choose: leave the root out`,
    );
  }
  const key = rules.keystore ? await loadSealing(env, caller, name, partition, 'message', root) : undefined;
  const { requiredContext, keyContext } = key ?? rules;
  const bytes = encodeContext(record);
  requireContext({ name, requiredContext }, bytes, 0, bytes.length);
  const used = (messages: number, length: number): void => key?.used(messages, length);
  if (key !== undefined && rules.others.length === 0) {
    const context = contextToSeal(keyContext, record, said);
    const dataKey = keyring.room(() => engine.generateKey(DATA_KEY_USE));
    try {
      return { dataKey, dataKeys: [keystoreCopy(env, key, dataKey, context.whole)], context, used };
    } catch (error) {
      engine.destroyKey(dataKey);
      throw error;
    }
  }
  const context = contextFor(env, rules, keyContext, record, { ...namingPairs(name, partition), ...said });
  const { stored, whole, pairs } = context;
  const { dataKey, copies } = await keyring.recipients.seal({
    name,
    partition,
    share: caller.share,
    context: { pairs, bytes: whole },
    stored,
    ...(key === undefined ? {} : { own: { kid: key.kid, wrap: (made) => keystoreCopy(env, key, made, whole) } }),
  });
  return { dataKey, dataKeys: copies, context, used };
}

/** A provider sees the whole context: what the record is only where that is allowed. */
function contextFor(
  env: OperationsEnvironment,
  rules: MessageRules,
  key: Pairs,
  record: Pairs,
  own: Pairs,
): MessageContext {
  if (rules.remote.length === 0) {
    return contextToSeal(key, record, own);
  }
  const context = contextToSeal(key, record, own, 'stored');
  if (!env.exposeRecordContext && Object.keys(context.pairs).length > Object.keys({ ...key, ...own }).length) {
    throw new DekdError(
      'INVALID_ARGUMENT',
      `the provider of recipient ${rules.remote.join(', ')} would be shown the context of the record: ` +
        'leave it out, or set message.exposeRecordContext',
    );
  }
  return context;
}

function keystoreCopy(
  env: OperationsEnvironment,
  key: DataKey,
  dataKey: KeyHandle,
  whole: Uint8Array,
): EncryptedDataKey {
  const wrapped = env.engine.wrapDataKey(key.handle(), dataKey, whole);
  return {
    providerId: KEYSTORE_PROVIDER,
    providerInfo: wrapped.subarray(0, DATA_KEY_INFO_LENGTH),
    ciphertext: wrapped.subarray(DATA_KEY_INFO_LENGTH),
  };
}

/**
 * The data key of a message: by the keystore where it has one for it, else by a recipient of the key that the caller names.
 * What the keystore has refused, because the key is disabled or its root refuses, no other recipient opens.
 * @param right what the caller must be allowed to do with the key
 * @param record the context of the call
 * @returns a handle that is the caller's
 * @throws DECRYPTION_FAILED, KEY_DISABLED, KMS_UNAVAILABLE, KMS_DENIED, KEYSTORE_UNAVAILABLE
 */
export async function openingDataKey(
  env: OperationsEnvironment,
  caller: Caller,
  right: OpeningRight,
  expected: ExpectedKey,
  header: MessageHeader,
  record: Pairs,
): Promise<KeyHandle> {
  const stored = messageContext(header);
  const required = requiredToOpen(stored, record);
  const whole = mergedContext(header.context, required);
  let failure: unknown = decryptionFailed('the message has no data key of this keystore, or of a recipient of its key');
  let refusal: unknown;
  for (const copy of header.dataKeys) {
    if (copy.providerId !== KEYSTORE_PROVIDER || copy.providerInfo.length !== DATA_KEY_INFO_LENGTH) {
      continue;
    }
    let key: DataKey | undefined;
    try {
      key = await keystoreKey(env, caller, copy);
      return openedByKeystore(env, caller, right, expected, key, copy, whole);
    } catch (error) {
      if (DekdError.is(error, 'KMS_UNAVAILABLE')) {
        failure = error;
      } else if (!DekdError.is(error, 'DECRYPTION_FAILED') || isStopped(key)) {
        refusal ??= error;
      } else if (DekdError.is(failure, 'DECRYPTION_FAILED')) {
        failure = error;
      }
    }
  }
  if (refusal !== undefined) {
    throw refusal;
  }
  const key = recipientKey(env, caller, right, expected, stored, record);
  if (typeof key === 'string') {
    throw DekdError.is(failure, 'KMS_UNAVAILABLE') || header.dataKeys.some(isOfKeystore)
      ? failure
      : decryptionFailed(key);
  }
  try {
    return await env.keyring.recipients.open({
      ...key,
      share: caller.share,
      copies: header.dataKeys,
      context: { pairs: { ...stored, ...record }, bytes: whole },
      mayAsk: required.length === 0 || env.exposeRecordContext,
    });
  } catch (error) {
    if (expected.anyKey && (DekdError.is(error, 'KEY_DISABLED') || DekdError.is(error, 'INVALID_ARGUMENT'))) {
      throw decryptionFailed(error.message);
    }
    throw DekdError.is(error, 'DECRYPTION_FAILED') && DekdError.is(failure, 'KMS_UNAVAILABLE') ? failure : error;
  }
}

function isOfKeystore({ providerId }: EncryptedDataKey): boolean {
  return providerId === KEYSTORE_PROVIDER;
}

/** The key whose kid begins a provider info; undefined when there is none, or its row is refused. */
async function keystoreKey(
  { keyring }: OperationsEnvironment,
  caller: Caller,
  { providerInfo }: EncryptedDataKey,
): Promise<DataKey | undefined> {
  const kid = Buffer.from(Buffer.from(providerInfo.subarray(0, KID_DIGITS)).toString('latin1'), 'hex');
  return kid.length === KID_LENGTH
    ? (keyring.opening(kid, 0) ?? (await keyring.prepareOpening(new Uint8Array(kid), caller.share)))
    : undefined;
}

/** One of another key than the named one costs the work of a failed unwrap and says nothing else. */
function openedByKeystore(
  env: OperationsEnvironment,
  caller: Caller,
  right: OpeningRight,
  expected: ExpectedKey,
  key: DataKey | undefined,
  { providerInfo, ciphertext }: EncryptedDataKey,
  whole: Uint8Array,
): KeyHandle {
  let refusal: string | undefined;
  try {
    // Asked for the handle again each time: making room may take its slot.
    return env.keyring.room(() => {
      const opening = openingHandle(env, caller, right, key, expected, 'message');
      refusal = opening.refusal;
      return env.engine.unwrapDataKey(opening.handle, providerInfo, ciphertext, whole);
    });
  } catch (error) {
    throw refusal === undefined ? error : decryptionFailed(refusal);
  }
}

/** Whether a key may be used for nothing, also where the caller is not told so. */
function isStopped(key: DataKey | undefined): boolean {
  try {
    key?.handle();
    return false;
  } catch (error) {
    return DekdError.is(error, 'KEY_DISABLED');
  }
}

/**
 * The key of which a message is that recipients open, or why there is none. A message says so itself in what it stores,
 * and has to say what the caller does. One that does not, as those of other software, can only be of a key that a definition
 * of its own names, without a partition: under a pattern, or in a partition, it could be anybody's. Of two such keys with one
 * recipient, the key context tells which it is.
 */
function recipientKey(
  env: OperationsEnvironment,
  caller: Caller,
  right: OpeningRight,
  expected: ExpectedKey,
  stored: Pairs,
  record: Pairs,
): { readonly name: string; readonly partition: string } | string {
  if (isOfDirectValue(stored) || isOfDirectValue(record)) {
    return 'the message has the context of direct values, of which callers know what a provider encrypted';
  }
  const named = namedKey(stored);
  if (expected.anyKey) {
    if (named === undefined) {
      return 'the message does not say of which key it is: name the key';
    }
    const { name, partition } = named;
    return caller.allows('anyKey', name, partition) && caller.allows(right, name, partition)
      ? named
      : `no rule grants anyKey and ${right} on the key that the message names`;
  }
  const { key: name, partition } = expected;
  if (named !== undefined) {
    return named.name === name && named.partition === partition ? named : 'the message says that it is of another key';
  }
  const { isOneKey, keyContext } = env.keyring.recipients.rulesFor(name);
  if (partition !== '' || !isOneKey) {
    return 'the message does not say of which key it is, and the key has no entry of its own in the configuration, or a partition';
  }
  return Object.entries(keyContext).every(([field, value]) => stored[field] === value)
    ? { name, partition }
    : 'the message neither says of which key it is, nor has the key context of the one that is named';
}
