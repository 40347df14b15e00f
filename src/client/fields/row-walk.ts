/**
 * Copies rows along the paths of a definition, and finds what the paths lead to.
 *
 * Objects and arrays on a path are copied, as plain ones; everything else is shared with the row. Nothing is written to a row.
 */
import type { FieldNode } from './field-path.ts';
import { isPlain, kindOf } from './json-text.ts';

/** An object or array of the copy of a row. */
export type Holder = Record<string | number, unknown>;

/** A row has another shape than its paths say; `message` is said behind where it is. */
export class Misshapen extends Error {
  override readonly name = 'Misshapen';
  readonly field: number;
  readonly places: readonly number[];

  constructor(field: number, places: readonly number[], message: string) {
    super(message);
    this.field = field;
    this.places = places;
  }
}

/**
 * Takes a value that was found at `name` of `holder`, where what it becomes is written, now or later.
 * @param field index of the path
 * @param places indices of the arrays on the way, outermost first
 */
export type Found = (
  value: unknown,
  holder: Holder,
  name: string | number,
  field: number,
  places: readonly number[],
) => void;

const NOWHERE: readonly number[] = [];

/** @throws Misshapen, and what `found` throws */
export function copyRow(row: object, root: FieldNode, found: Found): Record<string, unknown> {
  return copyObject(row, root, NOWHERE, found);
}

function copyObject(source: object, node: FieldNode, places: readonly number[], found: Found): Record<string, unknown> {
  const prototype: unknown = Object.getPrototypeOf(source);
  const copy: Record<string, unknown> =
    prototype === null ? Object.assign(Object.create(null), source) : { ...(source as Record<string, unknown>) };
  const { members } = node;
  for (let i = 0; i < members.length; i++) {
    const { name, node: next } = members[i]!;
    if (!Object.hasOwn(copy, name)) {
      checkAbsent(source, name, next, places);
      continue;
    }
    const value = copy[name];
    if (next.field >= 0) {
      if (value !== undefined) {
        found(value, copy, name, next.field, places);
      }
    } else if (value !== null && value !== undefined) {
      copy[name] = copyInner(value, next, places, found);
    }
  }
  return copy;
}

function copyArray(source: readonly unknown[], node: FieldNode, places: readonly number[], found: Found): unknown[] {
  const copy: unknown[] = new Array(source.length);
  for (let i = 0; i < source.length; i++) {
    const value = source[i];
    const here = [...places, i];
    copy[i] = value;
    if (node.field >= 0) {
      if (value === undefined) {
        throw new Misshapen(node.field, here, 'the element is undefined, which JSON cannot carry');
      }
      found(value, copy as unknown as Holder, i, node.field, here);
    } else if (value !== null && value !== undefined) {
      copy[i] = copyInner(value, node, here, found);
    }
  }
  return copy;
}

function copyInner(value: unknown, node: FieldNode, places: readonly number[], found: Found): unknown {
  if (Array.isArray(value)) {
    if (node.element === undefined) {
      throw misshapen(value, node, places);
    }
    return copyArray(value, node.element, places, found);
  }
  if (node.members.length === 0 || typeof value !== 'object' || (!isPlain(value!) && kindOf(value!) !== 'Object')) {
    throw misshapen(value, node, places);
  }
  return copyObject(value!, node, places, found);
}

/** A member that is there without being the object's own or enumerable would stay in the clear, unseen. */
function checkAbsent(source: object, name: string, node: FieldNode, places: readonly number[]): void {
  if (isPlain(source) ? Object.hasOwn(source, name) : name in source) {
    throw new Misshapen(
      firstField(node),
      places,
      `the object has '${name}' hidden, or as an accessor of its class: give a plain object, as toObject() or toJSON() makes`,
    );
  }
}

function misshapen(value: unknown, node: FieldNode, places: readonly number[]): Misshapen {
  const wanted = node.members.length === 0 ? 'an array' : 'an object';
  return new Misshapen(firstField(node), places, `there is ${nounOf(value)} where the path has ${wanted}`);
}

function nounOf(value: unknown): string {
  if (Array.isArray(value)) {
    return 'an array';
  }
  const kind = typeof value === 'object' ? kindOf(value!) : typeof value;
  return kind === 'Object' ? 'an object' : `a ${kind}`;
}

/** The first path of the definition that leads through `node`. */
function firstField(node: FieldNode): number {
  if (node.field >= 0) {
    return node.field;
  }
  return firstField(node.element ?? node.members[0]!.node);
}
