import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { parseCiphertext } from '../../src/providers/vault-transit/ciphertext.ts';
import { formatKeyId, parseKeyId } from '../../src/providers/vault-transit/key-id.ts';
import { decodeSession, encodeSession } from '../../src/vault/session.ts';
import { settingsKey } from '../../src/vault/settings.ts';
import { Transport } from '../../src/vault/transport.ts';
import { systemVaultClock } from '../../src/vault/vault-clock.ts';
import { isVaultPath } from '../../src/vault/vault-path.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';
import { settingsFor } from '../support/vault-server/fixture.ts';

describe('Transport', () => {
  it('takes https addresses, and http ones of this machine only', () => {
    for (const address of [
      'https://vault.example:8200',
      'https://proxy/vault/',
      'http://127.0.0.1:1',
      'http://[::1]:1',
    ]) {
      new Transport(settingsFor(address)).close();
    }
    for (const address of ['http://vault.example:8200', 'http://127.0.0.1.evil.example', 'ftp://vault', 'vault:8200']) {
      expect(() => new Transport(settingsFor(address))).toThrow(expect.objectContaining({ code: 'CONFIG' }));
    }
  });

  it('refuses credentials, queries and odd paths in an address', () => {
    for (const address of [
      'https://user:secret@vault',
      'https://vault/?a=b',
      'https://vault/#x',
      'https://vault/a%2Fb',
    ]) {
      expect(() => new Transport(settingsFor(address))).toThrow(
        expect.objectContaining({ code: 'CONFIG', message: expect.not.stringContaining('secret') }),
      );
    }
  });

  it('says what is wrong with an authority file', () => {
    const folder = temporaryFolder();
    const caFile = join(folder, 'ca.pem');
    const open = () => new Transport(settingsFor('https://vault', { caFile }));
    expect(open).toThrow(/ca.pem cannot be read \(ENOENT\)/);
    writeFileSync(caFile, 'nonsense');
    expect(open).toThrow(/holds no certificate in PEM form/);
  });
});

describe('isVaultPath', () => {
  it('takes plain segments only: nothing that a URL, a template or a proxy reads', () => {
    for (const path of ['transit', 'team-a/transit', 'a.b_c-1']) {
      expect(isVaultPath(path)).toBe(true);
    }
    for (const path of [
      '',
      'a//b',
      '/a',
      'a/',
      '.',
      'a/../b',
      "a=b's",
      'a&b',
      'a#b',
      'a?b',
      'a%2e',
      'a b',
      'ä',
      'a\n',
    ]) {
      expect(isVaultPath(path)).toBe(false);
    }
  });
});

describe('settingsKey', () => {
  it('is equal for equal settings in any order, and differs with each field', () => {
    const settings = settingsFor('https://vault');
    const turned = Object.fromEntries(Object.entries(settings).reverse()) as unknown as typeof settings;
    expect(settingsKey(turned)).toBe(settingsKey(settings));
    const others = [
      { ...settings, namespace: 'a' },
      { ...settings, timeout: 1 },
      { ...settings, auth: { method: 'token' as const, tokenFile: '/a' } },
      { ...settings, auth: { method: 'jwt' as const, mount: 'jwt', role: 'a', jwtFile: '/a' } },
      { ...settings, auth: { method: 'kubernetes' as const, mount: 'jwt', role: 'a', jwtFile: '/a' } },
    ];
    expect(new Set([settings, ...others].map(settingsKey)).size).toBe(others.length + 1);
  });
});

