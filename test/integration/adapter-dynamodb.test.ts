import { join } from 'node:path';
import { CreateTableCommand, PutItemCommand } from '@aws-sdk/client-dynamodb';
import {
  BatchGetCommand,
  BatchWriteCommand,
  DeleteCommand,
  DynamoDBDocument,
  DynamoDBDocumentClient,
  ExecuteStatementCommand,
  GetCommand,
  PutCommand,
  paginateScan,
  QueryCommand,
  ScanCommand,
  TransactGetCommand,
  TransactWriteCommand,
  UpdateCommand,
} from '@aws-sdk/lib-dynamodb';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { encryptedDocuments } from '../../src/adapters/dynamodb.ts';
import { connect } from '../../src/client/index.ts';
import type { DekdClient } from '../../src/client/types.ts';
import { DekdError } from '../../src/errors.ts';
import { startTestAgent, type TestAgent } from '../support/agent.ts';
import { DynamoServer } from '../support/dynamodb.ts';
import { countFrames, type FrameCounter } from '../support/frame-counter.ts';

let agent: TestAgent;
let server: DynamoServer;
let counter: FrameCounter;
let dekd: DekdClient;
let stored: DynamoDBDocumentClient;
let db: DynamoDBDocumentClient;
let documents: ReturnType<typeof documentsOf>;

function documentsOf(client: DekdClient, documentClient: DynamoDBDocumentClient) {
  return encryptedDocuments(client, documentClient, {
    people: {
      key: 'people',
      attributes: ['email', 'profile', 'born'],
      primaryKey: ['tenant', 'number'],
      codecs: { born: 'date' },
      indexes: { emailIndex: { of: 'email', key: 'people-index', normalise: 'email' } },
    },
    notes: { key: 'notes', attributes: ['text'], primaryKey: ['id'], partition: ({ id }) => String(id).slice(0, 1) },
  });
}

async function refusal(work: () => unknown): Promise<string> {
  try {
    await work();
  } catch (error) {
    if (DekdError.is(error)) {
      return `${error.code}: ${error.message}`;
    }
    throw error;
  }
  throw new Error('was not refused');
}

const TableName = 'people';
const key = (number: number) => ({ tenant: 'a', number });
async function raw(number: number): Promise<Record<string, unknown> | undefined> {
  return (await stored.send(new GetCommand({ TableName, Key: key(number) }))).Item;
}

beforeAll(async () => {
  server = await DynamoServer.start();
  agent = await startTestAgent();
  counter = await countFrames(agent.socket);
  dekd = connect({ socket: counter.socket, lane: false });
  await server.client.send(
    new CreateTableCommand({
      TableName,
      BillingMode: 'PAY_PER_REQUEST',
      AttributeDefinitions: [
        { AttributeName: 'tenant', AttributeType: 'S' },
        { AttributeName: 'number', AttributeType: 'N' },
        { AttributeName: 'emailIndex', AttributeType: 'S' },
      ],
      KeySchema: [
        { AttributeName: 'tenant', KeyType: 'HASH' },
        { AttributeName: 'number', KeyType: 'RANGE' },
      ],
      GlobalSecondaryIndexes: [
        {
          IndexName: 'by-email',
          KeySchema: [{ AttributeName: 'emailIndex', KeyType: 'HASH' }],
          Projection: { ProjectionType: 'ALL' },
        },
      ],
    }),
  );
  for (const name of ['notes', 'plain']) {
    await server.client.send(
      new CreateTableCommand({
        TableName: name,
        BillingMode: 'PAY_PER_REQUEST',
        AttributeDefinitions: [{ AttributeName: 'id', AttributeType: 'S' }],
        KeySchema: [{ AttributeName: 'id', KeyType: 'HASH' }],
      }),
    );
  }
  stored = DynamoDBDocumentClient.from(server.client, { marshallOptions: { removeUndefinedValues: true } });
  documents = documentsOf(dekd, stored);
  db = documents.client;
}, 60_000);

afterAll(async () => {
  await dekd?.close();
  await counter?.stop();
  await agent?.stop();
  await server?.stop();
});

