import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { loadBinding } from '../../src/addon/binding.ts';
import { connect } from '../../src/client/index.ts';
import { DekdError } from '../../src/errors.ts';
import { type ChildAgent, runYaml, spawnTestAgent, startTestAgent, writeRunConfig } from '../support/agent.ts';
import { RawClient } from '../support/raw-client.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const hasAddon = loadBinding().binding !== undefined;
const NO_FLOCK = 'the addon is not built: there is no flock';

const children: ChildAgent[] = [];
afterEach(async () => {
  for (const { child, exited } of children.splice(0)) {
    child.kill('SIGKILL');
    await exited;
  }
});

async function child(...args: Parameters<typeof spawnTestAgent>): Promise<ChildAgent> {
  const agent = await spawnTestAgent(...args);
  children.push(agent);
  return agent;
}

async function refusal(start: Promise<unknown>): Promise<DekdError> {
  const error = await start.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(DekdError);
  return error as DekdError;
}

async function answers(socket: string): Promise<void> {
  const client = await RawClient.greeted(socket);
  client.destroy();
}

describe('the socket of an agent', () => {
  it('and its lock are gone after it closed, and no temporary name stays', async () => {
    const folder = temporaryFolder();
    const agent = await startTestAgent({ folder });
    expect(readdirSync(dirname(agent.socket)).sort()).toEqual(
      hasAddon
        ? ['admin', 'agent', 'lane'].flatMap((name) => [`${name}.sock`, `${name}.sock.lock`])
        : ['admin.sock', 'agent.sock'],
    );
    await agent.stop();
    expect(readdirSync(dirname(agent.socket))).toEqual([]);
  });

  it('left behind by a kill is taken over', async () => {
    const folder = temporaryFolder();
    const socket = join(folder, 's', 'agent.sock');
    const killed = await child(socket);
    killed.child.kill('SIGKILL');
    await killed.exited;
    expect(existsSync(socket)).toBe(true);
    const agent = await startTestAgent({ folder });
    await answers(socket);
    await agent.stop();
  });

  it('of a live agent is refused, and goes on', async () => {
    const folder = temporaryFolder();
    const agent = await startTestAgent({ folder });
    const error = await refusal(startTestAgent({ folder }));
    expect(error.code).toBe('CONFLICT');
    expect(error.message).toMatch(/a live agent serves .* --replace/);
    await answers(agent.socket);
    await answers(agent.admin);
    await agent.stop();
  });

  it('is taken over with replace; the predecessor keeps its connections and does not remove it', async () => {
    const folder = temporaryFolder();
    const first = await startTestAgent({ folder });
    const old = await RawClient.greeted(first.socket);
    const second = await startTestAgent({ folder, replace: true });
    expect((await old.ask({ ping: {} })).document).toBeTruthy();
    await first.stop();
    await old.closed;
    await answers(second.socket);
    await answers(second.admin);
    if (hasAddon) {
      expect((await refusal(startTestAgent({ folder }))).code).toBe('CONFLICT');
    }
    await second.stop();
    expect(readdirSync(dirname(second.socket))).toEqual([]);
  });

  it('loses no request when it is replaced under load', { timeout: 60_000 }, async ({ skip }) => {
    skip(!hasAddon, NO_FLOCK);
    const folder = temporaryFolder();
    const config = writeRunConfig(folder);
    const socket = join(folder, 's', 'agent.sock');
    let current = await child(socket, ['run', '--config', config]);
    const dekd = connect({ socket });
    const token = await dekd.encrypt(Buffer.from('before'), { key: 'k' });
    const failures: unknown[] = [];
    let served = 0;
    let stop = false;
    const load = Array.from({ length: 4 }, async () => {
      while (!stop) {
        await dekd
          .decrypt(token, { key: 'k' })
          .then(() => served++)
          .catch((error: unknown) => failures.push(error));
      }
    });
    for (let round = 0; round < 3; round++) {
      const before = served;
      const successor = await child(socket, ['run', '--config', config, '--replace']);
      current.child.kill('SIGTERM');
      expect(await current.exited).toBe(0);
      current = successor;
      expect(served).toBeGreaterThan(before);
    }
    const atEnd = served;
    while (served < atEnd + 100) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    stop = true;
    await Promise.all(load);
    expect(failures).toEqual([]);
    await dekd.close();
  });
});