describe('a session', () => {
  const lease = {
    token: 'hvs.secret',
    expiresAt: 5000,
    grantedMs: Number.POSITIVE_INFINITY,
    renewable: true,
    usesLeft: Number.POSITIVE_INFINITY,
    revocable: true,
  };

  it('comes back as it was kept, without an end too', () => {
    const unwrapped = { secretId: 's', wrapping: 'w' };
    expect(decodeSession('k', encodeSession('k', { lease, unwrapped }))).toEqual({ lease, unwrapped });
  });

  it('is passed over under other settings, and when it is garbage', () => {
    const session = encodeSession('k', { lease, unwrapped: undefined });
    expect(decodeSession('other', session)).toBeUndefined();
    expect(decodeSession('k', session.subarray(1))).toBeUndefined();
    expect(decodeSession('k', Buffer.from('{"key":"k"}'))).toBeUndefined();
    expect(decodeSession('k', Buffer.from('null'))).toBeUndefined();
  });
});

describe('systemVaultClock', () => {
  afterEach(() => {
    vi.useRealTimers();
  });

  it('fires once, in time, after delays that no timer of Node can have', () => {
    vi.useFakeTimers();
    const warnings: unknown[] = [];
    const listener = (warning: Error) => warnings.push(warning);
    process.on('warning', listener);
    const delay = 768 * 3600_000 * 0.8;
    expect(delay).toBeGreaterThan(2 ** 31 - 1);
    let fired = 0;
    systemVaultClock.schedule(delay, () => {
      fired += 1;
    });
    vi.advanceTimersByTime(1500);
    expect(fired).toBe(0);
    vi.advanceTimersByTime(delay - 1501);
    expect(fired).toBe(0);
    vi.advanceTimersByTime(1);
    expect(fired).toBe(1);
    vi.advanceTimersByTime(delay * 3);
    expect(fired).toBe(1);
    process.off('warning', listener);
    expect(warnings).toEqual([]);
  });

  it('does not fire what was cancelled in the second half of a long delay', () => {
    vi.useFakeTimers();
    let fired = false;
    const cancel = systemVaultClock.schedule(2 ** 32, () => {
      fired = true;
    });
    vi.advanceTimersByTime(2 ** 31 + 10);
    cancel();
    vi.advanceTimersByTime(2 ** 33);
    expect(fired).toBe(false);
  });
});

describe('parseCiphertext', () => {
  const sealed = Buffer.alloc(60, 7).toString('base64');
  const parse = (text: string) => parseCiphertext(Buffer.from(text, 'latin1'));

  it('reads the version out of what Transit writes', () => {
    expect(parse(`vault:v12:${sealed}`)).toEqual({ text: `vault:v12:${sealed}`, version: 12 });
  });

  it('refuses other prefixes, version 0, leading zeros, damage and what is too short', () => {
    for (const text of [
      '',
      `aws:v1:${sealed}`,
      `Vault:v1:${sealed}`,
      `vault:v0:${sealed}`,
      `vault:v01:${sealed}`,
      `vault:v1:${sealed}\n`,
      `vault:v1:${sealed.slice(0, 20)}`,
      `vault:v1:${sealed.slice(1)}`,
      `vault:v1:${Buffer.alloc(61).toString('base64').replace('A==', 'B==')}`,
      `vault:v1: ${sealed}`,
      `vault:v1:\u00e9${sealed.slice(1)}`,
    ]) {
      expect(parse(text)).toBeUndefined();
    }
  });
});

describe('the id of a Transit key', () => {
  it('comes back as it was, with and without a namespace', () => {
    for (const id of [
      { namespace: '', mount: 'transit', key: 'root' },
      { namespace: 'team-a/prod', mount: 'kms/transit', key: 'root.v2' },
    ]) {
      expect(parseKeyId(formatKeyId(id))).toEqual(id);
    }
    expect(formatKeyId({ namespace: '', mount: 'transit', key: 'root' })).toBe('vault-transit:transit/root');
  });

  it('is refused when it could lead anywhere else', () => {
    for (const id of [
      'local:00',
      'vault-transit:',
      'vault-transit:root',
      'vault-transit:transit/',
      'vault-transit:/root',
      'vault-transit:transit/../sys/root',
      'vault-transit:a:b:transit/root',
      'vault-transit::transit/root',
      "vault-transit:transit/a=b's",
    ]) {
      expect(parseKeyId(id)).toBeUndefined();
    }
  });
});
