/** What an application is told when its agent, its time or its patience is at an end; and what is left of a million calls. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { ensureDist } from '../../bench/support/agent-process.ts';
import type { DekdClient } from '../../src/client/index.ts';
import type { TestAgent } from '../../src/testkit/index.ts';
import { NODE } from '../support/agent.ts';
import { report } from './support/agent-process.ts';

/** DEKD_CALLS says another number. */
const CALLS = Number(process.env.DEKD_CALLS ?? 1_000_000);
const MIB = 1024 * 1024;
const DIST = new URL('../../dist/', import.meta.url);
const LEAKS = fileURLToPath(new URL('support/client-leaks.ts', import.meta.url));
const KEY = { key: 'k' };
const DATA = Buffer.from('plaintext');

const rejections: unknown[] = [];
const onRejection = (reason: unknown): void => void rejections.push(reason);

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

/** How a call ended: `ok`, the code of its error, or what else it was rejected with. */
async function endOf(call: Promise<unknown>): Promise<string> {
  return call.then(
    () => 'ok',
    (error: unknown) => (error as { code?: string }).code ?? String(error),
  );
}

async function endsOf(calls: readonly Promise<unknown>[]): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const end of await Promise.all(calls.map(endOf))) {
    counts[end] = (counts[end] ?? 0) + 1;
  }
  return counts;
}

