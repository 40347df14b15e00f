import { describe, expect, it } from 'vitest';
import { placeOf } from '../../src/keystores/postgres/place.ts';

const SETTINGS = { schema: 'dekd', tls: 'verify-full' } as const;

function place(url: string | undefined, changes: { tls?: 'verify-full' | 'disable'; schema?: string } = {}, env = {}) {
  return placeOf({ ...SETTINGS, url, ...changes }, env);
}

describe('placeOf', () => {
  it('reads host, port, database and user from the URL', () => {
    expect(place('postgres://dekd@db.example:6543/keys')).toMatchObject({
      host: 'db.example',
      port: 6543,
      user: 'dekd',
      database: 'keys',
      tls: true,
      shown: 'db.example:6543/keys',
    });
  });

  it('takes the port 5432 and the database of the name of the user', () => {
    expect(place('postgresql://a%40b@[::1]')).toMatchObject({ host: '::1', port: 5432, user: 'a@b', database: 'a@b' });
  });

  it('takes what the URL lacks from the variables of libpq', () => {
    const env = { PGHOST: 'h', PGPORT: '1', PGUSER: 'u', PGDATABASE: 'd' };
    expect(place(undefined, {}, env)).toMatchObject({ host: 'h', port: 1, user: 'u', database: 'd' });
    expect(place('postgres://me@there/', {}, env)).toMatchObject({ host: 'there', port: 1, user: 'me', database: 'd' });
  });

  it('asks for TLS everywhere but on a Unix socket', () => {
    expect(place('postgres://dekd@localhost/dekd').tls).toBe(true);
    expect(place('postgres://dekd@localhost/dekd?host=/run/postgresql')).toMatchObject({
      host: '/run/postgresql',
      tls: false,
    });
    expect(place('postgres://dekd@%2Frun%2Fpg/dekd')).toMatchObject({ host: '/run/pg', tls: false });
  });

  it('goes without TLS on loopback addresses alone', () => {
    for (const host of ['localhost', '127.0.0.1', '[::1]']) {
      expect(place(`postgres://dekd@${host}/dekd`, { tls: 'disable' }).tls).toBe(false);
    }
    for (const host of ['db.example', '10.0.0.1', 'localhost.example', '127.0.0.1.example']) {
      expect(() => place(`postgres://dekd@${host}/dekd`, { tls: 'disable' })).toThrow(/tls disable is for/);
    }
  });

  it('refuses a password in the URL without repeating it, and names the remedy', () => {
    for (const url of ['postgres://dekd:hunter2@db/dekd', 'postgres://dekd@db/dekd?password=hunter2']) {
      const error = thrownBy(() => place(url));
      expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', message: expect.stringContaining('passwordFile') });
      expect(String(error)).not.toContain('hunter2');
    }
    expect(String(thrownBy(() => place('postgres://dekd:hunter2@a,b:x/dekd')))).not.toContain('hunter2');
  });

  it.each([
    ['mysql://dekd@db/dekd', 'must be a URL'],
    ['postgres://dekd@a:1,b:2/dekd', 'one host'],
    ['postgres://dekd@a,b/dekd', 'one host'],
    ['postgres://dekd@db/dekd?sslmode=disable', 'knows the parameter host and no other'],
    ['postgres://dekd@db/dekd?options=-csearch_path%3Dx', 'knows the parameter host and no other'],
    ['postgres://de%zzkd@db/dekd', 'percent sign'],
  ])('refuses %s', (url, says) => {
    expect(() => place(url)).toThrow(says);
  });

  it('refuses a schema that is no plain name', () => {
    for (const schema of [
      '',
      'Dekd',
      'a-b',
      'x"; DROP SCHEMA public; --',
      'pg_temp',
      'information_schema',
      'a'.repeat(64),
    ]) {
      expect(() => place('postgres://dekd@db/dekd', { schema })).toThrow(/schema must be/);
    }
    expect(place('postgres://dekd@db/dekd', { schema: 'information_schemata' }).schema).toBe('information_schemata');
  });
});

function thrownBy(work: () => unknown): unknown {
  try {
    work();
  } catch (error) {
    return error;
  }
  return undefined;
}
