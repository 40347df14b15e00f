import { describe, expect, it } from 'vitest';
import type { DekdClient } from '../../src/client/index.ts';
import { EncryptionService } from '../../src/service/index.ts';
import { textsAt } from '../../src/service/object-tokens.ts';
import { refusal } from '../support/refusal.ts';

const CLIENT = {} as DekdClient;

describe('a service from variables', () => {
  it('has the root that they say, and nothing where they are empty', () => {
    const of = (env: Record<string, string>) => EncryptionService.fromEnvironment(env, { client: CLIENT });
    expect(of({ DEKD_KEY: 'k', ENCRYPTION_ROOT: 'b' }).provider).toBe('b');
    expect(of({ DEKD_KEY: 'k', ENCRYPTION_ROOT: '' }).provider).toBeUndefined();
    for (const text of ['', 'true', '1']) {
      expect(of({ DEKD_KEY: 'k', ENCRYPTION_ENABLED: text }).isEnabled).toBe(true);
    }
    for (const text of ['false', '0']) {
      expect(of({ DEKD_KEY: 'k', ENCRYPTION_ENABLED: text }).isEnabled).toBe(false);
    }
  });

  it('asks for key and partition that they say, on the socket that they say', async () => {
    const calls: unknown[] = [];
    const client = { encryptText: async (_: string, options: unknown) => calls.push(options) } as unknown as DekdClient;
    const env = { DEKD_KEY: 'k', DEKD_PARTITION: 'acme', ENCRYPTION_ROOT: 'b' };
    await EncryptionService.fromEnvironment(env, { client, context: { app: 'x' } }).encrypt('x');
    expect(calls).toMatchObject([{ key: 'k', partition: 'acme', root: 'b', context: { app: 'x' } }]);
    const elsewhere = EncryptionService.fromEnvironment({ DEKD_KEY: 'k', DEKD_SOCKET: '/nowhere/agent.sock' });
    await expect(elsewhere.encrypt('x', { timeoutMs: 50 })).rejects.toMatchObject({
      code: 'AGENT_UNAVAILABLE',
      message: expect.stringContaining('/nowhere/agent.sock'),
    });
    await elsewhere.close();
  });

  it('is refused without a key, and with a switch that is neither on nor off', () => {
    expect(refusal(() => EncryptionService.fromEnvironment({}))).toEqual({
      code: 'INVALID_ARGUMENT',
      message:
        'DEKD_KEY is not set: name the key that values are encrypted with, or set ENCRYPTION_ENABLED=false to refuse all of it',
    });
    for (const text of ['no', 'off', 'FALSE', 'flase', ' ', '__proto__']) {
      expect(
        refusal(() => EncryptionService.fromEnvironment({ DEKD_KEY: 'k', ENCRYPTION_ENABLED: text })),
      ).toMatchObject({
        code: 'INVALID_ARGUMENT',
        message: expect.stringMatching(/^ENCRYPTION_ENABLED is ".*"; it is one of .*true.*false/),
      });
    }
  });

  it('and one that is made by hand need a key, and a root that is a name', () => {
    for (const options of [undefined, {}, { key: '' }, { key: 7 }, { key: 'k', root: '' }, { key: 'k', root: 7 }]) {
      expect(refusal(() => new EncryptionService(options as never)).code).toBe('INVALID_ARGUMENT');
    }
  });
});

describe('texts at paths of an object', () => {
  it('are found through objects and arrays, and nothing is made of what is not there', () => {
    const object = {
      a: 'x',
      b: { c: 'y' },
      list: [{ p: '1' }, {}, null, { p: 2 }],
      tags: ['s', 't'],
      grid: [['u'], ['v', 'w']],
    };
    expect(textsAt(object, ['a', 'b.c', 'list[].p', 'tags[]', 'grid[][]'])).toEqual([
      'x',
      'y',
      '1',
      's',
      't',
      'u',
      'v',
      'w',
    ]);
    expect(textsAt(object, ['b', 'a.b', 'none.x', 'a[]', 'list.p', 'constructor.name', '__proto__'])).toEqual([]);
    expect(textsAt(null, ['a'])).toEqual([]);
  });
});
