import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { rolldown } from 'rolldown';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { connectSync, type DekdClient, DekdError, type DekdSyncClient } from '../../src/client/index.ts';
import { createTestAgent, type TestAgent } from '../../src/testkit/index.ts';
import { NODE } from '../support/agent.ts';
import { type FakeThread, type Manner, startFakeThread } from '../support/fake-agent-thread.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const CLIENT = fileURLToPath(new URL('../../src/client/index.ts', import.meta.url));
const DATA = Buffer.from('plaintext');
const KEY = { key: 'k' };
const NO_AGENT = '/nonexistent/agent.sock';

function refusal(call: () => unknown): DekdError {
  try {
    call();
  } catch (error) {
    expect(error).toBeInstanceOf(DekdError);
    return error as DekdError;
  }
  throw new Error('the call did not throw');
}

/** @returns milliseconds that `work` took */
function took(work: () => unknown): number {
  const begun = performance.now();
  work();
  return performance.now() - begun;
}

function open(options: Parameters<typeof connectSync>[0]): DekdSyncClient {
  const client = connectSync(options);
  onTestFinished(() => client.close());
  return client;
}

describe('a synchronous client of a real agent', () => {
  let agent: TestAgent;
  let dekd: DekdSyncClient;
  let other: DekdClient;
  beforeAll(async () => {
    agent = await createTestAgent({ node: NODE });
    dekd = agent.connectSync();
    other = agent.connect({ lane: false });
  });
  afterAll(() => agent.close());

  it('opens what the other client made, and the reverse, as bytes and as text', async () => {
    const options = { key: 'customers', partition: 'acme', context: { field: 'pan' } };
    const token = dekd.encrypt(DATA, options);
    expect(token).toHaveLength(DATA.length + 58);
    expect(Buffer.from(await other.decrypt(token, options))).toEqual(DATA);
    expect(Buffer.from(dekd.decrypt(await other.encrypt(DATA, options), options))).toEqual(DATA);
    const text = dekd.encryptText('4111 € 👍', options);
    expect(text).toMatch(/^dk1\.[A-Za-z0-9_-]+$/);
    expect(dekd.decryptText(text, options)).toBe('4111 € 👍');
    expect(dekd.decryptText(await other.encryptText('', options), { anyKey: true, context: { field: 'pan' } })).toBe(
      '',
    );
  });

  it.each([0, 1, 16_384, 16_385, 65_400, 65_536, 131_072, 300_000, 1 << 20])(
    'carries a value of %i bytes both ways',
    (length) => {
      const data = new Uint8Array(length).map((_, index) => index % 251);
      expect(Buffer.from(dekd.decrypt(dekd.encrypt(data, KEY), KEY)).equals(data)).toBe(true);
    },
  );

  it('gives results in memory of their own, which later calls leave alone', () => {
    const values = [10, 1_000, 70_000].map((length) => new Uint8Array(length).fill(length % 256));
    const opened = values.map((value) => dekd.decrypt(dekd.encrypt(value, KEY), KEY));
    const many = dekd.encryptMany(values, KEY).map((result) => (result.ok ? result.value : DATA));
    opened.push(...dekd.decryptMany(many, KEY).map((result) => (result.ok ? result.value : DATA)));
    for (let i = 0; i < 20; i++) {
      dekd.encrypt(new Uint8Array(70_000).fill(7), KEY);
    }
    expect(opened.map((value) => Buffer.from(value))).toEqual(
      [...values, ...values].map((value) => Buffer.from(value)),
    );
    expect(opened.every(({ buffer }) => buffer instanceof ArrayBuffer)).toBe(true);
  });

  it('keeps the order of 20,000 items over many frames, and gives a bad one its error', () => {
    const items = Array.from({ length: 20_000 }, (_, i) => Buffer.from(`item ${i}`));
    const sealed = dekd.encryptMany([...items, new Uint8Array((1 << 20) + 1), { data: DATA, key: '.reserved' }], KEY);
    expect(sealed.slice(20_000).map((result) => !result.ok && result.error.code)).toEqual([
      'INVALID_ARGUMENT',
      'PERMISSION_DENIED',
    ]);
    const tokens = sealed.slice(0, 20_000).map((result) => (result.ok ? result.value : DATA));
    const opened = dekd.decryptMany(tokens, KEY);
    expect(opened.map((result) => (result.ok ? Buffer.from(result.value).toString() : result.error.code))).toEqual(
      items.map(String),
    );
    expect(dekd.encryptMany([], KEY)).toEqual([]);
  });

  it('throws what the other client rejects with, and its caller is in the stack', () => {
    const token = dekd.encrypt(DATA, KEY);
    const failed = refusal(() => dekd.decrypt(token, { ...KEY, context: { field: 'other' } }));
    expect(failed.code).toBe('DECRYPTION_FAILED');
    expect(failed.incident).toBeTruthy();
    expect(failed.stack).toContain('sync-client.test.ts');
    const refused: [string, () => unknown][] = [
      ['data is string, not a Uint8Array', () => dekd.encrypt('text' as unknown as Uint8Array, KEY)],
      ['key is a name', () => dekd.encrypt(DATA, { key: '' })],
      ['lone surrogate', () => dekd.encryptText('\ud800', KEY)],
      [
        'not UTF-8',
        () =>
          dekd.decryptText(`dk1.${Buffer.from(dekd.encrypt(new Uint8Array([255]), KEY)).toString('base64url')}`, KEY),
      ],
      ['timeoutMs is 0', () => dekd.encrypt(DATA, { ...KEY, timeoutMs: 0 })],
      ['timeoutMs is -1', () => connectSync({ timeoutMs: -1 })],
      [`value of ${(1 << 20) + 1} bytes is over`, () => dekd.encrypt(new Uint8Array((1 << 20) + 1), KEY)],
      ['names and contexts included', () => dekd.encrypt(DATA, { key: 'k'.repeat(2 << 20) })],
    ];
    for (const [text, call] of refused) {
      expect(refusal(call)).toMatchObject({ code: 'INVALID_ARGUMENT', message: expect.stringContaining(text) });
    }
    expect(refusal(() => dekd.decryptText('dk1.!', KEY)).code).toBe('MALFORMED');
    expect(Buffer.from(dekd.decrypt(token, KEY))).toEqual(DATA);
  });

  it('throws the reason of a signal that was aborted before', () => {
    const options = { ...KEY, signal: AbortSignal.abort('no more') };
    expect(() => dekd.encrypt(DATA, options)).toThrow('no more');
  });

  it('is told when its key is disabled, and uses the newest version after a rotation', async () => {
    const token = dekd.encrypt(DATA, { key: 'turned' });
    await agent.rotate('turned');
    expect(dekd.encrypt(DATA, { key: 'turned' }).slice(2, 18)).not.toEqual(token.slice(2, 18));
    expect(Buffer.from(dekd.decrypt(token, { key: 'turned' }))).toEqual(DATA);
    await agent.disable('turned');
    expect(refusal(() => dekd.decrypt(token, { key: 'turned' })).code).toBe('KEY_DISABLED');
  });

  it('serves beside others of the same process', () => {
    const clients = Array.from({ length: 4 }, () => open({ socket: agent.socket }));
    const tokens = clients.map((client, index) => client.encryptText(`${index}`, KEY));
    expect(clients.map((client, index) => client.decryptText(tokens[3 - index]!, KEY))).toEqual(['3', '2', '1', '0']);
  });

  it('answers with AGENT_UNAVAILABLE once it was closed, also before it was ever used', () => {
    const used = connectSync({ socket: agent.socket });
    used.encrypt(DATA, KEY);
    const unused = connectSync({ socket: agent.socket });
    for (const client of [used, unused]) {
      client[Symbol.dispose]();
      client.close();
      expect(refusal(() => client.encrypt(DATA, KEY))).toMatchObject({
        code: 'AGENT_UNAVAILABLE',
        message: 'the client was closed',
      });
    }
  });
});

