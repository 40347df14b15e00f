/** The example client in Python: the conformance kit, tokens from either side, threads, forks and lost agents. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import protobuf from 'protobufjs';
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { connect } from '../../src/client/index.ts';
import { spawnTestAgent, startTestAgent, type TestAgent, writeRunConfig } from '../support/agent.ts';
import { runKit } from '../support/conformance.ts';
import { ROOT, run } from '../support/source-copy.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const FOLDER = join(ROOT, 'examples/clients/python');
const BINDING = { key: 'customers', partition: 'acme', context: { field: 'Größe', row: '4711' } };

/** A Python with protobuf: that of the person, or of the system. */
const python = [process.env.DEKD_TEST_PYTHON ?? 'python3', '/usr/bin/python3'].find((each) => {
  try {
    execFileSync(each, ['-c', 'import google.protobuf'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
});

let agent: TestAgent;

beforeAll(async () => {
  agent = await startTestAgent();
});
afterAll(() => agent.stop());
beforeEach((context) => context.skip(python === undefined, 'needs python3 with protobuf'));

/** Runs a script with the client. @returns the JSON that it printed */
async function script(code: string, ...args: string[]): Promise<unknown> {
  const env = { ...process.env, PYTHONPATH: FOLDER, PYTHONDONTWRITEBYTECODE: '1' };
  const done = await run(python!, ['-c', `import json, sys, dekd_client\n${code}`, ...args], { cwd: ROOT, env });
  expect(done).toMatchObject({ code: 0, stderr: '' });
  return JSON.parse(done.stdout);
}

describe('the client in Python', () => {
  it('passes the conformance kit, the whole of it', { timeout: 60_000 }, async () => {
    const results = await runKit([python!, join(FOLDER, 'kit.py')], {
      socket: agent.socket,
      env: { PYTHONDONTWRITEBYTECODE: '1' },
    });
    expect(results.filter(({ state }) => state !== 'passed')).toEqual([]);
    expect(results.length).toBeGreaterThan(100);
  });

  it('opens the tokens of Node, and Node opens its', async () => {
    const client = connect({ socket: agent.socket });
    onTestFinished(() => client.close());
    const text = await client.encryptText('Zoë 🔑', BINDING);
    const many = await client.encryptMany([Buffer.from('one'), Buffer.from('two')], BINDING);
    const tokens = many.map((each) => (each.ok ? Buffer.from(each.value).toString('hex') : ''));
    const answer = (await script(
      `
socket, text, tokens, binding = sys.argv[1], *map(json.loads, sys.argv[2:])
with dekd_client.connect(socket) as dekd:
    print(json.dumps({
        "opened": dekd.decrypt_text(text, **binding),
        "many": [each.decode() for each in dekd.decrypt_many(map(bytes.fromhex, tokens), **binding)],
        "text": dekd.encrypt_text("Zoë \\U0001f511", **binding),
        "tokens": [each.hex() for each in dekd.encrypt_many([b"three", b""], **binding)],
        "moved": dekd.reencrypt(bytes.fromhex(tokens[0]), **binding).hex(),
    }))
`,
      agent.socket,
      ...[text, tokens, BINDING].map((each) => JSON.stringify(each)),
    )) as { opened: string; many: string[]; text: string; tokens: string[]; moved: string };
    expect([answer.opened, answer.many]).toEqual(['Zoë 🔑', ['one', 'two']]);
    expect(await client.decryptText(answer.text, BINDING)).toBe('Zoë 🔑');
    const back = await client.decryptMany(
      [...answer.tokens, answer.moved].map((each) => Buffer.from(each, 'hex')),
      BINDING,
    );
    expect(back.map((each) => (each.ok ? Buffer.from(each.value).toString() : each.error))).toEqual([
      'three',
      '',
      'one',
    ]);
  });

  it('serves a parent and its fork, each by a connection of its own', async () => {
    const code = `
import os
dekd = dekd_client.connect(sys.argv[1])
before = dekd.encrypt(b"before", key="k")
readable, writable = os.pipe()
if os.fork() == 0:
    os.write(writable, dekd.decrypt(before, key="k"))
    os._exit(0)
os.close(writable)
print(json.dumps([os.read(readable, 100).decode(), dekd.decrypt(before, key="k").decode()]))
`;
    expect(await script(code, agent.socket)).toEqual(['before', 'before']);
  });

  it('finishes every call of eight threads while the agent is killed and started again', {
    timeout: 60_000,
  }, async () => {
    const folder = temporaryFolder();
    const socket = join(folder, 's/agent.sock');
    const args = ['run', '--config', writeRunConfig(folder)];
    let running = await spawnTestAgent(socket, args);
    onTestFinished(() => void running.child.kill('SIGKILL'));
    const code = `
from concurrent.futures import ThreadPoolExecutor
dekd = dekd_client.connect(sys.argv[1], timeout=30)
dekd.encrypt(b"warm", key="customers")
print("ready", flush=True)
def work(n):
    for i in range(150):
        value = f"{n}-{i}".encode()
        if dekd.decrypt(dekd.encrypt(value, key="customers"), key="customers") != value:
            return "wrong"
    return "done"
with ThreadPoolExecutor(8) as pool:
    results = list(pool.map(work, range(8)))
sys.stdin.readline()
print(json.dumps(results), flush=True)
`;
    const child = spawn(python!, ['-c', `import json, sys, dekd_client\n${code}`, socket], {
      env: { ...process.env, PYTHONPATH: FOLDER, PYTHONDONTWRITEBYTECODE: '1' },
    });
    onTestFinished(() => void child.kill('SIGKILL'));
    let said = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    while (!said.includes('ready')) {
      await sleep(5);
    }
    for (let i = 0; i < 3; i++) {
      await sleep(30);
      running.child.kill('SIGKILL');
      await running.exited;
      running = await spawnTestAgent(socket, args);
    }
    child.stdin.end('\n');
    await once(child, 'close');
    expect(said).toBe(`ready\n${JSON.stringify(Array(8).fill('done')).replaceAll(',', ', ')}\n`);
  });

  it('knows the fields of dekd.proto by their numbers and types', async () => {
    const fields = (await script(`
from dekd_client import dekd_pb2
print(json.dumps({
    name: [[field.name, field.number, field.type == field.TYPE_MESSAGE and field.message_type.name or field.type] for field in message.fields]
    for name, message in dekd_pb2.DESCRIPTOR.message_types_by_name.items()
}))
`)) as Record<string, [string, number, string | number][]>;
    // Numbers of FieldDescriptorProto.Type.
    const SCALAR: Record<number, string> = { 4: 'uint64', 8: 'bool', 9: 'string', 12: 'bytes', 13: 'uint32' };
    const { root } = protobuf.parse(readFileSync(join(ROOT, 'proto/dekd.proto'), 'utf8'), { keepCase: true });
    const scope = root.resolveAll().lookup('dekd.v1') as protobuf.Namespace;
    for (const [name, known] of Object.entries(fields)) {
      const type = scope.lookupType(name);
      for (const [field, number, kind] of known) {
        const there = type.fields[field];
        expect([name, field, there?.id, there?.type]).toEqual([
          name,
          field,
          number,
          typeof kind === 'number' ? SCALAR[kind] : kind,
        ]);
      }
    }
    expect(Object.keys(fields)).toEqual(expect.arrayContaining(['Request', 'Reply', 'Many', 'HelloReply']));
  });
});
