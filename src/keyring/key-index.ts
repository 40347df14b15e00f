import type { KeyDefinitions } from './key-definition.ts';
import type { DataPurpose } from './keyring.ts';
import { type KeyFamily, type LoadedKey, wordAt } from './loaded-key.ts';
import { OWN_LINE } from './root-line.ts';

/** A small integer needs no allocation as a Map's key; the rest of the kid is compared on the chain. */
const BUCKET_MASK = 0x3fffffff;

/** By partition, then by name. */
type Families = Map<string, Map<string, KeyFamily>>;

/** Of one purpose: the families of callers who name no root, and by root those of callers who do. */
interface Lines {
  readonly own: Families;
  readonly chosen: Map<string, Families>;
}

function valuesOf<T>(map: ReadonlyMap<string, T>): T[] {
  return [...map.values()];
}

/**
 * The data keys that are known: by kid for opening, whatever they are for, and by partition and name for sealing, each
 * purpose and each line by itself. Both without allocation.
 */
export class KeyIndex {
  readonly #byKid = new Map<number, LoadedKey>();
  readonly #seal: Lines = { own: new Map(), chosen: new Map() };
  readonly #others: Readonly<Record<Exclude<DataPurpose, 'seal'>, Lines>> = {
    message: { own: new Map(), chosen: new Map() },
    mac: { own: new Map(), chosen: new Map() },
    index: { own: new Map(), chosen: new Map() },
  };
  readonly #definitions: KeyDefinitions;
  #last: LoadedKey | undefined;
  size = 0;

  constructor(definitions: KeyDefinitions) {
    this.#definitions = definitions;
  }

  /** The key whose kid is at `bytes[offset, +16)`. */
  find(bytes: Uint8Array, offset: number): LoadedKey | undefined {
    const word0 = wordAt(bytes, offset);
    const word1 = wordAt(bytes, offset + 4);
    const word2 = wordAt(bytes, offset + 8);
    const word3 = wordAt(bytes, offset + 12);
    const last = this.#last;
    if (
      last !== undefined &&
      last.word0 === word0 &&
      last.word1 === word1 &&
      last.word2 === word2 &&
      last.word3 === word3
    ) {
      return last;
    }
    let key = this.#byKid.get(word0 & BUCKET_MASK);
    while (key !== undefined) {
      if (key.word0 === word0 && key.word1 === word1 && key.word2 === word2 && key.word3 === word3) {
        this.#last = key;
        return key;
      }
      key = key.next;
    }
    return undefined;
  }

  /** The family for tokens of callers who name no root. */
  family(name: string, partition: string): KeyFamily | undefined {
    return this.#seal.own.get(partition)?.get(name);
  }

  familyOf(purpose: DataPurpose, name: string, partition: string, line: string): KeyFamily | undefined {
    const { own, chosen } = this.#linesOf(purpose);
    return (line === OWN_LINE ? own : chosen.get(line))?.get(partition)?.get(name);
  }

  /** Those of every line. */
  families(purpose: DataPurpose, name: string, partition: string): KeyFamily[] {
    const { own, chosen } = this.#linesOf(purpose);
    return [own, ...chosen.values()].flatMap((families) => families.get(partition)?.get(name) ?? []);
  }

  /**
   * Milliseconds since the version that seals was made, by name, whatever it is for and in whichever partition: the oldest.
   * @param now milliseconds since the epoch
   */
  sealingAges(now: number): Map<string, number> {
    const ages = new Map<string, number>();
    for (const { own, chosen } of [this.#seal, ...Object.values(this.#others)]) {
      for (const families of [own, ...chosen.values()]) {
        for (const names of families.values()) {
          for (const { name, active } of names.values()) {
            if (active !== undefined) {
              ages.set(name, Math.max(ages.get(name) ?? 0, now - active.record.dates.created));
            }
          }
        }
      }
    }
    return ages;
  }

  /** The family, made when there is none. */
  ensureFamily(purpose: DataPurpose, name: string, partition: string, line: string): KeyFamily {
    const families = this.#ensureFamilies(purpose, line);
    let names = families.get(partition);
    if (names === undefined) {
      names = new Map();
      families.set(partition, names);
    }
    let family = names.get(name);
    if (family === undefined) {
      family = {
        name,
        partition,
        purpose,
        line,
        rules: this.#definitions.rulesFor(name),
        keys: new Map(),
        isPrewarmed: false,
        active: undefined,
      };
      names.set(name, family);
    }
    return family;
  }

  /** Takes over a key that is not known yet. */
  add(key: LoadedKey): void {
    const bucket = key.word0 & BUCKET_MASK;
    key.next = this.#byKid.get(bucket);
    this.#byKid.set(bucket, key);
    key.family.keys.set(key.version, key);
    this.size++;
  }

  /** Nothing happens for a key that is not known. */
  remove(key: LoadedKey): void {
    const bucket = key.word0 & BUCKET_MASK;
    const head = this.#byKid.get(bucket);
    if (head === key) {
      if (key.next === undefined) {
        this.#byKid.delete(bucket);
      } else {
        this.#byKid.set(bucket, key.next);
      }
    } else {
      let before = head;
      while (before !== undefined && before.next !== key) {
        before = before.next;
      }
      if (before === undefined) {
        return;
      }
      before.next = key.next;
    }
    key.next = undefined;
    this.size--;
    if (this.#last === key) {
      this.#last = undefined;
    }
    const { family } = key;
    if (family.keys.get(key.version) === key) {
      family.keys.delete(key.version);
    }
    if (family.active === key) {
      family.active = undefined;
    }
    if (family.keys.size === 0) {
      this.#removeFamily(family);
    }
  }

  /** After the definitions changed: families and keys that are known follow them from the next call on. */
  redefine(redefined: (key: LoadedKey) => void): void {
    for (const { own, chosen } of [this.#seal, ...Object.values(this.#others)]) {
      for (const family of [own, ...chosen.values()].flatMap((families) => [...families.values()].flatMap(valuesOf))) {
        family.rules = this.#definitions.rulesFor(family.name);
      }
    }
    for (const key of this.keys()) {
      key.requiredContext = key.family.rules.requiredContext;
      redefined(key);
    }
  }

  *keys(): Generator<LoadedKey> {
    for (const head of this.#byKid.values()) {
      for (let key: LoadedKey | undefined = head; key !== undefined; key = key.next) {
        yield key;
      }
    }
  }

  #linesOf(purpose: DataPurpose): Lines {
    return purpose === 'seal' ? this.#seal : this.#others[purpose];
  }

  #ensureFamilies(purpose: DataPurpose, line: string): Families {
    const { own, chosen } = this.#linesOf(purpose);
    let families = line === OWN_LINE ? own : chosen.get(line);
    if (families === undefined) {
      families = new Map();
      chosen.set(line, families);
    }
    return families;
  }

  #removeFamily(family: KeyFamily): void {
    const { own, chosen } = this.#linesOf(family.purpose);
    const families = family.line === OWN_LINE ? own : chosen.get(family.line);
    const names = families?.get(family.partition);
    if (families !== undefined && names?.get(family.name) === family) {
      names.delete(family.name);
      if (names.size === 0) {
        families.delete(family.partition);
      }
      if (families.size === 0) {
        chosen.delete(family.line);
      }
    }
  }
}