describe('a synchronous client and an agent that is not there', () => {
  it('tries until the deadline, no longer, and says what is wrong', () => {
    const dekd = open({ socket: NO_AGENT, timeoutMs: 300 });
    for (let i = 0; i < 2; i++) {
      let error: DekdError | undefined;
      const ms = took(() => {
        error = refusal(() => dekd.encrypt(DATA, KEY));
      });
      expect(error).toMatchObject({ code: 'AGENT_UNAVAILABLE', message: expect.stringContaining(NO_AGENT) });
      expect(ms).toBeGreaterThan(250);
      expect(ms).toBeLessThan(1_500);
    }
    expect(took(() => refusal(() => dekd.encrypt(DATA, { ...KEY, timeoutMs: 50 })))).toBeLessThan(1_000);
  });

  it('goes on with the agent that comes back, as it was called or between two calls', async () => {
    await using agent = await createTestAgent({ node: NODE, keep: true });
    const dekd = agent.connectSync();
    const token = dekd.encrypt(DATA, KEY);
    await agent.restart();
    expect(Buffer.from(dekd.decrypt(token, KEY))).toEqual(DATA);
    await agent.kill();
    expect(refusal(() => dekd.decrypt(token, { ...KEY, timeoutMs: 200 })).code).toBe('AGENT_UNAVAILABLE');
    await agent.restart();
    expect(Buffer.from(dekd.decrypt(token, KEY))).toEqual(DATA);
  });

  it('ends at the deadline while the agent is stopped, and goes on when it goes on', async () => {
    await using agent = await createTestAgent({ node: NODE });
    const dekd = agent.connectSync({ timeoutMs: 300 });
    const large = new Uint8Array(1 << 20);
    const token = dekd.encrypt(large, KEY);
    agent.pause();
    const codes: string[] = [];
    for (const call of [
      () => dekd.encrypt(DATA, KEY),
      () => dekd.encrypt(large, KEY),
      () => dekd.decrypt(token, KEY),
      () => agent.connectSync({ timeoutMs: 300 }).encrypt(DATA, KEY),
    ]) {
      const ms = took(() => codes.push(refusal(call).code));
      expect(ms).toBeGreaterThan(250);
      expect(ms).toBeLessThan(1_500);
    }
    // There is somebody who takes connections: that nobody answers cannot be said yet.
    expect(codes).toEqual(['DEADLINE_EXCEEDED', 'DEADLINE_EXCEEDED', 'DEADLINE_EXCEEDED', 'DEADLINE_EXCEEDED']);
    agent.resume();
    expect(Buffer.from(dekd.decrypt(token, { ...KEY, timeoutMs: 10_000 })).equals(large)).toBe(true);
  });
});

