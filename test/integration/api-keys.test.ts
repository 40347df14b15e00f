import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { connect } from '../../src/client/index.ts';
import type { DekdClient } from '../../src/client/types.ts';
import {
  ApiKeys,
  type IssuedApiKey,
  type MacClient,
  type StoredApiKey,
  ThirdPartyKeys,
} from '../../src/helpers/index.ts';
import { startTestAgent, type TestAgent } from '../support/agent.ts';
import { formsFound } from '../support/canary.ts';
import { RawClient } from '../support/raw-client.ts';

let agent: TestAgent;
let dekd: DekdClient;
let macs: MacClient;
beforeAll(async () => {
  agent = await startTestAgent();
  dekd = connect({ socket: agent.socket });
  macs = dekd;
});
afterAll(async () => {
  await dekd.close();
  await agent.stop();
});

interface Row extends StoredApiKey {
  readonly owner: string;
}

describe('an API key', () => {
  let rows: Map<string, Row>;
  let calls: string[];
  beforeEach(() => {
    rows = new Map();
    calls = [];
  });

  const find = async (id: string): Promise<Row | undefined> => {
    calls.push('find');
    return rows.get(id);
  };

  function keys(): ApiKeys {
    const counted: MacClient = {
      hmacText: (data, options) => {
        calls.push(`hmac ${data.length}`);
        return macs.hmacText(data, options);
      },
      verifyHmac: (data, mac, options) => {
        calls.push(`verify ${data.length} ${mac.length}`);
        return macs.verifyHmac(data, mac, options);
      },
    };
    return new ApiKeys(counted, { key: 'api-keys' });
  }

  async function issued(service = 'billing', owner = 'ada'): Promise<IssuedApiKey> {
    const made = await keys().issue(service);
    rows.set(made.id, { mac: made.mac, owner });
    calls = [];
    return made;
  }

  it('is svc_ and 59 characters, of which the first 16 are its id', async () => {
    const { apiKey, id } = await issued();
    expect(apiKey).toMatch(/^svc_[\w-]{59}$/);
    expect(apiKey.slice(4, 20)).toBe(id);
    const many = await Promise.all(Array.from({ length: 100 }, () => issued()));
    expect(new Set(many.map((each) => each.id)).size).toBe(100);
    const other = await new ApiKeys(macs, { key: 'api-keys', prefix: 'acme9' }).issue('billing');
    expect(other.apiKey).toMatch(/^acme9_[\w-]{59}$/);
  });

  it('gives the row of its owner', async () => {
    const { apiKey } = await issued();
    expect(await keys().verify(apiKey, 'billing', find)).toMatchObject({ owner: 'ada' });
  });

  it('leaves nothing of its secret in the store', async () => {
    const made = await issued();
    const held = Buffer.from(JSON.stringify([...rows]));
    expect(formsFound(held, made.apiKey)).toEqual([]);
    expect(formsFound(held, made.apiKey.slice(20))).toEqual([]);
  });

  it('for one service is none for another', async () => {
    const { apiKey } = await issued('billing');
    expect(await keys().verify(apiKey, 'health', find)).toBeUndefined();
    expect(await keys().verify(apiKey, 'Billing', find)).toBeUndefined();
    expect(await keys().verify(apiKey, 'billing', find, { partition: 'acme' })).toBeUndefined();
  });

  it('that is wrong, unknown or of another service costs what the right one does, and is answered alike', async () => {
    const { apiKey, id } = await issued();
    const wrong = `svc_${id}${'A'.repeat(43)}`;
    const unknown = `svc_${'A'.repeat(16)}${apiKey.slice(20)}`;
    const work: string[][] = [];
    const answers: unknown[] = [];
    for (const [presented, service] of [
      [apiKey, 'billing'],
      [wrong, 'billing'],
      [unknown, 'billing'],
      [apiKey, 'health'],
    ] as const) {
      calls = [];
      answers.push(await keys().verify(presented, service, find));
      work.push([...calls].sort());
    }
    expect(answers).toEqual([{ mac: expect.any(String), owner: 'ada' }, undefined, undefined, undefined]);
    expect(new Set(work.map((each) => each.join()))).toEqual(new Set([work[0]!.join()]));
    expect(work[0]).toHaveLength(3);
  });

  it('does not open with the row of another, or one that was damaged', async () => {
    const mine = await issued();
    const theirs = await issued();
    for (const mac of [theirs.mac, '', 'dm1.', mine.mac.slice(0, -2), `${mine.mac}AA`, 'no mac']) {
      rows.set(mine.id, { mac, owner: 'mallory' });
      expect(await keys().verify(mine.apiKey, 'billing', find)).toBeUndefined();
    }
  });

  it('is good after the key for MACs was rotated, and is then as costly as ever', async () => {
    const made = await issued();
    const operator = await RawClient.greeted(agent.admin);
    const { error } = await operator.ask({ admin: { rotate: { name: 'api-keys', purpose: 'mac' } } });
    operator.destroy();
    expect(error).toBeFalsy();
    const later = await issued('billing', 'bob');
    expect(later.mac.slice(0, 20)).not.toBe(made.mac.slice(0, 20));
    expect(await keys().verify(made.apiKey, 'billing', find)).toMatchObject({ owner: 'ada' });
    expect(await keys().verify(later.apiKey, 'billing', find)).toMatchObject({ owner: 'bob' });
    expect(await keys().verify(later.apiKey, 'health', find)).toBeUndefined();
  });

  it('is refused at once, without a look-up, when it does not look like one', async () => {
    const { apiKey } = await issued();
    for (const none of [
      '',
      'svc_',
      apiKey.slice(0, -1),
      `${apiKey}A`,
      ` ${apiKey}`,
      apiKey.replace('svc_', 'sk_'),
      apiKey.replace(/.$/, '\n'),
      `svc_${'é'.repeat(59)}`,
      'x'.repeat(1_000_000),
      undefined as never,
      { toString: () => apiKey } as never,
    ]) {
      expect(await keys().verify(none, 'billing', find)).toBeUndefined();
    }
    expect(calls).toEqual([]);
  });

  it('is not refused because nobody could be asked', async () => {
    const { apiKey } = await issued();
    const lost = new Error('the database went away');
    await expect(
      keys().verify(apiKey, 'billing', async () => {
        throw lost;
      }),
    ).rejects.toBe(lost);
    const nobody = connect({ socket: '/nowhere/agent.sock', timeoutMs: 50 });
    await expect(new ApiKeys(nobody, { key: 'api-keys' }).verify(apiKey, 'billing', find)).rejects.toMatchObject({
      code: 'AGENT_UNAVAILABLE',
    });
    await nobody.close();
  });

  it('has a prefix that scanners can find, and a service', async () => {
    for (const prefix of ['', 'SVC', 'a_b', 'x'.repeat(17), 7 as never]) {
      expect(() => new ApiKeys(macs, { key: 'api-keys', prefix })).toThrow(/prefix is 1 to 16/);
    }
    await expect(keys().issue('')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await expect(keys().verify('x', '', find)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });
});

describe('an API key of another’s service that is kept', () => {
  const NOT_VALID = { name: 'DekdError', code: 'DECRYPTION_FAILED', message: 'the third-party key is not valid' };
  const THEIRS = 'sk_live_51Hcanary-of-a-third-party';

  it('comes back for the service and owner that it was kept for, and for no other', async () => {
    const kept = new ThirdPartyKeys<'owner'>(dekd, { key: 'kept', bindTo: ['owner'] });
    const mine = { partition: 'acme', context: { owner: 'ada' } };
    const sealed = await kept.seal(THEIRS, 'stripe', mine);
    await kept.seal(THEIRS, 'stripe', { ...mine, partition: 'other' });
    expect(await kept.open(sealed, 'stripe', mine)).toBe(THEIRS);
    await expect(kept.open(sealed, 'paypal', mine)).rejects.toMatchObject(NOT_VALID);
    await expect(kept.open(sealed, 'stripe', { ...mine, context: { owner: 'bob' } })).rejects.toMatchObject(NOT_VALID);
    await expect(kept.open(sealed, 'stripe', { ...mine, partition: 'other' })).rejects.toMatchObject(NOT_VALID);
    for (const none of [THEIRS, '', `${sealed}A`, 'x'.repeat(100_000), undefined as never]) {
      await expect(kept.open(none, 'stripe', mine)).rejects.toMatchObject(NOT_VALID);
    }
  });

  it('is not in the store in any form', async () => {
    const kept = new ThirdPartyKeys(dekd, { key: 'kept' });
    const sealed = await kept.seal(THEIRS, 'stripe');
    for (const held of [Buffer.from(sealed), Buffer.from(sealed.slice(4), 'base64url')]) {
      expect(formsFound(held, THEIRS)).toEqual([]);
    }
  });

  it('is a text with something in it, of a bounded length, and is never in an error', async () => {
    const kept = new ThirdPartyKeys(dekd, { key: 'kept' });
    for (const none of ['', 7 as never, undefined as never, `${THEIRS}\ud800`, THEIRS.repeat(3000)]) {
      const error = await kept.seal(none, 'stripe').catch((reason: Error) => reason);
      expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', message: expect.not.stringContaining('canary') });
    }
  });
});
