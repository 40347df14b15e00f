/** The port for probes, on agents as they run: what it answers, what it costs, and what it survives. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { request } from 'node:http';
import { connect as connectSocket, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { connect } from '../../src/client/index.ts';
import {
  type ChildAgent,
  runYaml,
  spawnTestAgent,
  startTestAgent,
  type TestAgent,
  writeRunConfig,
} from '../support/agent.ts';
import { freePort } from '../support/free-port.ts';
import { KmsServer } from '../support/kms-server/kms-server.ts';
import { RawClient } from '../support/raw-client.ts';
import { makeFolder, removeFolder, temporaryFolder } from '../support/temporary-folder.ts';

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly body: string;
}

function ask(port: number, path: string, method = 'GET', body?: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request({ host: '127.0.0.1', port, path, method, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (piece: string) => {
        text += piece;
      });
      response.on('end', () => resolve({ status: response.statusCode!, headers: response.headers, body: text }));
    });
    asked.on('error', reject);
    asked.end(body);
  });
}

/** Sends bytes as they are. @returns everything that came back until the connection closed */
function raw(port: number, text: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connectSocket(port, '127.0.0.1');
    let said = '';
    socket.setEncoding('latin1').on('data', (piece: string) => {
      said += piece;
    });
    socket.on('error', () => {});
    socket.on('close', () => resolve(said));
    socket.write(text);
  });
}

const withPort = (port: number): string => `admin: { port: ${port} }\n`;

