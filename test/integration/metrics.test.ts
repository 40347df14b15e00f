/** What agents as they run say of themselves to Prometheus, to the command line and to the page. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, type DekdClient } from '../../src/client/index.ts';
import type { LiveFigures } from '../../src/telemetry/live-figures.ts';
import { METRICS, type MetricFamily } from '../../src/telemetry/metrics.ts';
import { runYaml, startTestAgent, type TestAgent, writeRunConfig } from '../support/agent.ts';
import { readExposition, sampleOf } from '../support/exposition.ts';
import { freePort } from '../support/free-port.ts';
import { httpGet } from '../support/http-get.ts';
import { KmsServer } from '../support/kms-server/kms-server.ts';
import { RawClient } from '../support/raw-client.ts';
import { makeFolder, removeFolder } from '../support/temporary-folder.ts';

/** Words that must be nowhere: names, contexts, plaintexts. */
const SECRETS = ['payroll', 'acme', 'subject', 'alice', 'PLAINTEXT'] as const;
const BINDING = { key: 'payroll', partition: 'acme', context: { subject: 'alice' } } as const;

let kms: KmsServer;
let leave: () => void;
beforeAll(async () => {
  kms = await KmsServer.start();
  leave = kms.enter();
});
afterAll(async () => {
  leave();
  await kms.stop();
});

interface Watched {
  readonly folder: string;
  readonly agent: TestAgent;
  readonly port: number;
  readonly dekd: DekdClient;
}

/** An agent whose root is in a KMS, with a port. */
async function started(extra = '', admin = ''): Promise<Watched> {
  const folder = makeFolder();
  writeRunConfig(folder);
  const port = await freePort();
  const aws = `{ key: "${kms.createKey().arn}", endpoint: "${kms.endpoint}", retries: 0 }`;
  const yaml = runYaml(`custody: inline\nadmin: { port: ${port}${admin} }\n${extra}`)
    .replace(/^roots: .*$/m, `roots: { aws: { provider: aws-kms, aws: ${aws} } }`)
    .replaceAll('FOLDER', folder);
  const agent = await startTestAgent({ folder, yaml });
  return { folder, agent, port, dekd: connect({ socket: agent.socket, lane: false }) };
}

async function stop({ folder, agent, dekd }: Watched): Promise<void> {
  await dekd.close();
  await agent.stop();
  removeFolder(folder);
}

/** Ten values, a batch of three of which one fails, and one denial. */
async function use(dekd: DekdClient): Promise<void> {
  for (let i = 0; i < 5; i++) {
    const token = await dekd.encrypt(Buffer.from('PLAINTEXT'), BINDING);
    await dekd.decrypt(token, BINDING);
  }
  const sealed = await dekd.encryptMany(
    ['1', '2', '3'].map((text) => Buffer.from(text)),
    BINDING,
  );
  const tokens = sealed.map((result) => (result.ok ? result.value : new Uint8Array()));
  tokens[1]![30]! ^= 1;
  await dekd.decryptMany(tokens, BINDING);
  await dekd.blindIndex('x', { key: 'payroll', table: 't', column: 'c' }).catch(() => {});
}

