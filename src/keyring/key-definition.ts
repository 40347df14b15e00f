import { DekdError } from '../errors.ts';

const DAY_MS = 86_400_000;

/** When a key gets a new version by itself. Infinity switches a limit off. */
export interface RotationLimits {
  /** Age of the active version, in milliseconds. */
  readonly maxAgeMs: number;
  readonly maxMessages: number;
  /** Bytes of plaintext. */
  readonly maxBytes: number;
}

/**
 * XAES-256-GCM with random 24-byte nonces is safe for 2^80 messages a key (C2SP XAES-256-GCM), so these bound what one
 * lost key can open and not what the cipher bears. 2^50 bytes is a pebibyte.
 */
export const DEFAULT_ROTATION: RotationLimits = { maxAgeMs: 90 * DAY_MS, maxMessages: 2 ** 32, maxBytes: 2 ** 50 };

/** What configuration says of all keys whose name matches `pattern`. */
export interface KeyDefinition {
  /** A key name in which `*` stands for any run of characters. */
  readonly pattern: string;
  /** Bound when a version is made, and what a KMS sees; few values, all of them strings with something in them. */
  readonly keyContext?: Readonly<Record<string, string>>;
  /** Context names that every call must carry. */
  readonly requiredContext?: readonly string[];
  readonly rotation?: Partial<RotationLimits>;
}

/** What holds for one key. */
export interface KeyRules {
  readonly keyContext: Readonly<Record<string, string>>;
  readonly requiredContext: readonly string[];
  readonly rotation: RotationLimits;
}

interface Matcher {
  readonly matches: (name: string) => boolean;
  readonly rules: KeyRules;
}

/** The definitions of a configuration: for each name, the first whose pattern matches. */
export class KeyDefinitions {
  readonly #matchers: readonly Matcher[];
  readonly #otherwise: KeyRules = rulesOf({ pattern: '*' });

  /** @throws INVALID_ARGUMENT on a limit or a key context that cannot be. */
  constructor(definitions: readonly KeyDefinition[]) {
    this.#matchers = definitions.map((definition) => ({
      matches: matcherOf(definition.pattern),
      rules: rulesOf(definition),
    }));
  }

  rulesFor(name: string): KeyRules {
    return this.#matchers.find(({ matches }) => matches(name))?.rules ?? this.#otherwise;
  }
}

function rulesOf(definition: KeyDefinition): KeyRules {
  const keyContext = Object.assign(Object.create(null) as Record<string, string>, definition.keyContext);
  for (const [name, value] of Object.entries(keyContext)) {
    // An empty value has no pair in the AAD: it would read like no value at all.
    if (typeof value !== 'string' || value === '' || name === '') {
      throw new DekdError(
        'INVALID_ARGUMENT',
        `key context of ${definition.pattern} must be strings that are not empty`,
      );
    }
  }
  const rotation = { ...DEFAULT_ROTATION, ...definition.rotation };
  for (const [name, value] of Object.entries(rotation)) {
    if (!(value > 0)) {
      throw new DekdError('INVALID_ARGUMENT', `rotation.${name} of ${definition.pattern} must be above 0`);
    }
  }
  return {
    keyContext: Object.freeze(keyContext),
    requiredContext: Object.freeze([...(definition.requiredContext ?? [])]),
    rotation,
  };
}

function matcherOf(pattern: string): (name: string) => boolean {
  const parts = pattern.split('*');
  if (parts.length === 1) {
    return (name) => name === pattern;
  }
  const first = parts[0]!;
  const last = parts.at(-1)!;
  const middle = parts.slice(1, -1);
  // No regular expression: a pattern with many stars must not cost more than its length.
  return (name) => {
    if (name.length < first.length + last.length || !name.startsWith(first) || !name.endsWith(last)) {
      return false;
    }
    let at = first.length;
    const end = name.length - last.length;
    for (const part of middle) {
      const found = name.indexOf(part, at);
      if (found < 0 || found + part.length > end) {
        return false;
      }
      at = found + part.length;
    }
    return true;
  };
}
