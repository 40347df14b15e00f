import type { Operation } from './engine.ts';

export type Capability = Operation | 'sudo' | 'deny';

/** Capabilities by path: an exact path, a prefix that ends in `*`, `+` for one whole segment. */
export type Policy = Readonly<Record<string, readonly Capability[]>>;

export const DEFAULT_POLICY: Policy = {
  'auth/token/lookup-self': ['read'],
  'auth/token/renew-self': ['update'],
  'auth/token/revoke-self': ['update'],
  'sys/wrapping/wrap': ['update'],
  'sys/wrapping/lookup': ['update'],
  'sys/wrapping/unwrap': ['update'],
};

/** Whether `policies` together allow `operation` on `path`: the most specific pattern of each counts, deny wins. */
export function allows(policies: readonly Policy[], path: string, operation: Operation): boolean {
  let longest: { pattern: string; capabilities: Capability[] } | undefined;
  for (const policy of policies) {
    for (const [pattern, capabilities] of Object.entries(policy)) {
      if (!matches(pattern, path)) {
        continue;
      }
      if (longest === undefined || isMoreSpecific(pattern, longest.pattern)) {
        longest = { pattern, capabilities: [...capabilities] };
      } else if (pattern === longest.pattern) {
        longest.capabilities.push(...capabilities);
      }
    }
  }
  return longest !== undefined && !longest.capabilities.includes('deny') && longest.capabilities.includes(operation);
}

function matches(pattern: string, path: string): boolean {
  const isPrefix = pattern.endsWith('*');
  const wanted = (isPrefix ? pattern.slice(0, -1) : pattern).split('/');
  const given = path.split('/');
  if (isPrefix ? given.length < wanted.length : given.length !== wanted.length) {
    return false;
  }
  return wanted.every((segment, at) => {
    if (segment === '+') {
      return true;
    }
    return isPrefix && at === wanted.length - 1 ? given[at]!.startsWith(segment) : given[at] === segment;
  });
}

function isMoreSpecific(pattern: string, than: string): boolean {
  const isExact = !pattern.endsWith('*') && !pattern.includes('+');
  const wasExact = !than.endsWith('*') && !than.includes('+');
  return isExact === wasExact ? pattern.length > than.length : isExact;
}
