/** Files by name through the client: whole, or as they were before. */

import { randomBytes } from 'node:crypto';
import { chmodSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { connect } from '../../src/client/index.ts';
import type { DekdClient } from '../../src/client/types.ts';
import { readMessageHeader } from '../../src/envelope/message-header.ts';
import { startTestAgent, type TestAgent } from '../support/agent.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const KEY = { key: 'files', context: { row: '1' } };
const SIZE = 2_500_000;

let agent: TestAgent;
let dekd: DekdClient;
let folder: string;
let plaintext: Buffer;

beforeEach(async () => {
  agent = await startTestAgent();
  dekd = connect({ socket: agent.socket });
  folder = temporaryFolder();
  plaintext = randomBytes(SIZE);
  writeFileSync(at('in'), plaintext);
});

afterEach(async () => {
  await dekd.close();
  await agent.stop();
});

const at = (name: string) => join(folder, name);
const modeOf = (name: string) => statSync(at(name)).mode & 0o7777;

describe('encryptFile and decryptFile', () => {
  it('give the file back, with frames of 1 MiB, and a plaintext for its owner only', async () => {
    await dekd.encryptFile(at('in'), at('in.dk'), KEY);
    expect(readMessageHeader(readFileSync(at('in.dk')))).toMatchObject({ frameLength: 1_048_576 });
    await dekd.decryptFile(at('in.dk'), at('out'), KEY);
    expect(readFileSync(at('out')).equals(plaintext)).toBe(true);
    expect(modeOf('out')).toBe(0o600);
    expect(readdirSync(folder).sort()).toEqual(['in', 'in.dk', 'out']);
  });

  it('replace a target, which keeps its mode, and the file that a link points to', async () => {
    writeFileSync(at('there'), 'before');
    chmodSync(at('there'), 0o640);
    symlinkSync(at('there'), at('link'));
    await dekd.encryptFile(at('in'), at('link'), { ...KEY, frameLength: 1_000 });
    expect(readMessageHeader(readFileSync(at('there')))).toMatchObject({ frameLength: 1_000 });
    expect([modeOf('there'), readFileSync(at('link')).equals(readFileSync(at('there')))]).toEqual([0o640, true]);
    await dekd.decryptFile(at('link'), at('link'), KEY);
    expect(readFileSync(at('there')).equals(plaintext)).toBe(true);
  });

  it.each([
    ['another context', (bytes: Buffer) => bytes, { key: 'files' }, 'DECRYPTION_FAILED'],
    ['a message that is cut short', (bytes: Buffer) => bytes.subarray(0, -1), KEY, 'MALFORMED'],
    ['no message', () => Buffer.from('no message'), KEY, 'MALFORMED'],
  ] as const)('leave the target as it was after %s', async (_, changed, options, code) => {
    await dekd.encryptFile(at('in'), at('in.dk'), KEY);
    writeFileSync(at('wrong'), changed(readFileSync(at('in.dk'))));
    writeFileSync(at('out'), 'before');
    await expect(dekd.decryptFile(at('wrong'), at('out'), options)).rejects.toMatchObject({ code });
    expect(readFileSync(at('out')).toString()).toBe('before');
    expect(readdirSync(folder).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  });

  it('say what the file system says, and leave nothing', async () => {
    await expect(dekd.encryptFile(at('nowhere'), at('out'), KEY)).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(dekd.encryptFile(at('in'), at('no/folder'), KEY)).rejects.toMatchObject({
      code: 'ENOENT',
      path: at('no/folder'),
      message: expect.stringContaining(`open '${at('no/folder')}'`),
    });
    await expect(dekd.encryptFile(at('in'), folder, KEY)).rejects.toMatchObject({ code: expect.stringMatching(/^E/) });
    expect(readdirSync(folder)).toEqual(['in']);
    await expect(dekd.encryptFile(at('in'), at('out'), { key: '' })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
  });

  it('stop when they are told to', async () => {
    const signal = AbortSignal.timeout(1);
    writeFileSync(at('large'), Buffer.alloc(64 << 20));
    await expect(dekd.encryptFile(at('large'), at('out'), { ...KEY, signal })).rejects.toMatchObject({
      name: 'TimeoutError',
    });
    expect(readdirSync(folder).sort()).toEqual(['in', 'large']);
  });
});
