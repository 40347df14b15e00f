/** The two levels of context in a message: what the key is for, which is stored, and what the record is, which is not. */
import { encodeContext } from '../envelope/context.ts';
import { KEY_NAME, OWN_NAME_PREFIX, PARTITION_NAME, USE_NAME } from '../envelope/own-names.ts';
import { DekdError, decryptionFailed } from '../errors.ts';

export interface MessageContext {
  /** Canonical bytes of what the header stores. */
  readonly stored: Uint8Array;
  /** Canonical bytes of what is bound and not stored. */
  readonly required: Uint8Array;
  /** Canonical bytes of both: what data keys are wrapped with. */
  readonly whole: Uint8Array;
  /** Both, as pairs. */
  readonly pairs: Pairs;
}

type Pairs = Readonly<Record<string, string>>;

/**
 * Of a message that is made.
 * @param key the key context, which belongs to the key's definition
 * @param record what the call says
 * @param own what the agent itself stores, under names of its own
 * @param recordIs whether the header has what the record is, which is then seen by whoever sees the header
 * @throws INVALID_ARGUMENT when the call says something else of a name that the key context has, or uses a name of ours
 */
export function contextToSeal(
  key: Pairs,
  record: Pairs,
  own: Pairs = {},
  recordIs: 'required' | 'stored' = 'required',
): MessageContext {
  for (const name of [...Object.keys(key), ...Object.keys(record)]) {
    if (name.startsWith(OWN_NAME_PREFIX)) {
      throw new DekdError('INVALID_ARGUMENT', `context fields that begin with '${OWN_NAME_PREFIX}' are dekd's own`);
    }
  }
  const rest = without(record, key, (name) => {
    throw new DekdError('INVALID_ARGUMENT', `context field '${name}' belongs to the key and has another value there`);
  });
  const known = { ...key, ...own };
  const pairs = { ...known, ...rest };
  const whole = encodeContext(pairs);
  return recordIs === 'stored'
    ? { stored: whole, required: encodeContext({}), whole, pairs }
    : { stored: encodeContext(known), required: encodeContext(rest), whole, pairs };
}

/**
 * Of a message that is there.
 * @param stored what its header stores
 * @throws DECRYPTION_FAILED when the call says something else of a name that is stored, or has a name of ours that is not:
 * which key a message is of, its header says
 */
export function requiredToOpen(stored: Pairs, record: Pairs): Uint8Array {
  const rest = without(record, stored, (name) => {
    throw decryptionFailed(`the message stores another value of context field '${name}'`);
  });
  for (const name of Object.keys(rest)) {
    if (name.startsWith(OWN_NAME_PREFIX)) {
      throw decryptionFailed(`the message does not store '${name}', which is no name for callers`);
    }
  }
  return encodeContext(rest);
}

/** The pairs that name the key of a message, beside its key context. */
export function namingPairs(name: string, partition: string): Pairs {
  return { [KEY_NAME]: name, ...(partition === '' ? {} : { [PARTITION_NAME]: partition }) };
}

/** Whether a context is that of values which providers encrypt themselves. */
export function isOfDirectValue(context: Pairs): boolean {
  return Object.hasOwn(context, USE_NAME);
}

/** Which key a message says that it is of; undefined where it does not. */
export function namedKey(stored: Pairs): { readonly name: string; readonly partition: string } | undefined {
  const name = stored[KEY_NAME];
  return name === undefined ? undefined : { name, partition: stored[PARTITION_NAME] ?? '' };
}

/** The pairs that are not in `others`. */
function without(pairs: Pairs, others: Pairs, differs: (name: string) => never): Record<string, string> {
  const rest = Object.create(null) as Record<string, string>;
  for (const [name, value] of Object.entries(pairs)) {
    if (!Object.hasOwn(others, name)) {
      rest[name] = value;
    } else if (others[name] !== value) {
      differs(name);
    }
  }
  return rest;
}
