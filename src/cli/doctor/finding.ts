/** One thing looked at. */
export interface Finding {
  /** Short name, stable for scripts. */
  readonly check: string;
  readonly level: 'ok' | 'warn' | 'fail';
  readonly found: string;
  /** What to do; absent when all is well. */
  readonly remedy?: string;
}

export function ok(check: string, found: string): Finding {
  return { check, level: 'ok', found };
}

export function warning(check: string, found: string, remedy: string): Finding {
  return { check, level: 'warn', found, remedy };
}

export function failure(check: string, found: string, remedy: string): Finding {
  return { check, level: 'fail', found, remedy };
}
