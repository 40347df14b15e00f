import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startTestAgent, type TestAgent } from '../support/agent.ts';
import { DynamoServer } from '../support/dynamodb.ts';
import { MongoServer } from '../support/mongo-server/mongo-server.ts';
import { compile, runFile, writeSection } from '../support/page-code.ts';
import { ROOT } from '../support/source-copy.ts';

/** Below the tree, so that packages are found. */
const FOLDER = join(ROOT, '.vitest/pages-documents');
const SECTIONS: readonly [string, string][] = [
  ['Fastify', 'ada@example.org\n'],
  ['DynamoDB', 'Ada@example.org { age: 37 }\n'],
  ['Mongoose', 'Ada@example.org 1815 4222\n'],
];

describe('the code of docs/adapters.md about applications and stores of documents', () => {
  let dynamo: DynamoServer;
  let mongo: MongoServer;
  let agent: TestAgent;

  beforeAll(async () => {
    for (const [heading] of SECTIONS) {
      writeSection('docs/adapters.md', heading, join(FOLDER, `${heading}.ts`));
    }
    dynamo = await DynamoServer.start();
    mongo = await MongoServer.start();
    agent = await startTestAgent();
  }, 60_000);

  afterAll(async () => {
    await agent?.stop();
    await mongo?.stop();
    await dynamo?.stop();
  });

  it.each(SECTIONS)('runs as it stands there: %s', async (heading, says) => {
    const ran = await runFile(join(FOLDER, `${heading}.ts`), {
      DEKD_SOCKET: agent.socket,
      MONGODB_URL: mongo.url,
      AWS_ENDPOINT_URL_DYNAMODB: dynamo.endpoint,
      AWS_REGION: 'eu-central-1',
      AWS_ACCESS_KEY_ID: 'a',
      AWS_SECRET_ACCESS_KEY: 's',
    });
    expect(ran).toEqual({ code: 0, stdout: says, stderr: '' });
  });

  it('is right to the compiler', async () => {
    expect(
      await compile(
        FOLDER,
        SECTIONS.map(([heading]) => `${heading}.ts`),
      ),
    ).toBe('');
  }, 120_000);
});