describe('a synchronous client and an agent that does wrong', () => {
  async function fake(manner: Manner, lateMs?: number): Promise<{ agent: FakeThread; dekd: DekdSyncClient }> {
    const agent = await startFakeThread(manner, lateMs);
    onTestFinished(() => agent.stop());
    return { agent, dekd: open({ socket: agent.path, timeoutMs: 5_000 }) };
  }
  const echoed = (dekd: DekdSyncClient, text: string, timeoutMs = 5_000): string =>
    Buffer.from(dekd.encrypt(Buffer.from(text), { ...KEY, timeoutMs })).toString();

  it.each<Manner>([
    'echoes',
    'answers byte by byte',
    'answers twice',
    'says farewell behind the answer',
    'begins a farewell behind the answer',
    'says farewell in place of the first answer',
    'closes once',
    'closes in the middle of the first answer',
    'is shutting down once',
  ])('gives every call its own answer when it %s', async (manner) => {
    const { dekd } = await fake(manner);
    const texts = Array.from({ length: 20 }, (_, index) => `value ${index}`);
    expect(texts.map((text) => echoed(dekd, text))).toEqual(texts);
  });

  it.each<Manner>(['answers another request', 'sends no protobuf', 'claims a frame of 100 MiB'])(
    'throws PROTOCOL_ERROR at once when it %s',
    async (manner) => {
      const { dekd } = await fake(manner);
      expect(took(() => expect(refusal(() => echoed(dekd, 'x')).code).toMatch(/PROTOCOL_ERROR/))).toBeLessThan(4_000);
    },
  );

  it('sends it no value that names a root, which it does not say that it reads', async () => {
    const { agent, dekd } = await fake('echoes');
    for (const call of [
      () => dekd.encrypt(DATA, { ...KEY, root: 'b' }),
      () => dekd.encryptMany([DATA], { ...KEY, root: 'b' }),
      () => dekd.encryptMany([{ data: DATA, root: 'b' }], KEY),
    ]) {
      expect(refusal(call).message).toMatch(/lets callers choose no root/);
    }
    expect(echoed(dekd, 'x')).toBe('x');
    expect((await agent.counts()).requests).toBe(1);
  });

  it('takes no answer of a call that was given up for that of another', async () => {
    const { agent, dekd } = await fake('answers the first late', 400);
    expect(echoed(dekd, 'warm')).toBe('warm');
    expect(refusal(() => echoed(dekd, 'first', 200)).code).toBe('DEADLINE_EXCEEDED');
    for (const begun = performance.now(); performance.now() - begun < 600; ) {
      expect(echoed(dekd, 'next')).toBe('next');
    }
    expect((await agent.counts()).connections).toBe(2);
  });

  it('connects again after a call without an answer', async () => {
    const { agent, dekd } = await fake('is silent once');
    expect(echoed(dekd, 'warm')).toBe('warm');
    expect(refusal(() => echoed(dekd, 'first', 100)).code).toBe('DEADLINE_EXCEEDED');
    expect(echoed(dekd, 'second')).toBe('second');
    expect(await agent.counts()).toEqual({ connections: 2, requests: 3 });
  });
});