describe('the DocumentClient of DynamoDB with encrypted attributes', () => {
  it('gives back what was put, and the table and the wire have ciphertexts', async () => {
    const Item = {
      ...key(1),
      label: 'Ada',
      email: 'ada@example.org',
      profile: { langs: ['en'], age: 36, nil: null },
      born: new Date('1815-12-10'),
    };
    const before = structuredClone(Item);
    server.sent.length = 0;
    await db.send(new PutCommand({ TableName, Item }));
    expect(Item).toEqual(before);
    expect(server.sent.join()).not.toMatch(/ada@|1815|langs/);
    const row = await raw(1);
    expect(row).toMatchObject({
      label: 'Ada',
      email: expect.stringMatching(/^dk1\./),
      profile: expect.stringMatching(/^dk1\./),
    });
    expect(row?.emailIndex).toMatch(/^[0-9a-f]{32}$/);
    expect((await db.send(new GetCommand({ TableName, Key: key(1) }))).Item).toEqual({
      ...Item,
      emailIndex: row?.emailIndex,
    });
    // The client that was given goes on as it was.
    expect((await stored.send(new GetCommand({ TableName, Key: key(1) }))).Item?.email).toMatch(/^dk1\./);
  });

  it('opens what a projection lets through, without the key where the request has it', async () => {
    const got = await db.send(
      new GetCommand({
        TableName,
        Key: key(1),
        ProjectionExpression: '#e, label',
        ExpressionAttributeNames: { '#e': 'email' },
      }),
    );
    expect(got.Item).toEqual({ email: 'ada@example.org', label: 'Ada' });
    const query = { TableName, KeyConditionExpression: 'tenant = :t', ExpressionAttributeValues: { ':t': 'a' } };
    const found = await db.send(
      new QueryCommand({
        ...query,
        ProjectionExpression: '#t, #n, email',
        ExpressionAttributeNames: { '#t': 'tenant', '#n': 'number' },
      }),
    );
    expect(found.Items).toEqual([{ ...key(1), email: 'ada@example.org' }]);
    const lacking = { ...query, ProjectionExpression: 'tenant, email' };
    expect(await refusal(() => db.send(new QueryCommand(lacking)))).toContain("project 'number' too");
    const torn = {
      ...query,
      ProjectionExpression: 'tenant, #n, profile.age',
      ExpressionAttributeNames: { '#n': 'number' },
    };
    expect(await refusal(() => db.send(new QueryCommand(torn)))).toContain('no parts to project');
    const other = await db.send(new QueryCommand({ ...query, ProjectionExpression: 'label' }));
    expect(other.Items).toEqual([{ label: 'Ada' }]);
  });

  it('finds items by the blind index, whatever it is filled by', async () => {
    const find = async (email: string) => {
      const found = await db.send(
        new QueryCommand({
          TableName,
          IndexName: 'by-email',
          KeyConditionExpression: 'emailIndex = :i',
          ExpressionAttributeValues: { ':i': await documents.index('people', 'emailIndex', email) },
        }),
      );
      return found.Items?.map(({ number, email: is }) => [number, is]);
    };
    expect(await find(' ADA@example.org')).toEqual([[1, 'ada@example.org']]);
    await db.send(new PutCommand({ TableName, Item: { ...key(2), email: 'bob@example.org' } }));
    await db.send(
      new UpdateCommand({
        TableName,
        Key: key(2),
        UpdateExpression: 'SET #email = :e, visits = if_not_exists(visits, :zero) + :one REMOVE profile',
        ConditionExpression: 'attribute_exists(#email) AND #number = :number',
        ExpressionAttributeNames: { '#email': 'email', '#number': 'number' },
        ExpressionAttributeValues: { ':e': 'carol@example.org', ':zero': 0, ':one': 1, ':number': 2 },
      }),
    );
    expect([await find('bob@example.org'), await find('carol@example.org')]).toEqual([[], [[2, 'carol@example.org']]]);
    await db.send(new UpdateCommand({ TableName, Key: key(2), UpdateExpression: 'REMOVE email' }));
    expect(await raw(2)).toEqual({ ...key(2), visits: 1 });
    await expect(documents.index('people', 'none', 'x')).rejects.toThrow("defines no index 'none'");
  });

  it('sends no plaintext of an update, and opens what it returns', async () => {
    server.sent.length = 0;
    const updated = await db.send(
      new UpdateCommand({
        TableName,
        Key: key(1),
        UpdateExpression: 'set email = :e, profile = :p, #n = :n',
        ExpressionAttributeNames: { '#n': 'label' },
        ExpressionAttributeValues: { ':e': 'secret@example.org', ':p': { deep: 'secret' }, ':n': 'A.' },
        ReturnValues: 'UPDATED_NEW',
      }),
    );
    expect(server.sent.join()).not.toContain('secret');
    const { emailIndex, ...rest } = updated.Attributes!;
    expect(rest).toEqual({ email: 'secret@example.org', profile: { deep: 'secret' }, label: 'A.' });
    expect(emailIndex).toBe(await documents.index('people', 'emailIndex', 'secret@example.org'));
    const old = await db.send(new PutCommand({ TableName, Item: { ...key(1), email: 'x' }, ReturnValues: 'ALL_OLD' }));
    expect(old.Attributes).toMatchObject({ ...key(1), email: 'secret@example.org' });
    const gone = await db.send(new DeleteCommand({ TableName, Key: key(1), ReturnValues: 'ALL_OLD' }));
    expect(gone.Attributes).toMatchObject({ email: 'x' });
  });

  it.each<[string, Record<string, unknown>, string]>([
    ['a comparison', { FilterExpression: 'email = :v' }, "use its blind index 'emailIndex'"],
    ['a name behind a placeholder', { FilterExpression: 'begins_with(#x, :v)' }, "use its blind index 'emailIndex'"],
    [
      'an attribute without index',
      { FilterExpression: 'attribute_exists(email) or profile.age > :v' },
      'keep a blind index',
    ],
    ['a key condition', { KeyConditionExpression: 'tenant = :v and email = :v' }, 'use its blind index'],
    ['a range', { FilterExpression: 'NOT(name = :v) AND :v BETWEEN email AND name' }, 'use its blind index'],
    ['its size', { FilterExpression: 'size(email) > :v' }, 'use its blind index'],
    ['the type of it', { FilterExpression: 'attribute_type(email, :v)' }, 'use its blind index'],
    ['a list', { FilterExpression: 'name IN (:v, email)' }, 'use its blind index'],
    ['the old form', { QueryFilter: { email: { ComparisonOperator: 'NOT_NULL' } } }, 'use its blind index'],
  ])('refuses, before anything is sent, to filter by %s', async (_what, part, says) => {
    server.sent.length = 0;
    const all = {
      TableName,
      ExpressionAttributeNames: { '#x': 'email' },
      ExpressionAttributeValues: { ':v': 'secret' },
      ...part,
    };
    expect(await refusal(() => db.send(new QueryCommand(all as never)))).toContain(says);
    expect(server.sent).toEqual([]);
  });

  it.each([
    ['SET email = if_not_exists(email, :v)', 'INVALID_ARGUMENT'],
    ['SET email = :v, name = :v', 'use another placeholder'],
    ['SET backup = email', 'use its blind index'],
    ['SET profile.age = :v', 'profile'],
    ['SET profile[0] = :v', 'profile'],
    ['REMOVE profile.age', 'profile'],
    ['ADD profile :v', 'profile'],
    ['DELETE name :v SET #x = list_append(#x, :v)', 'email'],
    ['SET emailIndex = :v', 'is written with it'],
    ['REMOVE emailIndex', 'is written with it'],
    ['SET name = :v, email = :none', "':none' is not among"],
    ['SET email = :v + :v', 'email'],
  ])('refuses to compute with a ciphertext: %s', async (UpdateExpression, says) => {
    server.sent.length = 0;
    const update = {
      TableName,
      Key: key(1),
      UpdateExpression,
      ExpressionAttributeNames: { '#x': 'email' },
      ExpressionAttributeValues: { ':v': 'secret' },
    };
    expect(await refusal(() => db.send(new UpdateCommand(update)))).toContain(says);
    expect(server.sent).toEqual([]);
  });

  it('refuses the old form of updates, an index without its value, PartiQL and commands of the plain client', async () => {
    server.sent.length = 0;
    const old = { TableName, Key: key(1), AttributeUpdates: { email: { Action: 'PUT' as const, Value: 'x' } } };
    expect(await refusal(() => db.send(new UpdateCommand(old)))).toContain('email');
    const index = { TableName, Item: { ...key(1), emailIndex: 'x' } };
    expect(await refusal(() => db.send(new PutCommand(index)))).toContain('is written with it');
    const Statement = `UPDATE people SET email = 'secret' WHERE tenant = 'a' AND number = 1`;
    expect(await refusal(() => db.send(new ExecuteStatementCommand({ Statement })))).toContain('is not read here');
    const plain = new PutItemCommand({
      TableName,
      Item: { tenant: { S: 'a' }, number: { N: '1' }, email: { S: 's' } },
    });
    expect(await refusal(() => db.send(plain as never))).toContain('commands of @aws-sdk/lib-dynamodb only');
    expect(await refusal(() => db.send(new PutCommand({ TableName, Item: { tenant: 'a', email: 's' } })))).toContain(
      'number is not known',
    );
    expect(server.sent).toEqual([]);
  });

  it('takes batches across tables, a batch to the agent for each table, and leaves other tables alone', async () => {
    const people = Array.from({ length: 20 }, (_, number) => ({
      ...key(100 + number),
      email: `p${number}@example.org`,
    }));
    const put = (Item: Record<string, unknown>) => ({ PutRequest: { Item } });
    await dekd.ping();
    counter.taken();
    await db.send(
      new BatchWriteCommand({
        RequestItems: {
          people: [...people.map(put), { DeleteRequest: { Key: key(2) } }],
          notes: [put({ id: 'x1', text: 'a note' }), put({ id: 'y1', text: null })],
          plain: [put({ id: 'p', email: 'not a secret' })],
        },
      }),
    );
    // Values and indexes of the one table, values of the other.
    expect(counter.taken()).toBeLessThanOrEqual(3);
    expect((await raw(100))?.email).toMatch(/^dk1\./);
    const got = await db.send(
      new BatchGetCommand({
        RequestItems: {
          people: { Keys: people.map(({ tenant, number }) => ({ tenant, number })) },
          notes: { Keys: [{ id: 'x1' }, { id: 'y1' }] },
          plain: { Keys: [{ id: 'p' }] },
        },
      }),
    );
    expect(counter.taken()).toBeLessThanOrEqual(2);
    expect(got.Responses?.people?.map(({ email }) => email).sort()).toEqual(people.map(({ email }) => email).sort());
    expect(got.Responses?.notes).toEqual(
      expect.arrayContaining([
        { id: 'x1', text: 'a note' },
        { id: 'y1', text: null },
      ]),
    );
    expect(got.Responses?.plain).toEqual([{ id: 'p', email: 'not a secret' }]);
    const pages: unknown[] = [];
    for await (const page of paginateScan({ client: db, pageSize: 7 }, { TableName })) {
      pages.push(...(page.Items ?? []).map(({ email }) => email));
    }
    expect(pages.sort()).toEqual(people.map(({ email }) => email).sort());
    const lacking = { RequestItems: { people: { Keys: [key(100)], ProjectionExpression: 'email' } } };
    expect(await refusal(() => db.send(new BatchGetCommand(lacking)))).toContain('project');
  });

  it('gives back what a batch did not do as it was given, so that it is not encrypted twice', async () => {
    const own = DynamoDBDocumentClient.from(server.client);
    own.middlewareStack = server.client.middlewareStack.clone();
    own.middlewareStack.add(
      () => async (args) => {
        // What DynamoDB answers when it is throttled, with the input as it would have been sent.
        const { RequestItems } = args.input as { RequestItems: unknown };
        return { output: { $metadata: {}, UnprocessedItems: RequestItems }, response: {} } as never;
      },
      { step: 'initialize', priority: 'low', name: 'throttled' },
    );
    const throttled = documentsOf(dekd, own).client;
    const RequestItems = { people: [{ PutRequest: { Item: { ...key(1), email: 'x', emailIndex: undefined } } }] };
    const { UnprocessedItems } = await throttled.send(new BatchWriteCommand({ RequestItems }));
    expect(UnprocessedItems).toEqual(RequestItems);
  });

  it('takes transactions, and opens what they read', async () => {
    const transacting = documentsOf(dekd, DynamoDBDocumentClient.from(server.transacting())).client;
    await transacting.send(
      new TransactWriteCommand({
        TransactItems: [
          { Put: { TableName, Item: { ...key(7), email: 'seven' } } },
          { Put: { TableName: 'notes', Item: { id: 'x7', text: 'seven' } } },
          {
            Update: {
              TableName,
              Key: key(100),
              UpdateExpression: 'SET email = :e',
              ExpressionAttributeValues: { ':e': 'changed' },
            },
          },
          { Delete: { TableName, Key: key(101) } },
        ],
      }),
    );
    expect([(await raw(7))?.email, (await raw(100))?.email]).toEqual(Array(2).fill(expect.stringMatching(/^dk1\./)));
    const got = await transacting.send(
      new TransactGetCommand({
        TransactItems: [
          { Get: { TableName, Key: key(7), ProjectionExpression: 'email' } },
          { Get: { TableName: 'notes', Key: { id: 'x7' } } },
          { Get: { TableName, Key: key(101) } },
          { Get: { TableName, Key: key(100), ProjectionExpression: 'email' } },
        ],
      }),
    );
    expect(got.Responses).toEqual([
      { Item: { email: 'seven' } },
      { Item: { id: 'x7', text: 'seven' } },
      {},
      { Item: { email: 'changed' } },
    ]);
    const check = { ConditionCheck: { TableName, Key: key(7), ConditionExpression: 'email = :v' } };
    expect(await refusal(() => transacting.send(new TransactWriteCommand({ TransactItems: [check] })))).toContain(
      'email',
    );
  });

  it('has the short forms of a DynamoDBDocument', async () => {
    const short = documentsOf(dekd, DynamoDBDocument.from(server.client)).client as DynamoDBDocument;
    await short.put({ TableName: 'notes', Item: { id: 'z1', text: 'short' } });
    expect((await short.get({ TableName: 'notes', Key: { id: 'z1' } })).Item).toEqual({ id: 'z1', text: 'short' });
    expect((await stored.send(new GetCommand({ TableName: 'notes', Key: { id: 'z1' } }))).Item?.text).toMatch(/^dk1\./);
  });

  it('opens no value that was moved to another item or attribute, and passes nothing through', async () => {
    await db.send(new PutCommand({ TableName, Item: { ...key(30), email: 'one' } }));
    const token = (await raw(30))?.email;
    for (const [item, code] of [
      [{ ...key(31), email: token }, 'DECRYPTION_FAILED'],
      [{ ...key(30), profile: token }, 'DECRYPTION_FAILED'],
      [{ ...key(30), email: 'legacy plaintext' }, 'MALFORMED'],
      [{ ...key(30), email: 7 }, ''],
    ] as const) {
      await stored.send(new PutCommand({ TableName, Item: item }));
      const { tenant, number } = item;
      expect(await refusal(() => db.send(new GetCommand({ TableName, Key: { tenant, number } })))).toContain(code);
    }
    expect(await refusal(() => db.send(new ScanCommand({ TableName })))).not.toBe('');
  });

  it('writes nothing when the agent is gone', async () => {
    await using gone = connect({ socket: join(agent.folder, 'nobody.sock'), timeoutMs: 50 });
    const without = documentsOf(gone, stored).client;
    expect(
      await refusal(() => without.send(new PutCommand({ TableName, Item: { ...key(40), email: 'x' } }))),
    ).toContain('AGENT_UNAVAILABLE');
    expect(await raw(40)).toBeUndefined();
  });

  it('refuses definitions that say something impossible', () => {
    const define = (table: Record<string, unknown>) => () =>
      encryptedDocuments(dekd, stored, { t: { key: 'k', attributes: ['a'], primaryKey: ['id'], ...table } as never });
    expect(define({ attributes: ['id'] })).toThrow('cannot be encrypted');
    expect(define({ attributes: [] })).toThrow('nothing to encrypt');
    expect(define({ attributes: ['a', 'a'] })).toThrow('each once');
    expect(define({ attributes: ['a.b'] })).toThrow('no path');
    expect(define({ primaryKey: [] })).toThrow('primaryKey');
    expect(define({ primaryKey: undefined })).toThrow('primaryKey');
    expect(define({ indexes: { i: { of: 'b', key: 'k' } } })).toThrow('index of an encrypted text');
    expect(define({ indexes: { a: { of: 'a', key: 'k' } } })).toThrow('index of an encrypted text');
  });
});
