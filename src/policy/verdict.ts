/** What rules say of one call, and which of them: for who tries rules out, not for requests. */
import type { Operation, PolicyRule } from '../config/config.ts';
import { DekdError } from '../errors.ts';
import type { Caller, Peer, Policy } from './policy.ts';

export interface Question {
  readonly peer: Peer;
  readonly operation: Operation;
  readonly key: string;
  readonly partition: string;
  /** Chosen by the call; undefined for the one that routes say. */
  readonly root?: string | undefined;
  /** Names of the call's context; undefined when it has all that is wanted. */
  readonly context?: readonly string[] | undefined;
}

export interface Verdict {
  readonly isAllowed: boolean;
  /** What grants it; empty when it is denied. */
  readonly rules: readonly PolicyRule[];
  /** Why it is denied, with the rule that would allow it where one can. */
  readonly reason: string | undefined;
}

export function judge(policy: Policy, question: Question): Verdict {
  try {
    return { isAllowed: true, rules: allowing(policy.callerFor(question.peer), question), reason: undefined };
  } catch (error) {
    if (DekdError.is(error, 'PERMISSION_DENIED') || DekdError.is(error, 'UNAUTHENTICATED')) {
      return { isAllowed: false, rules: [], reason: error.reason ?? error.message };
    }
    throw error;
  }
}

/** @throws as the request would */
function allowing(caller: Caller, { operation, key, partition, root, context }: Question): readonly PolicyRule[] {
  caller.authorize(operation, key, partition);
  if (operation === 'anyKey') {
    caller.authorize('decrypt', key, partition);
  }
  if (root !== undefined) {
    caller.authorizeRoot(operation, key, partition, root);
  }
  const rules = caller.granting(operation, key, partition, root);
  if (context === undefined) {
    return rules;
  }
  caller.checkContext(operation, key, partition, () => context);
  return rules.filter(({ requireContext }) => requireContext.every((name) => context.includes(name)));
}
