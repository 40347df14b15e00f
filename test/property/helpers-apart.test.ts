/** What one helper made opens with no other, though all have the same key, partition, kind, names and fields. */
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, DekdError } from '../../src/client/index.ts';
import type { DekdClient } from '../../src/client/types.ts';
import {
  ApiKeys,
  CacheTransformer,
  OneShotSecrets,
  type OneShotStore,
  PaginationTokens,
  type RefreshTokenStore,
  RefreshTokens,
  Sessions,
  StorageTransformer,
  ThirdPartyKeys,
} from '../../src/helpers/index.ts';
import { startTestAgent, type TestAgent } from '../support/agent.ts';

let agent: TestAgent;
let dekd: DekdClient;
beforeAll(async () => {
  agent = await startTestAgent();
  dekd = connect({ socket: agent.socket });
});
afterAll(async () => {
  await dekd.close();
  await agent.stop();
});

/** One helper, as who seals a text under a name, and opens what is said to be that. */
interface Sealer {
  readonly seal: (name: string, text: string) => Promise<string>;
  readonly open: (name: string, sealed: string) => Promise<unknown>;
}

const KIND = 'kind';
const CALL = { partition: 'acme', context: { field: 'f' } } as const;

async function whole(pieces: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const piece of pieces) {
    parts.push(piece);
  }
  return Buffer.concat(parts);
}

function sealers(): Record<string, Sealer> {
  const options = { key: 'shared', kind: KIND, bindTo: ['field'] } as const;
  const pages = new PaginationTokens<string, 'field'>(dekd, options);
  const sessions = new Sessions<string, 'field'>(dekd, options);
  const third = new ThirdPartyKeys<'field'>(dekd, options);
  const families: RefreshTokenStore = { begin: async () => {}, advance: async () => true, reused: async () => {} };
  const refresh = new RefreshTokens<string, 'field'>(dekd, { ...options, store: families });
  let waiting = '';
  const shelf: OneShotStore = {
    put: async (_lookup, sealed) => {
      waiting = sealed;
    },
    load: async () => waiting,
    consume: async () => true,
  };
  const oneShot = new OneShotSecrets<string, 'field'>(dekd, { ...options, store: shelf });
  const oneShotIds = new Map<string, string>();
  let cached = '';
  const redis = {
    call: async (command: string, ...args: string[]): Promise<unknown> => {
      if (command === 'SET') {
        cached = args[1]!;
      }
      return cached;
    },
  };
  const cache = new CacheTransformer<'field'>(dekd, redis, { ...options, onInvalid: 'error' });
  let stored: Buffer = Buffer.alloc(0);
  const files = new StorageTransformer<'field'>(dekd, {
    ...options,
    store: {
      put: async (_name, body) => {
        stored = await whole(body);
      },
      get: async () => [stored] as never,
    },
  });
  return {
    pages: { seal: (_name, text) => pages.issue(text, CALL), open: (_name, sealed) => pages.read(sealed, CALL) },
    sessions: {
      seal: async (name, text) => (await sessions.seal(name, text, CALL)).sealed,
      open: (name, sealed) => sessions.open(name, sealed, CALL),
    },
    third: {
      seal: (name, text) => third.seal(text, name, CALL),
      open: (name, sealed) => third.open(sealed, name, CALL),
    },
    refresh: {
      seal: async (name, text) => (await refresh.begin(name, text, CALL)).token,
      open: async (name, sealed) => (await refresh.rotate(sealed, name, CALL)).content,
    },
    oneShot: {
      seal: async (name, text) => {
        oneShotIds.set(name, await oneShot.keep(text, CALL));
        return waiting;
      },
      open: (name, sealed) => {
        waiting = sealed;
        return oneShot.take(oneShotIds.get(name) ?? name, CALL);
      },
    },
    cache: {
      seal: async (name, text) => {
        await cache.set(name, text, CALL);
        return cached;
      },
      open: (name, sealed) => {
        cached = sealed;
        return cache.get(name, CALL);
      },
    },
    files: {
      seal: async (name, text) => {
        await files.upload(name, [Buffer.from(text)], CALL);
        return stored.toString('latin1');
      },
      open: async (name, sealed) => {
        stored = Buffer.from(sealed, 'latin1');
        return (await whole(files.download(name, CALL))).toString();
      },
    },
  };
}

describe('what helpers make', () => {
  it('opens with the helper that made it and with none of the others, pairwise', async () => {
    const all = Object.entries(sealers());
    const name = fc.string({ minLength: 1, maxLength: 20, unit: 'grapheme' });
    const text = fc.string({ minLength: 1, maxLength: 50, unit: 'grapheme' });
    await fc.assert(
      fc.asyncProperty(name, text, async (under, value) => {
        for (const [maker, { seal }] of all) {
          const sealed = await seal(under, value);
          for (const [reader, { open }] of all) {
            const answer = await open(under, sealed).catch((error: unknown) => error);
            if (reader === maker) {
              expect([maker, answer]).toEqual([maker, value]);
            } else {
              expect(answer).toBeInstanceOf(DekdError);
              expect([maker, reader, (answer as DekdError).code]).toEqual([maker, reader, 'DECRYPTION_FAILED']);
            }
          }
        }
      }),
      { numRuns: 40 },
    );
  });

  it('is no API key’s MAC, and the MAC of one helper is the MAC of no other', async () => {
    const [keys, other] = [new ApiKeys(dekd, { key: 'shared' }), new ApiKeys(dekd, { key: 'shared', prefix: 'other' })];
    const made = await keys.issue('name');
    const text = made.apiKey;
    for (const [maker, { seal }] of Object.entries(sealers())) {
      const row = { mac: await seal('name', text) };
      expect([maker, await keys.verify(text, 'name', async () => row)]).toEqual([maker, undefined]);
    }
    const own = { mac: await dekd.hmacText(text, { key: 'shared' }) };
    expect(await keys.verify(text, 'name', async () => own)).toBeUndefined();
    expect(await other.verify(text, 'name', async () => made)).toBeUndefined();
    expect(await keys.verify(text, 'name', async () => made)).toBe(made);
  });

  it('does not open as what the application itself encrypts with the same key, nor the reverse', async () => {
    const { files: _files, ...tokens } = sealers();
    const binding = { key: 'shared', partition: 'acme', context: { field: 'f', kind: KIND } };
    const own = await dekd.encryptText('zzzzzz:"text"', binding);
    for (const { seal, open } of Object.values(tokens)) {
      await expect(open('name', own)).rejects.toMatchObject({ code: 'DECRYPTION_FAILED' });
      await expect(dekd.decryptText(await seal('name', 'text'), binding)).rejects.toMatchObject({
        code: 'DECRYPTION_FAILED',
      });
    }
  });
});