describe('a client under faults', () => {
  let agent: TestAgent;
  let dekd: DekdClient;
  let start: typeof import('../../src/testkit/index.ts').createTestAgent;
  beforeAll(async () => {
    ensureDist();
    ({ createTestAgent: start } = (await import(
      new URL('testkit/index.js', DIST).href
    )) as typeof import('../../src/testkit/index.ts'));
    process.on('unhandledRejection', onRejection);
    agent = await start({ keep: true });
    dekd = agent.connect();
  }, 120_000);
  afterAll(async () => {
    await agent.close();
    process.off('unhandledRejection', onRejection);
  });
  afterEach(async () => {
    await sleep(20);
    expect(rejections.splice(0)).toEqual([]);
  });

  /** Every kind of call. */
  function calls(
    client: DekdClient,
    options: { timeoutMs?: number; signal?: AbortSignal },
    token: Uint8Array,
    text: string,
  ) {
    const each = { ...KEY, ...options };
    return [
      client.encrypt(DATA, each),
      client.encrypt(new Uint8Array(600_000), each),
      client.decrypt(token, each),
      client.encryptText('x', each),
      client.decryptText(text, each),
      client.encryptMany([DATA, DATA], each),
      client.decryptMany([token], each),
      client.encryptMany(
        Array.from({ length: 50_000 }, () => DATA),
        each,
      ),
      client.reencrypt(token, each),
      client.reencryptMany([token], each),
      client.keyInfo('k', options),
      client.ping(options),
      client.encryptLarge({ a: 1 }, each),
    ];
  }

  it('is past its deadline, with every kind of call, while the agent is stopped', async () => {
    const token = await dekd.encrypt(DATA, KEY);
    const text = await dekd.encryptText('x', KEY);
    agent.pause();
    try {
      const begun = performance.now();
      const all = calls(dekd, { timeoutMs: 500 }, token, text);
      expect(await endsOf(all)).toEqual({ DEADLINE_EXCEEDED: all.length });
      expect(performance.now() - begun).toBeLessThan(3_000);
    } finally {
      agent.resume();
    }
    expect(await endsOf(calls(dekd, {}, token, text))).toEqual({ ok: 13 });
  });

  it('has no agent, with every kind of call, while there is none, and one again afterwards', async () => {
    const token = await dekd.encrypt(DATA, KEY);
    const text = await dekd.encryptText('x', KEY);
    await agent.kill();
    const all = calls(dekd, { timeoutMs: 500 }, token, text);
    expect(await endsOf(all)).toEqual({ AGENT_UNAVAILABLE: all.length });
    await agent.restart();
    expect(await endsOf(calls(dekd, {}, token, text))).toEqual({ ok: 13 });
  });

  it('rejects with the reason of its signal: before, while it waits for an answer, for a connection, between two tries', async () => {
    const token = await dekd.encrypt(DATA, KEY);
    const text = await dekd.encryptText('x', KEY);
    const reason = new Error('the page was left');
    const ended = async (client: DekdClient, abort: (controller: AbortController) => void | Promise<void>) => {
      const controller = new AbortController();
      const all = calls(client, { signal: controller.signal }, token, text);
      await abort(controller);
      const reasons = await Promise.all(
        all.map((call) =>
          call.then(
            () => 'ok',
            (error: unknown) => error,
          ),
        ),
      );
      expect(reasons.filter((end) => end !== reason)).toEqual([]);
    };
    agent.pause();
    await ended(dekd, async (controller) => {
      await sleep(100);
      controller.abort(reason);
    });
    const unconnected = agent.connect();
    await ended(unconnected, async (controller) => {
      await sleep(100);
      controller.abort(reason);
    });
    agent.resume();
    await agent.kill();
    await ended(dekd, async (controller) => {
      await sleep(100);
      controller.abort(reason);
    });
    await agent.restart();
    const aborted = AbortSignal.abort(reason);
    const reasons = await Promise.all(
      calls(dekd, { signal: aborted }, token, text).map((call) =>
        call.then(
          () => 'ok',
          (error: unknown) => error,
        ),
      ),
    );
    expect(reasons.every((end) => end === reason)).toBe(true);
    expect(await endsOf(calls(dekd, {}, token, text))).toEqual({ ok: 13 });
    await unconnected.close();
  });

  it('finishes or refuses each of 20,000 calls at once, and a flood of large ones, and answers the next', async () => {
    const flood = await endsOf(Array.from({ length: 20_000 }, (_, i) => dekd.encrypt(Buffer.from(`${i}`), KEY)));
    expect(flood).toEqual({ ok: 20_000 });
    const sent = agent.connect({ lane: false });
    const large = await endsOf(Array.from({ length: 300 }, () => sent.encrypt(new Uint8Array(MIB), KEY)));
    expect(Object.keys(large).filter((end) => end !== 'ok' && end !== 'RESOURCE_EXHAUSTED')).toEqual([]);
    expect(large.ok).toBeGreaterThan(0);
    expect(await endOf(sent.encrypt(DATA, KEY))).toBe('ok');
    report('flood of 300 values of 1 MiB', large);
  });

  it('gives large values up at their deadline when the agent stops reading, and lets their memory go', async () => {
    const sent = agent.connect({ lane: false });
    await sent.ping();
    agent.pause();
    collect();
    const before = process.memoryUsage().arrayBuffers;
    const values = Array.from({ length: 100 }, () => sent.encrypt(new Uint8Array(MIB), { ...KEY, timeoutMs: 500 }));
    expect(await endsOf(values.splice(0))).toEqual({ DEADLINE_EXCEEDED: 100 });
    agent.resume();
    expect(await endOf(sent.encrypt(DATA, KEY))).toBe('ok');
    await sleep(500);
    collect();
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(8 * MIB);
    await sent.close();
  });

  it('finishes what is under way when it is closed, and then says that it was', async () => {
    const closing = agent.connect();
    const token = await closing.encrypt(DATA, KEY);
    const underWay = endsOf(calls(closing, {}, token, await closing.encryptText('x', KEY)));
    await closing.close();
    // A stream is ended, all else is finished.
    expect(await underWay).toEqual({ ok: 12, AGENT_UNAVAILABLE: 1 });
    expect(await endsOf(calls(closing, {}, token, 'dk1.'))).toMatchObject({ AGENT_UNAVAILABLE: expect.any(Number) });
    const waiting = agent.connect({ timeoutMs: 500 });
    await agent.kill();
    const late = endOf(waiting.encrypt(DATA, KEY));
    const begun = performance.now();
    await waiting.close();
    expect(performance.now() - begun).toBeLessThan(2_000);
    expect(await late).toBe('AGENT_UNAVAILABLE');
    await agent.restart();
  });

  it(`leaves nothing of ${CALLS} calls: no heap, no handle, no listener, no rejection`, async () => {
    const child = spawn(NODE, ['--expose-gc', LEAKS, new URL('client/index.js', DIST).href, agent.socket, `${CALLS}`], {
      env: { PATH: process.env.PATH },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let said = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    expect(await once(child, 'close')).toEqual([0, null]);
    const { calls: made, ends, before, after, open, rejections: unhandled } = JSON.parse(said);
    report('leaks', { made, ends, before, after, open });
    expect(unhandled).toEqual([]);
    expect(made).toBeGreaterThanOrEqual(CALLS);
    expect(Object.keys(ends).sort()).toEqual(
      ['DEADLINE_EXCEEDED', 'DECRYPTION_FAILED', 'INVALID_ARGUMENT', 'before', 'ok', 'under way'].sort(),
    );
    expect(after.listeners).toBe(before.listeners);
    expect(after.listeners).toBe(0);
    expect(after.processListeners).toBe(before.processListeners);
    expect(after.resources).toBeLessThanOrEqual(before.resources);
    expect(after.heapBytes - before.heapBytes).toBeLessThan(MIB);
    expect(after.externalBytes - before.externalBytes).toBeLessThan(2 * MIB);
    // What is left open when all is closed: the pipe that this is written to.
    expect(open.filter((name: string) => !/^(PipeWrap|TTYWrap)$/.test(name))).toEqual([]);
  });
});
