/** Reads the shape of the schema: what the environment, the sample and the error messages need to know of it. */
import { getMetadata } from 'valibot';
import type { KeyMetadata } from './schema/key.ts';
import { fileSchema } from './schema.ts';

/** One key, section, mapping of names or list of entries. */
export interface SchemaNode {
  /** Absent in nodes without a documented meaning of their own (the entries of a list). */
  readonly doc: KeyMetadata;
  readonly shape: 'leaf' | 'section' | 'names' | 'list';
  /** Default as written in the file; undefined when there is none. Sections and lists have none. */
  readonly fallback: unknown;
  readonly required: boolean;
  /** Of a section, its keys; of a mapping or list, those of one entry. */
  readonly children: ReadonlyMap<string, SchemaNode>;
}

interface AnySchema {
  readonly type: string;
  readonly wrapped?: AnySchema;
  readonly default?: unknown;
  readonly entries?: Readonly<Record<string, AnySchema>>;
  readonly value?: AnySchema;
  readonly item?: AnySchema;
}

function nodeOf(schema: AnySchema): SchemaNode {
  const inner = schema.wrapped ?? schema;
  const doc = getMetadata(inner as never) as unknown as KeyMetadata;
  const required = schema.wrapped === undefined;
  if (inner.entries) {
    return { doc, shape: 'section', fallback: undefined, required, children: childrenOf(inner) };
  }
  if (inner.value) {
    return { doc, shape: 'names', fallback: undefined, required, children: childrenOf(inner.value) };
  }
  if (inner.item) {
    return { doc, shape: 'list', fallback: undefined, required, children: childrenOf(inner.item) };
  }
  return { doc, shape: 'leaf', fallback: schema.default, required, children: new Map() };
}

function childrenOf(schema: AnySchema): ReadonlyMap<string, SchemaNode> {
  return new Map(Object.entries(schema.entries!).map(([name, child]) => [name, nodeOf(child)]));
}

/** The keys at the top of the file. */
export const schemaTree: ReadonlyMap<string, SchemaNode> = childrenOf(fileSchema as unknown as AnySchema);

/** The keys that may stand below `path`, or undefined where any name may. Numbers and names of roots are skipped over. */
export function keysBelow(path: readonly (string | number)[]): ReadonlyMap<string, SchemaNode> | undefined {
  let keys = schemaTree;
  let open = false;
  for (const step of path) {
    if (open) {
      open = false;
      continue;
    }
    const node = keys.get(String(step));
    if (!node) {
      return undefined;
    }
    keys = node.children;
    open = node.shape === 'names' || node.shape === 'list';
  }
  return open ? undefined : keys;
}
