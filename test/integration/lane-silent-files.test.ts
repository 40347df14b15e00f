/** Files whose file system never answers, passed to the agent: nobody but who passed them waits for it. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, existsSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { loadBinding } from '../../src/addon/binding.ts';
import { NODE, spawnTestAgent } from '../support/agent.ts';
import { linkOf, type RawLane, rawLane } from '../support/lane.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const SERVER = join(import.meta.dirname, '../support/silent-files.mjs');
const STATFS = 17;
const FLUSH = 25;
const GETATTR = 3;

const canMount = process.getuid?.() === 0 && existsSync('/dev/fuse') && loadBinding().binding !== undefined;

describe.skipIf(!canMount)('files of a file system that is silent (needs root and FUSE)', () => {
  let socket: string;
  let lane: RawLane;
  let agent: ChildProcess;

  beforeEach(async () => {
    socket = join(temporaryFolder(), 's', 'agent.sock');
    ({ child: agent } = await spawnTestAgent(socket));
    lane = await rawLane(socket);
  });

  afterEach(() => {
    lane.client.socket.destroy();
    agent.kill('SIGKILL');
  });

  async function silent(operation: number): Promise<{ readonly file: number; readonly asked: () => string[] }> {
    const folder = temporaryFolder();
    const server = spawn(NODE, [SERVER, folder, String(operation)], { stdio: ['ignore', 'pipe', 'inherit'] });
    let said = '';
    server.stdout.on('data', (text: Buffer) => {
      said += String(text);
    });
    await expect.poll(() => said).toContain('mounted');
    const file = openSync(join(folder, 'file'), 'r+');
    onTestFinished(async () => {
      // With it every wait ends.
      server.kill('SIGKILL');
      await new Promise((resolve) => server.once('close', resolve));
      try {
        closeSync(file);
      } catch {
        // Its file system is gone.
      }
      spawnSync('umount', ['-l', folder]);
    });
    return { file, asked: () => said.split('\n') };
  }

  const pass = (link: RawLane['link'], file: number): Promise<number> =>
    link.passFiles((fd, token) => lane.native.shareFiles(fd, token, file, file));

  const answers = async () => expect((await lane.client.ask({ ping: {} })).document).toBeDefined();

  it('are not even taken from whoever has no token', async () => {
    const { file, asked } = await silent(FLUSH);
    await expect(pass(linkOf(socket, randomBytes(32)), file)).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
    await answers();
    expect(asked()).not.toContain(String(FLUSH));
  });

  it.each([
    ['looked at', STATFS],
    ['closed', FLUSH],
  ])('keep nobody waiting when they are %s', async (_name, operation) => {
    const { file, asked } = await silent(operation);
    const passed = expect(pass(lane.link, file)).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    await expect.poll(asked).toContain(String(operation));
    await answers();
    await passed;
    // The lane goes on for memory.
    expect((await lane.share(4096)).handle).toBeGreaterThan(0);
  });

  it('are taken no more when too many of them wait, until the first has its answer', async () => {
    const { file } = await silent(GETATTR);
    const lanes = await Promise.all(Array.from({ length: 18 }, () => rawLane(socket)));
    const codes = await Promise.all(
      lanes.map(({ link }) => pass(link, file).catch((error: { code: string }) => error.code)),
    );
    expect(codes.filter((code) => code === 'UNSUPPORTED')).toHaveLength(16);
    expect(codes.filter((code) => code === 'RESOURCE_EXHAUSTED')).toHaveLength(2);
    await answers();
    for (const { client } of lanes) {
      client.socket.destroy();
    }
  });
});
