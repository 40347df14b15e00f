/** The two levels of context in a message: what the key is for, which is stored, and what the record is, which is not. */
import { encodeContext } from '../envelope/context.ts';
import { DekdError, decryptionFailed } from '../errors.ts';

export interface MessageContext {
  /** Canonical bytes of what the header stores. */
  readonly stored: Uint8Array;
  /** Canonical bytes of what is bound and not stored. */
  readonly required: Uint8Array;
  /** Canonical bytes of both: what data keys are wrapped with. */
  readonly whole: Uint8Array;
}

type Pairs = Readonly<Record<string, string>>;

/**
 * Of a message that is made.
 * @param key the key context, which belongs to the key's definition
 * @param record what the call says
 * @throws INVALID_ARGUMENT when the call says something else of a name that the key context has
 */
export function contextToSeal(key: Pairs, record: Pairs): MessageContext {
  const required = without(record, key, (name) => {
    throw new DekdError('INVALID_ARGUMENT', `context field '${name}' belongs to the key and has another value there`);
  });
  return {
    stored: encodeContext(key),
    required: encodeContext(required),
    whole: encodeContext({ ...key, ...required }),
  };
}

/**
 * Of a message that is there.
 * @param stored what its header stores
 * @throws DECRYPTION_FAILED when the call says something else of a name that is stored
 */
export function requiredToOpen(stored: Pairs, record: Pairs): Uint8Array {
  return encodeContext(
    without(record, stored, (name) => {
      throw decryptionFailed(`the message stores another value of context field '${name}'`);
    }),
  );
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
