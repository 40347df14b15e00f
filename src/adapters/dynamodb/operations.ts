/** What each operation of DynamoDB has to do with items. One that is not known here is refused where it could be about items. */
import { DekdError } from '../../errors.ts';
import type { LooseDocument } from '../document-cipher.ts';
import type { EncryptedItems, Part } from './encrypted-items.ts';

type Output = Record<string, unknown>;
type Tables = ReadonlyMap<string, EncryptedItems>;

interface Transformed {
  readonly input: Part;
  /** What the answer becomes. */
  reading(output: Output): Promise<Output>;
}

const unread = async (output: Output) => output;

/**
 * @param command name of the command as the SDK has it, `PutItemCommand`
 * @param input its parameters, which are never changed
 */
export async function transformed(tables: Tables, command: string, input: Part): Promise<Transformed> {
  switch (command) {
    case 'PutItemCommand':
    case 'GetItemCommand':
    case 'UpdateItemCommand':
    case 'DeleteItemCommand':
      return one(tables, input, command);
    case 'QueryCommand':
    case 'ScanCommand':
      return many(tables, input);
    case 'BatchGetItemCommand':
      return batchGet(tables, input);
    case 'BatchWriteItemCommand':
      return batchWrite(tables, input);
    case 'TransactGetItemsCommand':
      return transactGet(tables, input);
    case 'TransactWriteItemsCommand':
      return transactWrite(tables, input);
    case 'DescribeExportCommand':
    case 'ExportTableToPointInTimeCommand':
      return { input, reading: unread };
    default:
      throw new DekdError(
        'INVALID_ARGUMENT',
        `${command.replace(/Command$/, '')} is not read here, so that it could compare or write plaintexts: send it with a client of its own`,
      );
  }
}

/** The definition for a table that may be named by its ARN. */
function tableOf(tables: Tables, name: unknown): EncryptedItems | undefined {
  const text = String(name);
  return tables.get(/^arn:[^:]*:dynamodb:[^:]*:[^:]*:table\/([^/]+)/.exec(text)?.[1] ?? text);
}

async function one(tables: Tables, input: Part, command: string): Promise<Transformed> {
  const table = tableOf(tables, input.TableName);
  if (table === undefined) {
    return { input, reading: unread };
  }
  table.checkConditions(input);
  table.checkProjection(input, true);
  const key = (
    command === 'PutItemCommand' ? table.primaryKeyOf(input.Item as LooseDocument) : input.Key
  ) as LooseDocument;
  const member = command === 'GetItemCommand' ? 'Item' : 'Attributes';
  return {
    input:
      command === 'PutItemCommand'
        ? await put(table, input)
        : command === 'UpdateItemCommand'
          ? await table.update(input)
          : input,
    reading: async (output) =>
      output[member] === undefined
        ? output
        : { ...output, [member]: await table.openOf(key, output[member] as LooseDocument) },
  };
}

async function put(table: EncryptedItems, part: Part): Promise<Part> {
  const [Item] = await table.seal([part.Item as LooseDocument]);
  return { ...part, Item };
}

async function many(tables: Tables, input: Part): Promise<Transformed> {
  const table = tableOf(tables, input.TableName);
  if (table === undefined) {
    return { input, reading: unread };
  }
  table.checkConditions(input);
  table.checkProjection(input, false);
  return {
    input,
    reading: async (output) =>
      output.Items === undefined ? output : { ...output, Items: await table.open(output.Items as LooseDocument[]) },
  };
}

async function batchGet(tables: Tables, input: Part): Promise<Transformed> {
  for (const [name, part] of entriesOf<Part>(input.RequestItems)) {
    tableOf(tables, name)?.checkProjection(part, false);
  }
  return {
    input,
    reading: async (output) => {
      const opened = await Promise.all(
        entriesOf<LooseDocument[]>(output.Responses).map(async ([name, items]) => {
          return [name, (await tableOf(tables, name)?.open(items)) ?? items] as const;
        }),
      );
      return output.Responses === undefined ? output : { ...output, Responses: Object.fromEntries(opened) };
    },
  };
}

