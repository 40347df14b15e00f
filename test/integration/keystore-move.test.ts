import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { move } from '../../src/cli/commands/keystores.ts';
import { connect } from '../../src/client/index.ts';
import { runYaml, startTestAgent, type TestAgent, writeRunConfig } from '../support/agent.ts';
import { makeFolder, removeFolder } from '../support/temporary-folder.ts';

describe('a move between keystores', () => {
  let folder: string;
  let agent: TestAgent | undefined;

  beforeEach(() => {
    folder = makeFolder();
    writeRunConfig(folder);
  });

  afterEach(async () => {
    await agent?.stop();
    removeFolder(folder);
  });

  async function start(extra: string): Promise<ReturnType<typeof connect>> {
    await agent?.stop();
    agent = await startTestAgent({ folder, yaml: runYaml(extra) });
    return connect({ socket: agent.socket });
  }

  function rows(file: string): number {
    const db = new DatabaseSync(`${folder}/${file}`, { readOnly: true });
    const { n } = db.prepare('SELECT count(*) AS n FROM record').get() as { n: number };
    db.close();
    return n;
  }

  it('reads both while it goes on, fetches what nobody writes, and then needs the old one no more', async () => {
    const next = 'keystores: { next: { kind: sqlite, path: FOLDER/next.sqlite } }\n';
    const binding = { key: 'a', partition: 'acme' };
    const before = await start('');
    const token = await before.encryptText('x', binding);
    await before.close();

    const during = await start(`${next}routes: [{ keystore: next, formerKeystores: [default] }]`);
    expect(await during.decryptText(token, binding)).toBe('x');
    await during.encryptText('y', { key: 'b', partition: 'acme' });
    const line = { json: true, socket: agent!.socket, self: 'dekd' };
    expect(await move(line)).toBe(0);
    await during.close();
    expect(rows('next.sqlite')).toBe(4);

    const after = await start(`${next}routes: [{ keystore: next }]`);
    expect(await after.decryptText(token, binding)).toBe('x');
    await after.close();
  });

  it('is refused, with the reason, where there is one keystore', async () => {
    await (await start('')).close();
    await expect(move({ json: true, socket: agent!.socket, self: 'dekd' })).rejects.toThrow(/there is one keystore/);
  });
});
