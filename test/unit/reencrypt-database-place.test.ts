import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { databasePlace } from '../../src/cli/reencrypt/database-place.ts';
import { quoted, tableName } from '../../src/cli/reencrypt/identifier.ts';
import { progressText } from '../../src/cli/reencrypt/row-progress.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const NOTHING = { url: undefined, urlFile: undefined, caFile: undefined };

describe('databasePlace', () => {
  it('goes by a URL of the command line, a file, DATABASE_URL, then the variables of libpq', async () => {
    const file = join(temporaryFolder(), 'url');
    writeFileSync(file, 'postgres://f@file.example/f\n');
    const env = {
      DATABASE_URL: 'postgres://e:s%40@env.example:1/e',
      PGHOST: 'pg.example',
      PGUSER: 'p',
      PGPASSWORD: 'w',
    };
    expect(await databasePlace({ ...NOTHING, url: 'postgres://c@cli.example/c' }, env)).toMatchObject({
      host: 'cli.example',
      user: 'c',
      password: 'w',
    });
    expect(await databasePlace({ ...NOTHING, urlFile: file }, env)).toMatchObject({ host: 'file.example', port: 5432 });
    expect(await databasePlace(NOTHING, env)).toMatchObject({
      host: 'env.example',
      port: 1,
      password: 's@',
      database: 'e',
    });
    const variables = { PGHOST: 'pg.example', PGPORT: '6', PGUSER: 'p' };
    expect(await databasePlace(NOTHING, variables)).toMatchObject({
      host: 'pg.example',
      port: 6,
      database: 'p',
      tls: true,
    });
  });

  it.each([
    ['db.example', '', true],
    ['db.example', 'require', true],
    ['db.example', 'verify-full', true],
    ['localhost', '', false],
    ['127.0.0.1', 'disable', false],
    ['localhost', 'verify-full', true],
    ['%2Frun%2Fpg', 'require', false],
  ])('at %s with sslmode %o has TLS, always verified: %s', async (host, mode, tls) => {
    const url = `postgres://u@${host.startsWith('%') ? 'x' : host}/d?${host.startsWith('%') ? `host=${host}&` : ''}sslmode=${mode}`;
    expect(await databasePlace({ ...NOTHING, url }, {})).toMatchObject({ tls });
  });

  it.each([
    ['no URL', 'db.example', /is none/],
    ['another database', 'mysql://u@h/d', /is none/],
    ['a password on the command line', 'postgres://u:geheim@h/d', /on the command line/],
    ['a password among the parameters', 'postgres://u@h/d?password=geheim', /on the command line/],
    ['several hosts', 'postgres://u@h/d?host=a,b', /several hosts/],
    ['no TLS over a network', 'postgres://u@h/d?sslmode=disable', /loopback/],
    ['a mode that is none', 'postgres://u@h/d?sslmode=geheim2', /is none of PostgreSQL/],
    ['a client certificate', 'postgres://u@h/d?sslcert=x', /sslcert/],
    ['a broken escape', 'postgres://u%zz@h/d', /percent sign/],
  ])('refuses %s, and repeats no password', async (_, url, says) => {
    const refusal = await databasePlace({ ...NOTHING, url }, {}).catch((error: Error) => error);
    expect(refusal).toMatchObject({ exitCode: 2, message: expect.stringMatching(says) });
    expect(`${(refusal as Error).message}`).not.toMatch(/geheim\b/);
  });
});

describe('tableName', () => {
  it.each([
    ['customers', ['customers']],
    ['shop.customers', ['shop', 'customers']],
    ['"a.b"."c""d"', ['a.b', 'c"d']],
    ['Käufe', ['Käufe']],
    ["x'); DROP TABLE y; --", ["x'); DROP TABLE y; --"]],
  ])('reads %s', (text, parts) => {
    expect(tableName(text)).toEqual(parts);
  });

  it.each(['', '.', 'a.', '.a', 'a..b', 'a.b.c', '"a', 'a"b', '""'])('refuses %o', (text) => {
    expect(() => tableName(text)).toThrow(/is no name of a table/);
  });

  it('is quoted so that it stays a name', () => {
    expect(quoted('a"; DROP TABLE t; --')).toBe('"a""; DROP TABLE t; --"');
  });
});

describe('progressText', () => {
  it('says how far, how fast and how long still', () => {
    expect(progressText(12_000, 100_000, 30_000, 2.9)).toBe('12,000 of about 100,000 rows  12 %  30,000/s  3 s left');
    expect(progressText(5, 4, 0, undefined)).toBe('5 of about 4 rows  100 %  0/s');
    expect(progressText(1, 1_000, 10, 99.9)).toMatch(/1 min 40 s left$/);
  });
});
