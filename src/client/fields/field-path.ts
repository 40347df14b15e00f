import { DekdError } from '../../errors.ts';

/** One step of the tree that all named paths make together; a scanner walks it beside the JSON value. */
export interface FieldNode {
  /** Index of the path that ends here, or -1. */
  field: number;
  /** Members by name; their UTF-8 bytes are compared without decoding the JSON text. */
  readonly members: MemberNode[];
  /** What every element of an array leads to. */
  element: FieldNode | undefined;
}

export interface MemberNode {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly node: FieldNode;
}

/** Paths in the order given, and the tree they make. */
export interface FieldSet {
  readonly paths: readonly string[];
  readonly root: FieldNode;
}

/** Beyond this a set is a mistake, and comparing member names one by one would no longer be cheap. */
const MAX_FIELDS = 256;
const MAX_PATH_STEPS = 64;

/**
 * Reads paths such as `email`, `address.street`, `cards[].pan`, `tags[]`.
 *
 * A name is any text without `.`, `[` and `]`; `[]` means every element of the array. No path may lie inside another one: the
 * inner value would be encrypted twice.
 *
 * @throws DekdError INVALID_ARGUMENT naming the path.
 */
export function fieldSetOf(paths: readonly string[]): FieldSet {
  if (paths.length === 0 || (paths.length === 1 && paths[0] === '')) {
    throw invalid('no field is named');
  }
  if (paths.length > MAX_FIELDS) {
    throw invalid(`more than ${MAX_FIELDS} fields`);
  }
  const root = emptyNode();
  for (const [index, path] of paths.entries()) {
    addPath(root, path, index, paths);
  }
  return { paths, root };
}

function addPath(root: FieldNode, path: string, index: number, paths: readonly string[]): void {
  const steps = stepsOf(path);
  let node = root;
  for (const step of steps) {
    if (node.field >= 0) {
      throw invalid(`lies inside field '${paths[node.field]}'`, path);
    }
    node = step === '[]' ? elementOf(node) : memberOf(node, step);
  }
  if (node.field >= 0) {
    throw invalid('is named twice', path);
  }
  if (node.element !== undefined || node.members.length > 0) {
    throw invalid('holds another field of the list', path);
  }
  node.field = index;
}

/** Member names and `[]`, in order. */
function stepsOf(path: string): string[] {
  const steps: string[] = [];
  for (const part of path.split('.')) {
    const match = /^([^[\]]+)((?:\[\])*)$/.exec(part);
    if (match === null) {
      throw invalid(reasonOf(part), path);
    }
    steps.push(match[1]!);
    for (let brackets = match[2]!.length; brackets > 0; brackets -= 2) {
      steps.push('[]');
    }
  }
  if (steps.length > MAX_PATH_STEPS) {
    throw invalid(`has more than ${MAX_PATH_STEPS} steps`, path);
  }
  return steps;
}

function reasonOf(part: string): string {
  if (part === '' || part.startsWith('[')) {
    return 'has an empty name';
  }
  if (/\[[^\]]+\]/.test(part)) {
    return 'names one element; [] means every element of the array';
  }
  return 'has a bracket that is not []';
}

function elementOf(node: FieldNode): FieldNode {
  node.element ??= emptyNode();
  return node.element;
}

function memberOf(node: FieldNode, name: string): FieldNode {
  const known = node.members.find((member) => member.name === name);
  if (known !== undefined) {
    return known.node;
  }
  const member = { name, bytes: Buffer.from(name, 'utf8'), node: emptyNode() };
  node.members.push(member);
  return member.node;
}

function emptyNode(): FieldNode {
  return { field: -1, members: [], element: undefined };
}

function invalid(reason: string, path?: string): DekdError {
  return new DekdError('INVALID_ARGUMENT', path === undefined ? reason : `field '${path}' ${reason}`);
}