interface WriteRequest {
  readonly PutRequest?: { readonly Item: LooseDocument };
}

async function batchWrite(tables: Tables, input: Part): Promise<Transformed> {
  const given = entriesOf<WriteRequest[]>(input.RequestItems);
  const sealed = await Promise.all(
    given.map(async ([name, requests]) => {
      const table = tableOf(tables, name);
      if (table === undefined) {
        return [name, requests] as const;
      }
      const items = await table.seal(
        requests.flatMap(({ PutRequest }) => (PutRequest === undefined ? [] : [PutRequest.Item])),
      );
      return [
        name,
        requests.map((request) =>
          request.PutRequest === undefined
            ? request
            : { ...request, PutRequest: { ...request.PutRequest, Item: items.shift() } },
        ),
      ] as const;
    }),
  );
  return {
    input: { ...input, RequestItems: Object.fromEntries(sealed) },
    // What was not done is sent again, and would be encrypted twice: it is given back as it was given.
    reading: async (output) => {
      const left = entriesOf<WriteRequest[]>(output.UnprocessedItems).map(([name, requests]) => {
        const table = tableOf(tables, name);
        const before = given.find(([each]) => each === name)?.[1] ?? [];
        const original = (request: WriteRequest): WriteRequest => {
          if (table === undefined || request.PutRequest === undefined) {
            return request;
          }
          const key = table.keyOf(request.PutRequest.Item);
          const found = before.find(
            ({ PutRequest }) => PutRequest !== undefined && table.keyOf(PutRequest.Item) === key,
          );
          if (found === undefined) {
            throw new DekdError('INTERNAL', 'an item that was not processed is none of those that were sent');
          }
          return found;
        };
        return [name, requests.map(original)] as const;
      });
      return output.UnprocessedItems === undefined ? output : { ...output, UnprocessedItems: Object.fromEntries(left) };
    },
  };
}

type Member = Readonly<Record<string, Part | undefined>>;

async function transactGet(tables: Tables, input: Part): Promise<Transformed> {
  const gets = ((input.TransactItems ?? []) as Member[]).map(({ Get }) => Get);
  for (const part of gets) {
    tableOf(tables, part?.TableName)?.checkProjection(part!, true);
  }
  return {
    input,
    reading: async (output) => {
      const responses = (output.Responses ?? []) as { Item?: LooseDocument }[];
      const opened = await Promise.all(
        responses.map(async (response, at) => {
          const part = gets[at];
          const table = tableOf(tables, part?.TableName);
          return table === undefined || response.Item === undefined
            ? response
            : { ...response, Item: await table.openOf(part!.Key as LooseDocument, response.Item) };
        }),
      );
      return output.Responses === undefined ? output : { ...output, Responses: opened };
    },
  };
}

async function transactWrite(tables: Tables, input: Part): Promise<Transformed> {
  const members = (input.TransactItems ?? []) as Member[];
  // Puts of one table travel together.
  const puts = new Map<EncryptedItems, LooseDocument[]>();
  for (const member of members) {
    for (const part of Object.values(member)) {
      const table = tableOf(tables, part?.TableName);
      table?.checkConditions(part!);
      if (table !== undefined && part === member.Put) {
        puts.set(table, [...(puts.get(table) ?? []), part!.Item as LooseDocument]);
      }
    }
  }
  const sealed = new Map(
    await Promise.all([...puts].map(async ([table, items]) => [table, await table.seal(items)] as const)),
  );
  const TransactItems = await Promise.all(
    members.map(async (member) => {
      const { Put, Update } = member;
      const putTable = tableOf(tables, Put?.TableName);
      const updateTable = tableOf(tables, Update?.TableName);
      return {
        ...member,
        ...(putTable === undefined ? {} : { Put: { ...Put, Item: sealed.get(putTable)!.shift() } }),
        ...(updateTable === undefined ? {} : { Update: await updateTable.update(Update!) }),
      };
    }),
  );
  return { input: { ...input, TransactItems }, reading: unread };
}

function entriesOf<V>(record: unknown): [string, V][] {
  return Object.entries((record ?? {}) as Record<string, V>);
}
