import type {
  AliasNode,
  BinaryOperationNode,
  ColumnNode,
  ColumnUpdateNode,
  DeleteQueryNode,
  IdentifierNode,
  InsertQueryNode,
  OnConflictNode,
  OperationNode,
  OperatorNode,
  ReferenceNode,
  SelectionNode,
  SelectQueryNode,
  TableNode,
  UpdateQueryNode,
  ValueNode,
  ValuesNode,
} from 'kysely';
import { DekdError } from '../../errors.ts';
import type { AnyTable } from '../table.ts';

/** Where in the rows of a result the columns of one table are: name of the column to name in the result. */
export interface TableResult {
  readonly table: AnyTable;
  readonly outputs: ReadonlyMap<string, string>;
}

/** What a statement calls its tables; `undefined` for a table without encrypted columns, and for anything else. */
type Scope = ReadonlyMap<string, AnyTable | undefined>;

/** Kinds of nodes with tables of their own. */
const QUERIES = new Set(['SelectQueryNode', 'InsertQueryNode', 'UpdateQueryNode', 'DeleteQueryNode', 'MergeQueryNode']);

/** Reads one query: finds where its result has encrypted columns, and refuses whatever else touches one. */
export class QueryReading {
  readonly #tables: ReadonlyMap<string, AnyTable>;

  constructor(tables: ReadonlyMap<string, AnyTable>) {
    this.#tables = tables;
  }

  /** @throws INVALID_ARGUMENT */
  read(node: OperationNode): TableResult[] {
    if (!QUERIES.has(node.kind)) {
      // Raw statements and those about the schema: only the queries inside can be seen, none of which is the outermost.
      this.#refuseIn(node, [new Map()], new Set());
      return [];
    }
    return this.#query(node, []);
  }