describe('a synchronous client as a part of a program', () => {
  let agent: TestAgent;
  beforeAll(async () => {
    agent = await createTestAgent({ node: NODE });
  });
  afterAll(() => agent.close());

  async function run(
    code: string,
    { args = [], env = {} }: { args?: readonly string[]; env?: Record<string, string> } = {},
  ): Promise<{ code: number | null; stdout: string; stderr: string }> {
    const child = spawn(NODE, [...args, '--input-type=module', '--eval', code], {
      env: { PATH: process.env.PATH, ...agent.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    const [exit] = (await once(child, 'close')) as [number | null];
    return { code: exit, stdout, stderr };
  }

  const USE = `
    import { connectSync } from ${JSON.stringify(CLIENT)};
    const dekd = connectSync();
    const text = dekd.decryptText(dekd.encryptText('here', { key: 'k' }), { key: 'k' });
  `;

  it('lets the program end without being closed, also from an exit handler', async () => {
    const ended = await run(`${USE}
      process.on('exit', () => console.log(text, dekd.decryptText(dekd.encryptText('last', { key: 'k' }), { key: 'k' })));
    `);
    expect(ended).toEqual({ code: 0, stdout: 'here last\n', stderr: '' });
  });

  it('loads nothing of what the program has its own threads load', async () => {
    const folder = temporaryFolder();
    const preload = join(folder, 'preload.mjs');
    writeFileSync(preload, `process.stdout.write('loaded ');`);
    const ended = await run(`${USE} console.log(text);`, {
      args: ['--import', preload],
      env: { NODE_OPTIONS: `--import ${preload}` },
    });
    expect(ended.stdout).toBe('loaded here\n');
    expect(ended).toMatchObject({ code: 0, stderr: '' });
  });

  it('works in worker threads, each with a client of its own', async () => {
    const ended = await run(`
      import { Worker, isMainThread } from 'node:worker_threads';
      const code = ${JSON.stringify(USE)} + 'for (let i = 0; i < 100; i++) dekd.encrypt(new Uint8Array(i), { key: "k" });' +
        'const { parentPort } = await import("node:worker_threads"); parentPort.postMessage(text);';
      const url = new URL('data:text/javascript,' + encodeURIComponent(code.replace(${JSON.stringify(JSON.stringify(CLIENT))}, JSON.stringify('file://' + ${JSON.stringify(CLIENT)}))));
      const said = await Promise.all([1, 2, 3].map(() => new Promise((resolve, reject) => {
        const worker = new Worker(url, { type: 'module' });
        worker.once('message', resolve);
        worker.once('error', reject);
      })));
      console.log(said.join());
    `);
    expect(ended).toEqual({ code: 0, stdout: 'here,here,here\n', stderr: '' });
  });

  it('says what is missing where the program may start no threads', async () => {
    const ended = await run(
      `import { connectSync } from ${JSON.stringify(CLIENT)};
       try { connectSync().encrypt(new Uint8Array(1), { key: 'k' }); } catch (error) { console.log(error.code, error.message); }`,
      { args: ['--permission', '--allow-fs-read=*', '--no-warnings'] },
    );
    expect(ended.stdout).toMatch(/^UNSUPPORTED .*--allow-worker/);
  });

  it.each(['esm', 'cjs'] as const)('works in one file made by a bundler, minified, as %s', async (format) => {
    const folder = temporaryFolder();
    const entry = join(folder, 'app.mjs');
    writeFileSync(entry, `${USE} console.log(text); export {};`);
    const bundle = await rolldown({ input: entry, platform: 'node', external: /^node:/ });
    const file = join(folder, format === 'esm' ? 'out.mjs' : 'out.cjs');
    await bundle.write({ file, format, minify: true, codeSplitting: false });
    await bundle.close();
    const used = format === 'esm' ? `import ${JSON.stringify(file)};` : `import(${JSON.stringify(file)});`;
    expect(readFileSync(file, 'utf8')).not.toContain(CLIENT);
    expect(await run(used)).toMatchObject({ code: 0, stdout: 'here\n' });
  });

  it('has a private agent of its own that ends with it, and nothing is left', async () => {
    const folder = temporaryFolder();
    const options = { env: { TMPDIR: folder, DEKD_SOCKET: join(folder, 'none.sock') } };
    const start = `
      import { readdirSync } from 'node:fs';
      import { connectSync } from ${JSON.stringify(CLIENT)};
      const dekd = connectSync({ spawn: true, timeoutMs: 30000 });
      const text = dekd.decryptText(dekd.encryptText('private', { key: 'k' }), { key: 'k' });
      console.log(text, readdirSync(process.env.TMPDIR).length);
    `;
    expect(await run(`${start} dekd.close(); console.log(readdirSync(process.env.TMPDIR).length);`, options)).toEqual({
      code: 0,
      stdout: 'private 1\n0\n',
      stderr: '',
    });
    // Killed, it can do nothing about its agent any more.
    expect((await run(`${start} process.kill(process.pid, 'SIGKILL');`, options)).stdout).toBe('private 1\n');
    await expect.poll(() => readdirSync(folder), { timeout: 10_000 }).toEqual([]);
  });

  it('says why a private agent did not start', async () => {
    const folder = temporaryFolder();
    const ended = await run(
      `import { connectSync } from ${JSON.stringify(CLIENT)};
       try { connectSync({ spawn: true, timeoutMs: 20000 }).encrypt(new Uint8Array(1), { key: 'k' }); }
       catch (error) { console.log(error.code, error.message); }`,
      { env: { TMPDIR: folder, DEKD_SOCKET: join(folder, 'none.sock'), DEKD_ENGINE: 'steam' } },
    );
    expect(ended.stdout).toMatch(/^AGENT_UNAVAILABLE the private agent did not start: .*engine/s);
  });
});

describe('the program of its thread', () => {
  it('is JavaScript that any Node of the client reads', async () => {
    const { THREAD_PROGRAM } = await import('../../src/client/sync/thread-program.ts');
    const { Script } = createRequire(import.meta.url)('node:vm') as typeof import('node:vm');
    expect(() => new Script(THREAD_PROGRAM)).not.toThrow();
    expect(THREAD_PROGRAM).not.toMatch(/, undefined\)|\[object|NaN/);
  });
});
