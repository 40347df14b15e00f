/** What an operator reads about a denial: who was denied what, and the rule that would allow exactly that. */
import type { Operation } from '../config/config.ts';
import type { Peer } from './policy.ts';

export interface Denial {
  readonly peer: Peer;
  readonly native: boolean;
  readonly ownUid: number;
  /** Whether the own uid can be admitted as the configuration is. */
  readonly allowOwnUid: boolean;
  readonly wanted: readonly (Operation | 'create')[];
  readonly key: string;
  readonly partition: string;
  /** Name of a root that there is, and that was chosen. */
  readonly root?: string;
}

/** Longest name shown; a longer one has no remedy, since no key can have it. */
const MAX_SHOWN = 256;
export const MAX_RULE_NAME = 64;

/** The reason of a denial: one line that says what was denied, and the YAML of a rule that allows it and nothing else. */
export function explainDenial(denial: Denial): string {
  const { peer, native, wanted, key, partition, root } = denial;
  const who = native ? `uid ${peer.uid} gid ${peer.gid} groups [${peer.groups.join(', ')}]` : 'the caller';
  const what = `${wanted.join(' and ')} key ${quoted(key)}${partition === '' ? '' : ` of partition ${quoted(partition)}`}${root === undefined ? '' : ` under root ${quoted(root)}`}`;
  const denied = `no rule lets ${who} on the ${peer.socket} socket ${what}`;
  const obstacle = obstacleOf(denial);
  return obstacle === undefined
    ? `${denied}; this one would, under policy.rules:\n${ruleText(ruleFor(denial))}`
    : `${denied}; ${obstacle}`;
}

/** Why no rule can or should be offered: one made from the names a caller sent must not grant more than those. */
export function obstacleOf({ key, partition, peer, native, ownUid, allowOwnUid }: Denial): string | undefined {
  if (key.startsWith('.')) {
    return 'names that begin with a dot are reserved, and no rule reaches them';
  }
  if (key.includes('*') || partition.includes('*')) {
    return 'no rule can name this alone, since * stands for any run of characters';
  }
  if (key === '' || key.length > MAX_SHOWN || partition.length > MAX_SHOWN) {
    return 'no key has such a name';
  }
  if (native && peer.uid === ownUid && !allowOwnUid) {
    return `uid ${ownUid} is the agent's own, which no rule may admit unless socket.allowOwnUid is true; run the agent or the caller under another uid`;
  }
  return undefined;
}

/** A rule as it is offered, in the words of the configuration. */
export interface OfferedRule {
  readonly name: string;
  readonly callers: { readonly uid?: number; readonly gid?: number; readonly socket?: string; readonly token?: string };
  readonly keys: readonly string[];
  readonly partitions: readonly string[];
  readonly operations: readonly Operation[];
  readonly roots?: readonly string[];
  readonly create?: { readonly max: number };
}

/** The callers of a rule for this peer and those that nothing but their groups and process tells from it. */
export function callersFor({ uid, gid, socket, token }: Peer, native: boolean): OfferedRule['callers'] {
  return {
    ...(native ? { uid, gid } : {}),
    ...(socket === 'data' ? {} : { socket }),
    ...(token === undefined ? {} : { token }),
  };
}

/** As the configuration wants them: `anyKey` stands beside `decrypt` only. */
export function completed(operations: readonly Operation[]): readonly Operation[] {
  return operations.includes('anyKey') && !operations.includes('decrypt') ? ['decrypt', ...operations] : operations;
}

function ruleFor({ peer, native, wanted, key, partition, root }: Denial): OfferedRule {
  return {
    name: `${native ? `uid-${peer.uid}` : 'callers'}-${wanted.join('-')}-${key}`.slice(0, MAX_RULE_NAME),
    callers: callersFor(peer, native),
    keys: [key],
    partitions: [partition],
    operations: completed(wanted.filter((word) => word !== 'create')),
    ...(root === undefined ? {} : { roots: [root] }),
    ...(wanted.includes('create') ? { create: { max: 1 } } : {}),
  };
}

/** The YAML of a rule, to stand under `policy.rules`. */
export function ruleText({ name, callers, keys, partitions, operations, roots, create }: OfferedRule): string {
  const who = Object.entries(callers).map(
    ([field, value]) => `${field}: ${typeof value === 'number' ? value : plainOrQuoted(value)}`,
  );
  return [
    `  - name: ${quoted(name)}`,
    ...(who.length === 0 ? [] : [`    callers: { ${who.join(', ')} }`]),
    `    keys: [${keys.map(quoted).join(', ')}]`,
    `    partitions: [${partitions.map(quoted).join(', ')}]`,
    `    operations: [${operations.join(', ')}]`,
    ...(roots === undefined ? [] : [`    roots: [${roots.map(quoted).join(', ')}]`]),
    ...(create === undefined ? [] : [`    create: { max: ${create.max} }`]),
  ].join('\n');
}

function plainOrQuoted(name: string): string {
  return /^[a-z][a-z0-9-]*$/.test(name) && !/^(true|false|null|yes|no|on|off)$/.test(name) ? name : quoted(name);
}

/** JSON's quoting, which YAML 1.2 reads alike, with everything but printable ASCII escaped: it goes to logs and terminals. */
export function quoted(name: string): string {
  const shown = name.length > MAX_SHOWN ? `${name.slice(0, MAX_SHOWN)}…` : name;
  return JSON.stringify(shown).replace(
    /[^\x20-\x7e]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
