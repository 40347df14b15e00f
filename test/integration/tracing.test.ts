/** A trace from an application through the agent to the provider of its root key, with the SDK of OpenTelemetry itself. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { context, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import { InMemorySpanExporter, NodeTracerProvider, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-node';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type ConnectOptions, connect } from '../../src/client/index.ts';
import { runYaml, startTestAgent, type TestAgent, writeRunConfig } from '../support/agent.ts';
import { KmsServer } from '../support/kms-server/kms-server.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';
import { startVault, tokenOf } from '../support/vault-server/fixture.ts';

const exporter = new InMemorySpanExporter();
const provider = new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
const tracer = trace.getTracer('application');

let kms: KmsServer;
let leave: () => void;
let agent: TestAgent;
beforeAll(async () => {
  provider.register();
  kms = await KmsServer.start();
  leave = kms.enter();
});
afterAll(async () => {
  leave();
  await kms.stop();
  await provider.shutdown();
  context.disable();
  trace.disable();
});
afterEach(async () => {
  exporter.reset();
  await agent.stop();
});

/** An agent with this root, and a traced client of it. */
async function traced(root: string, custody: 'inline' | 'process', options: ConnectOptions = {}) {
  const folder = temporaryFolder();
  writeRunConfig(folder);
  const yaml = runYaml(`custody: ${custody}\n`).replace(/^roots: .*$/m, `roots: { main: ${root} }`);
  agent = await startTestAgent({ folder, yaml });
  return connect({ socket: agent.socket, lane: false, tracer, ...options });
}

const kmsRoot = () =>
  `{ provider: aws-kms, aws: { key: "${kms.createKey().arn}", endpoint: "${kms.endpoint}", retries: 0, timeout: 20s } }`;

describe('a traced client', () => {
  it.each(['inline', 'process'] as const)(
    'has its trace in the signed request to the KMS that its call caused, with custody %s',
    async (custody) => {
      await using client = await traced(kmsRoot(), custody);
      const before = kms.requests.length;
      const traceId = await tracer.startActiveSpan('order', async (order) => {
        await client.encrypt(Buffer.from('x'), { key: 'orders' });
        order.end();
        return order.spanContext().traceId;
      });
      const span = exporter.getFinishedSpans().find(({ name }) => name === 'dekd encrypt')!;
      expect(span.kind).toBe(SpanKind.CLIENT);
      expect(span.attributes).toEqual({ 'dekd.operation': 'encrypt', 'dekd.items': 1, 'dekd.outcome': 'ok' });
      expect(span.spanContext().traceId).toBe(traceId);
      const asked = kms.requests.slice(before);
      expect(asked.length).toBeGreaterThan(0);
      const expected = `00-${traceId}-${span.spanContext().spanId}-01`;
      for (const { headers, outcome } of asked) {
        expect([headers.traceparent, outcome]).toEqual([expected, 'ok']);
        expect(headers.authorization).toMatch(/SignedHeaders=[^,]*;traceparent/);
      }
    },
  );

  it.each(['inline', 'process'] as const)(
    'has its trace in the request to Vault that its call caused, with custody %s',
    async (custody) => {
      const { vault } = await startVault();
      const folder = temporaryFolder();
      mkdirSync(folder, { recursive: true });
      const tokenFile = join(folder, 'token');
      writeFileSync(tokenFile, tokenOf(vault), { mode: 0o600 });
      const auth = `{ method: token, tokenFile: "${tokenFile}" }`;
      await using client = await traced(
        `{ provider: vault-transit, vault: { address: "${vault.address}", timeout: 20s, auth: ${auth} }, transit: { key: root } }`,
        custody,
      );
      const before = vault.requests.length;
      await client.encrypt(Buffer.from('x'), { key: 'orders' });
      const [span] = exporter.getFinishedSpans();
      const { traceId, spanId } = span!.spanContext();
      const asked = vault.requests.slice(before).filter(({ path }) => path.startsWith('transit/'));
      expect(asked.length).toBeGreaterThan(0);
      expect(new Set(asked.map(({ headers }) => headers.traceparent))).toEqual(new Set([`00-${traceId}-${spanId}-01`]));
    },
  );

  it('makes a span of every call, streams and batches too, with its failure', async () => {
    await using client = await traced('{ provider: local, keyFile: FOLDER/root.key, allowLocalRoot: true }', 'inline');
    const binding = { key: 'orders' };
    await client.encryptMany([Buffer.from('a'), Buffer.from('b')], binding);
    await client.decryptLarge(await client.encryptLarge({ a: 1 }, binding), binding);
    await client.keyInfo('orders');
    const token = await client.encrypt(Buffer.from('x'), binding);
    const error = await client.decrypt(token, { key: 'other' }).catch((reason: unknown) => reason);
    const spans = exporter.getFinishedSpans();
    expect(spans.map(({ name, attributes }) => [name, attributes['dekd.items'], attributes['dekd.outcome']])).toEqual([
      ['dekd encryptMany', 2, 'ok'],
      ['dekd encryptStream', 1, 'ok'],
      ['dekd decryptStream', 1, 'ok'],
      ['dekd keyInfo', 1, 'ok'],
      ['dekd encrypt', 1, 'ok'],
      ['dekd decrypt', 1, 'DECRYPTION_FAILED'],
    ]);
    const failed = spans.at(-1)!;
    expect(failed.status.code).toBe(SpanStatusCode.ERROR);
    const { incident } = error as { incident: string };
    const line = agent.log.find((each) => each.incident === incident);
    expect(line?.trace).toBe(failed.spanContext().traceId);
  });

  it('gives each of the calls of one tick its own trace, and names keys only when it is told to', async () => {
    const root = '{ provider: local, keyFile: FOLDER/root.key, allowLocalRoot: true }';
    await using client = await traced(root, 'inline', { traceKeys: true });
    const calls = ['1', '2', '3'].map((text) => client.decrypt(Buffer.from(text), { key: `k${text}` }));
    await Promise.allSettled(calls);
    const spans = exporter.getFinishedSpans();
    expect(spans.map(({ attributes }) => attributes['dekd.key']).sort()).toEqual(['k1', 'k2', 'k3']);
    const logged = agent.log.flatMap(({ trace: id }) => (id === undefined ? [] : [id]));
    expect(logged.sort()).toEqual(spans.map((span) => span.spanContext().traceId).sort());
  });

  it('leaves no trace on what the agent asks for nobody in particular', async () => {
    await using client = await traced(kmsRoot(), 'inline');
    await client.encrypt(Buffer.from('x'), { key: 'orders' });
    const before = kms.requests.length;
    await using plain = connect({ socket: agent.socket, lane: false });
    await plain.encrypt(Buffer.from('x'), { key: 'orders', partition: 'new' });
    await plain.encrypt(Buffer.from('x'), { key: 'others' });
    const asked = kms.requests.slice(before);
    expect(asked.length).toBeGreaterThan(0);
    expect(asked.filter(({ headers }) => headers.traceparent !== undefined)).toEqual([]);
  });
});
