/**
 * The lines of versions of one data key: one for callers who name no root, and one for each root that a caller named. Each has
 * its own sealing version; versions of all of them count together, and a token opens by its kid whichever line it is of.
 */
import { ROOT_NAME } from '../envelope/own-names.ts';
import type { KeyRecord } from './record.ts';

/** The line of callers who name no root: its new versions hang where routes and the default root say. */
export const OWN_LINE = '';

/** Name of the root for which the version was made, or `OWN_LINE`. What the record says is bound by its MAC and its wrapping. */
export function lineOf({ keyContext }: Pick<KeyRecord, 'keyContext'>): string {
  return keyContext[ROOT_NAME] ?? OWN_LINE;
}

/** The key context of a version in `line`. */
export function contextInLine(keyContext: KeyRecord['keyContext'], line: string): KeyRecord['keyContext'] {
  return line === OWN_LINE
    ? keyContext
    : Object.freeze(Object.assign(Object.create(null) as Record<string, string>, keyContext, { [ROOT_NAME]: line }));
}

/** The key context as it was configured. */
export function contextWithoutLine(keyContext: KeyRecord['keyContext']): KeyRecord['keyContext'] {
  if (!Object.hasOwn(keyContext, ROOT_NAME)) {
    return keyContext;
  }
  const configured = Object.assign(Object.create(null) as Record<string, string>, keyContext);
  delete configured[ROOT_NAME];
  return Object.freeze(configured);
}

/**
 * Whether the next version of a line that has none active may be made on behalf of a caller: the key is in use in another
 * line, and nobody disabled this one. One that stopped sealing for good (it was rotated, and may have been retired since, or
 * destroyed) has only made room.
 * @param rows every version of the key, oldest first
 */
export function mayBeMade(rows: readonly KeyRecord[], line: string): boolean {
  const newest = rows.findLast((row) => lineOf(row) === line && row.dates.activated !== 0);
  const isDisabled = newest?.state === 'suspended' && newest.dates.deactivated === 0;
  return !isDisabled && rows.some(({ state }) => state === 'active');
}