describe('an agent does not start', () => {
  it.each([0o770, 0o707, 0o777, 0o1777])('on a socket folder of mode %o', async (mode) => {
    const folder = temporaryFolder();
    mkdirSync(join(folder, 's'));
    chmodSync(join(folder, 's'), mode);
    const error = await refusal(startTestAgent({ folder }));
    expect(error.code).toBe('INVALID_ARGUMENT');
    expect(error.message).toMatch(/writable by it alone: chmod go-w it/);
    expect(readdirSync(join(folder, 's'))).toEqual([]);
  });

  it('on a path longer than 107 bytes', async () => {
    const folder = join(temporaryFolder(), 'x'.repeat(100));
    const error = await refusal(startTestAgent({ folder }));
    expect(error.code).toBe('INVALID_ARGUMENT');
    expect(error.message).toMatch(/107/);
  });

  it('on an abstract name, which no mode guards', async () => {
    const folder = temporaryFolder();
    const error = await refusal(
      startTestAgent({ folder, yaml: runYaml().replace('FOLDER/s/agent.sock', '"@dekd-test"') }),
    );
    expect(error.message).toContain('expected an absolute path, found "@dekd-test"');
    expect(readFileSync('/proc/net/unix', 'latin1')).not.toContain('@dekd-test');
  });

  it('over a file that is not a socket, nor over a symbolic link', async () => {
    for (const make of [
      (path: string) => writeFileSync(path, 'mine'),
      (path: string) => mkdirSync(path),
      (path: string) => symlinkSync('/etc/passwd', path),
    ]) {
      const folder = temporaryFolder();
      mkdirSync(join(folder, 's'), { mode: 0o700 });
      const path = join(folder, 's', 'agent.sock');
      make(path);
      const before = lstatSync(path);
      const error = await refusal(startTestAgent({ folder }));
      expect(error.message).toMatch(/exists and is not a socket/);
      expect(lstatSync(path).ino).toBe(before.ino);
    }
  });

  it('where the folder cannot be made, and says what stands in the way', async () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, 's'), '');
    const error = await refusal(startTestAgent({ folder }));
    expect(error.code).toBe('INVALID_ARGUMENT');
    expect(error.message).not.toBe('internal error');
  });

  it('behind a lock file that is a symbolic link', async ({ skip }) => {
    skip(!hasAddon, NO_FLOCK);
    const folder = temporaryFolder();
    mkdirSync(join(folder, 's'), { mode: 0o700 });
    symlinkSync('/etc/passwd', join(folder, 's', 'agent.sock.lock'));
    const error = await refusal(startTestAgent({ folder }));
    expect(error.code).toBe('INVALID_ARGUMENT');
    expect(error.message).toMatch(/cannot listen on .*ELOOP/);
  });

  it('without leaving its data socket when the admin socket cannot be had', async () => {
    const folder = temporaryFolder();
    mkdirSync(join(folder, 's'), { mode: 0o700 });
    mkdirSync(join(folder, 's', 'admin.sock'));
    expect((await refusal(startTestAgent({ folder }))).code).toBe('INVALID_ARGUMENT');
    expect(readdirSync(join(folder, 's'))).toEqual(['admin.sock']);
  });
});

describe('a socket that somebody else serves', () => {
  it('is replaced by rename, so that a foreign server does not keep the path', async () => {
    const folder = temporaryFolder();
    mkdirSync(join(folder, 's'), { mode: 0o700 });
    const path = join(folder, 's', 'agent.sock');
    const server = createServer((socket) => socket.end());
    await new Promise<void>((resolve) => server.listen(path, resolve));
    if (hasAddon) {
      // It holds no lock, so it is no agent.
      const agent = await startTestAgent({ folder });
      await answers(agent.socket);
      await agent.stop();
    } else {
      expect((await refusal(startTestAgent({ folder }))).code).toBe('CONFLICT');
    }
    server.close();
  });
});