describe('the metrics of an agent', () => {
  let watched: Watched;
  beforeAll(async () => {
    watched = await started();
    await use(watched.dekd);
  });
  afterAll(() => stop(watched));

  it('are those of the list, each with its type, help and labels, and nothing else', async () => {
    const { status, headers, body } = await httpGet(watched.port, '/metrics');
    expect([status, headers['content-type']]).toEqual([200, 'text/plain; version=0.0.4; charset=utf-8']);
    const families = readExposition(body);
    const listed = Object.entries(METRICS) as [string, MetricFamily][];
    const expected = listed.filter(([name]) => name !== 'dekd_key_age_seconds');
    expect([...families.keys()].sort()).toEqual(expected.map(([name]) => name).sort());
    for (const [name, { type, help, labels }] of expected) {
      const family = families.get(name)!;
      expect([name, family.type, family.help]).toEqual([name, type, help]);
      for (const sample of family.samples) {
        const used = Object.keys(sample.labels).filter((label) => label !== 'le');
        expect([name, ...used]).toEqual([name, ...labels]);
      }
    }
  });

  it('count what was done', async () => {
    const families = readExposition((await httpGet(watched.port, '/metrics')).body);
    const value = (name: string, labels: Record<string, string> = {}) => sampleOf(families, name, labels);
    expect(value('dekd_operations_total', { operation: 'encrypt', outcome: 'ok' })).toBe(8);
    expect(value('dekd_operations_total', { operation: 'decrypt', outcome: 'ok' })).toBe(7);
    expect(value('dekd_operations_total', { operation: 'decrypt', outcome: 'DECRYPTION_FAILED' })).toBe(1);
    expect(value('dekd_operations_total', { operation: 'blindIndex', outcome: 'PERMISSION_DENIED' })).toBe(1);
    expect(value('dekd_batches_total')).toBe(2);
    const values = { operation: 'encrypt', form: 'value' };
    expect(value('dekd_request_duration_seconds_count', values)).toBe(5);
    expect(value('dekd_request_duration_seconds_bucket', { ...values, le: '+Inf' })).toBe(5);
    expect(value('dekd_request_duration_seconds_count', { operation: 'decrypt', form: 'batch' })).toBe(1);
    expect(value('dekd_plaintext_bytes_total', { direction: 'sealed' })).toBe(5 * 9 + 3);
    expect(value('dekd_key_loads_total')).toBe(1);
    expect(value('dekd_key_cache_misses_total')).toBeGreaterThanOrEqual(1);
    expect(value('dekd_key_cache_hits_total')).toBeGreaterThanOrEqual(10);
    expect(value('dekd_keys_loaded')).toBe(1);
    expect(value('dekd_connections', { socket: 'data' })).toBe(1);
    expect(value('dekd_ready')).toBe(1);
    expect(value('dekd_provider_calls_total', { root: 'aws', operation: 'wrap', outcome: 'ok' })).toBeGreaterThan(0);
    expect(value('dekd_provider_breaker_open', { root: 'aws' })).toBe(0);
    expect(value('dekd_root_proof_age_seconds', { root: 'aws' })).toBeGreaterThanOrEqual(0);
    expect(value('dekd_keystore_calls_total', { operation: 'store', outcome: 'ok' })).toBeGreaterThan(0);
    expect(value('process_resident_memory_bytes')).toBeGreaterThan(1e7);
  });

  it('show neither keys, partitions, contexts nor plaintexts, nor does the page or what it reads', async () => {
    for (const path of ['/metrics', '/status.json', '/']) {
      const { status, body } = await httpGet(watched.port, path);
      expect(status).toBe(200);
      expect(
        SECRETS.filter((word) => body.includes(word)),
        path,
      ).toEqual([]);
    }
  });

  it('are OpenMetrics for who asks for it', async () => {
    const accept = 'application/openmetrics-text; version=1.0.0,text/plain;version=0.0.4;q=0.5';
    const { headers, body } = await httpGet(watched.port, '/metrics', { accept });
    expect(headers['content-type']).toBe('application/openmetrics-text; version=1.0.0; charset=utf-8');
    expect(body).toMatch(/\n# EOF\n$/);
    const families = readExposition(body);
    expect(sampleOf(families, 'dekd_operations', {})).toBeUndefined();
    expect(families.get('dekd_operations')?.samples.length).toBeGreaterThan(2);
  });

  it('are written once a second, however often a stranger asks', async () => {
    const [first, ...others] = await Promise.all(Array.from({ length: 20 }, () => httpGet(watched.port, '/metrics')));
    expect(new Set(others.map(({ body }) => body))).toEqual(new Set([first!.body]));
  });

  it('are on the admin socket too, with names of keys in the figures for the operator', async () => {
    const admin = await RawClient.greeted(watched.agent.admin);
    const text = await admin.ask({ admin: { metrics: {} } });
    expect(readExposition(JSON.parse(Buffer.from(text.document!).toString()) as string).size).toBeGreaterThan(40);
    const live = await admin.ask({ admin: { metrics: { live: true } } });
    const figures = JSON.parse(Buffer.from(live.document!).toString()) as LiveFigures;
    expect(figures.keys.names?.map(({ name }) => name)).toEqual(['payroll']);
    expect(figures.requests.find(({ form }) => form === 'batch')?.counts.length).toBe(figures.bounds.length + 1);
    admin.destroy();
  });
});

describe('an outage of the KMS', () => {
  it('is a breaker that is open, and calls that failed, until it is over', async () => {
    const watched = await started();
    await kms.down();
    try {
      for (let i = 0; i < 8; i++) {
        await watched.dekd.encrypt(Buffer.from('x'), { key: `k${i}` }).catch(() => {});
      }
      const families = readExposition((await httpGet(watched.port, '/metrics')).body);
      expect(sampleOf(families, 'dekd_provider_breaker_open', { root: 'aws' })).toBe(1);
      expect(sampleOf(families, 'dekd_provider_calls_total', { root: 'aws', outcome: 'UNAVAILABLE' })).toBe(5);
      expect(sampleOf(families, 'dekd_operations_total', { outcome: 'KMS_UNAVAILABLE' })).toBe(8);
    } finally {
      await kms.up();
      await stop(watched);
    }
  });
});

describe('an agent that is told so', () => {
  it('names keys, and still no partition', async () => {
    const watched = await started('metrics: { keys: true }\n');
    await use(watched.dekd);
    const { body } = await httpGet(watched.port, '/metrics');
    const age = sampleOf(readExposition(body), 'dekd_key_age_seconds', { key: 'payroll' });
    expect(age).toBeGreaterThanOrEqual(0);
    expect(body).not.toContain('acme');
    await stop(watched);
  });

  it('shows neither metrics nor a page, and still answers probes', async () => {
    const watched = await started('', ', metrics: false, page: false');
    for (const path of ['/metrics', '/', '/status.json']) {
      expect((await httpGet(watched.port, path)).status, path).toBe(404);
    }
    expect((await httpGet(watched.port, '/readyz')).status).toBe(200);
    await stop(watched);
  });

  it('measures nothing, and says so to who asks on the admin socket', async () => {
    const watched = await started('metrics: { enabled: false }\n');
    await use(watched.dekd);
    expect((await httpGet(watched.port, '/metrics')).status).toBe(404);
    const admin = await RawClient.greeted(watched.agent.admin);
    const { error } = await admin.ask({ admin: { metrics: {} } });
    expect(error?.message).toContain('metrics.enabled');
    const live = await admin.ask({ admin: { metrics: { live: true } } });
    const figures = JSON.parse(Buffer.from(live.document!).toString()) as LiveFigures;
    expect([figures.requests, figures.counters.operations.encrypt?.ok]).toEqual([[], 8]);
    admin.destroy();
    await stop(watched);
  });
});