describe('an agent with a port for probes', () => {
  let agent: TestAgent;
  let folder: string;
  let port: number;

  beforeAll(async () => {
    port = await freePort();
    folder = makeFolder();
    writeRunConfig(folder);
    agent = await startTestAgent({ folder, yaml: runYaml(withPort(port)) });
  });
  afterAll(async () => {
    await agent.stop();
    removeFolder(folder);
  });

  it.for(['/livez', '/readyz', '/startupz', '/readyz?verbose'])('answers GET and HEAD of %s', async (path) => {
    expect(await ask(port, path)).toMatchObject({ status: 200, body: 'ok\n' });
    const head = await ask(port, path, 'HEAD');
    expect(head).toMatchObject({ status: 200, body: '' });
    expect(head.headers).toMatchObject({ 'content-length': '3', 'cache-control': 'no-store', connection: 'close' });
  });

  it.for(['/metrics/', '/index.html', '/livez/', '/readyz/../admin', '/%6civez', '//livez', '/LIVEZ'])(
    'has nothing at %s',
    async (path) => {
      expect((await ask(port, path)).status).toBe(404);
    },
  );

  it.for(['POST', 'PUT', 'DELETE', 'OPTIONS', 'TRACE'])('takes no %s, and reads no body', async (method) => {
    const body = method === 'TRACE' ? undefined : 'x'.repeat(100);
    const refused = await ask(port, '/livez', method, body);
    expect(refused).toMatchObject({ status: 405, headers: { allow: 'GET, HEAD' } });
  });

  it.for([
    ['no HTTP', 'dekd\r\n\r\n', /^HTTP\/1\.1 400 /],
    [
      'a header over the limit',
      `GET /livez HTTP/1.1\r\nHost: x\r\nA: ${'a'.repeat(5_000)}\r\n\r\n`,
      /^HTTP\/1\.1 431 /,
    ],
    [
      'a body that is announced',
      'GET /livez HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n',
      /^HTTP\/1\.1 417 /,
    ],
    ['a tunnel', 'CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: x\r\n\r\n', /^$/],
    [
      'another protocol',
      'GET /livez HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n',
      /^HTTP\/1\.1 200 /,
    ],
    ['TLS', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03', /^(HTTP\/1\.1 400 |$)/],
  ] as const)('survives %s', async ([, text, expected]) => {
    expect(await raw(port, text)).toMatch(expected);
    expect((await ask(port, '/livez')).status).toBe(200);
  });

  it('answers one request a connection', async () => {
    const said = await raw(port, 'GET /livez HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(20));
    expect(said.match(/HTTP\/1\.1 200/g)).toHaveLength(1);
  });

  it('ends a connection that says nothing, and one that says a byte at a time', async () => {
    const begun = performance.now();
    const silent = raw(port, '');
    const slow = connectSocket(port, '127.0.0.1');
    slow.on('error', () => {});
    const dripping = setInterval(() => slow.write('G'), 100);
    await Promise.all([silent, new Promise((resolve) => slow.once('close', resolve))]);
    clearInterval(dripping);
    expect(performance.now() - begun).toBeLessThan(5_000);
  });

  it('answers while somebody opens hundreds of connections, of which it keeps the 64 newest', async () => {
    const held: Socket[] = [];
    let ended = 0;
    for (let i = 0; i < 300; i++) {
      const socket = connectSocket(port, '127.0.0.1');
      socket.on('error', () => {});
      socket.on('close', () => {
        ended++;
      });
      socket.resume();
      held.push(socket);
    }
    const begun = performance.now();
    while (ended < 300 - 64 && performance.now() - begun < 1_000) {
      await sleep(10);
    }
    expect(ended).toBeGreaterThanOrEqual(300 - 64);
    const asked = performance.now();
    expect((await ask(port, '/livez')).status).toBe(200);
    expect(performance.now() - asked).toBeLessThan(500);
    for (const socket of held) {
      socket.destroy();
    }
  });
});

describe('the port of an agent', () => {
  const children: ChildAgent[] = [];
  afterEach(async () => {
    for (const { child, exited } of children.splice(0)) {
      child.kill('SIGKILL');
      await exited;
    }
  });

  async function startChild(folder: string, extra: string, ...flags: string[]): Promise<ChildAgent> {
    const config = writeRunConfig(folder, extra);
    const agent = await spawnTestAgent(join(folder, 's/agent.sock'), ['run', '--config', config, ...flags]);
    children.push(agent);
    return agent;
  }

  it('is its only network socket, and there is none without one', async () => {
    const port = await freePort();
    const without = await startChild(temporaryFolder(), '');
    const having = await startChild(temporaryFolder(), withPort(port));
    expect(listeningPorts(without.pid)).toEqual([]);
    expect(listeningPorts(having.pid)).toEqual([port]);
  });

  it('in use is an error at start, with the remedy', async () => {
    const holder = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => holder.once('listening', resolve));
    const { port } = holder.address() as { port: number };
    const refused = startChild(temporaryFolder(), withPort(port));
    await expect(refused).rejects.toThrow(
      `admin.port ${port} of 127.0.0.1 is in use: stop what listens there, or choose another port`,
    );
    holder.close();
  });

  it('at an address of another host is an error at start', async () => {
    const refused = startChild(temporaryFolder(), `admin: { port: ${await freePort()}, host: 192.0.2.1 }\n`);
    await expect(refused).rejects.toThrow('admin.host is no address of this host');
  });

  it('is taken over from the agent that is replaced, when that one ends', async () => {
    const folder = temporaryFolder();
    const port = await freePort();
    const first = await startChild(folder, withPort(port));
    const second = await startChild(folder, withPort(port), '--replace');
    expect(listeningPorts(first.pid)).toEqual([port]);
    expect(second.output()).toContain(`port ${port} is in use; taken when the agent that has it ends`);
    first.child.kill('SIGTERM');
    expect(await first.exited).toBe(0);
    for (let wait = 0; listeningPorts(second.pid).length === 0 && wait < 100; wait++) {
      await sleep(50);
    }
    expect(await ask(port, '/readyz')).toMatchObject({ status: 200 });
  });
});

describe('readiness of an agent with a root in a KMS', () => {
  let kms: KmsServer;
  let leave: () => void;
  let agent: TestAgent;
  let port: number;

  beforeAll(async () => {
    kms = await KmsServer.start();
    leave = kms.enter();
  });
  afterAll(async () => {
    leave();
    await kms.stop();
  });
  afterEach(async () => {
    await kms.up().catch(() => {});
    await agent.stop();
  });

  async function start(): Promise<void> {
    const folder = temporaryFolder();
    writeRunConfig(folder);
    port = await freePort();
    const aws = `{ key: "${kms.createKey().arn}", endpoint: "${kms.endpoint}", retries: 0 }`;
    const yaml = runYaml(`custody: inline\n${withPort(port)}`).replace(
      /^roots: .*$/m,
      `roots: { aws: { provider: aws-kms, aws: ${aws} } }`,
    );
    agent = await startTestAgent({ folder, yaml });
  }

  it('costs one call of the KMS for a thousand probes of an agent without keys, and none with', async () => {
    await start();
    const before = kms.requests.length;
    for (let round = 0; round < 20; round++) {
      const answers = await Promise.all(Array.from({ length: 50 }, () => ask(port, '/readyz')));
      expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
    }
    expect(kms.requests.length - before).toBeLessThanOrEqual(1);
    await using client = connect({ socket: agent.socket });
    await client.encrypt(Buffer.from('x'), { key: 'customers' });
    const warm = kms.requests.length;
    await Promise.all(Array.from({ length: 50 }, () => ask(port, '/readyz')));
    expect(kms.requests.length).toBe(warm);
  });

  it('costs one call for any number of dekd health, and says what the probe says', async () => {
    await start();
    const before = kms.requests.length;
    const admin = await RawClient.greeted(agent.admin);
    for (let round = 0; round < 20; round++) {
      const { document } = await admin.ask({ admin: { status: { brief: true } } });
      expect(JSON.parse(Buffer.from(document!).toString())).toEqual({
        ready: true,
        reasons: [],
        keysInJs: expect.any(Boolean),
        sameUid: expect.any(Boolean),
        rollback: expect.any(String),
      });
    }
    admin.destroy();
    expect(kms.requests.length - before).toBeLessThanOrEqual(1);
  });

  it('stays through an outage while keys are loaded', async () => {
    await start();
    await using client = connect({ socket: agent.socket });
    const token = await client.encrypt(Buffer.from('x'), { key: 'customers' });
    await kms.down();
    expect(await ask(port, '/readyz')).toMatchObject({ status: 200 });
    expect(Buffer.from(await client.decrypt(token, { key: 'customers' })).toString()).toBe('x');
  });

  it('ends with an outage when no key is loaded, returns within 5 s, and liveness does not notice', async () => {
    await start();
    await kms.down();
    const down = await ask(port, '/readyz');
    expect(down).toMatchObject({
      status: 503,
      body: 'not ready\nthe provider of the default root does not answer, or refuses\n',
    });
    expect(await ask(port, '/livez')).toMatchObject({ status: 200 });
    expect(await ask(port, '/startupz')).toMatchObject({ status: 200 });
    await kms.up();
    const begun = performance.now();
    while ((await ask(port, '/readyz')).status !== 200) {
      expect(performance.now() - begun).toBeLessThan(5_000);
      await sleep(100);
    }
  });

  it('ends first when the agent is told to stop; it lives until the last request is answered, and then the port is closed', async () => {
    await start();
    await using client = connect({ socket: agent.socket });
    kms.delayMs = 300;
    const slow = client.encrypt(Buffer.from('x'), { key: 'customers' });
    await sleep(50);
    const stopped = agent.stop();
    expect(await ask(port, '/readyz')).toMatchObject({ status: 503, body: 'not ready\nthe agent is stopping\n' });
    expect(await ask(port, '/livez')).toMatchObject({ status: 200 });
    await slow;
    await stopped;
    kms.delayMs = 0;
    await expect(ask(port, '/livez')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  });

  it('says nothing of key, ARN, Region, address or root', async () => {
    await start();
    await kms.down();
    const { body, headers } = await ask(port, '/readyz');
    const said = `${body}${JSON.stringify(headers)}`;
    for (const secret of ['arn:', kms.endpoint, kms.region, '127.0.0.1', 'aws', agent.folder]) {
      expect(said).not.toContain(secret);
    }
  });
});

/** Ports on which a process listens, over IPv4 and IPv6. */
function listeningPorts(pid: number): number[] {
  const inodes = new Set(
    readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
      try {
        return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.slice(1) ?? [];
      } catch {
        return [];
      }
    }),
  );
  return ['tcp', 'tcp6'].flatMap((table) =>
    readFileSync(`/proc/${pid}/net/${table}`, 'utf8')
      .trim()
      .split('\n')
      .slice(1)
      .map((row) => row.trim().split(/\s+/))
      .filter((fields) => fields[3] === '0A' && inodes.has(fields[9]!))
      .map((fields) => Number.parseInt(fields[1]!.split(':')[1]!, 16)),
  );
}
