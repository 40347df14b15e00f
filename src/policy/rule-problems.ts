/** Rules that cannot be honoured as they are. */
import type { PolicyRule } from '../config/config.ts';
import type { ConfigProblem } from '../config/problems.ts';
import type { PolicyOptions } from './policy.ts';

/** The kernel's stand-in for a uid that has no number in this user namespace: it names nobody. */
export const OVERFLOW_UID = 65_534;

export function ruleProblems(rule: PolicyRule, index: number, options: PolicyOptions): ConfigProblem[] {
  const problems: ConfigProblem[] = [];
  const problem = (field: string, message: string): void => {
    const path = `policy.rules[${index}].callers${field}`;
    problems.push({ path, source: '', message: `rule ${JSON.stringify(rule.name)} ${message}` });
  };
  const named = (['uid', 'gid', 'groups'] as const).filter((field) => rule.callers[field] !== undefined);
  if (!options.native && named.length > 0) {
    problem(
      '',
      `names ${named.join(', ')}, which only the native engine can tell: build the addon, or remove them and let the permissions of the socket decide`,
    );
  }
  for (const field of named) {
    if (rule.callers[field]!.includes(OVERFLOW_UID)) {
      problem(`.${field}`, `names ${OVERFLOW_UID}, which stands for everyone without a number here; name another`);
    }
  }
  if (options.native && !options.dev && !options.allowOwnUid && admitsOwnUid(rule, options)) {
    problem(
      '.uid',
      `admits uid ${options.ownUid}, the agent's own, and such a caller can read the agent's files: run the agent under a uid of its own, or set socket.allowOwnUid: true`,
    );
  }
  return problems;
}

function admitsOwnUid({ callers }: PolicyRule, { ownUid }: PolicyOptions): boolean {
  return (callers.uid?.includes(ownUid) ?? false) && callers.socket.some((name) => name !== 'admin');
}
