import { DekdError } from '../../errors.ts';

/** What a Prisma client knows of its schema at run time, as far as it is needed here. */
export interface FieldOfModel {
  readonly name: string;
  /** `object` is a relation, whose type is the other model. */
  readonly kind: string;
  readonly type: string;
}

export interface DataModel {
  /** The fields of a model by name. @throws UNSUPPORTED for a model that the client does not have. */
  fields(model: string): ReadonlyMap<string, FieldOfModel>;
  has(model: string): boolean;
}

/**
 * The data model of a client. `_runtimeDataModel` is no documented interface, but the only place in which a client of Prisma
 * 7 keeps its relations, and without those nothing nested could be found: a client that has it not is refused.
 * @throws UNSUPPORTED.
 */
export function dataModelOf(client: object): DataModel {
  const models: unknown = (client as { _runtimeDataModel?: { models?: unknown } })._runtimeDataModel?.models;
  if (typeof models !== 'object' || models === null) {
    throw unknownClient();
  }
  const known = new Map<string, ReadonlyMap<string, FieldOfModel>>();
  for (const [name, model] of Object.entries(models as Record<string, { fields?: unknown }>)) {
    const fields = model?.fields;
    if (!Array.isArray(fields) || !fields.every(isField)) {
      throw unknownClient();
    }
    known.set(name, new Map(fields.map((field) => [field.name, field])));
  }
  return {
    has: (model) => known.has(model),
    fields: (model) => {
      const fields = known.get(model);
      if (fields === undefined) {
        throw unknownClient();
      }
      return fields;
    },
  };
}

function isField(value: unknown): value is FieldOfModel {
  const field = value as Partial<FieldOfModel> | null;
  return typeof field?.name === 'string' && typeof field.kind === 'string' && typeof field.type === 'string';
}

function unknownClient(): DekdError {
  return new DekdError(
    'UNSUPPORTED',
    'this Prisma client keeps no data model where those of version 7 do: relations cannot be followed',
  );
}