  /** @param outer the scopes around a query, the nearest first */
  #query(node: OperationNode, outer: readonly Scope[]): TableResult[] {
    const scope = this.#scopeOf(node);
    const scopes = [scope, ...outer];
    const done = new Set<unknown>();
    let selections: readonly SelectionNode[] = [];
    switch (node.kind) {
      case 'SelectQueryNode':
        selections = (node as SelectQueryNode).selections ?? [];
        done.add((node as SelectQueryNode).selections);
        break;
      case 'InsertQueryNode': {
        const insert = node as InsertQueryNode;
        this.#insert(insert, scopes);
        done.add(insert.columns).add(insert.values).add(insert.onConflict).add(insert.returning);
        selections = insert.returning?.selections ?? [];
        break;
      }
      case 'UpdateQueryNode': {
        const update = node as UpdateQueryNode;
        this.#updates(update.updates, scopes, false);
        done.add(update.updates).add(update.returning);
        selections = update.returning?.selections ?? [];
        break;
      }
      case 'DeleteQueryNode':
        done.add((node as DeleteQueryNode).returning);
        selections = (node as DeleteQueryNode).returning?.selections ?? [];
        break;
    }
    this.#refuseIn(node, scopes, done);
    return this.#outputs(selections, scopes, outer.length === 0);
  }

  /** The table that is meant, also where only one of definition and query names the schema. */
  #table({ table }: TableNode): AnyTable | undefined {
    const name = table.identifier.name;
    const schema = table.schema?.name;
    return (
      this.#tables.get(schema === undefined ? name : `${schema}.${name}`) ??
      [...this.#tables.values()].find(({ table: defined }) => {
        const [own, ...rest] = defined.split('.').reverse();
        return own === name && (rest.length === 0 || schema === undefined);
      })
    );
  }

  /** Names that a query gives to its tables. */
  #scopeOf(node: OperationNode): Scope {
    const scope = new Map<string, AnyTable | undefined>();
    const add = (source: OperationNode | undefined): void => {
      if (source?.kind === 'TableNode') {
        scope.set(shortName(source as TableNode), this.#table(source as TableNode));
      } else if (source?.kind === 'AliasNode') {
        const { node: inner, alias } = source as AliasNode;
        const table = inner.kind === 'TableNode' ? this.#table(inner as TableNode) : undefined;
        scope.set(identifier(alias), table);
      } else if (source?.kind === 'ListNode') {
        (source as unknown as { items: readonly OperationNode[] }).items.forEach(add);
      }
    };
    const parts = node as Partial<Pick<SelectQueryNode, 'from' | 'joins'> & Pick<UpdateQueryNode, 'table'>> &
      Pick<Partial<DeleteQueryNode>, 'using'> &
      Pick<Partial<InsertQueryNode>, 'into'>;
    add(parts.into);
    add(parts.table);
    parts.from?.froms.forEach(add);
    parts.using?.tables.forEach(add);
    for (const { table } of parts.joins ?? []) {
      add(table);
    }
    return scope;
  }

  /** The encrypted column that a reference leads to. */
  #encrypted(reference: ReferenceNode | ColumnNode, scopes: readonly Scope[]): [AnyTable, string, string] | undefined {
    const column = reference.kind === 'ColumnNode' ? (reference as ColumnNode) : (reference as ReferenceNode).column;
    if (column.kind !== 'ColumnNode') {
      return undefined;
    }
    const name = (column as ColumnNode).column.name;
    const qualifier = reference.kind === 'ReferenceNode' ? (reference as ReferenceNode).table : undefined;
    for (const scope of scopes) {
      for (const [called, table] of scope) {
        if (table?.encrypted.has(name) && (qualifier === undefined || shortName(qualifier) === called)) {
          return [table, called, name];
        }
      }
      if (qualifier !== undefined && scope.has(shortName(qualifier))) {
        return undefined;
      }
    }
    return undefined;
  }

  /** Refuses encrypted columns anywhere below `node` but in the parts that were looked at already. */
  #refuseIn(node: OperationNode, scopes: readonly Scope[], done: ReadonlySet<unknown>): void {
    for (const [member, part] of Object.entries(node)) {
      if (!done.has(part) || part === undefined) {
        this.#refuse(part, scopes, member);
      }
    }
  }

  #refuse(part: unknown, scopes: readonly Scope[], member: string): void {
    if (Array.isArray(part)) {
      for (const one of part) {
        this.#refuse(one, scopes, member);
      }
      return;
    }
    if (!isNode(part)) {
      return;
    }
    if (QUERIES.has(part.kind)) {
      this.#query(part, scopes);
    } else if (part.kind === 'ReferenceNode' || part.kind === 'ColumnNode') {
      const found = this.#encrypted(part as ReferenceNode | ColumnNode, scopes);
      if (found !== undefined) {
        throw new DekdError(
          'INVALID_ARGUMENT',
          `'${found[0].table}.${found[2]}' is encrypted and cannot be filtered by, sorted by or computed with: for equality keep a blind index in a column of its own`,
        );
      }
    } else if (!isNullTest(part)) {
      this.#refuseIn(part, scopes, new Set());
    }
  }

  #insert(insert: InsertQueryNode, scopes: readonly Scope[]): void {
    const table = insert.into === undefined ? undefined : this.#table(insert.into);
    const columns = (insert.columns ?? []).map(({ column }) => column.name);
    if (insert.values?.kind === 'ValuesNode') {
      for (const list of (insert.values as ValuesNode).values) {
        list.values.forEach((value: unknown, index: number) => {
          const column = columns[index];
          if (table !== undefined && column !== undefined && table.encrypted.has(column)) {
            checkWritten(table, column, list.kind === 'PrimitiveValueListNode' ? value : (value as OperationNode));
          } else {
            this.#refuse(value, scopes, 'values');
          }
        });
      }
    } else if (insert.values !== undefined) {
      const column = columns.find((name) => table?.encrypted.has(name));
      if (table !== undefined && (column !== undefined || columns.length === 0)) {
        throw notFromQuery(table, column ?? [...table.encrypted][0]!);
      }
      this.#refuse(insert.values, scopes, 'values');
    }
    if (insert.onConflict !== undefined) {
      this.#onConflict(insert.onConflict, table, scopes);
    }
  }

  #onConflict(conflict: OnConflictNode, table: AnyTable | undefined, scopes: readonly Scope[]): void {
    const columns = (conflict.columns ?? []).map(({ column }) => column.name);
    const encrypted = columns.find((name) => table?.encrypted.has(name));
    if (table !== undefined && encrypted !== undefined) {
      throw new DekdError('INVALID_ARGUMENT', `'${table.table}.${encrypted}' is encrypted and has no conflicts`);
    }
    // A row that conflicts by its identity is the row that the ciphertext is bound to.
    const sameRow = table?.identity.every((name) => columns.includes(name)) === true && columns.length > 0;
    this.#updates(conflict.updates, scopes, sameRow);
    this.#refuseIn(conflict, scopes, new Set<unknown>([conflict.updates, conflict.columns]));
  }

  #updates(updates: readonly ColumnUpdateNode[] | undefined, scopes: readonly Scope[], fromExcluded: boolean): void {
    for (const { column, value } of updates ?? []) {
      const target = this.#encrypted(column as ReferenceNode | ColumnNode, scopes.slice(0, 1));
      if (target === undefined) {
        this.#refuse(value, scopes, 'value');
      } else if (!(fromExcluded && isExcluded(value, target[2]))) {
        checkWritten(target[0], target[2], value);
      }
    }
  }

  /** Where the selections of the outermost query put the columns of its tables. */
  #outputs(selections: readonly SelectionNode[], scopes: readonly Scope[], isOutermost: boolean): TableResult[] {
    const found = new Map<string, { table: AnyTable; outputs: Map<string, string> }>();
    const put = (called: string, table: AnyTable, column: string, output: string): void => {
      if (!isOutermost && table.encrypted.has(column)) {
        throw new DekdError(
          'INVALID_ARGUMENT',
          `'${table.table}.${column}' is encrypted and is selected in the outermost query only, where it can be decrypted`,
        );
      }
      const entry = found.get(called) ?? { table, outputs: new Map<string, string>() };
      entry.outputs.set(column, output);
      found.set(called, entry);
    };
    const all = (called: string, table: AnyTable | undefined): void => {
      for (const column of table === undefined ? [] : [...table.encrypted, ...table.identity]) {
        put(called, table!, column, column);
      }
    };
    const [scope = new Map() as Scope] = scopes;
    for (const { selection } of selections) {
      const aliased = selection.kind === 'AliasNode' ? (selection as AliasNode) : undefined;
      const node = aliased?.node ?? selection;
      if (node.kind === 'SelectAllNode') {
        if (scope.size > 1 && [...scope.values()].some((table) => table !== undefined)) {
          throw new DekdError(
            'INVALID_ARGUMENT',
            'selectAll of several tables, one of them encrypted, has columns of one name: select the columns of each',
          );
        }
        scope.forEach((table, called) => {
          all(called, table);
        });
      } else if (node.kind === 'ReferenceNode' && (node as ReferenceNode).column.kind === 'SelectAllNode') {
        const called = shortName((node as ReferenceNode).table!);
        all(called, scope.get(called));
      } else if (node.kind === 'ReferenceNode' || node.kind === 'ColumnNode') {
        this.#selected(node as ReferenceNode | ColumnNode, aliased, scopes, put);
      } else {
        this.#refuse(node, scopes, 'selection');
      }
    }
    return [...found.values()].filter(({ table, outputs }) => {
      const encrypted = [...table.encrypted].find((column) => outputs.has(column));
      const missing = table.identity.find((column) => !outputs.has(column));
      if (encrypted !== undefined && missing !== undefined) {
        throw new DekdError(
          'INVALID_ARGUMENT',
          `'${table.table}.${encrypted}' is bound to '${missing}' of its row: select that beside it`,
        );
      }
      return encrypted !== undefined;
    });
  }

  #selected(
    node: ReferenceNode | ColumnNode,
    aliased: AliasNode | undefined,
    scopes: readonly Scope[],
    put: (called: string, table: AnyTable, column: string, output: string) => void,
  ): void {
    const column = (node.kind === 'ColumnNode' ? (node as ColumnNode) : (node as ReferenceNode).column) as ColumnNode;
    const name = column.column.name;
    const output = aliased === undefined ? name : identifier(aliased.alias);
    const encrypted = this.#encrypted(node, scopes);
    if (encrypted !== undefined) {
      put(encrypted[1], encrypted[0], name, output);
      return;
    }
    const qualifier = node.kind === 'ReferenceNode' ? (node as ReferenceNode).table : undefined;
    const [scope = new Map() as Scope] = scopes;
    for (const [called, table] of scope) {
      const meant = qualifier === undefined ? scope.size === 1 : shortName(qualifier) === called;
      if (meant && table?.identity.includes(name)) {
        put(called, table, name, output);
      }
    }
  }
}

