/** The configuration file as JSON Schema (draft 2020-12), for editors: made from the same schema as the sample. */
import { type SchemaNode, schemaTree } from './schema-walk.ts';

type JsonSchema = Record<string, unknown>;

const PLAIN_TYPES: Readonly<Record<string, readonly string[]>> = {
  boolean: ['boolean'],
  number: ['integer', 'string'],
  // A size may be a bare number, a group too, and a socket mode is read in all its spellings.
  text: ['string', 'integer'],
  path: ['string'],
};

/**
 * It knows every key, its type, meaning, default and choices, and refuses keys that are none. What one value says of another is
 * for `dekd config check`: a file that this refuses is refused there too, and not the other way round.
 */
export function renderJsonSchema(): string {
  const schema = {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'Configuration of dekd',
    ...objectOf(schemaTree, false),
  };
  return `${JSON.stringify(schema, null, 2)}\n`;
}

/** Nothing is required: a variable may say it, and a section may be empty. */
function objectOf(keys: ReadonlyMap<string, SchemaNode>, mayBeEmpty: boolean): JsonSchema {
  const properties = Object.fromEntries([...keys].map(([name, node]) => [name, schemaOf(node)]));
  return { type: mayBeEmpty ? ['object', 'null'] : 'object', additionalProperties: false, properties };
}

function schemaOf(node: SchemaNode): JsonSchema {
  const { doc, shape, children } = node;
  const said = { description: doc.danger === undefined ? doc.meaning : `${doc.meaning} WARNING: ${doc.danger}` };
  switch (shape) {
    case 'section':
      return { ...said, ...objectOf(children, true) };
    case 'names':
      return { ...said, type: ['object', 'null'], additionalProperties: objectOf(children, true) };
    case 'list':
      return { ...said, type: ['array', 'null'], items: objectOf(children, false) };
    case 'leaf':
      return leafOf(node, said.description);
  }
}

function leafOf({ doc, fallback }: SchemaNode, meaning: string): JsonSchema {
  const { expected, kind } = doc.reader!;
  const common = {
    description: `${meaning} (${expected})`,
    ...(fallback === undefined ? {} : { default: fallback }),
    ...(doc.example === undefined ? {} : { examples: [doc.example] }),
  };
  const choices = /^one of ([\w-]+(?:, [\w-]+)*)$/.exec(expected)?.[1];
  if (choices !== undefined) {
    return { ...common, enum: choices.split(', ') };
  }
  const range = /^a whole number from (\d+) to (\d+)$/.exec(expected);
  if (range !== null) {
    return { ...common, type: 'integer', minimum: Number(range[1]), maximum: Number(range[2]) };
  }
  const types = PLAIN_TYPES[kind];
  return types === undefined ? common : { ...common, type: types };
}
