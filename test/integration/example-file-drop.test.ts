/** examples/file-drop with a real agent and requests by HTTP. */
import { createHash, randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, renameSync, statSync, truncateSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTestAgent, type TestAgent } from '../../src/testkit/index.ts';
import { formsFound } from '../support/canary.ts';
import {
  compileErrors,
  exampleEnvironment,
  installExample,
  type RunningExample,
  startExample,
} from '../support/example.ts';
import { makeFolder, removeFolder } from '../support/temporary-folder.ts';

const MIB = 1024 * 1024;
const MAX_BYTES = 200 * MIB;
const CANARY = 'the "canary" of the file drop, ünïcode';

describe('examples/file-drop', () => {
  const folder = makeFolder();
  const files = join(folder, 'files');
  let agent: TestAgent;
  let service: RunningExample;

  beforeAll(async () => {
    installExample('file-drop', folder);
    agent = await createTestAgent({ keep: true });
    const env = exampleEnvironment(folder, { ...agent.env, PORT: '0', DROP_MAX_BYTES: String(MAX_BYTES) });
    service = await startExample(folder, 'main.ts', /listening at (http:\S+)/, env);
  }, 120_000);

  afterAll(async () => {
    await service?.stop();
    await agent?.close();
    removeFolder(folder);
  });

  /** Names of all files, those that are on their way among them. */
  const names = () =>
    readdirSync(files, { recursive: true, withFileTypes: true }).flatMap((entry) =>
      entry.isFile() ? [join(entry.parentPath, entry.name)] : [],
    );

  async function put(body: string | Uint8Array<ArrayBuffer> | ReadableStream): Promise<string> {
    const answer = await fetch(`${service.found}/files`, { method: 'POST', body, duplex: 'half' } as RequestInit);
    expect(answer.status).toBe(201);
    return ((await answer.json()) as { link: string }).link;
  }

  const get = (link: string, range?: string) =>
    fetch(`${service.found}/files/${link}`, range === undefined ? {} : { headers: { range } });

  it('compiles', async () => {
    expect(await compileErrors(folder, ['main.ts'])).toBe('');
  });

  it.each([0, 1, 65_536, 3 * MIB + 7])('gives back %i bytes as they were, once and again', async (length) => {
    const content = randomBytes(length);
    const link = await put(content);
    for (let i = 0; i < 2; i++) {
      const answer = await get(link);
      expect(answer.status).toBe(200);
      expect(Buffer.from(await answer.arrayBuffer()).equals(content)).toBe(true);
    }
  });

  it('gives any part of a file, a mebibyte at a time', async () => {
    const content = randomBytes(2 * MIB + 100_000);
    const link = await put(content);
    for (const [range, start, end] of [
      ['bytes=0-0', 0, 1],
      ['bytes=65535-65536', 65_535, 65_537],
      ['bytes=1000000-1000999', 1_000_000, 1_001_000],
      ['bytes=100-', 100, 100 + MIB],
      ['bytes=2190000-9999999', 2_190_000, content.length],
    ] as const) {
      const answer = await get(link, range);
      expect([answer.status, answer.headers.get('content-range')]).toEqual([206, `bytes ${start}-${end - 1}/*`]);
      expect(Buffer.from(await answer.arrayBuffer()).equals(content.subarray(start, end))).toBe(true);
    }
    expect((await get(link, 'bytes=9999999-')).status).toBe(416);
    expect((await (await get(link, 'bytes=-5')).arrayBuffer()).byteLength).toBe(content.length);
  });

  it('leaves nothing of an upload that was cut short, or was too long', async () => {
    const before = names();
    const sent = request(`${service.found}/files`, { method: 'POST', headers: { 'content-length': 10 * MIB } });
    sent.on('error', () => {});
    sent.write(randomBytes(3 * MIB));
    for (let i = 0; names().length === before.length && i < 1000; i++) {
      await sleep(10);
    }
    // It had begun to be written.
    expect(names().length).toBe(before.length + 1);
    sent.destroy();
    for (let i = 0; names().length > before.length && i < 1000; i++) {
      await sleep(10);
    }
    expect(names()).toEqual(before);

    const tooLong = new ReadableStream({
      pull(controller) {
        controller.enqueue(new Uint8Array(8 * MIB));
      },
    });
    const answer = await fetch(`${service.found}/files`, {
      method: 'POST',
      body: tooLong,
      duplex: 'half',
    } as RequestInit).catch(() => undefined);
    // Where the answer comes before all was sent, it may be lost.
    expect(answer?.status ?? 413).toBe(413);
    expect(names()).toEqual(before);
  });

  it('cuts the connection where a file was cut, and opens nothing that was renamed', async () => {
    const [one, two] = [await put(randomBytes(2 * MIB)), await put(randomBytes(MIB))];
    const path = (link: string) => join(files, createHash('sha256').update(link).digest('hex'));
    truncateSync(path(one), statSync(path(one)).size - 100);
    const cut = await get(one);
    await expect(cut.arrayBuffer()).rejects.toThrow();
    renameSync(path(two), path(one));
    expect((await get(one)).status).toBe(500);
    expect((await get(two)).status).toBe(404);
  });

  it('knows nothing of links that it did not give, whatever they are', async () => {
    for (const link of ['', '..%2f..%2fetc%2fpasswd', 'incoming', 'A'.repeat(43), `${'A'.repeat(42)}%0A`]) {
      expect((await get(link)).status).toBe(404);
    }
  });

  it('forgets a file, and reads on after a rotation', async () => {
    const [kept, gone] = [await put('kept'), await put('gone')];
    await agent.rotate('drop', { purpose: 'message' });
    expect(await (await get(kept)).text()).toBe('kept');
    const remove = () => fetch(`${service.found}/files/${gone}`, { method: 'DELETE' });
    expect([(await remove()).status, (await remove()).status]).toEqual([204, 404]);
    expect((await get(gone)).status).toBe(404);
  });

  it('keeps nothing while the agent is away, and all of it is there when it is back', async () => {
    const link = await put('kept');
    const before = names();
    await agent.kill();
    const answer = await fetch(`${service.found}/files`, { method: 'POST', body: 'lost' });
    expect([answer.status, await answer.json()]).toEqual([503, { error: 'AGENT_UNAVAILABLE' }]);
    expect((await get(link)).status).toBe(503);
    expect(names()).toEqual(before);
    await agent.restart();
    expect(await (await get(link)).text()).toBe('kept');
  });

  it('takes no more memory for 150 MiB than for 30', async () => {
    const peak = () => Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${service.pid}/status`, 'utf8'))![1]) / 1024;
    const through = async (mebibytes: number) => {
      let left = mebibytes;
      const body = new ReadableStream({
        pull(controller) {
          left -= 1;
          controller.enqueue(new Uint8Array(MIB));
          if (left === 0) {
            controller.close();
          }
        },
      });
      const answer = await get(await put(body));
      let length = 0;
      for await (const piece of answer.body!) {
        length += piece.length;
      }
      expect(length).toBe(mebibytes * MIB);
      return peak();
    };
    await through(30);
    const before = await through(30);
    expect((await through(150)) - before).toBeLessThan(60);
  }, 120_000);

  it('has no plaintext and no link in its folder, in any form', async () => {
    const link = await put(CANARY.repeat(1000));
    const held = Buffer.concat([...names().map((name) => readFileSync(name)), Buffer.from(names().join('\n'))]);
    expect(names().length).toBeGreaterThan(3);
    // Its hash is there: the search works.
    expect(formsFound(held, createHash('sha256').update(link).digest('hex'))).toContain('as it is');
    expect([...formsFound(held, CANARY), ...formsFound(held, link)]).toEqual([]);
    expect([
      ...formsFound(Buffer.from(service.said()), CANARY),
      ...formsFound(Buffer.from(service.said()), link),
    ]).toEqual([]);
  });

  it('ends by SIGTERM', async () => {
    expect(await service.stop()).toBe(0);
  });
});
