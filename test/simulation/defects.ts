/**
 * Defects that are put into the source as it is read, to see that worlds find them: a simulation that finds nothing proves
 * nothing. Nothing is written; the source on disk stays as it is.
 */
import { registerHooks } from 'node:module';

interface Defect {
  /** Below `src/`. */
  readonly file: string;
  readonly is: string;
  readonly becomes: string;
}

export const DEFECTS: Readonly<Record<string, Defect>> = {
  /** A writer does not look whether the row is still what it read. */
  'no-compare-and-set': {
    file: 'keystores/memory.ts',
    is: 'stored === undefined || stored.seq !== seq',
    becomes: 'stored === undefined || seq === undefined',
  },
  /** What was destroyed or disabled is dropped from nothing. */
  'destroyed-stays-warm': {
    file: 'keyring/live-keys.ts',
    is: 'key.state = state;\n    key.usable = key.parent !== undefined && this.#mayOpen(key);',
    becomes: 'if (canOpen(state)) key.state = state;\n    key.usable = key.parent !== undefined;',
  },
  /** Silence counts as an answer, and coasts never end. */
  'coast-without-end': {
    file: 'keyring/root-watch.ts',
    is: 'const verdict = verdictOf(error);',
    becomes: 'const verdict = verdictOf(error); if (verdict === "silent") watched.provedAt = this.#parts.elapsedMs();',
  },
  /** A root that says no is taken for one that says nothing. */
  'refusal-is-silence': {
    file: 'keyring/root-watch.ts',
    is: 'const verdict = verdictOf(error);',
    becomes: 'const verdict = verdictOf(error) && "silent";',
  },
  /** Rows are read once, and what others write is never seen. */
  'rows-are-never-read-again': {
    file: 'keyring/live-keys.ts',
    is: 'if (age > 0) {',
    becomes: 'if (age > 1e9) {',
  },
  /** A version is used before the keystore has it. */
  'used-before-stored': {
    file: 'keyring/key-versions.ts',
    is: 'await keystore.store(record, { absent: true });',
    becomes: 'keystore.store(record, { absent: true }).catch(() => {});',
  },
  /** A rotation leaves the version active that it replaces. */
  'rotation-leaves-two': {
    file: 'keyring/key-versions.ts',
    is: 'for (const row of active) {\n      changes.push',
    becomes: 'for (const row of active.slice(1)) {\n      changes.push',
  },
  /** The context of a record is no part of what is authenticated. */
  'context-is-not-bound': {
    file: 'crypto/node.ts',
    is: 'cipher.setAAD(aad);',
    becomes: 'cipher.setAAD(aad.subarray(0, 18));',
  },
  /** A freeze is kept for the next start, and stops nothing that is loaded. */
  'freeze-stops-nothing': {
    file: 'keyring/open-keyring.ts',
    is: 'this.#live.stopFrozen();',
    becomes: '',
  },
};

/** @throws when there is no such defect; the import throws when the source no longer has the place for it */
export function plantDefect(name: string | undefined): void {
  if (name === undefined) {
    return;
  }
  const defect = DEFECTS[name];
  if (defect === undefined) {
    throw new Error(`no defect ${name}: there are ${Object.keys(DEFECTS).join(', ')}`);
  }
  const target = new URL(`../../src/${defect.file}`, import.meta.url).href;
  registerHooks({
    load(url, context, next) {
      const loaded = next(url, context);
      if (url !== target) {
        return loaded;
      }
      const source = String(loaded.source);
      if (!source.includes(defect.is)) {
        throw new Error(`${defect.file} has no place for the defect ${name}`);
      }
      return { ...loaded, source: source.replaceAll(defect.is, defect.becomes) };
    },
  });
}
