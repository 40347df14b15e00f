import { describe, expect, it } from 'vitest';
import type { Operation } from '../support/vault-server/engine.ts';
import { StandInKv, type StandInKvOptions } from '../support/vault-server/kv.ts';

function engineFor(options: StandInKvOptions = {}) {
  const kv = new StandInKv(options);
  const call = (operation: Operation, path: string, body: Record<string, unknown> = {}, query = '') => {
    const request = {
      operation,
      method: '',
      path,
      body,
      query: new URLSearchParams(query),
      namespace: '',
      policies: [],
    };
    const { status, body: reply } = kv.handle(request);
    return { status, data: reply?.data as Record<string, unknown> | undefined };
  };
  return {
    kv,
    call,
    write: (path: string, value: unknown, cas?: number) => call('update', `data/${path}`, bodyOf(value, cas)),
  };
}

function bodyOf(value: unknown, cas: number | undefined): Record<string, unknown> {
  return { data: { value }, ...(cas === undefined ? {} : { options: { cas } }) };
}

describe('StandInKv', () => {
  it('writes only over the version that is named, which 0 is for none', () => {
    const { call, write } = engineFor();
    expect(write('a', 1, 1).status).toBe(400);
    expect(write('a', 1, 0)).toMatchObject({ status: 200, data: { version: 1 } });
    expect(write('a', 2, 0).status).toBe(400);
    expect(write('a', 2, 1)).toMatchObject({ status: 200, data: { version: 2 } });
    expect(write('a', 3).status).toBe(200);
    call('update', 'config', { cas_required: true });
    expect(write('a', 4).status).toBe(400);
  });

  it('keeps the last ten versions unless told otherwise, and nothing of those before', () => {
    const { kv, call, write } = engineFor();
    for (let version = 1; version <= 11; version++) {
      write('a', `value-${version}-`);
    }
    expect(call('read', 'data/a', {}, 'version=1').status).toBe(404);
    expect(call('read', 'data/a', {}, 'version=2').data).toMatchObject({ data: { value: 'value-2-' } });
    expect(kv.dump()).not.toContain('value-1-');
    call('update', 'metadata/a', { max_versions: 2 });
    write('a', 'last');
    expect(call('read', 'data/a', {}, 'version=10').status).toBe(404);
    expect(call('read', 'metadata/a').data).toMatchObject({ current_version: 12, oldest_version: 11 });
  });

  it('answers 404 with a body for what was deleted, and brings it back until it is destroyed', () => {
    const { kv, call, write } = engineFor();
    write('a', 'secret');
    call('delete', 'data/a');
    expect(call('read', 'data/a')).toMatchObject({ status: 404, data: { data: null, metadata: { version: 1 } } });
    expect(kv.dump()).toContain('secret');
    call('update', 'undelete/a', { versions: [1] });
    expect(call('read', 'data/a').status).toBe(200);
    call('update', 'destroy/a', { versions: [1] });
    call('update', 'undelete/a', { versions: [1] });
    expect(call('read', 'data/a')).toMatchObject({ status: 404, data: { metadata: { destroyed: true } } });
    expect(kv.dump()).not.toContain('secret');
    expect(write('a', 'new', 0).status).toBe(400);
    call('delete', 'metadata/a');
    expect(call('read', 'data/a')).toEqual({ status: 404, data: undefined });
    expect(write('a', 'new', 0).status).toBe(200);
  });

  it('deletes what is older than the mount allows', () => {
    let now = 1_000_000;
    const { call, write } = engineFor({ now: () => now });
    call('update', 'config', { delete_version_after: '60s' });
    expect(write('a', 1).data?.deletion_time).not.toBe('');
    now += 61_000;
    expect(call('read', 'data/a').status).toBe(404);
  });

  it('lists names and folders in order, page by page as OpenBao does, or all at once as Vault does', () => {
    for (const product of ['openbao', 'vault'] as const) {
      const { call, write } = engineFor({ product });
      for (const path of ['f/b', 'f/a', 'f/c/d', 'g']) {
        write(path, 1);
      }
      expect(call('list', 'metadata/f').data?.keys).toEqual(['a', 'b', 'c/']);
      expect(call('list', 'metadata/none').status).toBe(404);
      const page = call('list', 'metadata/f', {}, 'after=a&limit=1').data?.keys;
      expect(page).toEqual(product === 'openbao' ? ['b'] : ['a', 'b', 'c/']);
    }
  });

  it('limits an entry and its custom metadata', () => {
    const { call, write } = engineFor();
    expect(write('a', 'x'.repeat(512 * 1024)).status).toBe(413);
    const custom = (custom_metadata: unknown) => call('update', 'metadata/a', { custom_metadata }).status;
    expect(custom({ ['n'.repeat(128)]: 'v'.repeat(512) })).toBe(204);
    expect(custom({ ['n'.repeat(129)]: '' })).toBe(400);
    expect(custom({ n: 'v'.repeat(513) })).toBe(400);
    expect(custom(Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`n${i}`, ''])))).toBe(400);
  });

  it('merges a patch into what is there', () => {
    const { call } = engineFor();
    expect(call('patch', 'data/a', { data: { b: 1 } }).status).toBe(404);
    call('update', 'data/a', { data: { a: { x: 1, y: 2 }, b: 1 } });
    call('patch', 'data/a', { data: { a: { x: null }, c: 3 }, options: { cas: 1 } });
    expect(call('read', 'data/a').data?.data).toEqual({ a: { y: 2 }, b: 1, c: 3 });
  });

  it('takes a path that was written before for one to update, whatever became of it', () => {
    const { kv, call, write } = engineFor();
    expect(kv.exists('data/a')).toBe(false);
    write('a', 1);
    call('delete', 'data/a');
    expect(kv.exists('data/a')).toBe(true);
    expect(kv.exists('destroy/b')).toBe(true);
  });
});
