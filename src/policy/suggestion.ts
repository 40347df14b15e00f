/** Rules that would allow what has been denied: as few as can be without granting anything that nobody asked for. */
import type { Operation } from '../config/config.ts';
import type { Denials } from './denials.ts';
import type { Policy } from './policy.ts';
import { callersFor, completed, type Denial, MAX_RULE_NAME, type OfferedRule } from './remedy.ts';
import { BITS, type CreatingOperation } from './rights.ts';

export interface Suggestion {
  readonly rules: readonly OfferedRule[];
  /** Denials that were not kept, because there were too many different ones. */
  readonly missed: number;
}

/** What one caller was denied with one key of one partition, apart for plain calls, for making the key, and for each root. */
interface Cell {
  readonly callers: OfferedRule['callers'];
  readonly key: string;
  readonly partition: string;
  readonly creates: boolean;
  readonly root: string | undefined;
  readonly operations: Set<Operation>;
}

const CREATING: ReadonlySet<string> = new Set<CreatingOperation>(['encrypt', 'hmac', 'blindIndex']);

/** @param policy what holds now: what it allows by now needs no rule any more */
export function suggestRules(denials: Denials, policy: Omit<Policy, 'successor'>): Suggestion {
  const cells = new Map<string, Cell>();
  for (const denial of denials.list().filter((each) => isStillDenied(each, policy))) {
    addTo(cells, denial);
  }
  joinPlain(cells);
  const rules = rulesOf([...cells.values()].filter(({ operations }) => operations.size > 0));
  return { rules: named(rules, policy.ruleNames), missed: denials.missed };
}

function isStillDenied({ peer, wanted, key, partition, root }: Denial, policy: Omit<Policy, 'successor'>): boolean {
  const caller = policy.callerFor(peer);
  const creates = wanted.includes('create');
  return wanted.some(
    (word) =>
      word !== 'create' &&
      (caller.granting(word, key, partition, root).length === 0 ||
        (creates && CREATING.has(word) && !caller.mayCreate(key, partition, word as CreatingOperation))),
  );
}

function addTo(cells: Map<string, Cell>, { peer, native, wanted, key, partition, root }: Denial): void {
  const creates = wanted.includes('create');
  const callers = callersFor(peer, native);
  const identity = cellName(callers, key, partition, creates ? 'create' : root === undefined ? '' : `root ${root}`);
  const cell = cells.get(identity) ?? { callers, key, partition, creates, root, operations: new Set<Operation>() };
  for (const word of wanted) {
    if (word !== 'create') {
      cell.operations.add(word);
    }
  }
  cells.set(identity, cell);
}

/** What makes no key stands in the rule that lets one be made as well, and what is granted there needs no second rule. */
function joinPlain(cells: Map<string, Cell>): void {
  for (const { callers, key, partition, creates, operations } of cells.values()) {
    const plain = creates ? cells.get(cellName(callers, key, partition, '')) : undefined;
    for (const operation of plain?.operations ?? []) {
      if (!CREATING.has(operation) || operations.has(operation)) {
        operations.add(operation);
        plain!.operations.delete(operation);
      }
    }
  }
}

function cellName(callers: OfferedRule['callers'], key: string, partition: string, kind: string): string {
  return JSON.stringify([callers, key, partition, kind]);
}

/** First keys that differ in nothing but their partitions, then partitions that have the same keys. */
function rulesOf(cells: readonly Cell[]): OfferedRule[] {
  const byKey = Map.groupBy(cells, (cell) => JSON.stringify([rightsOf(cell), cell.key]));
  const rows = [...byKey.values()].map((row) => ({
    cell: row[0]!,
    partitions: row.map(({ partition }) => partition).toSorted(),
  }));
  const byPartitions = Map.groupBy(rows, ({ cell, partitions }) => JSON.stringify([rightsOf(cell), partitions]));
  return [...byPartitions.values()].map((group) => {
    const { cell, partitions } = group[0]!;
    return {
      name: '',
      callers: cell.callers,
      keys: group.map((row) => row.cell.key).toSorted(),
      partitions,
      operations: operationsOf(cell),
      ...(cell.root === undefined ? {} : { roots: [cell.root] }),
      ...(cell.creates ? { create: { max: group.length * partitions.length } } : {}),
    };
  });
}

function rightsOf(cell: Cell): unknown {
  return [cell.callers, cell.creates, cell.root ?? null, operationsOf(cell)];
}

/** In the order of the documentation, whatever came first. */
function operationsOf({ operations }: Cell): readonly Operation[] {
  return completed((Object.keys(BITS) as Operation[]).filter((operation) => operations.has(operation)));
}

/** Each by its caller, and by no name that there is. */
function named(rules: readonly OfferedRule[], taken: ReadonlySet<string>): OfferedRule[] {
  const used = new Set(taken);
  return rules.map((rule) => {
    const { uid, socket, token } = rule.callers;
    const base = ['suggested', uid === undefined ? [] : `uid-${uid}`, socket ?? [], token ?? []].flat().join('-');
    let name = base.slice(0, MAX_RULE_NAME);
    for (let number = 2; used.has(name); number++) {
      name = `${base.slice(0, MAX_RULE_NAME - 6)}-${number}`;
    }
    used.add(name);
    return { ...rule, name };
  });
}
