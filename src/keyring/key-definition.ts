import { DekdError } from '../errors.ts';
import { compileGlob } from '../glob.ts';
import { KEYSTORE_RECIPIENT } from './recipients/recipient.ts';
import { Schedule } from './schedule.ts';

const DAY_MS = 86_400_000;

/** When a key gets a new version by itself. Infinity switches a limit off. */
export interface RotationLimits {
  /** Age of the active version, in milliseconds. */
  readonly maxAgeMs: number;
  readonly maxMessages: number;
  /** Bytes of plaintext. */
  readonly maxBytes: number;
  /** Cron expression of five fields, in UTC: a version made before the last time that it names is replaced. */
  readonly schedule: string | undefined;
  /** How many versions beside the sealing one still open; older ones are disabled once `graceMs` has passed. */
  readonly keep: number;
  /** How long a version opens after it stopped sealing, whatever `keep` says. */
  readonly graceMs: number;
}

/**
 * XAES-256-GCM with random 24-byte nonces is safe for 2^80 messages a key (C2SP XAES-256-GCM), so these bound what one
 * lost key can open and not what the cipher bears. 2^50 bytes is a pebibyte.
 */
export const DEFAULT_ROTATION: RotationLimits = {
  maxAgeMs: 90 * DAY_MS,
  maxMessages: 2 ** 32,
  maxBytes: 2 ** 50,
  schedule: undefined,
  keep: Number.POSITIVE_INFINITY,
  graceMs: 7 * DAY_MS,
};

/** What configuration says of all keys whose name matches `pattern`. */
export interface KeyDefinition {
  /** A key name in which `*` stands for any run of characters. */
  readonly pattern: string;
  /** Bound when a version is made, and what a KMS sees; few values, all of them strings with something in them. */
  readonly keyContext?: Readonly<Record<string, string>>;
  /** Context names that every call must carry. */
  readonly requiredContext?: readonly string[];
  readonly rotation?: Partial<RotationLimits>;
  /** The provider of the root encrypts each value itself. */
  readonly direct?: boolean;
  /** Who can open messages: names of recipients, `keystore` among them; the keystore alone unless given. */
  readonly recipients?: readonly string[];
  /** Recipients that messages may still be sealed for. */
  readonly formerRecipients?: readonly string[];
}

/** What holds for one key. */
export interface KeyRules {
  readonly keyContext: Readonly<Record<string, string>>;
  readonly requiredContext: readonly string[];
  readonly rotation: RotationLimits;
  readonly schedule: Schedule | undefined;
  readonly direct: boolean;
  readonly recipients: readonly string[];
  readonly formerRecipients: readonly string[];
  /** The definition is of one name and no pattern. */
  readonly isOneKey: boolean;
}

interface Matcher {
  readonly matches: (name: string) => boolean;
  readonly rules: KeyRules;
}

/** The definitions of a configuration: for each name, the first whose pattern matches. */
export class KeyDefinitions {
  #matchers: readonly Matcher[];
  readonly #otherwise: KeyRules = rulesOf({ pattern: '*' });
  /** Whether any key at all is direct. */
  anyDirect: boolean;
  /** Whether versions of any key at all are disabled when they are old. */
  anyRetires: boolean;

  /** @throws INVALID_ARGUMENT on a limit or a key context that cannot be. */
  constructor(definitions: readonly KeyDefinition[]) {
    this.#matchers = definitions.map((definition) => ({
      matches: compileGlob(definition.pattern),
      rules: rulesOf(definition),
    }));
    this.anyRetires = this.#matchers.some(({ rules }) => Number.isFinite(rules.rotation.keep));
    this.anyDirect = definitions.some(({ direct }) => direct === true);
  }

  /** Takes over what `other` says; whoever keeps rules asks again. */
  become(other: KeyDefinitions): void {
    this.#matchers = other.#matchers;
    this.anyDirect = other.anyDirect;
    this.anyRetires = other.anyRetires;
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
  const { schedule, graceMs, ...limits } = rotation;
  for (const [name, value] of Object.entries({ ...limits, graceMs: graceMs + 1 })) {
    if (!(value > 0)) {
      throw new DekdError('INVALID_ARGUMENT', `rotation.${name} of ${definition.pattern} must be above 0`);
    }
  }
  return {
    keyContext: Object.freeze(keyContext),
    requiredContext: Object.freeze([...(definition.requiredContext ?? [])]),
    rotation,
    schedule: schedule === undefined ? undefined : new Schedule(schedule),
    direct: definition.direct === true,
    recipients: Object.freeze([...(definition.recipients ?? [KEYSTORE_RECIPIENT])]),
    formerRecipients: Object.freeze([...(definition.formerRecipients ?? [])]),
    isOneKey: !definition.pattern.includes('*'),
  };
}