/** `is null` and `is not null`: NULL is not encrypted. */
function isNullTest(node: OperationNode): boolean {
  if (node.kind !== 'BinaryOperationNode') {
    return false;
  }
  const { operator, rightOperand } = node as BinaryOperationNode;
  const asked = (operator as OperatorNode).operator;
  return (
    (asked === 'is' || asked === 'is not') &&
    rightOperand.kind === 'ValueNode' &&
    (rightOperand as ValueNode).value === null
  );
}

/** A value or a node that is written to an encrypted column: a ciphertext, or NULL. */
function checkWritten(table: AnyTable, column: string, written: unknown): void {
  const value =
    isNode(written) && written.kind === 'ValueNode'
      ? (written as ValueNode).value
      : isNode(written) && written.kind === 'DefaultInsertValueNode'
        ? null
        : written;
  const values = Array.isArray(value) ? value : [value];
  if (isNode(value)) {
    throw notFromQuery(table, column);
  }
  if (
    !values.every((one) => one === null || one === undefined || (typeof one === 'string' && one.startsWith('dk1.')))
  ) {
    throw new DekdError(
      'INVALID_ARGUMENT',
      `'${table.table}.${column}' takes ciphertexts: write what encrypt() of its table gives`,
    );
  }
}

/** `excluded.column`, for that very column. */
function isExcluded(node: OperationNode, column: string): boolean {
  if (node.kind !== 'ReferenceNode') {
    return false;
  }
  const { column: named, table } = node as ReferenceNode;
  return (
    table !== undefined &&
    shortName(table) === 'excluded' &&
    named.kind === 'ColumnNode' &&
    (named as ColumnNode).column.name === column
  );
}

function notFromQuery(table: AnyTable, column: string): DekdError {
  return new DekdError(
    'INVALID_ARGUMENT',
    `'${table.table}.${column}' is encrypted for one row: it cannot be written from an expression or another query`,
  );
}

function isNode(value: unknown): value is OperationNode {
  return typeof value === 'object' && value !== null && typeof (value as { kind?: unknown }).kind === 'string';
}

function identifier(node: OperationNode): string {
  return node.kind === 'IdentifierNode' ? (node as IdentifierNode).name : '';
}

function shortName({ table }: TableNode): string {
  return table.identifier.name;
}
