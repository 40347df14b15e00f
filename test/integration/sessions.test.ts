import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect } from '../../src/client/index.ts';
import type { DekdClient } from '../../src/client/types.ts';
import { Sessions } from '../../src/helpers/index.ts';
import { startTestAgent, type TestAgent } from '../support/agent.ts';
import { formsFound } from '../support/canary.ts';

interface Content {
  readonly user: string;
  readonly roles: readonly string[];
}

const CANARY = 'ada.lovelace@example.org';
const CONTENT: Content = { user: CANARY, roles: ['admin', 'quoted "role"'] };
const NOT_VALID = { name: 'DekdError', code: 'DECRYPTION_FAILED', message: 'the session is not valid' };

let agent: TestAgent;
let dekd: DekdClient;
let time = 1_790_000_000_000;
beforeAll(async () => {
  agent = await startTestAgent();
  dekd = connect({ socket: agent.socket });
});
afterAll(async () => {
  await dekd.close();
  await agent.stop();
});

function web(kind = 'web', ttlMs = 60_000): Sessions<Content> {
  return new Sessions<Content>(dekd, { key: 'sessions', kind, ttlMs, now: () => time });
}

describe('a session', () => {
  it('opens with its id, and with new content after it was sealed again', async () => {
    const { id, sealed, lookup } = await web().begin(CONTENT);
    expect(await web().open(id, sealed)).toEqual(CONTENT);
    const again = await web().seal(id, { user: 'other', roles: [] });
    expect(again.lookup).toBe(lookup);
    expect(await web().open(id, again.sealed)).toEqual({ user: 'other', roles: [] });
  });

  it('leaves nothing of its content and its id in the store, in any form', async () => {
    const stored: string[] = [];
    const ids: string[] = [];
    for (let i = 0; i < 50; i++) {
      const { id, lookup, sealed } = await web().begin(CONTENT);
      ids.push(id);
      stored.push(lookup, sealed, Buffer.from(sealed.slice(4), 'base64url').toString('latin1'));
    }
    const held = Buffer.from(stored.join('\n'), 'latin1');
    expect(formsFound(held, CANARY)).toEqual([]);
    expect(formsFound(held, 'quoted "role"')).toEqual([]);
    expect(ids.flatMap((id) => formsFound(held, id))).toEqual([]);
    expect(new Set(ids).size).toBe(50);
  });

  it('does not open with the id of another, nor with what the store knows it by', async () => {
    const one = await web().begin(CONTENT);
    const other = await web().begin(CONTENT);
    for (const id of [other.id, one.lookup, `${one.id}A`, '', 'x'.repeat(2000), undefined as never]) {
      await expect(web().open(id, one.sealed)).rejects.toMatchObject(NOT_VALID);
    }
    for (const sealed of [undefined, null, '', other.sealed, `${one.sealed}A`]) {
      await expect(web().open(one.id, sealed)).rejects.toMatchObject(NOT_VALID);
    }
  });

  it('does not open as one of another kind, tenant or field', async () => {
    const { id, sealed } = await web().begin(CONTENT, { partition: 'acme' });
    await web('admin').begin(CONTENT, { partition: 'acme' });
    await expect(web('admin').open(id, sealed, { partition: 'acme' })).rejects.toMatchObject(NOT_VALID);
    await expect(web().open(id, sealed, { partition: 'other' })).rejects.toMatchObject(NOT_VALID);
    const bound = new Sessions<Content, 'app'>(dekd, { key: 'sessions', kind: 'web', bindTo: ['app'] });
    const { sealed: forA, id: idA } = await bound.begin(CONTENT, { context: { app: 'a' } });
    await expect(bound.open(idA, forA, { context: { app: 'b' } })).rejects.toMatchObject(NOT_VALID);
  });

  it('is over when its time is, which begins anew with each seal', async () => {
    const begun = time;
    const { id, sealed, expiresAt } = await web().begin(CONTENT);
    expect(expiresAt).toBe(begun + 60_000);
    time = begun + 59_999;
    const again = await web().seal(id, CONTENT);
    time = begun + 60_000;
    await expect(web().open(id, sealed)).rejects.toMatchObject({ code: 'EXPIRED', message: 'the session has expired' });
    expect(await web().open(id, again.sealed)).toEqual(CONTENT);
    time = begun;
  });

  it('can have an id of another library', async () => {
    const { sealed } = await web().seal('s%3Aabc.def', CONTENT);
    expect(await web().open('s%3Aabc.def', sealed)).toEqual(CONTENT);
    await expect(web().seal('', CONTENT)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });
});
