import { describe, expect, it } from 'vitest';
import type { DekdClient } from '../../src/client/types.ts';
import { Binding } from '../../src/helpers/binding.ts';
import { CacheTransformer, PaginationTokens, Sessions, StorageTransformer } from '../../src/helpers/index.ts';
import { invalidArgument } from '../support/refusal.ts';

const UNUSED = {} as DekdClient;

describe('what a helper binds to', () => {
  const binding = new Binding('session', { key: 'k', bindTo: ['user', 'device'] }, { kind: 'web' });

  it('is its purpose, its own fields, and the fields that it was told of', () => {
    const signal = new AbortController().signal;
    const options = { context: { device: 'd', user: 'u' }, partition: 'acme', signal, timeoutMs: 7 };
    expect(binding.of(options, { session: 's' })).toEqual({
      key: 'k',
      partition: 'acme',
      context: { purpose: 'session', kind: 'web', session: 's', user: 'u', device: 'd' },
      signal,
      timeoutMs: 7,
    });
  });

  it.each([
    [{ user: 'u' }, 'context has no text for device, which bindTo names'],
    [{ user: 'u', device: 1 }, 'context has no text for device, which bindTo names'],
    [undefined, 'context has no text for user, which bindTo names'],
    [Object.create({ user: 'u', device: 'd' }), 'context has no text for user, which bindTo names'],
    [{ user: 'u', device: 'd', purpose: 'api-key' }, 'context has a field that bindTo does not name'],
    [{ user: 'u', device: 'd', other: 'x' }, 'context has a field that bindTo does not name'],
  ])('is exactly those fields: %j', (context, message) => {
    expect(invalidArgument(() => binding.of({ context: context as never }))).toBe(message);
  });

  it('is not for an application to name as a helper does', () => {
    for (const name of ['purpose', 'kind', 'session', 'secret', 'service', 'object', 'entry']) {
      expect(invalidArgument(() => new Binding('session', { key: 'k', bindTo: [name] }))).toBe(
        `bindTo names ${name}, which helpers bind by themselves`,
      );
    }
  });

  it('holds names that mean something to JavaScript, too', () => {
    const odd = new Binding('session', { key: 'k', bindTo: ['__proto__', 'constructor'] });
    const context = JSON.parse('{ "__proto__": "p", "constructor": "c" }') as Record<string, string>;
    expect(Object.entries(odd.of({ context }).context)).toEqual([
      ['purpose', 'session'],
      ['__proto__', 'p'],
      ['constructor', 'c'],
    ]);
  });

  it('takes a key, and a kind where there are kinds', () => {
    const wrong = [
      () => new Binding('session', { key: '' }),
      () => new Binding('session', undefined as never),
      () => new Sessions(UNUSED, { key: 'k', kind: '' }),
      () => new PaginationTokens(UNUSED, { key: 'k' } as never),
      () => new PaginationTokens(UNUSED, { key: 'k', kind: 'k', ttlMs: 0 }),
      () => new PaginationTokens(UNUSED, { key: 'k', kind: 'k', maxLength: 1.5 }),
      () => new Sessions(UNUSED, { key: 'k', kind: 'k', bindTo: [''] as never }),
      () => new Sessions(UNUSED, { key: 'k', kind: 'k', bindTo: 'user' as never }),
      () => new Sessions(UNUSED, { key: 'k', kind: 'k', bindTo: [1] as never }),
    ];
    for (const make of wrong) {
      expect(invalidArgument(make)).not.toContain('undefined is not');
    }
  });
});

/** Never run: the compiler is the test. */
function compiled(dekd: DekdClient): unknown[] {
  const plain = new PaginationTokens<{ after: number }>(dekd, { key: 'k', kind: 'k' });
  const bound = new PaginationTokens<{ after: number }, 'user' | 'query'>(dekd, {
    key: 'k',
    kind: 'k',
    bindTo: ['user', 'query'],
  });
  const cache = new CacheTransformer<'user'>(
    dekd,
    { sendCommand: async (args) => args },
    { key: 'k', bindTo: ['user'] },
  );
  return [
    plain.issue({ after: 1 }),
    plain.issue({ after: 1 }, { partition: 'acme' }),
    bound.issue({ after: 1 }, { context: { user: 'u', query: 'q' } }),
    // @ts-expect-error a cursor of another type
    plain.issue({ before: 1 }),
    // @ts-expect-error no context was declared
    plain.issue({ after: 1 }, { context: { user: 'u' } }),
    // @ts-expect-error the context is missing
    bound.issue({ after: 1 }),
    // @ts-expect-error a field of it is missing
    bound.read('', { context: { user: 'u' } }),
    // @ts-expect-error a field that was not declared
    bound.read('', { context: { user: 'u', query: 'q', other: 'o' } }),
    // @ts-expect-error bindTo says what the type does not
    new PaginationTokens<string>(dekd, { key: 'k', kind: 'k', bindTo: ['user'] }),
    // @ts-expect-error time and context: the context is missing
    cache.set('a', 'b', { ttlMs: 1 }),
    cache.set('a', 'b', { ttlMs: 1, context: { user: 'u' } }),
    // @ts-expect-error a store that cannot put
    new StorageTransformer(dekd, { key: 'k', store: { get: async () => [] } }),
  ];
}

describe('a helper', () => {
  it('compiles with exactly the fields that it is bound to', () => {
    expect(compiled).toBeTypeOf('function');
  });
});
