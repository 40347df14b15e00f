/** Both clients while their agent is killed and started again, as built. */
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { beforeAll, describe, expect, it } from 'vitest';
import { ensureDist } from '../../bench/support/agent-process.ts';
import type { DekdClient, DekdError, ManyResult } from '../../src/client/index.ts';
import { report } from './support/agent-process.ts';
import type { SyncLoadData } from './support/sync-load.ts';

/** How often the agent is killed; DEKD_KILLS says another number. */
const KILLS = Number(process.env.DEKD_KILLS ?? 500);
const LOADS = 8;
/** Longer than any agent takes to come back. */
const TIMEOUT_MS = 60_000;

const DIST = new URL('../../dist/', import.meta.url);
const CLIENT = new URL('client/index.js', DIST).href;
const TESTKIT = new URL('testkit/index.js', DIST).href;
const SYNC_LOAD = fileURLToPath(new URL('support/sync-load.ts', import.meta.url));

/** Every call that may be sent again, with values that say whose they are. @throws when one is not right */
async function everyCall(dekd: DekdClient, load: number, round: number): Promise<number> {
  const options = { key: `k${load % 3}`, partition: `p${load}`, context: { round: `${round}` } };
  const text = `value ${load} ${round}`;
  const data = Buffer.from(round % 20 === 0 ? text.repeat(10_000) : text);
  const tokens = await Promise.all([dekd.encrypt(data, options), dekd.encryptText(text, options)]);
  const moved = await dekd.reencrypt(tokens[0], options);
  const [plain, again, back] = await Promise.all([
    dekd.decrypt(tokens[0], options),
    dekd.decrypt(moved, options),
    dekd.decryptText(tokens[1], options),
  ]);
  const many = valuesOf(await dekd.encryptMany([data, Buffer.from(text)], options));
  const opened = valuesOf(await dekd.decryptMany(many, options));
  const newer = valuesOf(await dekd.reencryptMany(many, options));
  const { key } = await dekd.keyInfo(options.key, options);
  await dekd.ping();
  const expected = [data, data, data, Buffer.from(text)];
  const got = [plain, again, ...opened];
  const isRight = expected.every((value, index) => value.equals(got[index]!));
  if (!isRight || back !== text || newer.length !== 2 || key !== options.key) {
    throw new Error(`load ${load}, round ${round}: another value`);
  }
  return 11;
}

function valuesOf(results: readonly ManyResult[]): Uint8Array[] {
  return results.map((result) => {
    if (!result.ok) {
      throw result.error;
    }
    return result.value;
  });
}

describe('a client', () => {
  beforeAll(() => ensureDist(), 120_000);

  it(`finishes every call with the right value over ${KILLS} kills of its agent, and so does a synchronous one`, async () => {
    const { createTestAgent } = (await import(TESTKIT)) as typeof import('../../src/testkit/index.ts');
    const rejections: unknown[] = [];
    const onRejection = (reason: unknown): void => void rejections.push(reason);
    process.on('unhandledRejection', onRejection);
    const agent = await createTestAgent({ keep: true });
    const dekd = agent.connect({ timeoutMs: TIMEOUT_MS });
    const failures: string[] = [];
    let calls = 0;
    let isOver = false;
    const loads = Array.from({ length: LOADS }, async (_, load) => {
      for (let round = 0; !isOver; round++) {
        try {
          calls += await everyCall(dekd, load, round);
        } catch (error) {
          const { code, message } = error as DekdError;
          failures.push(`${code}: ${message}`);
        }
      }
    });
    const shared = new Int32Array(new SharedArrayBuffer(8));
    const workerData: SyncLoadData = { client: CLIENT, socket: agent.socket, shared };
    const worker = new Worker(SYNC_LOAD, { workerData, execArgv: [] });
    const syncFailures = once(worker, 'message');
    const begun = performance.now();
    let longest = 0;
    for (let kill = 0; kill < KILLS && failures.length === 0; kill++) {
      await sleep(Math.random() * 50);
      await agent.kill();
      const before = calls;
      const syncBefore = Atomics.load(shared, 1);
      const gone = performance.now();
      await agent.restart();
      while ((calls < before + 11 || Atomics.load(shared, 1) < syncBefore + 4) && failures.length === 0) {
        await sleep(2);
      }
      longest = Math.max(longest, performance.now() - gone);
    }
    isOver = true;
    Atomics.store(shared, 0, 1);
    await Promise.all(loads);
    expect(failures).toEqual([]);
    expect((await syncFailures)[0]).toEqual([]);
    await agent.close();
    await sleep(100);
    process.off('unhandledRejection', onRejection);
    expect(rejections).toEqual([]);
    report('client restarts', {
      kills: KILLS,
      calls,
      syncCalls: Atomics.load(shared, 1),
      seconds: Math.round((performance.now() - begun) / 1_000),
      longestMsFromKillToAnswers: Math.round(longest),
    });
  });
});
