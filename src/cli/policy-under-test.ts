/** The rules of a configuration, compiled as an agent would, for questions without an agent. */
import type { Config, Operation } from '../config/config.ts';
import { nearestName } from '../config/problems.ts';
import { OPERATIONS } from '../config/schema/entries.ts';
import { compilePolicy, type Policy } from '../policy/policy.ts';

/** What no caller has, where the agent's own uid is not said: then no caller is taken for the agent's own user. */
const NOBODY = -1;

/** @throws ConfigError for rules under which an agent would not start */
export function policyOf(config: Config, agentUid: number | undefined): Policy {
  return compilePolicy(config.policy.rules, {
    native: true,
    ownUid: agentUid ?? NOBODY,
    dev: config.dev,
    allowOwnUid: config.socket.allowOwnUid,
    roots: config.roots.map(({ name }) => name),
  });
}

/** Names that a question can be about. */
export interface KnownNames {
  readonly operation: readonly Operation[];
  readonly socket: readonly string[];
  readonly token: readonly string[];
  readonly root: readonly string[];
  readonly rule: readonly string[];
}

export function knownNames({ sockets, tokens, roots, policy }: Config): KnownNames {
  return {
    operation: OPERATIONS,
    socket: ['data', 'admin', ...sockets.map(({ name }) => name)],
    token: tokens.map(({ name }) => name),
    root: roots.map(({ name }) => name),
    rule: policy.rules.map(({ name }) => name),
  };
}

/** What is wrong with a name; undefined when there is such a thing. */
export function unknownName(kind: keyof KnownNames, name: string, known: KnownNames): string | undefined {
  const names: readonly string[] = known[kind];
  if (names.includes(name)) {
    return undefined;
  }
  const near = nearestName(name, names);
  const there = names.length === 0 ? 'there is none' : `there are ${names.join(', ')}`;
  return `no ${kind} ${JSON.stringify(name)}; ${near === undefined ? there : `did you mean ${near}?`}`;
}
